//! Dead letters at least once: they wait in their queue until they have a home. The queue that they
//! come from is always a quorum queue; the kinds in the table are those of the queue that they go to.

use std::time::Duration;

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{AMQPValue, Amqp, AmqpChannel, ExchangeKind};

use super::{Lab, Operator};
use crate::amqp::{Channel, KINDS, number, word};

crate::cases!(operator "At-least-once dead lettering":
    a_letter_without_a_route_is_kept_and_sent_once_there_is_one [classic quorum],
    a_letter_that_is_refused_is_kept_and_sent_once_there_is_room [classic quorum],
    letters_that_come_one_by_one_fill_a_queue_that_rejects_and_the_rest_waits [classic quorum],
    letters_that_come_at_once_all_enter_a_quorum_queue_that_rejects [classic quorum],
);

const EVERY: Duration = Duration::from_secs(2);

/// A queue whose dead letters go through that exchange with that key, at least once.
async fn careful<A: Amqp, E: Env>(
    lab: &crate::amqp::Lab<A, E>,
    channel: &Channel<A>,
    exchange: &str,
    key: &str,
) -> String {
    let arguments: [(&str, AMQPValue); 4] = [
        ("x-dead-letter-exchange", word(exchange)),
        ("x-dead-letter-routing-key", word(key)),
        ("x-dead-letter-strategy", word("at-least-once")),
        ("x-overflow", word("reject-publish")),
    ];
    lab.queue_beside(channel, "quorum", &arguments).await
}

async fn a_letter_without_a_route_is_kept_and_sent_once_there_is_one<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    lab.operator.dead_letter_retry(EVERY);
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let exchange = lab.name();
        let declared = channel.declare_exchange(&exchange, ExchangeKind::Direct);
        declared.await.unwrap();
        let letters = lab.queue(&channel, kind, &[]).await;
        let queue = careful(&lab, &channel, &exchange, "dead").await;
        lab.put(&channel, &queue, &["1"]).await;
        let rejected = lab.get(&channel, &queue).await;
        channel.nack(rejected.tag, false, false).await.unwrap();
        lab.env.sleep(EVERY / 2).await;
        // It is neither here nor there, and not lost.
        assert_eq!(channel.inspect_queue(&queue).await, Ok(0));
        let bound = channel.bind_queue(&letters, &exchange, "dead");
        bound.await.unwrap();
        assert_eq!(lab.bodies(&channel, &letters, 1).await, ["1"], "{kind}");
    }
}

async fn a_letter_that_is_refused_is_kept_and_sent_once_there_is_room<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    lab.operator.dead_letter_retry(EVERY);
    let (_connection, channel) = lab.confirming().await;
    // A quorum queue takes one more than its limit (documentation: it is not exact).
    for (kind, held) in [("classic", 1), ("quorum", 2)] {
        let letters = lab.queue(&channel, kind, &rejecting(1)).await;
        let first: &[&str] = match held {
            1 => &["full"],
            _ => &["full", "fuller"],
        };
        lab.put(&channel, &letters, first).await;
        let queue = careful(&lab, &channel, "", &letters).await;
        lab.put(&channel, &queue, &["1"]).await;
        let rejected = lab.get(&channel, &queue).await;
        channel.nack(rejected.tag, false, false).await.unwrap();
        lab.env.sleep(2 * EVERY).await;
        assert_eq!(channel.inspect_queue(&letters).await, Ok(held), "{kind}");
        assert_eq!(lab.bodies(&channel, &letters, first.len()).await, first);
        assert_eq!(lab.bodies(&channel, &letters, 1).await, ["1"], "{kind}");
    }
}

/// A queue that rejects what is more than so many.
fn rejecting(limit: i32) -> [(&'static str, AMQPValue); 2] {
    [
        ("x-max-length", number(limit)),
        ("x-overflow", word("reject-publish")),
    ]
}

async fn letters_that_come_one_by_one_fill_a_queue_that_rejects_and_the_rest_waits<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    lab.operator.dead_letter_retry(EVERY);
    let (_connection, channel) = lab.confirming().await;
    for (kind, held) in [("classic", 2), ("quorum", 3)] {
        let letters = lab.queue(&channel, kind, &rejecting(2)).await;
        let queue = careful(&lab, &channel, "", &letters).await;
        let bodies = numbered(8);
        lab.put(&channel, &queue, &each(&bodies)).await;
        for n in 0..8 {
            let got = lab.get(&channel, &queue).await;
            channel.nack(got.tag, false, false).await.unwrap();
            lab.until_ready(&channel, &letters, held.min(n + 1)).await;
            // Time for the word that the queue is full.
            lab.env.sleep(EVERY / 10).await;
        }
        lab.env.sleep(2 * EVERY).await;
        assert_eq!(channel.inspect_queue(&letters).await, Ok(held), "{kind}");
        all_come(&lab, &channel, &letters, &bodies).await;
    }
}

/// A classic queue is exact. To a quorum queue the letters are on their way before it can say that
/// it is full, as those of any publisher.
async fn letters_that_come_at_once_all_enter_a_quorum_queue_that_rejects<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    lab.operator.dead_letter_retry(EVERY);
    let (_connection, channel) = lab.confirming().await;
    for (kind, held) in [("classic", 2), ("quorum", 8)] {
        let letters = lab.queue(&channel, kind, &rejecting(2)).await;
        let queue = careful(&lab, &channel, "", &letters).await;
        let bodies = numbered(8);
        lab.put(&channel, &queue, &each(&bodies)).await;
        let mut last = 0;
        for _ in 0..8 {
            last = lab.get(&channel, &queue).await.tag;
        }
        channel.nack(last, true, false).await.unwrap();
        lab.until_ready(&channel, &letters, held).await;
        lab.env.sleep(EVERY / 2).await;
        assert_eq!(channel.inspect_queue(&letters).await, Ok(held), "{kind}");
        all_come(&lab, &channel, &letters, &bodies).await;
    }
}

fn numbered(count: u32) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

fn each(bodies: &[String]) -> Vec<&str> {
    bodies.iter().map(String::as_str).collect()
}

/// None of them is lost: each that is taken makes room for another.
async fn all_come<A: Amqp, E: Env>(
    lab: &crate::amqp::Lab<A, E>,
    channel: &Channel<A>,
    letters: &str,
    bodies: &[String],
) {
    let mut taken = lab.bodies(channel, letters, bodies.len()).await;
    taken.sort_unstable();
    assert_eq!(taken, bodies);
}
