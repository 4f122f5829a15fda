//! How long a broker waits for an ack.

use std::time::Duration;

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, AmqpConnection};

use super::{Lab, Operator};
use crate::amqp::{Channel, KINDS, body, delivery_count};

crate::cases!(operator "Consumer timeout":
    a_delivery_held_too_long_ends_its_channel_with_406_at_a_tick [classic quorum],
    a_message_that_was_got_is_held_too_long_as_well [classic quorum],
    all_that_a_slow_channel_holds_comes_back [classic quorum],
    acks_in_time_keep_a_channel [classic],
);

const TIMEOUT: Duration = Duration::from_millis(1500);
const TICK: Duration = Duration::from_millis(1000);
/// A real node's clocks are its own, and it may be busy.
const SLACK: Duration = Duration::from_millis(1500);

fn impatient<A: Amqp, E: Env, O: Operator>(lab: &Lab<A, E, O>) {
    lab.operator.consumer_timeout(TIMEOUT, TICK);
}

/// Whether that long is more than the timeout and at most a tick more.
fn assert_at_a_tick(waited: Duration, kind: &str) {
    assert!(waited >= TIMEOUT, "{kind}: {waited:?}");
    assert!(waited <= TIMEOUT + TICK + SLACK, "{kind}: {waited:?}");
}

/// The first message is back, flagged; a quorum queue has counted.
async fn assert_back<A: Amqp, E: Env>(
    lab: &crate::amqp::Lab<A, E>,
    channel: &Channel<A>,
    queue: &str,
    kind: &str,
) {
    let back = lab.get(channel, queue).await;
    let count = (kind == "quorum").then_some(1);
    assert_eq!(
        (body(&back), back.redelivered, delivery_count(&back)),
        ("1", true, count),
        "{kind}"
    );
    channel.ack(back.tag, false).await.unwrap();
}

async fn a_delivery_held_too_long_ends_its_channel_with_406_at_a_tick<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    impatient(&lab);
    let (_other, observer) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&observer, kind, &[]).await;
        lab.put(&observer, &queue, &["1"]).await;
        let (connection, channel) = lab.channel().await;
        let mut consumer = channel.consume(&queue, "slow").await.unwrap();
        lab.next(&mut consumer).await;
        let since = lab.env.elapsed();
        assert_eq!(lab.until_closed(&channel, &queue).await, 406, "{kind}");
        assert_at_a_tick(lab.env.elapsed().saturating_sub(since), kind);
        connection
            .open_channel()
            .await
            .expect("the connection lives");
        assert_back(&lab, &observer, &queue, kind).await;
    }
}

async fn a_message_that_was_got_is_held_too_long_as_well<A: Amqp, E: Env, O: Operator>(
    lab: Lab<A, E, O>,
) {
    impatient(&lab);
    let (_other, observer) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&observer, kind, &[]).await;
        lab.put(&observer, &queue, &["1"]).await;
        let (_connection, channel) = lab.channel().await;
        lab.get(&channel, &queue).await;
        let since = lab.env.elapsed();
        assert_eq!(lab.until_closed(&channel, &queue).await, 406, "{kind}");
        assert_at_a_tick(lab.env.elapsed().saturating_sub(since), kind);
        assert_back(&lab, &observer, &queue, kind).await;
    }
}

async fn all_that_a_slow_channel_holds_comes_back<A: Amqp, E: Env, O: Operator>(lab: Lab<A, E, O>) {
    impatient(&lab);
    let (_other, observer) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&observer, kind, &[]).await;
        lab.put(&observer, &queue, &["1", "2"]).await;
        let (_connection, channel) = lab.channel().await;
        lab.get(&channel, &queue).await;
        lab.env.sleep(TIMEOUT / 2).await;
        // Not yet held for long when the first one's time is up.
        lab.get(&channel, &queue).await;
        assert_eq!(lab.until_closed(&channel, &queue).await, 406, "{kind}");
        assert_eq!(lab.bodies(&observer, &queue, 2).await, ["1", "2"], "{kind}");
        observer.ack(0, true).await.unwrap();
    }
}

async fn acks_in_time_keep_a_channel<A: Amqp, E: Env, O: Operator>(lab: Lab<A, E, O>) {
    impatient(&lab);
    let (_connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    lab.put(&channel, &queue, &["1", "2", "3", "4"]).await;
    channel.qos(1).await.unwrap();
    let mut consumer = channel.consume(&queue, "quick").await.unwrap();
    for _ in 0..4 {
        let held = lab.next(&mut consumer).await;
        lab.env.sleep(TIMEOUT - TICK / 2).await;
        channel.ack(held.tag, false).await.unwrap();
    }
    lab.env.sleep(TIMEOUT + TICK).await;
    assert_eq!(channel.inspect_queue(&queue).await, Ok(0), "it is open");
}
