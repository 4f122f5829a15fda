//! What exchanges do beside routing by their kind.

use redeliver_conform::probe::{ExchangeSpec, Probe};
use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{
    AMQPValue, Amqp, AmqpChannel, AmqpConnection, Confirmation, ExchangeKind, FieldTable,
};

use super::{Channel, KINDS, Lab, body, code, message, table, to_queue, word};

crate::cases!(amqp "Exchanges, exclusive queues":
    an_alternate_exchange_takes_what_finds_no_queue [classic quorum],
    an_alternate_exchange_that_is_missing_takes_nothing,
    an_internal_exchange_refuses_clients_with_403,
    an_exchange_is_asked_for_without_being_made,
    a_name_that_begins_with_amq_is_refused_with_403 [classic],
    the_default_exchange_can_be_neither_bound_nor_deleted [classic],
    a_headers_exchange_matches_all_or_any [classic],
    a_deleted_exchange_takes_no_more_messages [classic],
    more_routing_keys_stand_in_headers [classic quorum],
    a_queue_that_was_deleted_is_no_way_any_more [classic quorum],
    an_exclusive_queue_is_for_its_connection_only,
    an_exclusive_queue_goes_with_its_connection,
);

async fn an_alternate_exchange_takes_what_finds_no_queue<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (main, other) = (lab.name(), lab.name());
        channel
            .declare_exchange(&other, ExchangeKind::Fanout)
            .await
            .unwrap();
        let spec = ExchangeSpec {
            alternate: Some(&other),
            ..ExchangeSpec::new(&main, ExchangeKind::Direct)
        };
        channel.declare(&spec).await.unwrap();
        let queue = lab.queue(&channel, kind, &[]).await;
        channel.bind_queue(&queue, &other, "").await.unwrap();
        // It counts as routed: acked, and not returned though it is mandatory.
        let confirmed = lab.confirm(&channel, message(&main, "nowhere", "1")).await;
        assert_eq!(confirmed, Ok(Confirmation::Ack));
        let got = lab.get(&channel, &queue).await;
        assert_eq!((body(&got), &*got.exchange), ("1", &*main));
        assert_eq!(&*got.routing_key, "nowhere");
    }
}

async fn an_alternate_exchange_that_is_missing_takes_nothing<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    let (main, missing) = (lab.name(), lab.name());
    let spec = ExchangeSpec {
        alternate: Some(&missing),
        ..ExchangeSpec::new(&main, ExchangeKind::Direct)
    };
    channel.declare(&spec).await.unwrap();
    let confirmed = lab.confirm(&channel, message(&main, "nowhere", "1")).await;
    assert!(matches!(
        confirmed,
        Ok(Confirmation::Returned { code: 312, .. })
    ));
}

async fn an_internal_exchange_refuses_clients_with_403<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    let exchange = lab.name();
    let spec = ExchangeSpec {
        internal: true,
        ..ExchangeSpec::new(&exchange, ExchangeKind::Direct)
    };
    channel.declare(&spec).await.unwrap();
    let confirmed = lab.confirm(&channel, message(&exchange, "a", "1")).await;
    assert_eq!(code(confirmed), 403);
}

async fn an_exchange_is_asked_for_without_being_made<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.channel().await;
    let exchange = lab.name();
    channel
        .declare_exchange(&exchange, ExchangeKind::Topic)
        .await
        .unwrap();
    assert_eq!(channel.inspect_exchange(&exchange).await, Ok(()));
    assert_eq!(code(channel.inspect_exchange(&lab.name()).await), 404);
}

async fn a_name_that_begins_with_amq_is_refused_with_403<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let connection = lab.connect().await;
    let channel = connection.open_channel().await.unwrap();
    let declared = channel.declare_exchange("amq.redeliver", ExchangeKind::Direct);
    assert_eq!(code(declared.await), 403);
    let channel = connection.open_channel().await.unwrap();
    let queue = super::spec("amq.redeliver", "classic", &[]);
    assert_eq!(code(channel.declare_queue(&queue).await), 403);
}

async fn the_default_exchange_can_be_neither_bound_nor_deleted<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let connection = lab.connect().await;
    let channel = connection.open_channel().await.unwrap();
    let queue = lab.queue(&channel, "classic", &[]).await;
    assert_eq!(code(channel.bind_queue(&queue, "", "a").await), 403);
    let channel = connection.open_channel().await.unwrap();
    assert_eq!(code(channel.delete_exchange("").await), 403);
}

