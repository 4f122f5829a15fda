//! A restored channel is not put into confirm mode again, and what is sent over it counts as sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use redeliver_sim::fault::Kind;

use super::ports::planted_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::ports::PublishOutcome;
use redeliver_harness::run::assembly::bend::{Bend, BentPorts, Wire, bend};
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "unconfirmed-after-reconnect",
    class: "confirm mode is not selected again on a restored channel",
    change: "a publisher that waits for confirms on its first channel only",
    report: "kourier-amqp/kourier#61",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("unconfirmed-after-reconnect", |s| {
            s.relays = 1;
            s.messages = 20;
            s.rules = vec![fault(Kind::LostPublish, 30, "relay")];
        })
    },
    planted: on::<Orders, UnconfirmedAfterReconnect>,
    build: Altered::of::<UnconfirmedAfterReconnect>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnconfirmedAfterReconnect;

impl Build for UnconfirmedAfterReconnect {
    planted_ports!(ports);
}

fn ports(bare: SimPorts) -> BentPorts {
    let channels = Arc::new(AtomicU32::new(0));
    bend(bare, Trusting(channels.clone()), Restored(channels))
}

/// How many channels were opened for publishing.
#[derive(Debug)]
struct Restored(Arc<AtomicU32>);

impl Wire for Restored {
    fn confirms(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        // A client library that is told of no mode says that it was sent.
        true
    }
}

#[derive(Debug)]
struct Trusting(Arc<AtomicU32>);

impl Bend for Trusting {
    fn outcome(&self, outcome: PublishOutcome) -> PublishOutcome {
        match self.0.load(Ordering::Relaxed) {
            0 | 1 => outcome,
            _ => PublishOutcome::Confirmed,
        }
    }
}
