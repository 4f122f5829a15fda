//! Failures are counted in the memory of each process: with two of them a message gets twice its
//! attempts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::naive::{Naive, naive_consumer};
use super::{Plant, on, scenario, shipped};
use redeliver_core::dead_letter::Reason;
use redeliver_core::event::Event;
use redeliver_core::ports::{Delivery, Settlement, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "counts-per-process",
    class: "attempt count kept per process",
    change: "a consumer that requeues and counts for itself",
    report: "Particular/NServiceBus.RabbitMQ#1259",
    anomalies: &[AnomalyKind::OverRetried],
    checkers: &["over_retried"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("counts-per-process", |s| {
            s.policy.retry.attempts = 3;
            s.poison.poison = 2;
        })
    },
    planted: on::<Orders, CountsPerProcess>,
    build: Altered::of::<CountsPerProcess>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountsPerProcess;

impl Build for CountsPerProcess {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let counts: Mutex<BTreeMap<Arc<str>, u32>> = Mutex::default();
    let handle = async |delivery: &Delivery, event: &Event| {
        let key = &event.idempotency_key;
        let Err(failure) = naive.once(event, delivery.attempt, key).await else {
            return Settlement::Done;
        };
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        *count += 1;
        if *count < naive.policy.retry.attempts {
            let delay = Duration::ZERO;
            return Settlement::Park { delay };
        }
        naive.bury(delivery, Reason::AttemptsExhausted, &failure)
    };
    naive.settle_each(handle).await;
}
