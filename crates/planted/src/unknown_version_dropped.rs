//! A message of a version that is not known yet is none of our business, and acked: the producer was
//! deployed before its consumer.

use super::ports::bent_ports;
use super::{Plant, on, scenario, shipped};
use redeliver_core::dead_letter::Reason;
use redeliver_core::ports::{Delivery, Settlement};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "unknown-version-dropped",
    class: "schema change with messages in flight",
    change: "a transport that acks what could not be decoded",
    report: "FoundatioFx/Foundatio#455",
    anomalies: &[AnomalyKind::Lost, AnomalyKind::Misfiled],
    checkers: &["lost", "misfiled"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("unknown-version-dropped", |s| {
            s.poison.unknown_version = 1;
        })
    },
    planted: on::<Orders, UnknownVersionDropped>,
    build: Altered::of::<UnknownVersionDropped>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnknownVersionDropped;

impl Build for UnknownVersionDropped {
    bent_ports!(|_: &SimPorts| Dismissive);
}

#[derive(Debug)]
struct Dismissive;

impl Bend for Dismissive {
    fn settles(&self, _: &Delivery, settlement: Settlement) -> Settlement {
        match &settlement {
            Settlement::DeadLetter(story) if story.reason == Reason::Malformed => Settlement::Done,
            _ => settlement,
        }
    }
}
