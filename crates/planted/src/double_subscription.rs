//! The client library recovers a subscription, and so does the application: after every cut there is
//! one consumer more.

use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::naive::{Naive, naive_consumer};
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::ports::{Env, Receiver, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Boxed;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "double-subscription",
    class: "recovery makes double consumers",
    change: "a consumer that subscribes twice after its channel was closed",
    report: "EasyNetQ/EasyNetQ#1329",
    anomalies: &[AnomalyKind::Invariant],
    checkers: &["in_flight"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("double-subscription", |s| {
            s.policy.consumer.workers = 1;
            s.messages = 12;
            s.over = Duration::from_secs(4);
            s.rules = vec![fault(Kind::LostAck, 20, "charge-card")];
        })
    },
    planted: on::<Orders, DoubleSubscription>,
    build: Altered::of::<DoubleSubscription>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DoubleSubscription;

impl Build for DoubleSubscription {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    consume(Arc::new(naive)).await;
}

fn consume<W: World>(naive: Arc<Naive<W>>) -> Boxed<'static, ()> {
    Box::pin(async move {
        loop {
            let mail = naive.subscribe(naive.policy.consumer.prefetch).await;
            while let Ok(delivery) = mail.receive().await {
                let Ok(event) = &delivery.event else { continue };
                let key = &event.idempotency_key;
                let done = naive.once(event, delivery.attempt, key).await;
                let settlement = naive.judge(&delivery, event, done);
                if mail.settle(&delivery, settlement).await.is_err() {
                    break;
                }
            }
            mail.close().await;
            let recovered = consume(naive.clone());
            naive.world.env().spawn("recovery", recovered);
        }
    })
}
