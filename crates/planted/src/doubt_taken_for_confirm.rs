//! What was written to the socket counts as delivered: no answer is as good as a confirm.

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::ports::PublishOutcome;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "doubt-taken-for-confirm",
    class: "socket write taken as delivery",
    change: "a publisher that reports what is in doubt as confirmed",
    report: "amqp-rs/lapin#142",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("doubt-taken-for-confirm", |s| {
            s.rules = vec![fault(Kind::LostPublish, 10, "relay")];
        })
    },
    planted: on::<Orders, DoubtTakenForConfirm>,
    build: Altered::of::<DoubtTakenForConfirm>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DoubtTakenForConfirm;

impl Build for DoubtTakenForConfirm {
    bent_ports!(|_: &SimPorts| Hopeful);
}

#[derive(Debug)]
struct Hopeful;

impl Bend for Hopeful {
    fn outcome(&self, outcome: PublishOutcome) -> PublishOutcome {
        match outcome {
            PublishOutcome::InDoubt(_) => PublishOutcome::Confirmed,
            other => other,
        }
    }
}
