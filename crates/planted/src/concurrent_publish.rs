//! All rows of a batch are published at the same time, each by a task of its own: which one comes
//! first is chance.

use std::time::Duration;

use super::naive::{claimed, give_back, mark, naive_relay, published};
use super::ports::shipped_ports;
use super::{Need, Plant, on, scenario, shipped};
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{Env, PublishOutcome, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Deposits;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "concurrent-publish",
    class: "concurrent delivery inside the relay",
    change: "a relay with a task for every row",
    report: "MassTransit/MassTransit#3512",
    anomalies: &[AnomalyKind::Reordered],
    checkers: &["reordered"],
    needs: &[Need::Order],
    scenario: || {
        scenario::<Deposits>("concurrent-publish", |s| {
            s.messages = 30;
            s.clients = 1;
            s.relays = 1;
            s.over = Duration::from_secs(4);
        })
    },
    planted: on::<Deposits, ConcurrentPublish>,
    build: Altered::of::<ConcurrentPublish>,
    shipped: shipped::<Deposits>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConcurrentPublish;

impl Build for ConcurrentPublish {
    shipped_ports!();

    naive_relay!(round);
}

async fn round<W: World>(world: &W, policy: &RelayPolicy) {
    for row in claimed(world, policy).await {
        let (here, policy) = (world.clone(), policy.clone());
        world.env().spawn("publish", async move {
            let outcomes = published(&here, &policy, std::slice::from_ref(&row)).await;
            match outcomes == [PublishOutcome::Confirmed] {
                true => mark(&here, &row).await,
                false => give_back(&here, &policy, &row).await,
            }
        });
    }
}
