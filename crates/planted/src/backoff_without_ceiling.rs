//! Waits grow without a ceiling: after some failures a message is put off until nobody remembers it.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::inbox::InboxRow;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "backoff-without-ceiling",
    class: "backoff without a ceiling",
    change: "a store that keeps waits a hundred thousand times as long",
    report: "Automattic/kue#1025",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["stuck"],
    needs: &[Need::Retries],
    scenario: || {
        scenario::<Orders>("backoff-without-ceiling", |s| {
            s.worker_processes = 1;
            s.rules = vec![fault(Kind::ServiceFails, 30, "charge-card")];
            s.settle = Some(Duration::from_secs(3_600));
        })
    },
    planted: on::<Orders, BackoffWithoutCeiling>,
    build: Altered::of::<BackoffWithoutCeiling>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackoffWithoutCeiling;

impl Build for BackoffWithoutCeiling {
    bent_ports!(|_: &SimPorts| Exponential);
}

#[derive(Debug)]
struct Exponential;

impl Bend for Exponential {
    fn saved(&self, row: &InboxRow) -> Option<InboxRow> {
        let wait = row.backoff().unwrap_or_default();
        Some(InboxRow {
            not_before: row.not_before.map(|at| at.after(wait * 100_000)),
            ..row.clone()
        })
    }
}
