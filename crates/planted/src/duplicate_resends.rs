//! A duplicate is recognised, and what its message led to is sent out again to be on the safe side:
//! in a transaction of its own, with new ids.

use redeliver_sim::fault::Kind;

use super::naive::{Naive, naive_consumer};
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::ports::{Delivery, Scope, Store, Tx, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Failure;
use redeliver_workloads::Onboarding;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "duplicate-resends",
    class: "outgoing messages are sent again for a recognised duplicate",
    change: "a consumer that emits once more when it meets work that is done",
    report: "Particular/docs.particular.net#1816",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Emits],
    scenario: || {
        scenario::<Onboarding>("duplicate-resends", |s| {
            s.rules = vec![fault(Kind::DuplicatePublish, 50, "relay")];
        })
    },
    planted: on::<Onboarding, DuplicateResends>,
    build: Altered::of::<DuplicateResends>,
    shipped: shipped::<Onboarding>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DuplicateResends;

impl Build for DuplicateResends {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let done = match is_done(&naive, event).await {
            Ok(false) => {
                let key = &event.idempotency_key;
                naive.once(event, delivery.attempt, key).await
            }
            // The row is there: what belongs to it may be missing.
            Ok(true) => naive.done(event, delivery.attempt).await,
            Err(failure) => Err(failure),
        };
        naive.judge(delivery, event, done)
    };
    naive.settle_each(handle).await;
}

/// Whether this consumer has noted the work as done before.
async fn is_done<W: World>(naive: &Naive<W>, event: &Event) -> Result<bool, Failure> {
    let scope = Scope {
        consumer: naive.consumer.name(),
        subject: &event.idempotency_key,
        attempt: 0,
    };
    let mut tx = naive.world.store().begin(scope).await?;
    let done = naive.is_noted(&mut tx, &event.idempotency_key).await?;
    tx.rollback().await;
    Ok(done)
}
