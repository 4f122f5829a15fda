//! Asked to stop, a consumer empties its buffer in a hurry: it acks what it has not worked on.

use std::pin::pin;
use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::naive::{Naive, naive_consumer};
use super::{Plant, event, on, scenario, shipped};
use redeliver_core::ports::{Delivery, Env, Receiver, Settlement, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::relay::until;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "acks-on-shutdown",
    class: "early ack on shutdown",
    change: "a consumer with a buffer that it acks when its process is asked to stop",
    report: "centrifugal/centrifugo#1196",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("acks-on-shutdown", |s| {
            s.over = Duration::from_secs(2);
            s.events = vec![event(Kind::RollingDeploy, 4, 10, "charge-card")];
        })
    },
    planted: on::<Orders, AcksOnShutdown>,
    build: Altered::of::<AcksOnShutdown>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcksOnShutdown;

impl Build for AcksOnShutdown {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let mail = naive.subscribe(naive.policy.consumer.prefetch).await;
    let (buffer, mut buffered) = tokio::sync::mpsc::unbounded_channel::<Delivery>();
    let reader = mail.clone();
    let env = naive.world.env();
    env.spawn("reader", async move {
        while let Ok(delivery) = reader.receive().await {
            if buffer.send(delivery).is_err() {
                return;
            }
        }
    });
    let mut stopping = pin!(env.stopping());
    while let Some(Some(delivery)) = until(stopping.as_mut(), buffered.recv()).await {
        let settlement = match &delivery.event {
            Ok(event) => {
                let key = &event.idempotency_key;
                let done = naive.once(event, delivery.attempt, key).await;
                naive.judge(&delivery, event, done)
            }
            Err(_) => Settlement::Done,
        };
        mail.settle(&delivery, settlement).await.ok();
    }
    while let Ok(delivery) = buffered.try_recv() {
        mail.settle(&delivery, Settlement::Done).await.ok();
    }
}
