//! A message that has waited for a retry comes back under the name of its queue, and its dead letter
//! says that it was sent there: nobody knows where to redrive it to.

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::ports::Delivery;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "origin-lost",
    class: "a redelivered copy with a changed destination",
    change: "a transport that forgets where a retried message was first published",
    report: "MassTransit/MassTransit#983",
    anomalies: &[AnomalyKind::Misfiled],
    checkers: &["misfiled"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("origin-lost", |s| {
            s.policy.retry.attempts = 2;
            s.worker_processes = 1;
            s.rules = vec![fault(Kind::ServiceFails, 60, "charge-card")];
        })
    },
    planted: on::<Orders, OriginLost>,
    build: Altered::of::<OriginLost>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct OriginLost;

impl Build for OriginLost {
    bent_ports!(|_: &SimPorts| Forgetful);
}

#[derive(Debug)]
struct Forgetful;

impl Bend for Forgetful {
    fn received(&self, delivery: Delivery) -> Delivery {
        if delivery.attempt == 1 && delivery.parked == 0 {
            return delivery;
        }
        Delivery {
            exchange: "".into(),
            routing_key: delivery.queue.clone(),
            ..delivery
        }
    }
}
