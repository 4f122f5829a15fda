//! The state is committed, then the event is put into the outbox: an outbox in a transaction of its
//! own protects nothing.

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_ports;
use super::{Need, Plant, fault_at, on, scenario, shipped};
use redeliver_core::event::Outgoing;
use redeliver_core::ports::{Scope, Store, StoreError, Tx};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Boxed;
use redeliver_simulated::seeded::SeededStore;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "outbox-after-commit",
    class: "event appended after the commit",
    change: "a store that puts events into the outbox in a second transaction",
    report: "brandur/sorg#239",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["orders"],
    needs: &[Need::Emits],
    scenario: || {
        scenario::<Orders>("outbox-after-commit", |s| {
            s.rules = vec![fault_at(Seam::Commit, Kind::Crash, 20, "charge-card")];
        })
    },
    planted: on::<Orders, OutboxAfterCommit>,
    build: Altered::of::<OutboxAfterCommit>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutboxAfterCommit;

impl Build for OutboxAfterCommit {
    bent_ports!(|bare: &SimPorts| Afterwards(bare.store.clone()));
}

#[derive(Debug)]
struct Afterwards(SeededStore);

impl Bend for Afterwards {
    fn emit<'a>(&'a self, _: &'a Outgoing) -> Boxed<'a, bool> {
        Box::pin(std::future::ready(true))
    }

    fn committed(&self, events: Vec<Outgoing>) -> Boxed<'_, ()> {
        Box::pin(async move {
            if let Err(error) = append(&self.0, events).await {
                tracing::warn!(%error, "events did not come into the outbox");
            }
        })
    }
}

async fn append(store: &SeededStore, events: Vec<Outgoing>) -> Result<(), StoreError> {
    let mut tx = store.begin(Scope::default()).await?;
    for event in events {
        tx.emit(event).await?;
    }
    tx.commit().await
}
