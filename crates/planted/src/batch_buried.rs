//! One message of a batch fails for good, and all of it becomes dead letters.

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
    name: "batch-buried",
    class: "a batch that fails as a whole",
    change: "a consumer that gives the failure of a batch to each of its messages",
    report: "MassTransit/MassTransit#3373",
    anomalies: &[AnomalyKind::Misfiled],
    checkers: &["misfiled"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("batch-buried", |s| {
            s.over = Duration::from_secs(1);
            s.messages = 20;
            s.poison.poison = 1;
            (s.policy.consumer.prefetch, s.policy.consumer.batch) = (16, 16);
        })
    },
    planted: on::<Orders, BatchBuried>,
    build: Altered::of::<BatchBuried>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchBuried;

impl Build for BatchBuried {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let decide = async |batch: &[(&Delivery, &Event)], done: Result<(), Failure>| {
        let each = batch.iter();
        each.map(|(delivery, event)| naive.judge(delivery, event, done.clone()))
            .collect::<Vec<Settlement>>()
    };
    naive.batches(decide).await;
}
