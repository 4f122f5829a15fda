//! A message that failed is tried again on the spot until it succeeds: one that never can holds up all
//! behind it.

use std::time::Duration;

use super::naive::{Naive, naive_consumer};
use super::{Plant, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::ports::{Delivery, Env, Settlement, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "retry-in-place",
    class: "one poison message blocks the group",
    change: "a consumer that does not let go of a message before it is done",
    report: "ThreeDotsLabs/watermill#224",
    anomalies: &[AnomalyKind::Stuck, AnomalyKind::OverRetried],
    checkers: &["stuck", "over_retried"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("retry-in-place", |s| {
            s.poison.poison = 1;
            s.settle = Some(Duration::from_secs(300));
        })
    },
    planted: on::<Orders, RetryInPlace>,
    build: Altered::of::<RetryInPlace>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetryInPlace;

impl Build for RetryInPlace {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let key = &event.idempotency_key;
        while naive.once(event, delivery.attempt, key).await.is_err() {
            naive.world.env().sleep(Duration::from_secs(1)).await;
        }
        Settlement::Done
    };
    naive.settle_each(handle).await;
}
