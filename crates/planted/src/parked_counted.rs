//! Every delivery counts as an attempt, also one that only waited behind another message: it is given
//! up before it was tried.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::ports::Delivery;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Deposits;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "parked-counted",
    class: "dead letter before the attempts are used",
    change: "a transport that adds the times a message was parked to its attempts",
    report: "ThreeDotsLabs/watermill#645",
    anomalies: &[AnomalyKind::Misfiled],
    checkers: &["misfiled"],
    needs: &[Need::Order],
    scenario: || {
        scenario::<Deposits>("parked-counted", |s| {
            s.messages = 30;
            s.policy.retry.attempts = 3;
            s.policy.retry.first = Duration::from_secs(20);
            s.rules = vec![fault(Kind::Abort, 5, "ledger")];
        })
    },
    planted: on::<Deposits, ParkedCounted>,
    build: Altered::of::<ParkedCounted>,
    shipped: shipped::<Deposits>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParkedCounted;

impl Build for ParkedCounted {
    bent_ports!(|_: &SimPorts| Deliveries);
}

#[derive(Debug)]
struct Deliveries;

impl Bend for Deliveries {
    fn received(&self, delivery: Delivery) -> Delivery {
        Delivery {
            attempt: delivery.attempt + delivery.parked,
            ..delivery
        }
    }
}
