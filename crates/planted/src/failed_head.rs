//! A batch is published in one go: where the head of an ordered key fails, its followers pass.

use redeliver_sim::fault::Kind;

use super::ports::shipped_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::outbox::RelayClaim;
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{Env, PublishOutcome, Publisher, Store, Transport, World};
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Deposits;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "failed-head-passes",
    class: "a failed row waits for its next attempt while the next of its key is published",
    change: "a relay that publishes one row after the other, and gives back those that failed",
    report: "ow00us/sb11-mopl-team1#266",
    anomalies: &[AnomalyKind::Reordered],
    checkers: &["reordered"],
    needs: &[Need::Order],
    scenario: || {
        scenario::<Deposits>("failed-head-passes", |s| {
            s.messages = 40;
            s.over = std::time::Duration::from_secs(4);
            s.rules = vec![fault(Kind::LostPublish, 10, "relay")];
        })
    },
    planted: on::<Deposits, FailedHead>,
    build: Altered::of::<FailedHead>,
    shipped: shipped::<Deposits>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct FailedHead;

impl Build for FailedHead {
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
        lease: policy.lease,
    };
    let Ok(rows) = world.store().outbox_claim(&claim).await else {
        return;
    };
    for row in rows {
        let Ok(mut publisher) = world.transport().publisher("relay").await else {
            continue;
        };
        let batch = std::slice::from_ref(&row.outgoing);
        let outcomes = publisher.publish(batch, policy.confirm_timeout).await;
        let ids = [(row.id, row.token)];
        let done = if outcomes == [PublishOutcome::Confirmed] {
            world.store().outbox_mark(&ids).await
        } else {
            let later = policy.backoff;
            world.store().outbox_release(&ids, later, "failed").await
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a row waits for its lease to end");
        }
    }
}
