//! The key is put down as done, and then the work is begun: who dies in between never does it.

use redeliver_sim::fault::{Kind, Seam};

use super::naive::{Naive, naive_consumer};
use super::{Plant, fault_at, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::inbox::InboxState;
use redeliver_core::ports::{Delivery, Store, Tx, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Failure;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "done-before-effect",
    class: "key exists, effect missing",
    change: "a consumer that writes the inbox in a transaction before that of its effect",
    report: "mhayk/Overpass#16",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("done-before-effect", |s| {
            s.rules = vec![fault_at(Seam::Commit, Kind::Crash, 20, "reserve-inventory")];
        })
    },
    planted: on::<Orders, DoneBeforeEffect>,
    build: Altered::of::<DoneBeforeEffect>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DoneBeforeEffect;

impl Build for DoneBeforeEffect {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let done = in_two_steps(&naive, event, delivery.attempt).await;
        naive.judge(delivery, event, done)
    };
    naive.settle_each(handle).await;
}

async fn in_two_steps<W: World>(
    naive: &Naive<W>,
    event: &Event,
    attempt: u32,
) -> Result<(), Failure> {
    let (store, consumer) = (naive.world.store(), naive.consumer.name());
    let mut tx = store.begin(naive.scope(event, attempt)).await?;
    let mut row = tx.inbox_open(consumer, &event.idempotency_key).await?;
    if matches!(row.state, InboxState::Done { .. }) {
        tx.rollback().await;
        return Ok(());
    }
    row.state = InboxState::Done {
        result: bytes::Bytes::new(),
    };
    tx.inbox_save(&row).await?;
    tx.commit().await?;
    naive.done(event, attempt).await
}
