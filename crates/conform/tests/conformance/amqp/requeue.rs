//! Where messages go that are given back, and how they are counted.

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, AmqpConnection};

use super::{Arguments, KINDS, Lab, delivery_count, number};

crate::cases!(amqp "Requeue and redelivery":
    a_requeue_to_a_classic_queue_keeps_the_place [classic],
    a_requeue_to_a_quorum_queue_goes_to_the_back [quorum],
    a_requeue_of_many_to_a_quorum_queue_goes_to_the_back_in_order [quorum],
    a_requeue_to_a_quorum_queue_with_a_limit_comes_next [quorum],
    what_a_lost_channel_held_comes_first [classic quorum],
    a_message_given_back_is_flagged_and_a_new_one_is_not [classic quorum],
    a_quorum_queue_counts_deliveries_and_a_classic_one_does_not [classic quorum],
    a_get_from_a_quorum_queue_counts_from_zero [quorum],
);

/// Takes three of five messages, gives them back in another order, and reads the queue.
async fn order<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    kind: &str,
    arguments: Arguments<'_>,
    nacks: &[(u64, bool)],
) -> Vec<String> {
    let (_connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, kind, arguments).await;
    lab.put(&channel, &queue, &["1", "2", "3", "4", "5"]).await;
    lab.bodies(&channel, &queue, 3).await;
    for (tag, multiple) in nacks {
        channel.nack(*tag, *multiple, true).await.unwrap();
    }
    lab.until_ready(&channel, &queue, 5).await;
    lab.bodies(&channel, &queue, 5).await
}

async fn a_requeue_to_a_classic_queue_keeps_the_place<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for nacks in [&[(3, false), (1, false), (2, false)][..], &[(3, true)]] {
        assert_eq!(
            order(&lab, "classic", &[], nacks).await,
            ["1", "2", "3", "4", "5"]
        );
    }
}

async fn a_requeue_to_a_quorum_queue_goes_to_the_back<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let nacks = [(3, false), (1, false), (2, false)];
    assert_eq!(
        order(&lab, "quorum", &[], &nacks).await,
        ["4", "5", "3", "1", "2"]
    );
}

async fn a_requeue_of_many_to_a_quorum_queue_goes_to_the_back_in_order<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    assert_eq!(
        order(&lab, "quorum", &[], &[(3, true)]).await,
        ["4", "5", "1", "2", "3"]
    );
}

async fn a_requeue_to_a_quorum_queue_with_a_limit_comes_next<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let limit = [("x-delivery-limit", number(9))];
    let nacks = [(3, false), (2, false), (1, false)];
    assert_eq!(
        order(&lab, "quorum", &limit, &nacks).await,
        ["3", "2", "1", "4", "5"]
    );
}

async fn what_a_lost_channel_held_comes_first<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let limit = [("x-delivery-limit", number(9))];
    let queues: [(&str, Arguments<'_>); 3] =
        [("classic", &[]), ("quorum", &[]), ("quorum", &limit)];
    for (kind, arguments) in queues {
        for whole in [false, true] {
            let (connection, channel) = lab.confirming().await;
            let queue = lab.queue(&channel, kind, arguments).await;
            lab.put(&channel, &queue, &["1", "2", "3", "4"]).await;
            channel.qos(3).await.unwrap();
            let mut consumer = channel.consume(&queue, "tag").await.unwrap();
            // Two more are prefetched, and nobody has looked at them.
            lab.next(&mut consumer).await;
            lab.until_ready(&channel, &queue, 1).await;
            match whole {
                true => connection.close().await.unwrap(),
                false => channel.close().await.unwrap(),
            }
            let (_connection, channel) = lab.channel().await;
            lab.until_ready(&channel, &queue, 4).await;
            let mut back = Vec::new();
            for _ in 0..4 {
                let got = lab.get(&channel, &queue).await;
                back.push((super::body(&got).to_owned(), got.redelivered));
            }
            let expected = [("1", true), ("2", true), ("3", true), ("4", false)];
            let expected = expected.map(|(body, again)| (body.to_owned(), again));
            assert_eq!(
                back, expected,
                "{kind} {arguments:?} whole connection: {whole}"
            );
        }
    }
}

async fn a_message_given_back_is_flagged_and_a_new_one_is_not<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1"]).await;
        for again in [false, true, true] {
            let got = lab.get(&channel, &queue).await;
            assert_eq!(got.redelivered, again, "{kind}");
            channel.nack(got.tag, false, true).await.unwrap();
        }
    }
}

async fn a_quorum_queue_counts_deliveries_and_a_classic_one_does_not<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    for (kind, counts) in [("classic", [None; 3]), ("quorum", [None, Some(1), Some(2)])] {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1"]).await;
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        for wanted in counts {
            let got = lab.next(&mut consumer).await;
            assert_eq!(delivery_count(&got), wanted, "{kind}");
            channel.nack(got.tag, false, true).await.unwrap();
        }
    }
}

async fn a_get_from_a_quorum_queue_counts_from_zero<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, "quorum", &[]).await;
    lab.put(&channel, &queue, &["1"]).await;
    for wanted in 0..3 {
        let got = lab.get(&channel, &queue).await;
        assert_eq!(delivery_count(&got), Some(wanted));
        channel.nack(got.tag, false, true).await.unwrap();
    }
}
