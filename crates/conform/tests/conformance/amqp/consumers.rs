//! Kinds of consumer, and how a queue chooses among them.

use redeliver_conform::probe::{ConsumeOptions, Probe};
use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{AMQPValue, Amqp, AmqpChannel, AmqpConnection, AmqpError};

use super::{Channel, Consumer, KINDS, Lab, body, code};

crate::cases!(amqp "Consumers":
    what_goes_to_a_consumer_without_acks_never_comes_back [classic quorum],
    an_exclusive_consumer_of_a_classic_queue_refuses_others_with_403 [classic],
    nobody_is_exclusive_on_a_classic_queue_where_others_consume [classic],
    a_quorum_queue_takes_no_notice_of_exclusive_consumers [quorum],
    the_consumer_of_the_highest_priority_is_served_first [classic quorum],
    a_channels_prefetch_is_shared_by_its_consumers [classic],
    a_quorum_queue_knows_no_prefetch_of_a_channel [quorum],
    another_prefetch_is_for_consumers_to_come [classic quorum],
    an_ack_of_many_makes_room_for_as_many [classic quorum],
    a_consumer_tag_serves_once_on_a_channel [classic],
    the_same_consumer_tag_serves_on_two_channels [classic],
    an_unknown_consumer_is_cancelled_without_complaint,
    a_consumer_of_a_missing_queue_is_refused_with_404,
    what_is_left_of_a_deleted_queue_may_still_be_acked [classic quorum],
    a_lone_consumer_gets_back_what_it_gave_back [classic quorum],
    a_rejected_message_comes_back_or_goes [classic quorum],
    everything_is_given_back_at_once [classic quorum],
    a_single_active_consumer_is_followed_by_the_next [classic quorum],
    the_messages_of_a_single_active_consumer_that_is_gone_come_first_and_in_order [classic quorum],
    a_cancelled_single_active_consumer_of_a_quorum_queue_is_overtaken [quorum],
    a_large_message_arrives_whole [classic quorum],
    confirms_may_be_asked_for_twice [classic],
);

const NO_ACK: ConsumeOptions = ConsumeOptions {
    no_ack: true,
    exclusive: false,
    priority: 0,
};

const EXCLUSIVE: ConsumeOptions = ConsumeOptions {
    no_ack: false,
    exclusive: true,
    priority: 0,
};

/// The bodies of a consumer's next deliveries.
async fn next<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    consumer: &mut Consumer<A>,
    count: usize,
) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        bodies.push(body(&lab.next(consumer).await).to_owned());
    }
    bodies
}

async fn what_goes_to_a_consumer_without_acks_never_comes_back<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2"]).await;
        let (other, taking) = lab.channel().await;
        let mut consumer = taking.consume_with(&queue, kind, NO_ACK).await.unwrap();
        assert_eq!(next(&lab, &mut consumer, 2).await, ["1", "2"]);
        other.close().await.unwrap();
        // What came back would stand before this one.
        lab.put(&channel, &queue, &["3"]).await;
        assert_eq!(lab.bodies(&channel, &queue, 1).await, ["3"], "{kind}");
    }
}

async fn an_exclusive_consumer_of_a_classic_queue_refuses_others_with_403<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) where
    Channel<A>: Probe,
{
    let (connection, channel) = lab.channel().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    let alone = channel.consume_with(&queue, "alone", EXCLUSIVE).await;
    let _alone = alone.unwrap();
    for options in [ConsumeOptions::default(), EXCLUSIVE] {
        let second = connection.open_channel().await.unwrap();
        let refused = second.consume_with(&queue, "second", options).await;
        assert_eq!(code(refused.map(drop)), 403);
    }
}

async fn nobody_is_exclusive_on_a_classic_queue_where_others_consume<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) where
    Channel<A>: Probe,
{
    let (connection, channel) = lab.channel().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    let _first = channel.consume(&queue, "first").await.unwrap();
    let second = connection.open_channel().await.unwrap();
    let refused = second.consume_with(&queue, "second", EXCLUSIVE).await;
    assert_eq!(code(refused.map(drop)), 403);
}

async fn a_quorum_queue_takes_no_notice_of_exclusive_consumers<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    let (_other, taking) = lab.channel().await;
    taking.qos(1).await.unwrap();
    let queue = lab.queue(&channel, "quorum", &[]).await;
    let mut consumers = Vec::new();
    for tag in ["first", "second"] {
        let consumer = taking.consume_with(&queue, tag, EXCLUSIVE).await;
        consumers.push(consumer.unwrap());
    }
    lab.put(&channel, &queue, &["1", "2"]).await;
    for consumer in &mut consumers {
        next(&lab, consumer, 1).await;
    }
}

