//! The copy of a retry is published without its delivery mode: it is transient, and a restart of the
//! broker takes it along.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::bent_wire;
use super::{Need, Plant, event, fault, on, scenario, shipped};
use redeliver_core::topology::QueueType;
use redeliver_harness::run::assembly::bend::Wire;
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_rabbitmq::amqp::Publish;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "transient-copy",
    class: "republished as transient",
    change: "an `amqp` adapter that leaves the delivery mode of copies out",
    report: "spring-projects/spring-amqp#632",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[Need::Retries],
    scenario: || {
        scenario::<Orders>("transient-copy", |s| {
            s.queue_type = QueueType::Classic;
            s.policy.retry.first = Duration::from_secs(10);
            s.rules = vec![fault(Kind::ServiceFails, 50, "charge-card")];
            s.events = vec![event(Kind::BrokerRestart, 15, 2, "")];
            s.events[0].target = None;
        })
    },
    planted: on::<Orders, TransientCopy>,
    build: Altered::of::<TransientCopy>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransientCopy;

impl Build for TransientCopy {
    bent_wire!(Transient);
}

#[derive(Debug)]
struct Transient;

impl Wire for Transient {
    fn published(&self, mut message: Publish) -> Publish {
        if message.exchange.contains(".delay.") {
            message.properties.delivery_mode = None;
        }
        message
    }
}
