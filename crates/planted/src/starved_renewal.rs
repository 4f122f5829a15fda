//! A claim is to be renewed while the call runs, and the task that does it gets no turn.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Need, Plant, fault, forgetful_payments, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "starved-renewal",
    class: "renewal starved",
    change: "a store that renews no claim and says that it did",
    report: "InsForge/InsForge#1795",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Claim],
    scenario: || {
        scenario::<Orders>("starved-renewal", |s| {
            s.services = vec![forgetful_payments()];
            s.policy.consumer.lease = Duration::from_secs(6);
            s.policy.consumer.renew_every = Some(Duration::from_secs(2));
            s.rules = vec![fault(Kind::DuplicatePublish, 50, "relay")];
        })
    },
    planted: on::<Orders, StarvedRenewal>,
    build: Altered::of::<StarvedRenewal>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct StarvedRenewal;

impl Build for StarvedRenewal {
    bent_ports!(|_: &SimPorts| Starved);
}

#[derive(Debug)]
struct Starved;

impl Bend for Starved {
    fn renews(&self) -> bool {
        false
    }
}