async fn the_consumer_of_the_highest_priority_is_served_first<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    for kind in KINDS {
        let (connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        let mut consumers = Vec::new();
        for (tag, priority) in [("low", 0), ("high", 5)] {
            let own = connection.open_channel().await.unwrap();
            own.qos(2).await.unwrap();
            let options = ConsumeOptions {
                priority,
                ..ConsumeOptions::default()
            };
            let consumer = own.consume_with(&queue, tag, options).await.unwrap();
            consumers.push((own, consumer));
        }
        lab.put(&channel, &queue, &["1", "2", "3", "4"]).await;
        assert_eq!(next(&lab, &mut consumers[1].1, 2).await, ["1", "2"]);
        assert_eq!(
            next(&lab, &mut consumers[0].1, 2).await,
            ["3", "4"],
            "{kind}"
        );
    }
}

async fn a_channels_prefetch_is_shared_by_its_consumers<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    let (_other, taking) = lab.channel().await;
    taking.qos_of_channel(3).await.unwrap();
    let queue = lab.queue(&channel, "classic", &[]).await;
    let _first = taking.consume(&queue, "first").await.unwrap();
    let _second = taking.consume(&queue, "second").await.unwrap();
    lab.put(&channel, &queue, &["1", "2", "3", "4", "5", "6"])
        .await;
    lab.until_ready(&channel, &queue, 3).await;
    taking.ack(1, false).await.unwrap();
    lab.until_ready(&channel, &queue, 2).await;
}

async fn a_quorum_queue_knows_no_prefetch_of_a_channel<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.channel().await;
    let queue = lab.queue(&channel, "quorum", &[]).await;
    channel.qos_of_channel(3).await.unwrap();
    let refused = channel.consume(&queue, "consumer").await.map(drop);
    assert!(
        matches!(&refused, Err(AmqpError::Connection(text)) if text.contains("540")),
        "{refused:?}"
    );
}

async fn another_prefetch_is_for_consumers_to_come<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (_other, taking) = lab.channel().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        taking.qos(1).await.unwrap();
        let mut first = taking.consume(&queue, "first").await.unwrap();
        taking.qos(3).await.unwrap();
        lab.put(&channel, &queue, &["1", "2", "3", "4", "5"]).await;
        assert_eq!(next(&lab, &mut first, 1).await, ["1"]);
        lab.until_ready(&channel, &queue, 4).await;
        let mut second = taking.consume(&queue, "second").await.unwrap();
        assert_eq!(next(&lab, &mut second, 3).await, ["2", "3", "4"], "{kind}");
        lab.until_ready(&channel, &queue, 1).await;
    }
}

async fn an_ack_of_many_makes_room_for_as_many<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (_other, taking) = lab.channel().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        taking.qos(3).await.unwrap();
        let mut consumer = taking.consume(&queue, "consumer").await.unwrap();
        lab.put(&channel, &queue, &["1", "2", "3", "4", "5", "6"])
            .await;
        assert_eq!(next(&lab, &mut consumer, 3).await, ["1", "2", "3"]);
        taking.ack(2, true).await.unwrap();
        assert_eq!(next(&lab, &mut consumer, 2).await, ["4", "5"], "{kind}");
        lab.until_ready(&channel, &queue, 1).await;
    }
}

async fn a_consumer_tag_serves_once_on_a_channel<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.channel().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    let _first = channel.consume(&queue, "same").await.unwrap();
    let refused = channel.consume(&queue, "same").await.map(drop);
    assert!(
        matches!(&refused, Err(AmqpError::Connection(text)) if text.contains("530")),
        "{refused:?}"
    );
}

async fn the_same_consumer_tag_serves_on_two_channels<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (connection, channel) = lab.channel().await;
    let other = connection.open_channel().await.unwrap();
    let queue = lab.queue(&channel, "classic", &[]).await;
    let first = channel.consume(&queue, "same").await;
    let second = other.consume(&queue, "same").await;
    assert!(first.is_ok() && second.is_ok());
}

async fn an_unknown_consumer_is_cancelled_without_complaint<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.channel().await;
    assert_eq!(channel.cancel("nobody").await, Ok(()));
}

async fn a_consumer_of_a_missing_queue_is_refused_with_404<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (connection, channel) = lab.channel().await;
    let consumed = channel.consume(&lab.name(), "consumer").await;
    assert_eq!(code(consumed.map(drop)), 404);
    let channel = connection.open_channel().await.unwrap();
    assert_eq!(code(channel.get(&lab.name()).await), 404);
}

async fn what_is_left_of_a_deleted_queue_may_still_be_acked<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1"]).await;
        let held = lab.get(&channel, &queue).await;
        channel.delete_queue(&queue).await.unwrap();
        channel.ack(held.tag, false).await.unwrap();
        // A refused ack would have ended the channel.
        let other = lab.queue(&channel, kind, &[]).await;
        assert_eq!(channel.inspect_queue(&other).await, Ok(0), "{kind}");
    }
}

