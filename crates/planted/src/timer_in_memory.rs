//! A retry waits in the memory of its process: the message is acked, and published again when its time
//! has come, if there still is a process then.

use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::fault::{Kind, Seam};

use super::naive::{Naive, naive_consumer};
use super::{Need, Plant, fault, fault_at, on, scenario, shipped};
use redeliver_core::event::{Event, Outgoing};
use redeliver_core::ports::{Delivery, Env, Publisher, Settlement, Transport, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "timer-in-memory",
    class: "a delay that a restart forgets",
    change: "a consumer that acks what failed and sends it again after a timer",
    report: "rabbitmq/rabbitmq-delayed-message-exchange#55",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[Need::Retries],
    scenario: || {
        scenario::<Orders>("timer-in-memory", |s| {
            s.policy.retry.first = Duration::from_secs(20);
            s.rules = vec![
                fault(Kind::ServiceFails, 30, "charge-card"),
                fault_at(Seam::Commit, Kind::Crash, 20, "charge-card"),
            ];
        })
    },
    planted: on::<Orders, TimerInMemory>,
    build: Altered::of::<TimerInMemory>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimerInMemory;

impl Build for TimerInMemory {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let key = &event.idempotency_key;
        let done = naive.once(event, delivery.attempt, key).await;
        let settlement = naive.judge(delivery, event, done);
        let Settlement::RetryAfter { delay, .. } = settlement else {
            return settlement;
        };
        let again = Outgoing {
            event: Arc::new(event.clone()),
            exchange: delivery.exchange.clone(),
            routing_key: delivery.routing_key.clone(),
        };
        let world = naive.world.clone();
        naive.world.env().spawn("timer", async move {
            world.env().sleep(delay).await;
            if let Ok(mut publisher) = world.transport().publisher("timer").await {
                publisher.publish(&[again], Duration::from_secs(10)).await;
            }
        });
        Settlement::Done
    };
    naive.settle_each(handle).await;
}
