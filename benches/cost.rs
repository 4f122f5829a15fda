//! What a delivery costs: one line a workload, calm and under every fault.
//!
//! `cargo bench --bench cost -- [messages] [seeds] [workload]`. Short enough to be run under
//! `valgrind --tool=callgrind` or `perf record`, which `criterion` is not.

mod common;

use common::{WORKLOADS, calm, run, scenario, sized};
use redeliver::harness::scenario::Scenario;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let number = |i: usize, default: u64| -> u64 {
        words
            .get(i)
            .map_or(default, |w| w.parse().expect("a number"))
    };
    let (messages, seeds) = (number(0, 100) as u32, number(1, 10));
    let only = words.get(2);
    println!("messages={messages} seeds={seeds}");
    for (workload, everything) in WORKLOADS {
        if only.is_some_and(|only| only != workload) {
            continue;
        }
        line("calm", &calm(workload, messages), seeds);
        line("faults", &sized(scenario(everything), messages), seeds);
    }
}

/// Time on a processor of this thread, which a busy machine does not stretch.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    let first = text.split_whitespace().next();
    first.and_then(|ns| ns.parse().ok()).expect("a number")
}

fn line(kind: &str, scenario: &Scenario, seeds: u64) {
    run(scenario, 0);
    let start = cpu_ns();
    let (mut deliveries, mut events, mut hash) = (0, 0, 0u64);
    let (mut valid, mut virtual_ns) = (0, 0);
    for seed in 0..seeds {
        let result = run(scenario, seed);
        deliveries += result.deliveries;
        events += result.events;
        virtual_ns += result.virtual_ns;
        hash = hash.rotate_left(1) ^ result.hash;
        valid += u64::from(result.anomalies.is_empty());
    }
    let ns = cpu_ns() - start;
    println!(
        "{:<10} {kind:<6} {:>8} deliveries  {:>7} ns each  {:>8}/s  {:>6.1} events each  \
         {:>7.1} seeds/s  {:>6} s virtual  {valid} valid  hash {hash:016x}",
        scenario.workload,
        deliveries,
        ns / deliveries.max(1),
        deliveries * 1_000_000_000 / ns.max(1),
        events as f64 / deliveries.max(1) as f64,
        seeds as f64 * 1e9 / ns as f64,
        virtual_ns / 1_000_000_000 / seeds.max(1),
    );
}
