//! Declaring, asking, removing; what is refused.

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{AMQPValue, Amqp, AmqpChannel, AmqpConnection, ExchangeKind};

use super::{Arguments, KINDS, Lab, code, number, spec, word};

crate::cases!(amqp "Declaring and removing":
    declaring_the_same_again_tells_what_is_ready [classic quorum],
    an_inequivalent_queue_is_refused_with_406 [classic quorum],
    numbers_are_compared_by_value [quorum],
    an_inequivalent_exchange_is_refused_with_406,
    what_is_missing_is_refused_with_404 [classic],
    removing_what_is_missing_is_fine [classic quorum],
    a_refusal_ends_the_channel_and_not_the_connection [classic],
    arguments_that_make_no_sense_are_refused_with_406 [classic nonsense],
    at_least_once_dead_lettering_is_for_quorum_queues [classic quorum],
);

async fn declaring_the_same_again_tells_what_is_ready<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2"]).await;
        lab.until_ready(&channel, &queue, 2).await;
        assert_eq!(channel.declare_queue(&spec(&queue, kind, &[])).await, Ok(2));
    }
}

async fn an_inequivalent_queue_is_refused_with_406<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let connection = lab.connect().await;
    let differences: [Arguments<'_>; 4] = [
        &[("x-max-length", number(3))],
        &[("x-message-ttl", number(3))],
        &[("x-dead-letter-exchange", word(""))],
        &[("x-overflow", word("reject-publish"))],
    ];
    for kind in KINDS {
        let channel = connection.open_channel().await.unwrap();
        let plain = lab.queue(&channel, kind, &[]).await;
        for different in differences {
            let channel = connection.open_channel().await.unwrap();
            let declared = channel.declare_queue(&spec(&plain, kind, different)).await;
            assert_eq!(code(declared), 406, "{different:?}");
            let channel = connection.open_channel().await.unwrap();
            let queue = lab.queue(&channel, kind, different).await;
            let declared = channel.declare_queue(&spec(&queue, kind, &[])).await;
            assert_eq!(code(declared), 406, "without {different:?}");
        }
    }
    let channel = connection.open_channel().await.unwrap();
    let queue = lab.queue(&channel, "classic", &[]).await;
    assert_eq!(
        code(channel.declare_queue(&spec(&queue, "quorum", &[])).await),
        406
    );
}

async fn numbers_are_compared_by_value<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.channel().await;
    let queue = lab
        .queue(&channel, "quorum", &[("x-message-ttl", number(60_000))])
        .await;
    let long = [("x-message-ttl", AMQPValue::LongLongInt(60_000))];
    assert_eq!(
        channel.declare_queue(&spec(&queue, "quorum", &long)).await,
        Ok(0)
    );
}

async fn an_inequivalent_exchange_is_refused_with_406<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.channel().await;
    let exchange = lab.name();
    for _ in 0..2 {
        channel
            .declare_exchange(&exchange, ExchangeKind::Headers)
            .await
            .unwrap();
    }
    let other = channel
        .declare_exchange(&exchange, ExchangeKind::Direct)
        .await;
    assert_eq!(code(other), 406);
}

async fn what_is_missing_is_refused_with_404<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let connection = lab.connect().await;
    let channel = async || connection.open_channel().await.unwrap();
    let missing = lab.name();
    let queue = lab.queue(&channel().await, "classic", &[]).await;
    assert_eq!(code(channel().await.inspect_queue(&missing).await), 404);
    assert_eq!(code(channel().await.get(&missing).await), 404);
    let consumed = channel().await.consume(&missing, "tag").await.map(drop);
    assert_eq!(code(consumed), 404);
    assert_eq!(
        code(channel().await.bind_queue(&queue, &missing, "key").await),
        404
    );
    assert_eq!(
        code(
            channel()
                .await
                .bind_queue(&missing, "amq.topic", "key")
                .await
        ),
        404
    );
}

async fn removing_what_is_missing_is_fine<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.channel().await;
    let missing = lab.name();
    channel.delete_queue(&missing).await.unwrap();
    channel.delete_exchange(&missing).await.unwrap();
    let queue = lab.queue(&channel, "quorum", &[]).await;
    channel.delete_queue(&queue).await.unwrap();
    channel.delete_queue(&queue).await.unwrap();
    channel
        .unbind_queue(
            &lab.queue(&channel, "classic", &[]).await,
            "amq.topic",
            "key",
        )
        .await
        .unwrap();
}

async fn a_refusal_ends_the_channel_and_not_the_connection<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (connection, channel) = lab.channel().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    assert_eq!(code(channel.inspect_queue(&lab.name()).await), 404);
    assert_eq!(
        code(channel.inspect_queue(&queue).await),
        404,
        "later calls know why"
    );
    assert_eq!(code(channel.qos(1).await), 404);
    assert_eq!(code(channel.ack(1, false).await), 404);
    let channel = connection.open_channel().await.unwrap();
    assert_eq!(channel.inspect_queue(&queue).await, Ok(0));
}

async fn arguments_that_make_no_sense_are_refused_with_406<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let connection = lab.connect().await;
    let wrong: [(&str, Arguments<'_>); 6] = [
        ("classic", &[("x-message-ttl", number(-1))]),
        ("classic", &[("x-message-ttl", word("soon"))]),
        ("classic", &[("x-max-length", number(-1))]),
        ("classic", &[("x-overflow", word("explode"))]),
        ("classic", &[("x-dead-letter-routing-key", word("key"))]),
        ("nonsense", &[]),
    ];
    for (kind, arguments) in wrong {
        let channel = connection.open_channel().await.unwrap();
        let declared = channel
            .declare_queue(&spec(&lab.name(), kind, arguments))
            .await;
        assert_eq!(code(declared), 406, "{kind} {arguments:?}");
    }
}

async fn at_least_once_dead_lettering_is_for_quorum_queues<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.channel().await;
    let arguments = [
        ("x-dead-letter-exchange", word("")),
        ("x-dead-letter-strategy", word("at-least-once")),
        ("x-overflow", word("reject-publish")),
    ];
    lab.queue(&channel, "quorum", &arguments).await;
    let classic = channel
        .declare_queue(&spec(&lab.name(), "classic", &arguments))
        .await;
    assert_eq!(code(classic), 406);
}
