//! Dead lettering: what goes where.

use std::time::Duration;

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{AMQPValue, Amqp, AmqpChannel, AmqpConnection, ExchangeKind};

use super::{Arguments, Channel, KINDS, Lab, body, message, number, to_queue, word};

crate::cases!(amqp "Dead letters":
    a_delay_queue_gives_messages_back_under_their_key_and_in_order [classic quorum],
    a_message_does_not_leave_a_delay_queue_early [classic quorum],
    an_unacked_message_does_not_expire [classic quorum],
    a_rejected_message_goes_to_its_dead_letter_queue [classic quorum],
    a_rejected_message_without_an_address_is_gone [classic quorum],
    an_address_that_does_not_exist_loses_the_message [classic quorum],
    a_limit_of_deliveries_ends_in_the_dead_letter_queue [quorum],
    a_lost_channel_counts_against_the_limit_of_deliveries [quorum],
    at_least_once_delivers_what_was_rejected [quorum],
    a_full_queue_that_rejects_may_dead_letter_what_it_rejects [classic],
);

/// A queue whose dead letters go to `dead`.
async fn with_dead<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    channel: &Channel<A>,
    kind: &str,
    dead: &str,
    more: Arguments<'_>,
) -> String {
    let mut arguments = vec![
        ("x-dead-letter-exchange", word("")),
        ("x-dead-letter-routing-key", word(dead)),
    ];
    arguments.extend(more.iter().cloned());
    lab.queue(channel, kind, &arguments).await
}

async fn a_delay_queue_gives_messages_back_under_their_key_and_in_order<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let one = lab.queue(&channel, kind, &[]).await;
        let two = lab.queue(&channel, kind, &[]).await;
        let ladder = [
            ("x-dead-letter-exchange", word("")),
            ("x-message-ttl", AMQPValue::LongLongInt(100)),
        ];
        let delay = lab.queue(&channel, kind, &ladder).await;
        let exchange = lab.name();
        channel
            .declare_exchange(&exchange, ExchangeKind::Fanout)
            .await
            .unwrap();
        channel.bind_queue(&delay, &exchange, "").await.unwrap();
        for n in ["1", "2", "3", "4"] {
            let target = if n == "3" { &two } else { &one };
            lab.confirm(&channel, message(&exchange, target, n))
                .await
                .unwrap();
        }
        for n in ["1", "2", "4"] {
            let got = lab.get(&channel, &one).await;
            let from = (
                body(&got),
                &*got.exchange,
                &*got.routing_key,
                got.redelivered,
            );
            assert_eq!(from, (n, "", &*one, false), "{kind}");
        }
        assert_eq!(lab.bodies(&channel, &two, 1).await, ["3"]);
    }
}

async fn a_message_does_not_leave_a_delay_queue_early<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let home = lab.queue(&channel, kind, &[]).await;
        let delay = with_dead(
            &lab,
            &channel,
            kind,
            &home,
            &[("x-message-ttl", number(300))],
        )
        .await;
        let start = lab.env.elapsed();
        lab.put(&channel, &delay, &["1"]).await;
        lab.get(&channel, &home).await;
        let took = lab.env.elapsed() - start;
        assert!(took >= Duration::from_millis(300), "{kind}: after {took:?}");
    }
}

async fn an_unacked_message_does_not_expire<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let dead = lab.queue(&channel, kind, &[]).await;
        let ttl = [("x-message-ttl", number(100))];
        let queue = with_dead(&lab, &channel, kind, &dead, &ttl).await;
        let mut consumer = channel.consume(&queue, kind).await.unwrap();
        lab.put(&channel, &queue, &["held"]).await;
        let held = lab.next(&mut consumer).await;
        channel.cancel(kind).await.unwrap();
        // Another message shows when the time is over.
        lab.put(&channel, &queue, &["clock"]).await;
        assert_eq!(lab.bodies(&channel, &dead, 1).await, ["clock"], "{kind}");
        assert_eq!(channel.get(&dead).await, Ok(None), "{kind}");
        // Given back it has expired already.
        channel.nack(held.tag, false, true).await.unwrap();
        assert_eq!(lab.bodies(&channel, &dead, 1).await, ["held"], "{kind}");
    }
}

async fn a_rejected_message_goes_to_its_dead_letter_queue<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let dead = lab.queue(&channel, kind, &[]).await;
        let queue = with_dead(&lab, &channel, kind, &dead, &[]).await;
        lab.put(&channel, &queue, &["1", "2"]).await;
        let first = lab.get(&channel, &queue).await;
        lab.get(&channel, &queue).await;
        channel.nack(first.tag + 1, true, false).await.unwrap();
        for n in ["1", "2"] {
            let got = lab.get(&channel, &dead).await;
            let from = (
                body(&got),
                &*got.exchange,
                &*got.routing_key,
                got.redelivered,
            );
            assert_eq!(from, (n, "", &*dead, false), "{kind}");
        }
    }
}

