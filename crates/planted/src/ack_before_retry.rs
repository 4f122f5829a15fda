//! The original is acked, then its copy is published for the next attempt: who dies in between has
//! lost it.

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_ports;
use super::{Need, Plant, fault, fault_at, on, scenario, shipped};
use redeliver_core::ports::Settlement;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "ack-before-retry",
    class: "acked before the retry is stored",
    change: "a receiver that acks first and publishes the copy of a retry then",
    report: "celery/celery#3053",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[Need::Retries],
    scenario: || {
        scenario::<Orders>("ack-before-retry", |s| {
            s.rules = vec![
                fault(Kind::ServiceFails, 30, "charge-card"),
                fault_at(Seam::Publish, Kind::Crash, 30, "charge-card"),
            ];
        })
    },
    planted: on::<Orders, AckBeforeRetry>,
    build: Altered::of::<AckBeforeRetry>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AckBeforeRetry;

impl Build for AckBeforeRetry {
    bent_ports!(|_: &SimPorts| AckFirst);
}

#[derive(Debug)]
struct AckFirst;

impl Bend for AckFirst {
    fn acks_first(&self, settlement: &Settlement) -> bool {
        matches!(settlement, Settlement::RetryAfter { .. })
    }
}
