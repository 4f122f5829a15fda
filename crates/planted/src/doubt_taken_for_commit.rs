//! A commit that got no answer counts as done: the message is acked, and nothing was saved.

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_ports;
use super::{Plant, fault_at, on, scenario, shipped};
use redeliver_core::ports::StoreError;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "doubt-taken-for-commit",
    class: "state advanced before it is known to be persisted",
    change: "a store that reports a commit in doubt as committed",
    report: "apache/pulsar#5218",
    anomalies: &[
        AnomalyKind::Lost,
        AnomalyKind::Stuck,
        AnomalyKind::Invariant,
    ],
    checkers: &["orders", "transitions"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("doubt-taken-for-commit", |s| {
            s.rules = vec![fault_at(
                Seam::Commit,
                Kind::LostCommit,
                20,
                "reserve-inventory",
            )];
        })
    },
    planted: on::<Orders, DoubtTakenForCommit>,
    build: Altered::of::<DoubtTakenForCommit>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DoubtTakenForCommit;

impl Build for DoubtTakenForCommit {
    bent_ports!(|_: &SimPorts| Hopeful);
}

#[derive(Debug)]
struct Hopeful;

impl Bend for Hopeful {
    fn commits(&self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        match result {
            Err(StoreError::InDoubt(_)) => Ok(()),
            other => other,
        }
    }
}
