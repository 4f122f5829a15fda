//! Runs of the shipped pipeline that look odd and are right: each was once called violated.
#![cfg(feature = "harness")]

use std::path::Path;

use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::workloads::{Deposits, Orders};

fn are_right(text: &str, seeds: &[u64], run: impl Fn(&Scenario, u64) -> RunResult) {
    let text = format!("question = \"?\"\n{text}");
    let scenario = Scenario::parse(&text, Path::new("legal.toml"), &["orders", "deposits"]);
    let scenario = scenario.unwrap_or_else(|error| panic!("{error}"));
    for seed in seeds {
        let found = run(&scenario, *seed).anomalies;
        assert!(found.is_empty(), "seed {seed}: {found:#?}");
    }
}

fn orders(scenario: &Scenario, seed: u64) -> RunResult {
    simulate(&Orders, scenario, seed, false)
}

fn deposits(scenario: &Scenario, seed: u64) -> RunResult {
    simulate(&Deposits, scenario, seed, false)
}

/// Another process is idle, but the broker does not take back what was prefetched.
#[test]
fn a_message_waits_in_the_hands_of_a_busy_process() {
    let slow = "workload = \"orders\"
        messages = 60
        over = \"30s\"
        [policy.consumer]
        workers = 1
        prefetch = 2
        handler-limit = \"5m\"
        lease = \"6m\"
        [services.payments]
        latency = { min = \"10ms\", median = \"20ms\", p95 = \"30ms\", max = \"50ms\" }
        cold-starts = \"5%\"
        cold-start-takes = \"4m\"";
    are_right(slow, &[2], orders);
    let deep = "workload = \"orders\"
        messages = 120
        over = \"1s\"
        [policy.consumer]
        workers = 1
        prefetch = 50
        [processes]
        workers = 3";
    are_right(deep, &[1], orders);
}

/// Attempts that end at the limit take a worker's time like any others.
#[test]
fn a_message_waits_for_attempts_that_end_at_their_limit() {
    let limited = "workload = \"orders\"
        messages = 60
        over = \"5s\"
        [policy.consumer]
        workers = 1
        prefetch = 4
        handler-limit = \"5s\"
        lease = \"6s\"
        [policy.retry]
        attempts = 40
        first = \"1ms\"
        total = \"2h\"
        [services.payments]
        latency = { min = \"10ms\", median = \"20ms\", p95 = \"30ms\", max = \"50ms\" }
        cold-starts = \"30%\"
        cold-start-takes = \"10s\"";
    are_right(limited, &[1, 2], orders);
}

#[test]
fn what_is_prefetched_too_deep_comes_back_from_the_broker() {
    let deep = "workload = \"orders\"
        messages = 60
        over = \"10s\"
        allow = [\"prefetch-too-deep\"]
        [policy.consumer]
        workers = 1
        prefetch = 20
        handler-limit = \"30s\"
        lease = \"40s\"
        [policy.broker]
        consumer-timeout = \"60s\"
        [services.payments]
        latency = { min = \"1s\", median = \"6s\", p95 = \"15s\", max = \"19s\" }";
    are_right(deep, &[2], orders);
}

/// They die with it until their attempts are used up.
#[test]
fn a_planted_killer_accounts_for_those_that_it_takes_along() {
    let killers = "workload = \"deposits\"
        messages = 40
        over = \"5s\"
        [poison]
        killer = 3";
    are_right(killers, &[1, 2, 3], deposits);
}

#[test]
fn what_waits_in_its_order_is_put_aside_for_as_long_as_the_policy_says() {
    let short = "workload = \"deposits\"
        messages = 30
        over = \"5s\"
        [policy.consumer]
        park = \"1ms\"
        [poison]
        transient = 3";
    are_right(short, &[1], deposits);
}