async fn a_headers_exchange_matches_all_or_any<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    let exchange = lab.name();
    channel
        .declare_exchange(&exchange, ExchangeKind::Headers)
        .await
        .unwrap();
    let mut queues = Vec::new();
    for how in ["all", "any"] {
        let queue = lab.queue(&channel, "classic", &[]).await;
        let arguments = table(&[
            ("x-match", word(how)),
            ("colour", word("red")),
            ("size", word("big")),
        ]);
        channel
            .bind_with(&queue, &exchange, "", arguments)
            .await
            .unwrap();
        queues.push(queue);
    }
    let publish = async |colour: &str, size: &str| {
        let mut message = message(&exchange, "", &format!("{colour} {size}"));
        message.properties.headers = table(&[("colour", word(colour)), ("size", word(size))]);
        lab.confirm(&channel, message).await
    };
    assert_eq!(publish("red", "big").await, Ok(Confirmation::Ack));
    assert_eq!(publish("red", "small").await, Ok(Confirmation::Ack));
    let neither = publish("blue", "small").await;
    assert!(matches!(neither, Ok(Confirmation::Returned { .. })));
    lab.until_ready(&channel, &queues[0], 1).await;
    lab.until_ready(&channel, &queues[1], 2).await;
    assert_eq!(lab.bodies(&channel, &queues[0], 1).await, ["red big"]);
    let any = lab.bodies(&channel, &queues[1], 2).await;
    assert_eq!(any, ["red big", "red small"]);
}

async fn a_deleted_exchange_takes_no_more_messages<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let exchange = lab.name();
    channel
        .declare_exchange(&exchange, ExchangeKind::Fanout)
        .await
        .unwrap();
    let queue = lab.queue(&channel, "classic", &[]).await;
    channel.bind_queue(&queue, &exchange, "").await.unwrap();
    channel.delete_exchange(&exchange).await.unwrap();
    let confirmed = lab.confirm(&channel, message(&exchange, "", "1")).await;
    assert_eq!(code(confirmed), 404);
}

/// `CC` and `BCC` add routing keys; nobody who receives the message sees `BCC`.
async fn more_routing_keys_stand_in_headers<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let mut queues = Vec::new();
        for _ in 0..3 {
            queues.push(lab.queue(&channel, kind, &[]).await);
        }
        let keys = |queue: &str| AMQPValue::FieldArray(vec![word(queue)].into());
        let mut message = to_queue(&queues[0], "1");
        message.properties.headers = table(&[("CC", keys(&queues[1])), ("BCC", keys(&queues[2]))]);
        assert_eq!(lab.confirm(&channel, message).await, Ok(Confirmation::Ack));
        for queue in &queues {
            let got = lab.get(&channel, queue).await;
            let headers: FieldTable = got.properties.headers.clone();
            assert!(headers.inner().contains_key("CC"));
            assert!(!headers.inner().contains_key("BCC"));
            assert_eq!(&*got.routing_key, &*queues[0]);
        }
    }
}

async fn a_queue_that_was_deleted_is_no_way_any_more<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1"]).await;
        channel.delete_queue(&queue).await.unwrap();
        let confirmed = lab.confirm(&channel, to_queue(&queue, "2")).await;
        assert!(matches!(confirmed, Ok(Confirmation::Returned { .. })));
        // Made again, it is empty.
        let declared = channel.declare_queue(&super::spec(&queue, kind, &[])).await;
        assert_eq!(declared, Ok(0));
    }
}

async fn an_exclusive_queue_is_for_its_connection_only<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.channel().await;
    let queue = lab.name();
    channel.declare_exclusive(&queue).await.unwrap();
    assert_eq!(channel.inspect_queue(&queue).await, Ok(0));
    let (_other, stranger) = lab.channel().await;
    assert_eq!(code(stranger.inspect_queue(&queue).await), 405);
}

async fn an_exclusive_queue_goes_with_its_connection<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (connection, channel) = lab.channel().await;
    let queue = lab.name();
    channel.declare_exclusive(&queue).await.unwrap();
    connection.close().await.unwrap();
    let other = lab.connect().await;
    crate::lab::eventually(&lab.env, "the end of the queue", async || {
        let channel = other.open_channel().await.expect("a channel");
        let asked = channel.inspect_queue(&queue).await;
        (code(asked) == 404).then_some(())
    })
    .await;
}
