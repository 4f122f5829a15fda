//! All failures are alike: one that no attempt can mend is tried again like one that may pass.

use super::naive::{Naive, naive_consumer};
use super::{Plant, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::ports::{Delivery, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Failure;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "poison-retried",
    class: "a failure for good is retried",
    change: "a consumer that does not tell failures apart",
    report: "vgv/kolbasa#79",
    anomalies: &[AnomalyKind::OverRetried],
    checkers: &["over_retried"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("poison-retried", |s| {
            s.poison.poison = 1;
        })
    },
    planted: on::<Orders, PoisonRetried>,
    build: Altered::of::<PoisonRetried>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoisonRetried;

impl Build for PoisonRetried {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let key = &event.idempotency_key;
        let done = naive.once(event, delivery.attempt, key).await;
        let alike = done.map_err(|failure| Failure::transient("failed", failure.to_string()));
        naive.judge(delivery, event, alike)
    };
    naive.settle_each(handle).await;
}
