//! Consuming: prefetch, order, cancelling.

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, AmqpConnection, Incoming};

use super::{KINDS, Lab, body};

crate::cases!(amqp "Delivery and prefetch":
    prefetch_limits_what_is_unacked_and_an_ack_makes_room [classic quorum],
    prefetch_is_counted_for_each_consumer [classic quorum],
    a_get_does_not_count_against_prefetch [classic quorum],
    deliveries_come_in_the_order_of_publishing [classic quorum],
    consumers_take_turns [classic quorum],
    a_get_from_an_empty_queue_gives_nothing [classic quorum],
    a_cancelled_consumer_leaves_its_unacked_with_the_channel [classic quorum],
    a_deleted_queue_cancels_its_consumer_and_the_channel_lives [classic quorum],
    a_message_in_a_consumers_hands_is_not_ready [classic quorum],
    an_ack_removes_for_good [classic quorum],
);

async fn prefetch_limits_what_is_unacked_and_an_ack_makes_room<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2", "3", "4"]).await;
        channel.qos(2).await.unwrap();
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        assert_eq!(body(&lab.next(&mut consumer).await), "1");
        assert_eq!(body(&lab.next(&mut consumer).await), "2");
        assert_eq!(channel.inspect_queue(&queue).await, Ok(2), "{kind}");
        channel.ack(1, false).await.unwrap();
        assert_eq!(body(&lab.next(&mut consumer).await), "3");
        channel.nack(2, true, false).await.unwrap();
        assert_eq!(body(&lab.next(&mut consumer).await), "4");
        lab.until_ready(&channel, &queue, 0).await;
    }
}

async fn prefetch_is_counted_for_each_consumer<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2", "3", "4", "5", "6", "7"])
            .await;
        channel.qos(3).await.unwrap();
        let mut one = channel.consume(&queue, "one").await.unwrap();
        // A later limit is for later consumers.
        channel.qos(2).await.unwrap();
        let mut two = channel.consume(&queue, "two").await.unwrap();
        for _ in 0..3 {
            lab.next(&mut one).await;
        }
        for _ in 0..2 {
            lab.next(&mut two).await;
        }
        lab.until_ready(&channel, &queue, 2).await;
    }
}

async fn a_get_does_not_count_against_prefetch<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2", "3"]).await;
        channel.qos(1).await.unwrap();
        assert_eq!(lab.bodies(&channel, &queue, 2).await, ["1", "2"]);
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        assert_eq!(body(&lab.next(&mut consumer).await), "3", "{kind}");
    }
}

async fn deliveries_come_in_the_order_of_publishing<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        let bodies: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        for body in &bodies {
            // Its confirm is nobody's business here.
            drop(
                channel
                    .publish(super::to_queue(&queue, body))
                    .await
                    .unwrap(),
            );
        }
        for (n, wanted) in (1..).zip(&bodies) {
            let got = lab.next(&mut consumer).await;
            let got = (body(&got), got.tag, got.redelivered);
            assert_eq!(got, (wanted.as_str(), n, false), "{kind}");
        }
    }
}

async fn consumers_take_turns<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        let mut one = channel.consume(&queue, "one").await.unwrap();
        let mut two = channel.consume(&queue, "two").await.unwrap();
        lab.put(&channel, &queue, &["1", "2", "3", "4"]).await;
        let mut turns = [Vec::new(), Vec::new()];
        for _ in 0..2 {
            turns[0].push(body(&lab.next(&mut one).await).to_owned());
            turns[1].push(body(&lab.next(&mut two).await).to_owned());
        }
        assert_eq!(turns, [["1", "3"], ["2", "4"]], "{kind}");
    }
}

async fn a_get_from_an_empty_queue_gives_nothing<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&channel, kind, &[]).await;
        assert_eq!(channel.get(&queue).await, Ok(None));
        lab.put(&channel, &queue, &["1"]).await;
        lab.get(&channel, &queue).await;
        assert_eq!(
            channel.get(&queue).await,
            Ok(None),
            "{kind}: it is in our hands"
        );
    }
}

async fn a_cancelled_consumer_leaves_its_unacked_with_the_channel<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2"]).await;
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        let first = lab.next(&mut consumer).await;
        lab.next(&mut consumer).await;
        channel.cancel("tag").await.unwrap();
        assert_eq!(lab.incoming(&mut consumer).await, Ok(Incoming::Cancelled));
        assert_eq!(lab.incoming(&mut consumer).await, Ok(Incoming::Cancelled));
        lab.put(&channel, &queue, &["3"]).await;
        lab.until_ready(&channel, &queue, 1).await;
        channel.ack(first.tag, false).await.unwrap();
        channel.nack(2, false, true).await.unwrap();
        lab.until_ready(&channel, &queue, 2).await;
    }
}

async fn a_deleted_queue_cancels_its_consumer_and_the_channel_lives<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    for kind in KINDS {
        let (_connection, channel) = lab.confirming().await;
        let (_other, deleting) = lab.channel().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1"]).await;
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        let held = lab.next(&mut consumer).await;
        deleting.delete_queue(&queue).await.unwrap();
        assert_eq!(lab.incoming(&mut consumer).await, Ok(Incoming::Cancelled));
        // The ack of what went with the queue comes to nothing.
        channel.ack(held.tag, false).await.unwrap();
        let other = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &other, &["1"]).await;
    }
}

async fn a_message_in_a_consumers_hands_is_not_ready<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        lab.put(&channel, &queue, &["1"]).await;
        lab.next(&mut consumer).await;
        let other = connection.open_channel().await.unwrap();
        assert_eq!(other.inspect_queue(&queue).await, Ok(0));
        assert_eq!(other.get(&queue).await, Ok(None));
    }
}

async fn an_ack_removes_for_good<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for kind in KINDS {
        let (connection, channel) = lab.confirming().await;
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2"]).await;
        let first = lab.get(&channel, &queue).await;
        lab.get(&channel, &queue).await;
        channel.ack(first.tag, false).await.unwrap();
        channel.close().await.unwrap();
        let channel = connection.open_channel().await.unwrap();
        assert_eq!(lab.bodies(&channel, &queue, 1).await, ["2"], "{kind}");
        assert_eq!(channel.get(&queue).await, Ok(None));
    }
}
