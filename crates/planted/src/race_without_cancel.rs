//! A handler that takes too long has lost a race against a timer, and runs on: the message is tried
//! again, and both come to an end.

use std::sync::Arc;
use std::time::Duration;

use super::naive::{Naive, naive_consumer};
use super::{Need, Plant, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::ports::{Delivery, Env, EnvExt, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::scenario::ServiceOverride;
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Failure;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "race-without-cancel",
    class: "a timed-out handler keeps running",
    change: "a consumer that gives up waiting for its handler, and does not stop it",
    report: "timgit/pg-boss#555",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Service, Need::Repeats],
    scenario: || {
        scenario::<Orders>("race-without-cancel", |s| {
            s.services = vec![ServiceOverride {
                name: "payments".to_owned(),
                cold_starts: Some((0, Duration::ZERO)),
                ..ServiceOverride::default()
            }];
        })
    },
    planted: on::<Orders, RaceWithoutCancel>,
    build: Altered::of::<RaceWithoutCancel>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RaceWithoutCancel;

impl Build for RaceWithoutCancel {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let naive = Arc::new(naive);
    let handle = async |delivery: &Delivery, event: &Event| {
        let (worker, work, attempt) = (naive.clone(), event.clone(), delivery.attempt);
        let (ended, end) = tokio::sync::oneshot::channel();
        let env = naive.world.env();
        env.spawn("handler", async move {
            // Nobody may be waiting any more; that is the bug.
            let _ = ended.send(worker.done(&work, attempt).await);
        });
        let late = Failure::transient("time-limit", "still running");
        let done = match env.timeout(Duration::from_secs(5), end).await {
            Some(Ok(done)) => done,
            Some(Err(_)) | None => Err(late),
        };
        naive.judge(delivery, event, done)
    };
    naive.settle_each(handle).await;
}
