//! A batch fails, its last message is retried, and the others are acked with it.

use std::time::Duration;

use super::naive::{Naive, naive_consumer};
use super::{Plant, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::ports::{Delivery, Settlement, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Failure;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "batch-half-lost",
    class: "the acks of a batch go by its last message",
    change: "a consumer that acks all of a failed batch but its last message",
    report: "MassTransit/MassTransit#3542",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("batch-half-lost", |s| {
            s.over = Duration::from_secs(1);
            s.messages = 20;
            s.poison.poison = 1;
            (s.policy.consumer.prefetch, s.policy.consumer.batch) = (16, 16);
        })
    },
    planted: on::<Orders, BatchHalfLost>,
    build: Altered::of::<BatchHalfLost>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchHalfLost;

impl Build for BatchHalfLost {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let decide = async |batch: &[(&Delivery, &Event)], done: Result<(), Failure>| {
        let last = batch.len().saturating_sub(1);
        let each = batch.iter().enumerate();
        each.map(|(at, (delivery, event))| match at == last {
            true => naive.judge(delivery, event, done.clone()),
            false => Settlement::Done,
        })
        .collect::<Vec<Settlement>>()
    };
    naive.batches(decide).await;
}
