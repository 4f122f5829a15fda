//! Declaring, binding, removing; access.

use redeliver_rabbitmq::amqp::{
    AMQPValue, Amqp, AmqpChannel, AmqpConnection, AmqpError, ExchangeKind,
};
use redeliver_rabbitmq::lapin::LapinAmqp;

use crate::{put, spec, to_queue, with_broker, word};
use redeliver_testing::{bounded, server, unique};

fn code<T: std::fmt::Debug>(result: Result<T, AmqpError>) -> u16 {
    match result {
        Err(AmqpError::Channel { code, .. }) => code,
        other => panic!("expected a closed channel, got {other:?}"),
    }
}

#[tokio::test]
async fn queues_are_made_asked_for_and_removed() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let queue = broker
            .queue(&channel, &[("x-queue-type", word("quorum"))])
            .await;
        assert_eq!(channel.inspect_queue(&queue).await, Ok(0));
        put(&channel, &queue, &["a", "b"]).await;
        let same = spec(&queue, &[("x-queue-type", word("quorum"))]);
        let ready = redeliver_testing::eventually("both to be ready", async || {
            channel
                .declare_queue(&same)
                .await
                .ok()
                .filter(|ready| *ready == 2)
        });
        assert_eq!(ready.await, 2);
        channel.delete_queue(&queue).await.unwrap();
        channel.delete_queue(&queue).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_refusal_ends_the_channel_and_is_remembered_but_the_connection_lives() {
    with_broker(|broker| async move {
        let (connection, channel) = broker.channel().await;
        assert_eq!(code(channel.inspect_queue(&unique("missing")).await), 404);
        assert_eq!(
            code(channel.qos(1).await),
            404,
            "the reason is known to later operations"
        );
        assert_eq!(code(channel.ack(1, false).await), 404);

        let channel = connection.open_channel().await.unwrap();
        let queue = broker.queue(&channel, &[]).await;
        let other = spec(&queue, &[("x-max-length", AMQPValue::LongInt(3))]);
        assert_eq!(code(channel.declare_queue(&other).await), 406);

        let channel = connection.open_channel().await.unwrap();
        assert_eq!(
            code(channel.consume(&unique("missing"), "tag").await.map(drop)),
            404
        );
        let channel = connection.open_channel().await.unwrap();
        assert_eq!(code(channel.get(&unique("missing")).await), 404);
        let channel = connection.open_channel().await.unwrap();
        let bound = channel.bind_queue(&queue, &unique("missing"), "key").await;
        assert_eq!(code(bound), 404);
        let channel = connection.open_channel().await.unwrap();
        assert_eq!(channel.inspect_queue(&queue).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn exchanges_route_by_their_kind_until_they_are_unbound() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let queue = broker.queue(&channel, &[]).await;
        let kinds = [
            (ExchangeKind::Direct, "order.placed"),
            (ExchangeKind::Fanout, ""),
            (ExchangeKind::Topic, "order.*"),
        ];
        for (kind, binding) in kinds {
            let exchange = broker.exchange_name();
            channel.declare_exchange(&exchange, kind).await.unwrap();
            channel.declare_exchange(&exchange, kind).await.unwrap();
            channel
                .bind_queue(&queue, &exchange, binding)
                .await
                .unwrap();
            let mut message = to_queue("order.placed", "x");
            message.exchange = exchange.as_str().into();
            let publish = async || {
                let confirm = channel.publish(message.clone()).await.unwrap();
                bounded("a confirm", confirm).await.unwrap()
            };
            use redeliver_rabbitmq::amqp::Confirmation::{Ack, Returned};
            assert_eq!(publish().await, Ack, "{kind:?}");
            let got = channel.get(&queue).await.unwrap().expect("it was routed");
            assert_eq!(
                (&*got.exchange, &*got.routing_key),
                (&*exchange, "order.placed")
            );
            channel
                .unbind_queue(&queue, &exchange, binding)
                .await
                .unwrap();
            assert!(
                matches!(publish().await, Returned { code: 312, .. }),
                "{kind:?}"
            );
            channel.delete_exchange(&exchange).await.unwrap();
            channel.delete_exchange(&exchange).await.unwrap();
        }
        let exchange = broker.exchange_name();
        channel
            .declare_exchange(&exchange, ExchangeKind::Headers)
            .await
            .unwrap();
        let refused = channel
            .declare_exchange(&exchange, ExchangeKind::Direct)
            .await;
        assert_eq!(code(refused), 406);
    })
    .await;
}

#[tokio::test]
async fn names_too_long_are_refused_before_they_are_sent() {
    with_broker(|broker| async move {
        let (_connection, channel) = broker.confirming().await;
        let long = "x".repeat(256);
        assert_eq!(
            code(channel.publish(to_queue(&long, "")).await.map(drop)),
            502
        );
        assert_eq!(code(channel.delete_queue(&long).await), 502);
        let mut message = to_queue("q", "");
        message.properties.message_id = Some(long.into());
        assert_eq!(code(channel.publish(message).await.map(drop)), 502);
        channel
            .delete_queue(&unique("nothing"))
            .await
            .expect("the channel is still open");
    })
    .await;
}

#[tokio::test]
async fn a_refused_login_is_told_apart_from_nobody_there() {
    let nobody = LapinAmqp::new("amqp://guest:hunter2@127.0.0.1:1/%2f").unwrap();
    let error = bounded("a refusal", nobody.connect("test"))
        .await
        .unwrap_err();
    assert!(matches!(error, AmqpError::Connection(_)), "{error:?}");
    assert!(!format!("{nobody:?} {error:?} {error}").contains("hunter2"));
    let unclear = LapinAmqp::new("amqp://guest:hunter2@host:port/x").unwrap_err();
    assert!(!format!("{unclear:?} {unclear}").contains("hunter2"));

    let Some(url) = server("AMQP_URL") else {
        return;
    };
    let (_, address) = url.rsplit_once('@').expect("a login");
    let wrong = LapinAmqp::new(&format!("amqp://guest:hunter2@{address}")).unwrap();
    let error = bounded("a refusal", wrong.connect("test"))
        .await
        .unwrap_err();
    assert!(matches!(error, AmqpError::Access(_)), "{error:?}");
    assert!(!error.to_string().contains("hunter2"));
    let (before_vhost, _) = url.rsplit_once('/').expect("a vhost");
    let lost = LapinAmqp::new(&format!("{before_vhost}/no-such-vhost")).unwrap();
    let error = bounded("a refusal", lost.connect("test"))
        .await
        .unwrap_err();
    assert!(matches!(error, AmqpError::Access(_)), "{error:?}");
}
