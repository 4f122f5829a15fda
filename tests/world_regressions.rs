//! One test for each bug that was found in the seeded world or in the harness: what happened, as
//! its name.

use std::time::Duration;

use redeliver::harness::run::simulate;
use redeliver::harness::scenario::Scenario;
use redeliver::harness::verdict::Verdict;
use redeliver::workloads::Orders;
use redeliver_sim::choice::MILLION;
use redeliver_sim::fault::{Event, Kind, Rule, Seam};

fn event(kind: Kind, at: u64, lasts: u64, target: Option<&str>) -> Event {
    let seconds = 1_000_000_000;
    Event {
        kind,
        at: at * seconds,
        lasts: lasts * seconds,
        target: target.map(Into::into),
        amount: 0,
    }
}

fn holds(scenario: &Scenario, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let run = simulate(&Orders, scenario, seed, false);
        let found = (run.inconclusive, run.anomalies);
        assert_eq!(run.verdict, Verdict::Valid, "seed {seed}: {found:#?}");
    }
}

/// The fault was counted and did nothing: the broker knows the queue by another name than the
/// scenario.
#[test]
fn an_unbound_queue_was_not_unbound() {
    let mut scenario = Scenario::new("unbound", "orders");
    scenario.over = Duration::from_secs(10);
    scenario.events = vec![event(Kind::UnboundQueue, 1, 15, Some("charge-card"))];
    scenario.faults_until = Duration::from_secs(20);
    let run = simulate(&Orders, &scenario, 1, true);
    let returned = |line: &redeliver::harness::run::TraceLine| line.detail.contains("NO_ROUTE");
    assert!(run.trace.iter().any(returned), "nothing was unroutable");
    assert_eq!(run.verdict, Verdict::Valid, "{:#?}", run.anomalies);
}

/// Whoever was to put the binding back had lost its connection with the broker, and everything
/// waited in the outbox for ever.
#[test]
fn a_binding_did_not_come_back_after_a_broker_was_killed() {
    let mut scenario = Scenario::new("unbound-and-killed", "orders");
    scenario.over = Duration::from_secs(10);
    scenario.settle = Some(Duration::from_secs(1_800));
    scenario.events = vec![
        event(Kind::UnboundQueue, 1, 15, Some("charge-card")),
        event(Kind::BrokerKill, 5, 3, None),
    ];
    scenario.faults_until = Duration::from_secs(20);
    holds(&scenario, 1..4);
}

/// The reading was made while a relay looked into the outbox, as it does every second.
#[test]
fn a_look_into_the_outbox_was_taken_for_a_leak() {
    let mut scenario = Scenario::new("a-quiet-day", "orders");
    scenario.messages = 2;
    scenario.over = Duration::from_secs(1);
    scenario.relays = 8;
    scenario.policy.relay.poll = Duration::from_millis(20);
    holds(&scenario, 1..10);
}

/// The same with a statement that was slow before the faults healed, and went on after.
#[test]
fn a_statement_that_is_still_slow_was_taken_for_a_leak() {
    let mut scenario = Scenario::new("a-slow-statement", "orders");
    scenario.messages = 2;
    scenario.over = Duration::from_secs(1);
    scenario.faults_until = Duration::from_secs(40);
    scenario.rules = vec![Rule {
        process: Some("relay".into()),
        seam: Some(Seam::Statement),
        lasts: 600_000_000_000,
        from: 35_000_000_000,
        ..Rule::new(Kind::SlowStatement, MILLION)
    }];
    holds(&scenario, 1..4);
}

/// A process read the inbox row of a message and stood still. Its session went with a fail-over,
/// another worker tried and noted its failure; then the first began, went by what it had read, and
/// was told at its end that its transaction was dead. That broke no promise.
#[test]
fn a_run_that_had_slept_was_taken_for_a_retry_out_of_turn() {
    let path = std::path::Path::new("scenarios/everything.toml");
    let scenario = Scenario::load(path, &["orders"]).expect("a committed scenario");
    for seed in [
        1_036_340, 1_036_571, 1_037_077, 1_062_268, 1_069_037, 1_091_850,
    ] {
        holds(&scenario, seed..seed + 1);
    }
}
