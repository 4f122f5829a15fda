//! A relay's hold on its rows has no end worth the name: what it held when it died stays.

use std::time::Duration;

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_ports;
use super::{Plant, fault_at, on, scenario, shipped};
use redeliver_core::outbox::RelayClaim;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "endless-relay-lease",
    class: "a dead or hung relay keeps its rows",
    change: "a store in which a relay claims its rows for a day",
    report: "AlexeyRaga/kafkaflow-contrib#24",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["stuck"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("endless-relay-lease", |s| {
            s.rules = vec![fault_at(Seam::Publish, Kind::Crash, 20, "relay")];
            s.settle = Some(Duration::from_secs(600));
        })
    },
    planted: on::<Orders, EndlessRelayLease>,
    build: Altered::of::<EndlessRelayLease>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndlessRelayLease;

impl Build for EndlessRelayLease {
    bent_ports!(|_: &SimPorts| ForADay);
}

#[derive(Debug)]
struct ForADay;

impl Bend for ForADay {
    fn claims(&self, claim: &RelayClaim) -> RelayClaim {
        RelayClaim {
            lease: Duration::from_secs(24 * 3600),
            ..claim.clone()
        }
    }
}
