//! A retry is published as a new message, and the count of its attempts stays behind.

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
    name: "attempt-not-carried",
    class: "a republished message keeps its count",
    change: "a consumer whose retries do not count up",
    report: "rabbitmq/rabbitmq-server#10709",
    anomalies: &[AnomalyKind::OverRetried],
    checkers: &["over_retried"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("attempt-not-carried", |s| {
            s.policy.retry.attempts = 2;
            s.worker_processes = 1;
            s.rules = vec![fault(Kind::ServiceFails, 70, "charge-card")];
        })
    },
    planted: on::<Orders, AttemptNotCarried>,
    build: Altered::of::<AttemptNotCarried>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptNotCarried;

impl Build for AttemptNotCarried {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let key = &event.idempotency_key;
        let done = naive.once(event, delivery.attempt, key).await;
        match naive.judge(delivery, event, done) {
            Settlement::RetryAfter {
                delay,
                first_failure,
                ..
            } => Settlement::RetryAfter {
                delay,
                attempt: delivery.attempt,
                first_failure,
            },
            other => other,
        }
    };
    naive.settle_each(handle).await;
}
