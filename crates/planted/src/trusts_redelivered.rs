//! Only what the broker flags as redelivered is looked up among what was done: a copy that was
//! published twice carries no such flag.

use redeliver_sim::fault::Kind;

use super::naive::{Naive, naive_consumer};
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::ports::{Delivery, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "trusts-redelivered",
    class: "two copies of one message, of which neither is flagged",
    change: "a consumer that takes what is not flagged as redelivered for new",
    report: "InditexTech/scs-outbox#94",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("trusts-redelivered", |s| {
            s.rules = vec![fault(Kind::DuplicatePublish, 50, "relay")];
        })
    },
    planted: on::<Orders, TrustsRedelivered>,
    build: Altered::of::<TrustsRedelivered>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrustsRedelivered;

impl Build for TrustsRedelivered {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let key = match delivery.redelivered {
            true => event.idempotency_key.to_string(),
            false => format!("{}/{:?}", event.idempotency_key, delivery.receipt),
        };
        let done = naive.once(event, delivery.attempt, &key).await;
        naive.judge(delivery, event, done)
    };
    naive.settle_each(handle).await;
}
