//! The relay remembers the highest id that it has published and asks for what lies above. Ids
//! are given in the order of inserts, not of commits: a row that is committed late is never read.

use std::time::Duration;

use redeliver_sim::fault::{Kind, Seam};

use super::ports::shipped_ports;
use super::{Plant, fault_at, on, scenario, shipped};
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{Env, PublishOutcome, Publisher, Store, Transport, World};
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "poll-by-last-id",
    class: "poll by `id > last`",
    change: "a single relay that reads the rows above its cursor",
    report: "Eventuous/eventuous#222",
    anomalies: &[AnomalyKind::Stuck, AnomalyKind::Lost],
    checkers: &["stuck", "lost"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("poll-by-last-id", |s| {
            s.messages = 20;
            s.clients = 4;
            s.relays = 1;
            s.rules = vec![fault_at(Seam::Commit, Kind::Pause, 20, "client")];
            s.rules[0].lasts = 5_000_000_000;
            s.settle = Some(Duration::from_secs(600));
        })
    },
    planted: on::<Orders, Cursor>,
    build: Altered::of::<Cursor>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor;

impl Build for Cursor {
    shipped_ports!();

    async fn relay(self, world: WorldOf<Self>, policy: RelayPolicy) {
        let mut last = 0;
        loop {
            if let Some(reached) = round(&world, &policy, last).await {
                last = reached;
            }
            world.env().sleep(policy.poll).await;
        }
    }
}

/// Publishes what lies above `last`; gives the id that it came to.
async fn round<W: World>(world: &W, policy: &RelayPolicy, mut last: i64) -> Option<i64> {
    let rows = world.store().read_all().await.ok()?.outbox;
    let mut publisher = world.transport().publisher("relay").await.ok()?;
    let from = last;
    for row in rows.into_iter().filter(|row| row.id > from) {
        let batch = std::slice::from_ref(&row.outgoing);
        let outcomes = publisher.publish(batch, policy.confirm_timeout).await;
        if outcomes != [PublishOutcome::Confirmed] {
            break;
        }
        last = row.id;
        // For the operator; nothing is decided by it.
        world.store().outbox_mark(&[(row.id, 0)]).await.ok()?;
    }
    Some(last)
}
