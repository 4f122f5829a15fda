//! An error in a handler ends the task that consumes. Its connection lives on, and holds what it had
//! taken.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::naive::{Naive, naive_consumer};
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::ports::{Delivery, Settlement, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "error-ends-worker",
    class: "a panic in a handler kills the consumer task",
    change: "a consumer that stops at the first failure and keeps its channel open",
    report: "gftea/amqprs#66",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["stuck"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("error-ends-worker", |s| {
            s.rules = vec![fault(Kind::ServiceFails, 20, "charge-card")];
            s.settle = Some(Duration::from_secs(600));
        })
    },
    planted: on::<Orders, ErrorEndsWorker>,
    build: Altered::of::<ErrorEndsWorker>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorEndsWorker;

impl Build for ErrorEndsWorker {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let key = &event.idempotency_key;
        match naive.once(event, delivery.attempt, key).await {
            Ok(()) => Settlement::Done,
            Err(_) => std::future::pending().await,
        }
    };
    naive.settle_each(handle).await;
}
