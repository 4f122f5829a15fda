//! The consistent-hash exchange, which the operator has to switch on.

use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, Confirmation, ExchangeKind};

use super::{Lab, Operator};
use crate::amqp::{Channel, code, message};
use crate::lab::bounded;

crate::cases!(operator "Consistent-hash exchange":
    a_hash_exchange_sends_each_key_to_one_queue_always_the_same [classic],
    a_hash_exchange_shares_keys_by_weight [classic],
    a_hash_exchange_refuses_a_weight_that_is_no_number [classic],
);

/// An exchange with a queue for each weight.
async fn hashing<A: Amqp, E: Env>(
    lab: &crate::amqp::Lab<A, E>,
    channel: &Channel<A>,
    weights: &[&str],
) -> (String, Vec<String>) {
    let exchange = lab.name();
    let declared = channel.declare_exchange(&exchange, ExchangeKind::ConsistentHash);
    declared.await.unwrap();
    let mut queues = Vec::new();
    for weight in weights {
        let queue = lab.queue(channel, "classic", &[]).await;
        channel.bind_queue(&queue, &exchange, weight).await.unwrap();
        queues.push(queue);
    }
    (exchange, queues)
}

/// Publishes a message under each key, all at once.
async fn publish<A: Amqp, E: Env>(
    lab: &crate::amqp::Lab<A, E>,
    channel: &Channel<A>,
    exchange: &str,
    keys: &[String],
) {
    let mut confirms = Vec::new();
    for key in keys {
        let confirm = channel.publish(message(exchange, key, key)).await;
        confirms.push(confirm.unwrap());
    }
    for confirm in confirms {
        let confirmed = bounded(&lab.env, "a confirm", confirm).await;
        assert_eq!(confirmed, Ok(Confirmation::Ack));
    }
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("order-{n}")).collect()
}

async fn a_hash_exchange_sends_each_key_to_one_queue_always_the_same<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    let (_connection, channel) = lab.confirming().await;
    let (exchange, queues) = hashing(&lab, &channel, &["1", "1", "1"]).await;
    let keys = keys(12);
    publish(&lab, &channel, &exchange, &keys).await;
    publish(&lab, &channel, &exchange, &keys).await;
    let mut all = Vec::new();
    for queue in &queues {
        let count = channel.inspect_queue(queue).await.unwrap() as usize;
        let bodies = lab.bodies(&channel, queue, count).await;
        let (first, again) = bodies.split_at(count / 2);
        assert_eq!(first, again, "both rounds came here in the same order");
        all.extend(first.to_vec());
    }
    all.sort_unstable();
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(all, keys, "each key has one queue");
}

async fn a_hash_exchange_shares_keys_by_weight<A: Amqp, E: Env, O: Operator>(lab: Lab<A, E, O>) {
    let (_connection, channel) = lab.confirming().await;
    let (exchange, queues) = hashing(&lab, &channel, &["1", "3"]).await;
    publish(&lab, &channel, &exchange, &keys(1_000)).await;
    let light = channel.inspect_queue(&queues[0]).await.unwrap();
    let heavy = channel.inspect_queue(&queues[1]).await.unwrap();
    assert_eq!(light + heavy, 1_000);
    assert!((170..330).contains(&light), "a quarter: {light}");
}

async fn a_hash_exchange_refuses_a_weight_that_is_no_number<A: Amqp, E: Env, O: Operator>(
    lab: Lab<A, E, O>,
) {
    let (_connection, channel) = lab.confirming().await;
    let (exchange, queues) = hashing(&lab, &channel, &["1"]).await;
    let bound = channel.bind_queue(&queues[0], &exchange, "heavy").await;
    assert_eq!(code(bound), 406);
}
