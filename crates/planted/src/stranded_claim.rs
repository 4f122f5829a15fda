//! A claim has no end: what a dead worker held is in progress for ever.

use std::time::Duration;

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_ports;
use super::{Need, Plant, fault_at, on, scenario, shipped};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "stranded-claim",
    class: "stranded in-progress claim",
    change: "a store in which every claim looks as if it had just been taken",
    report: "MassTransit/MassTransit#4857",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["stuck"],
    needs: &[Need::Claim],
    scenario: || {
        scenario::<Orders>("stranded-claim", |s| {
            s.rules = vec![fault_at(Seam::Service, Kind::Crash, 20, "charge-card")];
            s.settle = Some(Duration::from_secs(1_800));
        })
    },
    planted: on::<Orders, StrandedClaim>,
    build: Altered::of::<StrandedClaim>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct StrandedClaim;

impl Build for StrandedClaim {
    bent_ports!(|_: &SimPorts| Endless);
}

#[derive(Debug)]
struct Endless;

impl Bend for Endless {
    fn opened(&self, mut row: InboxRow) -> InboxRow {
        if let InboxState::Claimed { lease_until, .. } = &mut row.state {
            *lease_until = row.now.after(Duration::from_secs(60));
        }
        row
    }
}
