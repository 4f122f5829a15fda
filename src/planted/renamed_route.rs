//! A type was renamed in the producer, and no queue is bound under its new name.

use std::time::Duration;

use super::bend::{Bend, bent_ports};
use super::{Plant, Planted, on, scenario, shipped};
use crate::harness::build::{Build, SimPorts};
use crate::harness::verdict::AnomalyKind;
use crate::pipeline::event::Outgoing;
use crate::workloads::Orders;

/// See the module.
pub const PLANT: Plant = Plant {
    name: "renamed-route",
    class: "a type renamed with its consumers not yet told",
    change: "a publisher that sends payments under a new routing key",
    report: "OctopusDeploy/Issues#7795",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["stuck"],
    scenario: || {
        scenario::<Orders>("renamed-route", |s| {
            s.settle = Some(Duration::from_secs(300));
        })
    },
    planted: on::<Orders, RenamedRoute>,
    build: Planted::of::<RenamedRoute>,
    shipped: shipped::<Orders>,
};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenamedRoute;

impl Build for RenamedRoute {
    bent_ports!(|_: &SimPorts| Renamed);
}

#[derive(Debug)]
struct Renamed;

impl Bend for Renamed {
    fn outgoing(&self, outgoing: &Outgoing) -> Outgoing {
        let mut outgoing = outgoing.clone();
        if *outgoing.routing_key == *"payment.taken" {
            outgoing.routing_key = "payment.received".into();
        }
        outgoing
    }
}
