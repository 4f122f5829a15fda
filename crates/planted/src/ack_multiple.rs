//! Acks are sent with the flag `multiple`: the first worker to end acks what the others still work
//! on.

use std::time::Duration;

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_wire;
use super::{Plant, fault_at, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Wire;
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "ack-multiple",
    class: "commits the position of a batch regardless of failures",
    change: "an `amqp` adapter whose acks take along all earlier deliveries",
    report: "ordermentum/steveo#1054",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("ack-multiple", |s| {
            s.over = Duration::from_secs(4);
            s.rules = vec![fault_at(Seam::Service, Kind::Crash, 20, "charge-card")];
        })
    },
    planted: on::<Orders, AckMultiple>,
    build: Altered::of::<AckMultiple>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AckMultiple;

impl Build for AckMultiple {
    bent_wire!(Multiple);
}

#[derive(Debug)]
struct Multiple;

impl Wire for Multiple {
    fn acks_multiple(&self) -> bool {
        true
    }
}
