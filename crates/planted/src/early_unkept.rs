//! A message that comes before its turn is acked, and kept nowhere but in the hope that it comes again.

use super::ports::bent_ports;
use super::{Need, Plant, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Deposits;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "early-unkept",
    class: "a buffer of early messages that does not outlive its process",
    change: "a store that says an early message is kept, and keeps nothing",
    report: "p2panda/p2panda#1263",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost"],
    needs: &[Need::Order],
    scenario: || {
        scenario::<Deposits>("early-unkept", |s| {
            s.messages = 60;
            s.over = std::time::Duration::from_secs(1);
        })
    },
    planted: on::<Deposits, EarlyUnkept>,
    build: Altered::of::<EarlyUnkept>,
    shipped: shipped::<Deposits>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct EarlyUnkept;

impl Build for EarlyUnkept {
    bent_ports!(|_: &SimPorts| Bent);
}

#[derive(Debug)]
struct Bent;

impl Bend for Bent {
    fn keeps(&self) -> bool {
        false
    }
}
