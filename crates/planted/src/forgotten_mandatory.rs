//! A message that the broker could not route is confirmed all the same, and discarded.

use std::time::Duration;

use redeliver_sim::fault::{Event, Kind};

use super::ports::bent_ports;
use super::{Plant, on, scenario, shipped};
use redeliver_core::ports::PublishOutcome;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "forgotten-mandatory",
    class: "unroutable yet confirmed",
    change: "a publisher that does not listen to returns",
    report: "dapr/components-contrib#4257",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("forgotten-mandatory", |s| {
            s.events = vec![Event {
                kind: Kind::UnboundQueue,
                at: 2_000_000_000,
                lasts: 10_000_000_000,
                target: Some("charge-card".into()),
                amount: 0,
            }];
            s.faults_until = Duration::from_secs(15);
        })
    },
    planted: on::<Orders, ForgottenMandatory>,
    build: Altered::of::<ForgottenMandatory>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForgottenMandatory;

impl Build for ForgottenMandatory {
    bent_ports!(|_: &SimPorts| Deaf);
}

#[derive(Debug)]
struct Deaf;

impl Bend for Deaf {
    fn outcome(&self, outcome: PublishOutcome) -> PublishOutcome {
        match outcome {
            PublishOutcome::Returned(_) => PublishOutcome::Confirmed,
            other => other,
        }
    }
}
