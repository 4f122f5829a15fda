//! A consumer subscribes once. When its channel closes it waits for deliveries that never come; its
//! process lives and looks well.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::naive::{Naive, naive_consumer};
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::ports::{Receiver, Settlement, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "no-resubscribe",
    class: "the consumer never subscribes again",
    change: "a consumer that does not notice the end of its subscription",
    report: "celery/celery#6760",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["stuck"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("no-resubscribe", |s| {
            s.worker_processes = 1;
            s.rules = vec![fault(Kind::LostAck, 20, "reserve-inventory")];
            s.settle = Some(Duration::from_secs(600));
        })
    },
    planted: on::<Orders, NoResubscribe>,
    build: Altered::of::<NoResubscribe>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoResubscribe;

impl Build for NoResubscribe {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let mail = naive.subscribe(naive.policy.consumer.prefetch).await;
    while let Ok(delivery) = mail.receive().await {
        let settlement = match &delivery.event {
            Ok(event) => {
                let key = &event.idempotency_key;
                let done = naive.once(event, delivery.attempt, key).await;
                naive.judge(&delivery, event, done)
            }
            Err(_) => Settlement::Done,
        };
        if let Err(error) = mail.settle(&delivery, settlement).await {
            tracing::warn!(%error, "not settled");
        }
    }
    std::future::pending().await
}
