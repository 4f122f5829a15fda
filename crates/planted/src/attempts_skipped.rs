//! The number of the attempt is doubled instead of raised by one: the letter says that all attempts
//! were made, and few were.

use super::naive::{Naive, naive_consumer};
use super::{Plant, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::ports::{Delivery, Settlement, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "attempts-skipped",
    class: "attempts that nobody made are counted",
    change: "a consumer that doubles the number of the attempt with each failure",
    report: "Particular/NServiceBus.RabbitMQ#1259",
    anomalies: &[AnomalyKind::Misfiled],
    checkers: &["misfiled"],
    needs: &[],
    scenario: || scenario::<Orders>("attempts-skipped", |s| s.poison.transient = 1),
    planted: on::<Orders, AttemptsSkipped>,
    build: Altered::of::<AttemptsSkipped>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptsSkipped;

impl Build for AttemptsSkipped {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let key = &event.idempotency_key;
        let done = naive.once(event, delivery.attempt, key).await;
        match naive.judge(delivery, event, done) {
            Settlement::RetryAfter {
                first_failure,
                delay,
                ..
            } => Settlement::RetryAfter {
                attempt: delivery.attempt * 2,
                // As long as the attempts that are left out would have waited.
                delay: delay * 2,
                first_failure,
            },
            other => other,
        }
    };
    naive.settle_each(handle).await;
}
