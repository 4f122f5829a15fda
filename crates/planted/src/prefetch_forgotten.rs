//! A restored channel is not told its prefetch again: the broker sends all it has. Most of that waits
//! in the client, unacked, until the broker takes it for forgotten.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::bent_wire;
use super::{Plant, busy_payments, event, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Wire;
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "prefetch-forgotten",
    class: "recovery restores the consumer and not its prefetch",
    change: "an `amqp` adapter that sets the prefetch of its first channel only",
    report: "smallrye/smallrye-reactive-messaging#2084",
    anomalies: &[AnomalyKind::Invariant],
    checkers: &["expectation"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("prefetch-forgotten", |s| {
            busy_payments(s);
            s.messages = 150;
            s.over = Duration::from_secs(20);
            s.policy.consumer_timeout = Some(Duration::from_secs(60));
            // The new leader brings back what was in hand, once.
            s.expect.max_redeliveries = Some(1);
            s.events = vec![event(Kind::LeaderChange, 5, 1, "charge-card")];
        })
    },
    planted: on::<Orders, PrefetchForgotten>,
    build: Altered::of::<PrefetchForgotten>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrefetchForgotten;

impl Build for PrefetchForgotten {
    bent_wire!(Once::default());
}

#[derive(Debug, Default)]
struct Once(AtomicBool);

impl Wire for Once {
    fn prefetch(&self, asked: u16) -> Option<u16> {
        (!self.0.swap(true, Ordering::Relaxed)).then_some(asked)
    }
}
