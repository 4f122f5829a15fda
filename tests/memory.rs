//! Memory stays flat over seeds: a gate of a million runs must not end in the OOM killer.

#![cfg(all(feature = "harness", target_os = "linux"))]

use redeliver::harness::run::simulate;
use redeliver::harness::scenario::Scenario;
use redeliver::workloads::Orders;

/// Memory in use by this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().nth(1));
    words.and_then(|kib| kib.parse().ok()).expect("VmRSS in kB")
}

#[test]
fn a_thousand_runs_need_no_more_memory_than_a_hundred() {
    let mut scenario = Scenario::new("memory", "orders");
    scenario.messages = 3;
    let runs = |seeds: std::ops::Range<u64>| {
        for seed in seeds {
            simulate(&Orders, &scenario, seed, false);
        }
        resident()
    };
    let early = runs(0..100);
    let late = runs(100..1_000);
    // A leak of 2 KiB a run would come to 1,800 KiB.
    assert!(
        late < early + 1_500,
        "{early} KiB after 100 runs, {late} KiB after 1,000"
    );
}
