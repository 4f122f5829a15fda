//! Queues that are full.

use redeliver_conform::probe::Probe;
use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel};

use super::{Arguments, Channel, KINDS, Lab, number, word};

crate::cases!(amqp "Length limits and purge":
    a_full_queue_drops_its_oldest [classic quorum],
    a_length_limit_counts_what_is_ready [classic quorum],
    a_length_limit_counts_bytes [classic quorum],
    what_is_dropped_for_length_is_dead_lettered [classic quorum],
    a_requeue_into_a_full_classic_queue_drops_what_came_back [classic],
    a_requeue_into_a_full_quorum_queue_drops_what_waited [quorum],
    a_purge_drops_what_is_ready_and_not_what_is_held [classic quorum],
    a_purge_dead_letters_nothing [classic quorum],
);

async fn a_full_queue_drops_its_oldest<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let limit = [("x-max-length", number(2))];
        let queue = lab.queue(&channel, kind, &limit).await;
        lab.put(&channel, &queue, &["1", "2", "3", "4"]).await;
        lab.until_ready(&channel, &queue, 2).await;
        assert_eq!(lab.bodies(&channel, &queue, 2).await, ["3", "4"], "{kind}");
    }
}

async fn a_length_limit_counts_what_is_ready<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let limit = [("x-max-length", number(3))];
        let queue = lab.queue(&channel, kind, &limit).await;
        lab.put(&channel, &queue, &["1", "2", "3"]).await;
        assert_eq!(lab.bodies(&channel, &queue, 3).await, ["1", "2", "3"]);
        lab.put(&channel, &queue, &["4", "5", "6"]).await;
        lab.until_ready(&channel, &queue, 3).await;
        assert_eq!(
            lab.bodies(&channel, &queue, 3).await,
            ["4", "5", "6"],
            "{kind}"
        );
    }
}

async fn a_length_limit_counts_bytes<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let limit = [("x-max-length-bytes", number(25))];
        let queue = lab.queue(&channel, kind, &limit).await;
        let bodies = ["aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"];
        lab.put(&channel, &queue, &bodies).await;
        lab.until_ready(&channel, &queue, 2).await;
        assert_eq!(lab.bodies(&channel, &queue, 2).await, bodies[1..], "{kind}");
    }
}

/// A queue with a limit of `ready` messages whose dead letters go to another, which comes first.
async fn limited<A: Amqp, E: Env>(
    lab: &Lab<A, E>,
    channel: &Channel<A>,
    kind: &str,
    limit: Arguments<'_>,
) -> (String, String) {
    let letters = lab.queue(channel, kind, &[]).await;
    let mut arguments = vec![
        ("x-dead-letter-exchange", word("")),
        ("x-dead-letter-routing-key", word(&letters)),
    ];
    arguments.extend(limit.iter().cloned());
    let queue = lab.queue(channel, kind, &arguments).await;
    (letters, queue)
}

async fn what_is_dropped_for_length_is_dead_lettered<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let limit = [("x-max-length", number(1))];
        let (letters, queue) = limited(&lab, &channel, kind, &limit).await;
        lab.put(&channel, &queue, &["1", "2", "3"]).await;
        lab.until_ready(&channel, &letters, 2).await;
        assert_eq!(lab.bodies(&channel, &letters, 2).await, ["1", "2"]);
        assert_eq!(lab.bodies(&channel, &queue, 1).await, ["3"], "{kind}");
    }
}

/// Holds two of a queue's messages, fills it up to its limit, and gives them back.
async fn overfull<A: Amqp, E: Env>(lab: &Lab<A, E>, kind: &str) -> (Vec<String>, Vec<String>) {
    let (_connection, channel) = lab.confirming().await;
    let limit = [("x-max-length", number(2))];
    let (letters, queue) = limited(lab, &channel, kind, &limit).await;
    lab.put(&channel, &queue, &["1", "2"]).await;
    let held = lab.bodies(&channel, &queue, 2).await;
    assert_eq!(held, ["1", "2"]);
    lab.put(&channel, &queue, &["3", "4"]).await;
    lab.until_ready(&channel, &queue, 2).await;
    channel.nack(2, true, true).await.unwrap();
    lab.until_ready(&channel, &letters, 2).await;
    let dropped = lab.bodies(&channel, &letters, 2).await;
    (dropped, lab.bodies(&channel, &queue, 2).await)
}

async fn a_requeue_into_a_full_classic_queue_drops_what_came_back<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (dropped, left) = overfull(&lab, "classic").await;
    assert_eq!((dropped, left), (words(&["1", "2"]), words(&["3", "4"])));
}

async fn a_requeue_into_a_full_quorum_queue_drops_what_waited<A: Amqp, E: Env>(lab: Lab<A, E>) {
    let (dropped, left) = overfull(&lab, "quorum").await;
    assert_eq!((dropped, left), (words(&["3", "4"]), words(&["1", "2"])));
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn a_purge_drops_what_is_ready_and_not_what_is_held<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let queue = lab.queue(&channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2", "3"]).await;
        let held = lab.get(&channel, &queue).await;
        lab.until_ready(&channel, &queue, 2).await;
        assert_eq!(channel.purge(&queue).await, Ok(2), "{kind}");
        channel.nack(held.tag, false, true).await.unwrap();
        lab.until_ready(&channel, &queue, 1).await;
        assert_eq!(lab.bodies(&channel, &queue, 1).await, ["1"], "{kind}");
    }
}

async fn a_purge_dead_letters_nothing<A: Amqp, E: Env>(lab: Lab<A, E>)
where
    Channel<A>: Probe,
{
    let (_connection, channel) = lab.confirming().await;
    for kind in KINDS {
        let (letters, queue) = limited(&lab, &channel, kind, &[]).await;
        lab.put(&channel, &queue, &["1", "2"]).await;
        lab.until_ready(&channel, &queue, 2).await;
        assert_eq!(channel.purge(&queue).await, Ok(2), "{kind}");
        // A letter of the purge would stand before this one.
        lab.put(&channel, &queue, &["3"]).await;
        let rejected = lab.get(&channel, &queue).await;
        channel.reject(rejected.tag, false).await.unwrap();
        assert_eq!(lab.bodies(&channel, &letters, 1).await, ["3"], "{kind}");
    }
}
