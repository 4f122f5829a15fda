//! A retry is published, and the original acked, whatever became of the copy.

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::ports::Settlement;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "unconfirmed-retry",
    class: "republished without a confirm, then acked",
    change: "a receiver that acks although the copy of a retry was not confirmed",
    report: "spring-attic/spring-cloud-stream-binder-rabbit#310",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[Need::Retries],
    scenario: || {
        scenario::<Orders>("unconfirmed-retry", |s| {
            s.rules = vec![
                fault(Kind::ServiceFails, 30, "charge-card"),
                fault(Kind::LostPublish, 30, "charge-card"),
            ];
        })
    },
    planted: on::<Orders, UnconfirmedRetry>,
    build: Altered::of::<UnconfirmedRetry>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnconfirmedRetry;

impl Build for UnconfirmedRetry {
    bent_ports!(|_: &SimPorts| Careless);
}

#[derive(Debug)]
struct Careless;

impl Bend for Careless {
    fn acks_anyway(&self, settlement: &Settlement) -> bool {
        matches!(settlement, Settlement::RetryAfter { .. })
    }
}
