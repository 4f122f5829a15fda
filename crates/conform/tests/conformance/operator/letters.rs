//! Dead letters at least once: they wait in their queue until they have a home.

use std::time::Duration;

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{AMQPValue, Amqp, AmqpChannel, ExchangeKind};

use super::{Lab, Operator};
use crate::amqp::{Channel, number, word};

crate::cases!(operator "At-least-once dead lettering":
    a_letter_without_a_route_is_kept_and_sent_once_there_is_one [quorum],
    a_letter_that_is_refused_is_kept_and_sent_once_there_is_room [classic quorum],
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
    lab.queue(channel, "quorum", &arguments).await
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
    let exchange = lab.name();
    let declared = channel.declare_exchange(&exchange, ExchangeKind::Direct);
    declared.await.unwrap();
    let letters = lab.queue(&channel, "quorum", &[]).await;
    let queue = careful(&lab, &channel, &exchange, "dead").await;
    lab.put(&channel, &queue, &["1"]).await;
    let rejected = lab.get(&channel, &queue).await;
    channel.nack(rejected.tag, false, false).await.unwrap();
    lab.env.sleep(EVERY / 2).await;
    // It is neither here nor there, and not lost.
    assert_eq!(channel.inspect_queue(&queue).await, Ok(0));
    channel
        .bind_queue(&letters, &exchange, "dead")
        .await
        .unwrap();
    assert_eq!(lab.bodies(&channel, &letters, 1).await, ["1"]);
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
    let full = [
        ("x-max-length", number(1)),
        ("x-overflow", word("reject-publish")),
    ];
    let letters = lab.queue(&channel, "classic", &full).await;
    lab.put(&channel, &letters, &["full"]).await;
    let queue = careful(&lab, &channel, "", &letters).await;
    lab.put(&channel, &queue, &["1"]).await;
    let rejected = lab.get(&channel, &queue).await;
    channel.nack(rejected.tag, false, false).await.unwrap();
    lab.env.sleep(2 * EVERY).await;
    assert_eq!(channel.inspect_queue(&letters).await, Ok(1));
    assert_eq!(lab.bodies(&channel, &letters, 1).await, ["full"]);
    assert_eq!(lab.bodies(&channel, &letters, 1).await, ["1"]);
}
