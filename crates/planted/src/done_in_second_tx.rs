//! The effect is committed, and in a second transaction that it is done: who dies in between does it
//! again.

use redeliver_sim::fault::{Kind, Seam};

use super::naive::{Naive, naive_consumer};
use super::{Need, Plant, fault_at, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::inbox::InboxState;
use redeliver_core::ports::{Delivery, Store, Tx, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Failure;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "done-in-second-tx",
    class: "status update outside of the transaction of the effect",
    change: "a consumer that writes the inbox after its effect is committed",
    report: "dotnetcore/CAP#189",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Repeats],
    scenario: || {
        scenario::<Orders>("done-in-second-tx", |s| {
            s.rules = vec![fault_at(Seam::Commit, Kind::Crash, 20, "reserve-inventory")];
        })
    },
    planted: on::<Orders, DoneInSecondTx>,
    build: Altered::of::<DoneInSecondTx>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DoneInSecondTx;

impl Build for DoneInSecondTx {
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
    let answer = naive.call(event, attempt).await?;
    let mut tx = store.begin(naive.scope(event, attempt)).await?;
    let row = tx.inbox_open(consumer, &event.idempotency_key).await?;
    if matches!(row.state, InboxState::Done { .. }) {
        tx.rollback().await;
        return Ok(());
    }
    naive.apply(event, attempt, answer, &mut tx).await?;
    tx.commit().await?;

    let mut tx = store.begin(naive.scope(event, attempt)).await?;
    let mut row = tx.inbox_open(consumer, &event.idempotency_key).await?;
    row.state = InboxState::Done {
        result: bytes::Bytes::new(),
    };
    tx.inbox_save(&row).await?;
    Ok(tx.commit().await?)
}
