//! The fencing token rises with every claim, and is not passed on: a worker that slept beyond its
//! lease still acts outside.

use std::time::Duration;

use redeliver_sim::fault::{Kind, Seam};

use super::bend::{Bend, bent_ports};
use super::{Plant, fault, fault_at, forgetful_payments, on, scenario, shipped};
use crate::harness::build::{Build, SimPorts};
use crate::harness::verdict::AnomalyKind;
use crate::ports::ServiceCall;
use crate::workloads::Orders;

/// See the module.
pub const PLANT: Plant = Plant {
    name: "token-not-passed",
    class: "zombie acts outside after losing its lease",
    change: "a client that leaves the fencing token out",
    report: "OptimalBits/bull#308",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    scenario: || {
        scenario::<Orders>("token-not-passed", |s| {
            s.services = vec![forgetful_payments()];
            s.services[0].checks_tokens = Some(true);
            // One call at a time: what stands still is this one, and no other that has acted.
            s.policy.consumer.workers = 1;
            s.policy.consumer.prefetch = 1;
            let mut asleep = fault_at(Seam::Service, Kind::Pause, 30, "charge-card");
            asleep.lasts = 240_000_000_000;
            asleep.after = Some(false);
            asleep.limit = 2;
            s.faults_until = Duration::from_secs(300);
            s.rules = vec![asleep, fault(Kind::DuplicatePublish, 100, "relay")];
        })
    },
    planted: on::<Orders, TokenNotPassed>,
    shipped: shipped::<Orders>,
};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenNotPassed;

impl Build for TokenNotPassed {
    bent_ports!(|_: &SimPorts| Unfenced);
}

#[derive(Debug)]
struct Unfenced;

impl Bend for Unfenced {
    fn called(&self, call: ServiceCall) -> ServiceCall {
        ServiceCall {
            fencing_token: 0,
            ..call
        }
    }
}
