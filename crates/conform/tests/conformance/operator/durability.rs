//! What a queue still has when its node comes back.

use redeliver_conform::probe::Probe;
use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, AmqpConnection, Confirmation, ExchangeKind};

use super::{Lab, Operator};
use crate::amqp::{Channel, body, code, delivery_count, message, to_queue};
use crate::lab::bounded;

crate::cases!(operator "Restart and SIGKILL":
    an_orderly_restart_keeps_what_is_persistent_and_all_of_a_quorum_queue [classic quorum],
    an_orderly_restart_keeps_bindings_and_forgets_a_transient_queue [classic],
    what_was_unacked_before_a_restart_comes_back_flagged_and_in_order [classic quorum],
    a_killed_node_keeps_what_it_has_confirmed [classic quorum],
    a_killed_node_is_seen_by_its_clients [classic],
);

const BODIES: [&str; 6] = ["1", "2", "3", "4", "5", "6"];

/// Every other message is transient.
async fn fill<A: Amqp, E: Env>(lab: &crate::amqp::Lab<A, E>, channel: &Channel<A>, queue: &str) {
    for (at, text) in BODIES.iter().enumerate() {
        let mut publish = to_queue(queue, text);
        publish.properties.delivery_mode = Some(if at % 2 == 0 { 2 } else { 1 });
        assert_eq!(lab.confirm(channel, publish).await, Ok(Confirmation::Ack));
    }
}

/// What a queue still has, taken out of it.
async fn left<A: Amqp, E: Env>(
    lab: &crate::amqp::Lab<A, E>,
    channel: &Channel<A>,
    queue: &str,
) -> Vec<String> {
    let first = lab.get(channel, queue).await;
    let mut left = vec![body(&first).to_owned()];
    while let Some(next) = channel.get(queue).await.expect("get") {
        left.push(body(&next).to_owned());
    }
    left
}

async fn an_orderly_restart_keeps_what_is_persistent_and_all_of_a_quorum_queue<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    let (_connection, channel) = lab.confirming().await;
    let classic = lab.queue(&channel, "classic", &[]).await;
    let quorum = lab.queue(&channel, "quorum", &[]).await;
    for queue in [&classic, &quorum] {
        fill(&lab, &channel, queue).await;
    }
    lab.operator.restart();
    let (_connection, channel) = lab.connect_again().await;
    assert_eq!(left(&lab, &channel, &classic).await, ["1", "3", "5"]);
    assert_eq!(left(&lab, &channel, &quorum).await, BODIES);
}

async fn an_orderly_restart_keeps_bindings_and_forgets_a_transient_queue<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    let durable = lab.queue(&channel, "classic", &[]).await;
    let (transient, exchange) = (lab.name(), lab.name());
    channel.declare_transient(&transient).await.unwrap();
    let declared = channel.declare_exchange(&exchange, ExchangeKind::Direct);
    declared.await.unwrap();
    for queue in [&durable, &transient] {
        channel.bind_queue(queue, &exchange, "key").await.unwrap();
    }
    lab.operator.restart();
    let (connection, channel) = lab.connect_again().await;
    channel.confirm_select().await.unwrap();
    let confirmed = lab.confirm(&channel, message(&exchange, "key", "1")).await;
    assert_eq!(confirmed, Ok(Confirmation::Ack));
    assert_eq!(lab.bodies(&channel, &durable, 1).await, ["1"]);
    assert_eq!(code(channel.inspect_queue(&transient).await), 404);
    connection.close().await.unwrap();
}

async fn what_was_unacked_before_a_restart_comes_back_flagged_and_in_order<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    let (_connection, channel) = lab.confirming().await;
    let mut queues = Vec::new();
    for kind in ["classic", "quorum"] {
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2", "3"]).await;
        assert_eq!(lab.bodies(&channel, &queue, 2).await, ["1", "2"]);
        queues.push((kind, queue));
    }
    lab.operator.restart();
    let (_connection, channel) = lab.connect_again().await;
    for (kind, queue) in queues {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let got = lab.get(&channel, &queue).await;
            seen.push((body(&got).to_owned(), got.redelivered, delivery_count(&got)));
        }
        let count = |n| (kind == "quorum").then_some(n);
        let expected = [
            ("1", true, count(1)),
            ("2", true, count(1)),
            ("3", false, count(0)),
        ];
        let expected = expected.map(|(text, again, count)| (text.to_owned(), again, count));
        assert_eq!(seen, expected, "{kind}");
    }
}

async fn a_killed_node_keeps_what_it_has_confirmed<A: Amqp, E: Env, O: Operator>(
    lab: Lab<A, E, O>,
) {
    let (_connection, channel) = lab.confirming().await;
    let classic = lab.queue(&channel, "classic", &[]).await;
    let quorum = lab.operator.aged_queue().await;
    for queue in [&*classic, &quorum] {
        fill(&lab, &channel, queue).await;
    }
    lab.operator.kill();
    let (_connection, channel) = lab.connect_again().await;
    assert_eq!(left(&lab, &channel, &classic).await, ["1", "3", "5"]);
    assert_eq!(left(&lab, &channel, &quorum).await, BODIES);
    // The next case begins with an empty one.
    channel.ack(0, true).await.unwrap();
    lab.until_ready(&channel, &quorum, 0).await;
}

async fn a_killed_node_is_seen_by_its_clients<A: Amqp, E: Env, O: Operator>(lab: Lab<A, E, O>) {
    let (connection, channel) = lab.confirming().await;
    let queue = lab.queue(&channel, "classic", &[]).await;
    let mut consumer = channel.consume(&queue, "c").await.unwrap();
    lab.operator.kill();
    assert!(lab.incoming(&mut consumer).await.is_err());
    let published: Result<(), _> = async {
        let confirm = channel.publish(to_queue(&queue, "1")).await?;
        bounded(&lab.env, "an end", confirm).await.map(drop)
    }
    .await;
    assert!(published.is_err());
    assert!(connection.open_channel().await.is_err());
    // The next case finds the node up.
    lab.connect_again().await;
}
