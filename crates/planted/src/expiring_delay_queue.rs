//! A queue without a consumer looks idle, and is to remove itself: what waits in a delay queue goes
//! with it, and goes nowhere.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::bent_wire;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Wire;
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_rabbitmq::amqp::{AMQPValue, QueueSpec};
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "expiring-delay-queue",
    class: "a delay queue expires with messages in it",
    change: "an `amqp` adapter that declares delay queues to expire after three seconds",
    report: "rabbitmq/rabbitmq-server#5894",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[Need::Retries],
    scenario: || {
        scenario::<Orders>("expiring-delay-queue", |s| {
            s.policy.retry.first = Duration::from_secs(10);
            s.rules = vec![fault(Kind::ServiceFails, 30, "charge-card")];
            s.settle = Some(Duration::from_secs(1_200));
        })
    },
    planted: on::<Orders, ExpiringDelayQueue>,
    build: Altered::of::<ExpiringDelayQueue>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExpiringDelayQueue;

impl Build for ExpiringDelayQueue {
    bent_wire!(Expiring);
}

#[derive(Debug)]
struct Expiring;

impl Wire for Expiring {
    fn declared(&self, spec: &QueueSpec) -> QueueSpec {
        let mut spec = spec.clone();
        if spec.name.contains(".delay.") {
            let unused = AMQPValue::LongInt(3_000);
            spec.arguments.insert("x-expires".into(), unused);
        }
        spec
    }
}
