//! The worker that ends a message takes its successor on, and no other worker ever looks for it.

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_ports;
use super::{Need, Plant, fault_at, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Deposits;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "stranded-successor",
    class: "a key that stands still for ever after its worker died",
    change: "a store in which nobody finds kept messages whose worker is gone",
    report: "Openpanel-dev/groupmq#12",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["stuck"],
    needs: &[Need::Order],
    scenario: || {
        scenario::<Deposits>("stranded-successor", |s| {
            s.messages = 60;
            s.over = std::time::Duration::from_secs(1);
            s.rules = vec![fault_at(Seam::Commit, Kind::Crash, 5, "ledger")];
        })
    },
    planted: on::<Deposits, StrandedSuccessor>,
    build: Altered::of::<StrandedSuccessor>,
    shipped: shipped::<Deposits>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct StrandedSuccessor;

impl Build for StrandedSuccessor {
    bent_ports!(|_: &SimPorts| Bent);
}

#[derive(Debug)]
struct Bent;

impl Bend for Bent {
    fn looks(&self) -> bool {
        false
    }
}
