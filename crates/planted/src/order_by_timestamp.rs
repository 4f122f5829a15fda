//! A relay publishes by the time that the producers wrote into their events: clocks jump.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::naive::{claimed, give_back, mark, naive_relay, published};
use super::ports::shipped_ports;
use super::{Need, Plant, event, on, scenario, shipped};
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{PublishOutcome, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Deposits;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "order-by-timestamp",
    class: "a schedule by clocks that do not agree",
    change: "a relay that sorts its batch by the time of the events",
    report: "kagkarlsson/db-scheduler#433",
    anomalies: &[AnomalyKind::Reordered],
    checkers: &["reordered"],
    needs: &[Need::Order],
    scenario: || {
        scenario::<Deposits>("order-by-timestamp", |s| {
            s.messages = 30;
            s.over = Duration::from_secs(4);
            s.clients = 1;
            let mut back = event(Kind::ClockJump, 2, 0, "client-1");
            back.amount = -20_000_000_000;
            s.events = vec![back];
        })
    },
    planted: on::<Deposits, OrderByTimestamp>,
    build: Altered::of::<OrderByTimestamp>,
    shipped: shipped::<Deposits>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct OrderByTimestamp;

impl Build for OrderByTimestamp {
    shipped_ports!();

    naive_relay!(round);
}

async fn round<W: World>(world: &W, policy: &RelayPolicy) {
    let mut rows = claimed(world, policy).await;
    rows.sort_by_key(|row| row.outgoing.event.time);
    for row in rows {
        let outcomes = published(world, policy, std::slice::from_ref(&row)).await;
        match outcomes == [PublishOutcome::Confirmed] {
            true => mark(world, &row).await,
            false => give_back(world, policy, &row).await,
        }
    }
}
