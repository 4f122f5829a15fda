//! Each call to an outside service carries an idempotency key of its own, made on the spot: the
//! service cannot know that it has acted before.

use std::sync::atomic::{AtomicU64, Ordering};

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::ports::{Env, ServiceCall};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "key-per-call",
    class: "a new id per attempt",
    change: "a client that makes a new idempotency key for every call",
    report: "pragmaticalabs/pragmatica#1237",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["orders"],
    needs: &[Need::Service],
    scenario: || {
        scenario::<Orders>("key-per-call", |s| {
            s.rules = vec![fault(Kind::ServiceInDoubt, 20, "charge-card")];
        })
    },
    planted: on::<Orders, KeyPerCall>,
    build: Altered::of::<KeyPerCall>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyPerCall;

impl Build for KeyPerCall {
    bent_ports!(|bare: &SimPorts| Fresh::of(bare));
}

/// Makes keys that no other process makes.
#[derive(Debug)]
struct Fresh {
    process: String,
    calls: AtomicU64,
}

impl Fresh {
    fn of(bare: &SimPorts) -> Self {
        Self {
            process: format!("{}#{}", bare.env.process(), bare.env.incarnation()),
            calls: AtomicU64::new(0),
        }
    }
}

impl Bend for Fresh {
    fn called(&self, call: ServiceCall) -> ServiceCall {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let key = format!("{}/{}/{number}", call.idempotency_key, self.process);
        ServiceCall {
            idempotency_key: key.into(),
            ..call
        }
    }
}
