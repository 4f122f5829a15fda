//! A relay looks for work when it is told that there is some, and at no other time: a notification
//! that does not come is a row that stays.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::naive::{claimed, give_back, mark, published};
use super::ports::shipped_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{PublishOutcome, Store, World};
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "notifications-only",
    class: "LISTEN lost silently",
    change: "a relay that waits for notifications and never polls",
    report: "graphile/worker#541",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["stuck"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("notifications-only", |s| {
            s.messages = 4;
            s.clients = 1;
            s.relays = 1;
            s.rules = vec![fault(Kind::LostNotification, 30, "relay")];
            s.settle = Some(Duration::from_secs(600));
        })
    },
    planted: on::<Orders, NotificationsOnly>,
    build: Altered::of::<NotificationsOnly>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotificationsOnly;

impl Build for NotificationsOnly {
    shipped_ports!();

    async fn relay(self, world: WorldOf<Self>, policy: RelayPolicy) {
        loop {
            round(&world, &policy).await;
            world.store().outbox_wait().await;
        }
    }
}

/// Publishes until there is nothing left.
async fn round<W: World>(world: &W, policy: &RelayPolicy) {
    loop {
        let rows = claimed(world, policy).await;
        if rows.is_empty() {
            return;
        }
        for row in rows {
            let outcomes = published(world, policy, std::slice::from_ref(&row)).await;
            match outcomes == [PublishOutcome::Confirmed] {
                true => mark(world, &row).await,
                false => give_back(world, policy, &row).await,
            }
        }
    }
}
