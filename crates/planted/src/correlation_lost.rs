//! Each event that a handler emits begins a correlation of its own: what became of a request cannot
//! be followed beyond the first consumer.

use super::ports::bent_ports;
use super::{Need, Plant, on, scenario, shipped};
use redeliver_core::event::Outgoing;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "correlation-lost",
    class: "context that does not travel on",
    change: "a store that gives every event a correlation of its own",
    report: "osstotalsoft/nbb#97",
    anomalies: &[AnomalyKind::Invariant],
    checkers: &["lineage"],
    needs: &[Need::Emits],
    scenario: || scenario::<Orders>("correlation-lost", |_| {}),
    planted: on::<Orders, CorrelationLost>,
    build: Altered::of::<CorrelationLost>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct CorrelationLost;

impl Build for CorrelationLost {
    bent_ports!(|_| Rootless);
}

/// Makes every event the first of its chain.
#[derive(Debug)]
struct Rootless;

impl Bend for Rootless {
    fn emitted(&self, mut outgoing: Outgoing) -> Outgoing {
        let mut event = (*outgoing.event).clone();
        event.correlation = event.id;
        outgoing.event = event.into();
        outgoing
    }
}
