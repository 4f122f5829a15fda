//! What one setting costs to be looked at: 100,000 messages of each kind of queue, and the formulas. As a
//! reference in the same run, a heap that takes and gives as many events as the model has at least: an
//! arrival, a delivery and an end for each message.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use redeliver_core::policy::Policy;
use redeliver_sizing::closed::Retries;
use redeliver_sizing::latency::Latency;
use redeliver_sizing::model::{
    Arrivals, Backoff, Delays, Draws, Outage, Queue, Scene, Setting, Settles, run,
};

const MESSAGES: u32 = 100_000;
const S: u64 = 1_000_000_000;

fn setting(queue: Queue) -> Setting {
    let mut policy = Policy::default();
    policy.consumer.workers = 8;
    policy.consumer.handler_limit = Duration::from_secs(50);
    policy.retry.attempts = 12;
    Setting {
        processes: 2,
        policy,
        queue,
        backoff: Backoff::Ladder,
        budget: None,
    }
}

/// A charge with cold starts, and an outage in the middle.
fn scene() -> Scene {
    let warm = [(0.0, 0.2), (0.5, 2.0), (0.95, 12.0), (1.0, 19.0)];
    let warm = Latency::quantiles(&warm).expect("they rise");
    let cold = Latency::fixed(45.0).expect("a time");
    let handler = Latency::mixture(vec![(0.02, cold), (0.98, warm)]).expect("all of them");
    Scene {
        fails: 0.001,
        outages: vec![Outage {
            at: 40_000 * S,
            lasts: 300 * S,
            fails_after: Some(S / 20),
        }],
        hop: S / 100,
        ..Scene::calm(Arrivals::Poisson(1.0), MESSAGES, handler)
    }
}

fn model(c: &mut Criterion) {
    let scene = scene();
    let draws = Draws::new(&scene, 1);
    let queues = [
        ("rabbitmq", Queue::RabbitMq { tick: 60 * S }),
        (
            "managed",
            Queue::Managed {
                visibility: 60 * S,
                extend_every: None,
                receives: 20,
                retention: None,
            },
        ),
        (
            "delayed-retry",
            Queue::DelayedRetry {
                delays: Delays::Failed,
                settles: Settles::Reject,
                ttl: None,
                dead_letters: true,
            },
        ),
    ];
    let mut group = c.benchmark_group("sizing");
    group.throughput(Throughput::Elements(u64::from(MESSAGES)));
    for (name, queue) in queues {
        let setting = setting(queue);
        group.bench_function(name, |b| {
            b.iter(|| black_box(run(&scene, &setting, &draws, |_| false)));
        });
    }
    group.bench_function("reference", |b| {
        b.iter(|| {
            let mut heap = BinaryHeap::new();
            let mut at = 1u64;
            for event in 0..3 * u64::from(MESSAGES) {
                at = at
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(event);
                heap.push(Reverse((at >> 20, event)));
                if heap.len() > 16 {
                    black_box(heap.pop());
                }
            }
        });
    });
    group.finish();
}

fn formulas(c: &mut Criterion) {
    let retries = Retries::of(&setting(Queue::RabbitMq { tick: 60 * S }));
    c.bench_function("sizing/lost-to-outage", |b| {
        b.iter(|| black_box(retries.lost_to_outage(black_box(300.0))));
    });
}

criterion_group!(benches, model, formulas);
criterion_main!(benches);
