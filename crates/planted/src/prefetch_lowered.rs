//! After trouble a consumer takes one message at a time, to be careful, and never more again.

use std::sync::atomic::{AtomicBool, Ordering};

use redeliver_sim::fault::Kind;

use super::ports::bent_wire;
use super::{Plant, busy_payments, event, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Wire;
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "prefetch-lowered",
    class: "prefetch lowered after an error and never raised again",
    change: "an `amqp` adapter that sets a prefetch of 1 on every channel but its first",
    report: "celery/celery#9512",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["starved"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("prefetch-lowered", |s| {
            busy_payments(s);
            s.events = vec![event(Kind::LeaderChange, 5, 1, "charge-card")];
        })
    },
    planted: on::<Orders, PrefetchLowered>,
    build: Altered::of::<PrefetchLowered>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrefetchLowered;

impl Build for PrefetchLowered {
    bent_wire!(Careful::default());
}

#[derive(Debug, Default)]
struct Careful(AtomicBool);

impl Wire for Careful {
    fn prefetch(&self, asked: u16) -> Option<u16> {
        match self.0.swap(true, Ordering::Relaxed) {
            false => Some(asked),
            true => Some(1),
        }
    }
}
