//! Which scenarios run on real servers, what must come of each, and why the rest do not run.

/// What must come of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// Valid.
    Valid,
    /// Inconclusive, because these faults are expected to strike and are not given.
    NotGiven(&'static [&'static str]),
    /// Valid; or inconclusive with this reason, where the servers' own chance did not bring
    /// together what the scenario waits for.
    ByChance(&'static str),
}
use Outcome::{ByChance, NotGiven, Valid};

const BOTH: &[&str] = &["quorum", "classic"];
/// What lasts long and differs little.
const QUORUM: &[&str] = &["quorum"];
const CLASSIC: &[&str] = &["classic"];

const STORM: &[&str] = &["lost-ack", "lost-delivery"];
/// Expected by `everything*.toml` and never given. By chance others may be missing as well.
const EVERYTHING: &[&str] = &[
    "lost-publish",
    "lost-confirm",
    "broker-restart",
    "fail-over",
];

/// Scenarios that run, and on which queues; those that take longest first.
pub(crate) const RUN: &[(&str, &[&str], Outcome)] = &[
    ("backlog-burst", BOTH, Valid),
    ("killer-poison", BOTH, Valid),
    ("everything", QUORUM, NotGiven(EVERYTHING)),
    ("everything-deposits", CLASSIC, NotGiven(EVERYTHING)),
    ("everything-onboarding", QUORUM, NotGiven(EVERYTHING)),
    ("batches", QUORUM, NotGiven(EVERYTHING)),
    ("calm-day", BOTH, Valid),
    ("ordered-burst", BOTH, Valid),
    (
        "cold-start-not-renewed",
        BOTH,
        ByChance("no second pick-up by: lease-over"),
    ),
    ("cold-start-renewed", BOTH, Valid),
    ("deploy-with-slow-calls", QUORUM, Valid),
    ("duplicate-storm", BOTH, NotGiven(STORM)),
    (
        "payments-down",
        BOTH,
        ByChance("never struck: service-in-doubt"),
    ),
    ("poison-messages", BOTH, Valid),
    (
        "relay-crash-after-publish",
        BOTH,
        ByChance("never struck: crash"),
    ),
    ("reordering", BOTH, NotGiven(&["leader-change"])),
    ("rolling-deploy", BOTH, ByChance("never struck: slow-start")),
    ("strangers", BOTH, Valid),
    ("transient-failures", BOTH, Valid),
    (
        "worker-crash-before-ack",
        BOTH,
        ByChance("never struck: crash"),
    ),
    ("zombie-worker", BOTH, NotGiven(&["pause"])),
];

/// Scenarios that do not, and why.
pub(crate) const NOT_RUN: &[(&str, &str)] = &[
    (
        "blocked-publishers",
        "an alarm would stop every other user of the broker",
    ),
    ("broker-kill", "the broker is not ours to kill"),
    ("broker-restart", "the broker is not ours to restart"),
    (
        "charge-under-30s",
        "consumer_timeout is a setting of the whole broker, and fires on a tick of a minute",
    ),
    ("clock-skew", "processes of a run share the machine's clock"),
    (
        "cold-start-consumer-timeout",
        "consumer_timeout is a setting of the whole broker, and fires on a tick of a minute",
    ),
    (
        "contended-database",
        "statements of a real database are not struck",
    ),
    (
        "database-fail-over",
        "the database is not ours to fail over",
    ),
    (
        "hour-of-faults",
        "the servers are not ours to kill; `redeliver load` gives them all to private ones",
    ),
    ("lost-confirms", "connections to a real broker are not cut"),
    (
        "lost-notifications",
        "notifications of a real database are not struck",
    ),
    (
        "many-attempts",
        "acks over a real connection are not lost, and so many attempts take minutes",
    ),
    (
        "panicking-handlers",
        "acks over a real connection are not lost, and so many attempts take minutes",
    ),
    ("partition-and-heal", "the network is not ours to cut"),
    (
        "retries-end-by-time",
        "acks over a real connection are not lost, and so many attempts take minutes",
    ),
    (
        "servers-killed",
        "the servers are not ours to kill; `redeliver load` kills private ones",
    ),
    (
        "unbound-one-of-two",
        "bindings of a running broker are not removed",
    ),
    (
        "unbound-queue",
        "bindings of a running broker are not removed",
    ),
    ("busy-after-reconnect", "the broker is not ours to restart"),
    (
        "killer-in-a-burst",
        "all its messages are to be claimed at one moment, which real servers do not promise",
    ),
    ("killer-of-many-attempts", "so many attempts take minutes"),
    ("long-outage", "the broker is not ours to kill"),
    (
        "refused-in-order",
        "a real broker is not made to refuse what it could take",
    ),
    (
        "refused-publishes",
        "a real broker is not made to refuse what it could take",
    ),
    (
        "renewals-that-fail",
        "statements of a real database are not struck",
    ),
    (
        "restart-with-classic-queues",
        "the broker is not ours to restart",
    ),
];

#[test]
fn every_scenario_is_in_one_of_the_lists() {
    let run = RUN.iter().map(|(name, ..)| *name);
    let mut listed: Vec<String> = run
        .chain(NOT_RUN.iter().map(|(name, ..)| *name))
        .map(str::to_owned)
        .collect();
    listed.sort();
    let files = std::fs::read_dir(crate::root().join("scenarios")).expect("scenarios");
    let mut there: Vec<String> = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    there.sort();
    assert_eq!(
        listed, there,
        "left: the lists here; right: the files of scenarios/"
    );
}
