//! The last retry fails, and that is the end: there is no dead letter on that path.

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::dead_letter::Reason;
use redeliver_core::ports::{Delivery, Settlement};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "exhausted-dropped",
    class: "no dead letter at the end of the delayed path",
    change: "a transport that acks what has used up its attempts",
    report: "MassTransit/MassTransit#1037",
    anomalies: &[AnomalyKind::Lost, AnomalyKind::Misfiled],
    checkers: &["lost", "misfiled"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("exhausted-dropped", |s| {
            s.policy.retry.attempts = 2;
            s.worker_processes = 1;
            s.rules = vec![fault(Kind::ServiceFails, 60, "charge-card")];
        })
    },
    planted: on::<Orders, ExhaustedDropped>,
    build: Altered::of::<ExhaustedDropped>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExhaustedDropped;

impl Build for ExhaustedDropped {
    bent_ports!(|_: &SimPorts| Tired);
}

#[derive(Debug)]
struct Tired;

impl Bend for Tired {
    fn settles(&self, _: &Delivery, settlement: Settlement) -> Settlement {
        match &settlement {
            Settlement::DeadLetter(story) if story.reason == Reason::AttemptsExhausted => {
                Settlement::Done
            }
            _ => settlement,
        }
    }
}
