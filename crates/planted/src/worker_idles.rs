//! A worker whose handler failed ends, and nobody starts another: fewer and fewer do the work.

use std::sync::Arc;

use redeliver_sim::fault::{Kind, Rule};

use super::naive::{Naive, naive_consumer};
use super::{Plant, busy_payments, fault, on, scenario, shipped};
use redeliver_core::ports::{Env, Receiver, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "worker-idles",
    class: "an error ends one of several workers for good",
    change: "a consumer whose workers end with the first failure that they see",
    report: "gftea/amqprs#66",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["starved", "stuck"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("worker-idles", |s| {
            busy_payments(s);
            s.rules = vec![Rule {
                limit: 6,
                ..fault(Kind::ServiceFails, 50, "charge-card")
            }];
        })
    },
    planted: on::<Orders, WorkerIdles>,
    build: Altered::of::<WorkerIdles>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerIdles;

impl Build for WorkerIdles {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let naive = Arc::new(naive);
    for _ in 0..naive.policy.consumer.workers {
        let naive_of_it = naive.clone();
        naive.world.env().spawn("worker", worker(naive_of_it));
    }
    std::future::pending::<()>().await;
}

async fn worker<W: World>(naive: Arc<Naive<W>>) {
    loop {
        let mail = naive.subscribe(1).await;
        while let Ok(delivery) = mail.receive().await {
            let Ok(event) = &delivery.event else { continue };
            let key = &event.idempotency_key;
            let done = naive.once(event, delivery.attempt, key).await;
            let failed = done.is_err();
            let settlement = naive.judge(&delivery, event, done);
            let settled = mail.settle(&delivery, settlement).await;
            if failed {
                mail.close().await;
                return;
            }
            if settled.is_err() {
                break;
            }
        }
        mail.close().await;
    }
}
