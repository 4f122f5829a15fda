//! A row is marked as published when it is written to the socket; nobody waits for what the
//! broker says.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::shipped_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::outbox::RelayClaim;
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{Env, Publisher, Store, Transport, World};
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "mark-before-confirm",
    class: "marked as sent before the broker confirmed",
    change: "a relay that marks the rows, then publishes them, whatever becomes of them",
    report: "namastack/namastack-outbox#371",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("mark-before-confirm", |s| {
            s.rules = vec![fault(Kind::LostPublish, 10, "relay")];
        })
    },
    planted: on::<Orders, MarkBeforeConfirm>,
    build: Altered::of::<MarkBeforeConfirm>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MarkBeforeConfirm;

impl Build for MarkBeforeConfirm {
    shipped_ports!();

    async fn relay(self, world: WorldOf<Self>, policy: RelayPolicy) {
        loop {
            round(&world, &policy).await;
            world.env().sleep(policy.poll).await;
        }
    }
}

async fn round<W: World>(world: &W, policy: &RelayPolicy) {
    let claim = RelayClaim {
        relay: world.env().process().into(),
        limit: policy.batch,
        lease: Duration::from_secs(30),
    };
    let Ok(rows) = world.store().outbox_claim(&claim).await else {
        return;
    };
    if rows.is_empty() {
        return;
    }
    let Ok(mut publisher) = world.transport().publisher("relay").await else {
        return;
    };
    let ids: Vec<_> = rows.iter().map(|row| (row.id, row.token)).collect();
    if world.store().outbox_mark(&ids).await.is_ok() {
        let batch: Vec<_> = rows.into_iter().map(|row| row.outgoing).collect();
        publisher.publish(&batch, policy.confirm_timeout).await;
    }
}
