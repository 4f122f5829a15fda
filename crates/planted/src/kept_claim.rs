//! A message is given up, and its claim kept: new work under its key is turned away.

use super::ports::bent_ports;
use super::{Need, Plant, on, scenario, shipped};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "kept-claim",
    class: "a lock that outlives its dead message",
    change: "a store that does not note that work was given up",
    report: "zoolutions/sidekiq-unique-jobs#339",
    anomalies: &[AnomalyKind::Leaked],
    checkers: &["leaked"],
    needs: &[Need::Claim],
    scenario: || scenario::<Orders>("kept-claim", |s| s.poison.poison = 1),
    planted: on::<Orders, KeptClaim>,
    build: Altered::of::<KeptClaim>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptClaim;

impl Build for KeptClaim {
    bent_ports!(|_: &SimPorts| Keeper);
}

#[derive(Debug)]
struct Keeper;

impl Bend for Keeper {
    fn saved(&self, row: &InboxRow) -> Option<InboxRow> {
        let dead = matches!(row.state, InboxState::Dead { .. });
        (!dead).then(|| row.clone())
    }
}
