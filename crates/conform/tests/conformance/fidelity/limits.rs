//! What is not modelled, and what may differ.

use std::fmt::Write;

/// What is not modelled, or modelled without having been verified, and what that means for a user.
const NOT_MODELLED: &[(&str, &str)] = &[
    (
        "Clusters, mirrors, partitions between nodes",
        "One node. Of a quorum queue's change of leader the model shows what its clients see (a pause, \
         then everything unacked again); not verified, since a single node has no second leader.",
    ),
    (
        "Streams, super streams, AMQP 1.0, MQTT, STOMP",
        "Not there.",
    ),
    (
        "Priority queues (`x-max-priority`), `x-delayed-message` exchanges",
        "Refused when they are declared.",
    ),
    (
        "Lazy mode, queue versions, leader locators, initial group sizes",
        "Taken and without effect: they change where messages lie, not what clients see.",
    ),
    (
        "Transactions (`tx.select`), `basic.recover`, `immediate`",
        "Not in the port. Confirms are the only way to know.",
    ),
    (
        "Flow control by credits, heartbeats, TCP",
        "A connection lives until a fault cuts it. Latencies are drawn, not derived from load.",
    ),
    (
        "Cancelling the single active consumer of a classic queue that has more for it than it may hold",
        "The model serves the next consumer at once. RabbitMQ 3.10.8 serves it only when something else \
         happens to the queue.",
    ),
    (
        "Disks that lie, torn writes, power cuts",
        "What is confirmed is durable, in both models. A killed process was verified, a power cut was not.",
    ),
    (
        "rabbitmq-4.3: no transient queues that are not exclusive, no global prefetch",
        "The profile still takes both, as 3.10.8 does.",
    ),
    (
        "PostgreSQL: REPEATABLE READ, SERIALIZABLE, savepoints, triggers, prepared transactions",
        "The pipeline works at READ COMMITTED and uses none of them. A failed serialization (40001) can \
         be struck as a fault.",
    ),
    (
        "PostgreSQL: replicas, fail-over",
        "A fail-over is modelled as the loss of all sessions, with or without the last commits, as \
         asynchronous replication allows; not verified on servers.",
    ),
    (
        "PostgreSQL: plans",
        "The model scans in the order of an index that the statement names by its shape. A planner that \
         chooses otherwise may lock rows in another order where a statement has no ORDER BY.",
    ),
];

/// What the comparison of random programs leaves open.
const OPEN: &[&str] = &[
    "Confirms of a channel come in any order and gathered (`multiple`) as the broker likes; which publish \
     is confirmed, and how, is not open, nor that a message comes back before it is confirmed.",
    "How the deliveries of two consumers interleave, and with it their tags on a shared channel.",
    "Of what was under way on a connection that is cut, the broker has taken any part from the front.",
    "The channels of a connection that ends, end in any order.",
    "A queue that two processes feed in the same step (a publish and dead letters) takes both in any \
     order; so it does with dead letters that come while its own head expires or something comes back.",
    "Not tried, since it is a race: a time to live of 0 beside quorum queues; consumers without acks of a \
     quorum queue together with a prefetch, or on a connection that ends while its other channel holds \
     something; a new queue of the name of one of which something is still held; an exclusive queue with \
     both a length limit and dead letters.",
    "What expires does so in waits of its own; a program whose steps were slower than that is not judged.",
    "Around a restart or a kill of the broker: one channel is left then, nothing expires, and what would \
     die because it comes back has no dead letters; before a kill, acks are given two seconds to be written.",
    "Where two sessions of a database wait for each other, which of them is ended.",
];

pub(super) fn sections(page: &mut String) -> std::fmt::Result {
    writeln!(
        page,
        "\n## Not modelled\n\n| what | what that means |\n|---|---|"
    )?;
    for (what, meaning) in NOT_MODELLED {
        writeln!(page, "| {what} | {meaning} |")?;
    }
    writeln!(page, "\n## Known of RabbitMQ, and shown by no case\n")?;
    writeln!(page, "| behaviour | why not |\n|---|---|")?;
    for (what, why) in crate::amqp::NOT_CASES {
        writeln!(page, "| {what} | {why} |")?;
    }
    writeln!(page, "\n## What may differ in random programs\n")?;
    for rule in OPEN {
        writeln!(page, "- {rule}")?;
    }
    Ok(())
}