async fn a_rejected_message_without_an_address_is_gone<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2"]).await;
        let first = lab.get(&channel, &queue).await;
        channel.nack(first.tag, false, false).await.unwrap();
        assert_eq!(lab.bodies(&channel, &queue, 1).await, ["2"], "{kind}");
        assert_eq!(channel.get(&queue).await, Ok(None), "{kind}");
    }
}

async fn an_address_that_does_not_exist_loses_the_message<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let nowhere = lab.name();
        let queue = lab
            .queue(
                &channel,
                kind,
                &[("x-dead-letter-exchange", word(&nowhere))],
            )
            .await;
        lab.put(&channel, &queue, &["1", "2"]).await;
        let first = lab.get(&channel, &queue).await;
        channel.nack(first.tag, false, false).await.unwrap();
        assert_eq!(lab.bodies(&channel, &queue, 1).await, ["2"], "{kind}");
        assert_eq!(channel.get(&queue).await, Ok(None), "{kind}");
    }
}

async fn a_limit_of_deliveries_ends_in_the_dead_letter_queue<A: Amqp, E: Env>(lab: Lab<A, E>) {
    for limit in [0, 2] {
        let (_connection, channel) = lab.confirming().await;
        let dead = lab.queue(&channel, "quorum", &[]).await;
        let arguments = [("x-delivery-limit", number(limit))];
        let queue = with_dead(&lab, &channel, "quorum", &dead, &arguments).await;
        lab.put(&channel, &queue, &["1"]).await;
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        for _ in 0..=limit {
            let got = lab.next(&mut consumer).await;
            channel.nack(got.tag, false, true).await.unwrap();
        }
        assert_eq!(lab.bodies(&channel, &dead, 1).await, ["1"]);
        lab.put(&channel, &queue, &["next"]).await;
        assert_eq!(
            body(&lab.next(&mut consumer).await),
            "next",
            "limit {limit}"
        );
    }
}

async fn a_lost_channel_counts_against_the_limit_of_deliveries<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let dead = lab.queue(&channel, "quorum", &[]).await;
    let arguments = [("x-delivery-limit", number(1))];
    let queue = with_dead(&lab, &channel, "quorum", &dead, &arguments).await;
    lab.put(&channel, &queue, &["1"]).await;
    for _ in 0..2 {
        let (connection, holder) = lab.channel().await;
        let mut consumer = holder.consume(&queue, "tag").await.unwrap();
        lab.next(&mut consumer).await;
        connection.close().await.unwrap();
    }
    assert_eq!(lab.bodies(&channel, &dead, 1).await, ["1"]);
}

async fn at_least_once_delivers_what_was_rejected<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    let dead = lab.queue(&channel, "quorum", &[]).await;
    let strict = [
        ("x-dead-letter-strategy", word("at-least-once")),
        ("x-overflow", word("reject-publish")),
    ];
    let queue = with_dead(&lab, &channel, "quorum", &dead, &strict).await;
    lab.put(&channel, &queue, &["1", "2", "3"]).await;
    for n in ["1", "2", "3"] {
        let got = lab.get(&channel, &queue).await;
        assert_eq!(body(&got), n);
        channel.nack(got.tag, false, false).await.unwrap();
    }
    assert_eq!(lab.bodies(&channel, &dead, 3).await, ["1", "2", "3"]);
}

async fn a_full_queue_that_rejects_may_dead_letter_what_it_rejects<A: Amqp, E: Env>(
    lab: Lab<A, E>,
) {
    use redeliver_rabbitmq::amqp::Confirmation::Nack;
    let (_connection, channel) = lab.confirming().await;
    let dead = lab.queue(&channel, "classic", &[]).await;
    let full = [
        ("x-max-length", number(1)),
        ("x-overflow", word("reject-publish-dlx")),
    ];
    let queue = with_dead(&lab, &channel, "classic", &dead, &full).await;
    lab.put(&channel, &queue, &["1"]).await;
    assert_eq!(lab.confirm(&channel, to_queue(&queue, "2")).await, Ok(Nack));
    assert_eq!(lab.bodies(&channel, &dead, 1).await, ["2"]);
    assert_eq!(lab.bodies(&channel, &queue, 1).await, ["1"]);
}
