//! Deliveries a second on one core, with everything on: outbox, relay, broker, inbox, JSON
//! handlers, history, faults, checkers. One element is one delivery, a hand-over to a consumer
//! with all that follows from it.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

mod common;

use common::{WORKLOADS, calm, run, scenario, sized};
use redeliver::harness::scenario::Scenario;

const MESSAGES: u32 = 100;
/// Runs under faults differ much in length: an average over few would be chance.
const SEEDS: u64 = 16;

fn pipeline(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline");
    group.sample_size(10);
    for (workload, everything) in WORKLOADS {
        let kinds = [
            ("calm", calm(workload, MESSAGES)),
            ("everything", sized(scenario(everything), MESSAGES)),
        ];
        for (kind, scenario) in kinds {
            group.throughput(Throughput::Elements(deliveries(&scenario, SEEDS)));
            group.bench_function(format!("{workload}/{kind}"), |b| {
                b.iter(|| {
                    for seed in 0..SEEDS {
                        black_box(run(&scenario, seed));
                    }
                });
            });
        }
    }
    group.finish();
}

/// Deliveries of runs with the seeds from 0.
fn deliveries(scenario: &Scenario, seeds: u64) -> u64 {
    (0..seeds).map(|seed| run(scenario, seed).deliveries).sum()
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
