//! Seeds a second on one core: what a gate of many small runs costs. One element is one run with
//! its verdict. `start-up` is what is paid before the first message.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

mod common;

use common::{calm, run, scenario, sized};

fn seeds(c: &mut Criterion) {
    let everything = scenario("everything");
    let cases = [
        ("start-up/0", calm("orders", 0)),
        ("start-up/1", calm("orders", 1)),
        ("calm/20", calm("orders", 20)),
        ("calm/100", calm("orders", 100)),
        ("everything/20", everything.clone()),
        ("everything/100", sized(everything, 100)),
    ];
    let mut group = c.benchmark_group("scenario");
    group.throughput(Throughput::Elements(1));
    for (name, scenario) in cases {
        let mut seed = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                seed += 1;
                black_box(run(&scenario, seed))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, seeds);
criterion_main!(benches);