async fn a_lone_consumer_gets_back_what_it_gave_back<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (_other, taking) = lab.channel().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        let mut consumer = taking.consume(&queue, "consumer").await.unwrap();
        lab.put(&channel, &queue, &["1"]).await;
        for time in 0..20 {
            let delivery = lab.next(&mut consumer).await;
            assert_eq!(delivery.redelivered, time > 0, "{kind}");
            taking.nack(delivery.tag, false, true).await.unwrap();
        }
    }
}

async fn a_rejected_message_comes_back_or_goes<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1"]).await;
        let first = lab.get(&channel, &queue).await;
        channel.reject(first.tag, true).await.unwrap();
        let again = lab.get(&channel, &queue).await;
        assert!(again.redelivered, "{kind}");
        channel.reject(again.tag, false).await.unwrap();
        lab.put(&channel, &queue, &["2"]).await;
        assert_eq!(lab.bodies(&channel, &queue, 1).await, ["2"], "{kind}");
    }
}

async fn everything_is_given_back_at_once<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (_other, taking) = lab.channel().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2", "3"]).await;
        assert_eq!(lab.bodies(&taking, &queue, 3).await, ["1", "2", "3"]);
        taking.nack(0, true, true).await.unwrap();
        lab.until_ready(&channel, &queue, 3).await;
        assert_eq!(
            lab.bodies(&channel, &queue, 3).await,
            ["1", "2", "3"],
            "{kind}"
        );
    }
}

/// A queue with one consumer at a time, and two that wait for it on connections of their own.
async fn single_active<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    kind: &str,
) -> (String, [(A::Connection, Channel<A>, Consumer<A>); 2]) {
    let single = [("x-single-active-consumer", AMQPValue::Boolean(true))];
    let (_connection, channel) = lab.channel().await;
    let queue = lab.queue(&channel, kind, &single).await;
    let start = async |tag: &str| {
        let (connection, channel) = lab.channel().await;
        channel.qos(2).await.unwrap();
        let consumer = channel.consume(&queue, tag).await.unwrap();
        (connection, channel, consumer)
    };
    let consumers = [start("first").await, start("second").await];
    (queue, consumers)
}

async fn a_single_active_consumer_is_followed_by_the_next<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (queue, [mut first, mut second]) = single_active(&lab, kind).await;
        lab.put(&channel, &queue, &["1", "2"]).await;
        assert_eq!(next(&lab, &mut first.2, 2).await, ["1", "2"]);
        first.1.ack(2, true).await.unwrap();
        lab.until_ready(&channel, &queue, 0).await;
        first.1.cancel("first").await.unwrap();
        lab.put(&channel, &queue, &["3"]).await;
        assert_eq!(next(&lab, &mut second.2, 1).await, ["3"], "{kind}");
    }
}

async fn the_messages_of_a_single_active_consumer_that_is_gone_come_first_and_in_order<
    A: Amqp,
    E: Env,
>(
    lab: Lab<A, E>,
) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        for whole in [true, false] {
            let (queue, [mut first, mut second]) = single_active(&lab, kind).await;
            lab.put(&channel, &queue, &["1", "2", "3", "4"]).await;
            assert_eq!(next(&lab, &mut first.2, 2).await, ["1", "2"]);
            lab.until_ready(&channel, &queue, 2).await;
            match whole {
                true => first.0.close().await.unwrap(),
                false => first.1.close().await.unwrap(),
            }
            assert_eq!(next(&lab, &mut second.2, 2).await, ["1", "2"], "{kind}");
        }
    }
}

async fn a_cancelled_single_active_consumer_of_a_quorum_queue_is_overtaken<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    let (_connection, channel) = lab.confirming().await;
    let (queue, [mut first, mut second]) = single_active(&lab, "quorum").await;
    lab.put(&channel, &queue, &["1", "2", "3", "4"]).await;
    assert_eq!(next(&lab, &mut first.2, 2).await, ["1", "2"]);
    first.1.cancel("first").await.unwrap();
    assert_eq!(next(&lab, &mut second.2, 2).await, ["3", "4"]);
    // What the first still holds comes back behind its successor's.
    first.0.close().await.unwrap();
    second.1.ack(2, true).await.unwrap();
    assert_eq!(next(&lab, &mut second.2, 2).await, ["1", "2"]);
}

async fn a_large_message_arrives_whole<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&channel, kind, &[]).await;
        let large = "x".repeat(1 << 20);
        lab.put(&channel, &queue, &[&large]).await;
        let got = lab.get(&channel, &queue).await;
        assert!(body(&got) == large, "{kind}");
    }
}

async fn confirms_may_be_asked_for_twice<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    channel.confirm_select().await.unwrap();
    let queue = lab.queue(&channel, "classic", &[]).await;
    lab.put(&channel, &queue, &["1"]).await;
}
