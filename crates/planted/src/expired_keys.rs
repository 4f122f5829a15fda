//! An outside service remembers idempotency keys for a while only, and retries go on for longer.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::ports::{Env, ServiceCall};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_simulated::env::SimEnv;
use redeliver_workloads::Orders;

/// How long a key is known: a day of the service, made short.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "expired-keys",
    class: "the service forgets idempotency keys before the last retry",
    change: "a service to which a key of ten seconds ago is a new one",
    report: "dex-it/dex-common#232",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["orders"],
    needs: &[Need::Service],
    scenario: || {
        scenario::<Orders>("expired-keys", |s| {
            s.policy.retry.first = Duration::from_secs(8);
            s.rules = vec![fault(Kind::ServiceInDoubt, 30, "charge-card")];
        })
    },
    planted: on::<Orders, ExpiredKeys>,
    build: Altered::of::<ExpiredKeys>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExpiredKeys;

impl Build for ExpiredKeys {
    bent_ports!(|bare: &SimPorts| Expiring(bare.env.clone()));
}

#[derive(Debug)]
struct Expiring(SimEnv);

impl Bend for Expiring {
    fn called(&self, call: ServiceCall) -> ServiceCall {
        let age = self.0.elapsed().as_secs() / KNOWN_FOR.as_secs();
        let key = format!("{}/{age}", call.idempotency_key);
        ServiceCall {
            idempotency_key: key.into(),
            ..call
        }
    }
}
