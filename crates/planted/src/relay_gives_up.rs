//! A relay gives a row up that could not be published a few times, and nobody looks at what it gave
//! up.

use redeliver_sim::fault::Kind;

use super::naive::{claimed, give_back, mark, naive_relay, published};
use super::ports::shipped_ports;
use super::{Plant, event, on, scenario, shipped};
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{PublishOutcome, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "relay-gives-up",
    class: "the sender counts its attempts and writes the message off",
    change: "a relay that marks a row as sent after its third failure",
    report: "alexfrmn/murmur#141",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("relay-gives-up", |s| {
            s.events = vec![event(Kind::UnboundQueue, 2, 20, "charge-card")];
        })
    },
    planted: on::<Orders, RelayGivesUp>,
    build: Altered::of::<RelayGivesUp>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RelayGivesUp;

impl Build for RelayGivesUp {
    shipped_ports!();

    naive_relay!(round);
}

async fn round<W: World>(world: &W, policy: &RelayPolicy) {
    for row in claimed(world, policy).await {
        let outcomes = published(world, policy, std::slice::from_ref(&row)).await;
        let sent = outcomes == [PublishOutcome::Confirmed];
        match sent || row.failures >= 2 {
            true => mark(world, &row).await,
            false => give_back(world, policy, &row).await,
        }
    }
}
