//! A type was renamed in the producer, and no queue is bound under its new name.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::ports::bent_ports;
use super::{Plant, on, scenario, shipped};
use redeliver_core::event::Outgoing;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "renamed-route",
    class: "a type renamed with its consumers not yet told",
    change: "a publisher that sends the first type that it meets under a new routing key",
    report: "OctopusDeploy/Issues#7795",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["stuck"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("renamed-route", |s| {
            s.settle = Some(Duration::from_secs(300));
        })
    },
    planted: on::<Orders, RenamedRoute>,
    build: Altered::of::<RenamedRoute>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenamedRoute;

impl Build for RenamedRoute {
    bent_ports!(|_: &SimPorts| Renamed::default());
}

/// The routing key that has a new name: the first that its process published under.
#[derive(Debug, Default)]
struct Renamed(OnceLock<Arc<str>>);

impl Bend for Renamed {
    fn outgoing(&self, outgoing: &Outgoing) -> Outgoing {
        let mut outgoing = outgoing.clone();
        let renamed = self.0.get_or_init(|| outgoing.routing_key.clone());
        if outgoing.routing_key == *renamed {
            outgoing.routing_key = format!("{renamed}-renamed").into();
        }
        outgoing
    }
}
