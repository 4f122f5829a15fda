//! Any answer of the broker counts as a confirm: a row is marked as published that the broker did
//! not take.

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::ports::PublishOutcome;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "nack-taken-for-confirm",
    class: "nack not told from ack",
    change: "a publisher that takes a nack for a confirm",
    report: "zarusz/SlimMessageBus#458",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("nack-taken-for-confirm", |s| {
            s.rules = vec![fault(Kind::RejectedPublish, 10, "relay")];
        })
    },
    planted: on::<Orders, NackTakenForConfirm>,
    build: Altered::of::<NackTakenForConfirm>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NackTakenForConfirm;

impl Build for NackTakenForConfirm {
    bent_ports!(|_| Hopeful);
}

/// Takes every answer for a good one.
#[derive(Debug)]
struct Hopeful;

impl Bend for Hopeful {
    fn outcome(&self, outcome: PublishOutcome) -> PublishOutcome {
        match outcome {
            PublishOutcome::Rejected => PublishOutcome::Confirmed,
            other => other,
        }
    }
}
