//! A kept message is deleted when a worker takes it on, and not when its work has ended.

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_ports;
use super::{Need, Plant, fault_at, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Deposits;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "forgotten-at-take",
    class: "deleted before it is done: a crash in between loses it",
    change: "a store that forgets kept messages as it gives them out",
    report: "rackerlabs/otter#1400",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost"],
    needs: &[Need::Order],
    scenario: || {
        scenario::<Deposits>("forgotten-at-take", |s| {
            s.messages = 60;
            s.over = std::time::Duration::from_secs(1);
            s.rules = vec![fault_at(Seam::Commit, Kind::Crash, 5, "ledger")];
        })
    },
    planted: on::<Deposits, ForgottenAtTake>,
    build: Altered::of::<ForgottenAtTake>,
    shipped: shipped::<Deposits>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForgottenAtTake;

impl Build for ForgottenAtTake {
    bent_ports!(|_: &SimPorts| Bent);
}

#[derive(Debug)]
struct Bent;

impl Bend for Bent {
    fn forgets_first(&self) -> bool {
        true
    }
}
