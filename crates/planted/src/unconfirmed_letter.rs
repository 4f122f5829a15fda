//! A dead letter is published, and the original acked, whatever became of the letter.

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::ports::Settlement;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "unconfirmed-letter",
    class: "dead letter published without a confirm, then acked",
    change: "a receiver that acks although the dead letter was not confirmed",
    report: "spring-projects/spring-amqp#1293",
    anomalies: &[AnomalyKind::Lost, AnomalyKind::Misfiled],
    checkers: &["lost", "misfiled"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("unconfirmed-letter", |s| {
            s.poison.poison = 2;
            s.rules = vec![fault(Kind::LostPublish, 50, "charge-card")];
        })
    },
    planted: on::<Orders, UnconfirmedLetter>,
    build: Altered::of::<UnconfirmedLetter>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnconfirmedLetter;

impl Build for UnconfirmedLetter {
    bent_ports!(|_: &SimPorts| Careless);
}

#[derive(Debug)]
struct Careless;

impl Bend for Careless {
    fn acks_anyway(&self, settlement: &Settlement) -> bool {
        matches!(settlement, Settlement::DeadLetter(_))
    }
}
