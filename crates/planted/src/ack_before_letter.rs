//! The original is acked, then it is put into the dead letters: who dies in between has lost it.

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_ports;
use super::{Plant, fault_at, on, scenario, shipped};
use redeliver_core::ports::Settlement;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "ack-before-letter",
    class: "acked before the dead letter is stored",
    change: "a receiver that acks first and publishes the dead letter then",
    report: "spring-projects/spring-amqp#1294",
    anomalies: &[AnomalyKind::Lost, AnomalyKind::Misfiled],
    checkers: &["lost", "misfiled"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("ack-before-letter", |s| {
            s.poison.poison = 2;
            s.rules = vec![fault_at(Seam::Publish, Kind::Crash, 50, "charge-card")];
        })
    },
    planted: on::<Orders, AckBeforeLetter>,
    build: Altered::of::<AckBeforeLetter>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AckBeforeLetter;

impl Build for AckBeforeLetter {
    bent_ports!(|_: &SimPorts| AckFirst);
}

#[derive(Debug)]
struct AckFirst;

impl Bend for AckFirst {
    fn acks_first(&self, settlement: &Settlement) -> bool {
        matches!(settlement, Settlement::DeadLetter(_))
    }
}
