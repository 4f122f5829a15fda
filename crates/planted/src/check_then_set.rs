//! The inbox is read, the work done, and the inbox written, in three transactions: two copies of
//! a message both find nothing and both work.

use redeliver_sim::fault::Kind;

use super::naive::Naive;
use super::ports::shipped_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::policy::Policy;
use redeliver_core::ports::{Settlement, Store, Tx, World};
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::{Consumer, Failure};
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "check-then-set",
    class: "check-then-set idempotency",
    change: "a consumer that reads the inbox, works, and writes the inbox, each in a transaction",
    report: "zonelessdev/zoneless#134",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Repeats],
    scenario: || {
        scenario::<Orders>("check-then-set", |s| {
            s.rules = vec![fault(Kind::DuplicatePublish, 50, "relay")];
        })
    },
    planted: on::<Orders, CheckThenSet>,
    build: Altered::of::<CheckThenSet>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckThenSet;

impl Build for CheckThenSet {
    shipped_ports!();

    async fn consumer(
        self,
        world: WorldOf<Self>,
        consumer: Consumer<WorldOf<Self>>,
        policy: Policy,
    ) {
        let naive = Naive::new(world, consumer, policy);
        naive
            .settle_each(async |delivery, event| {
                match unless_done(&naive, event, delivery.attempt).await {
                    Ok(()) => Settlement::Done,
                    Err(failure) => naive.after(delivery, event, &failure),
                }
            })
            .await;
    }
}

async fn unless_done<W: World>(
    naive: &Naive<W>,
    event: &Event,
    attempt: u32,
) -> Result<(), Failure> {
    let row = read(naive, event, attempt, |_| {}).await?;
    if matches!(row.state, InboxState::Done { .. }) {
        return Ok(());
    }
    naive.work(event, attempt).await?.commit().await?;
    let done = |row: &mut InboxRow| {
        row.state = InboxState::Done {
            result: bytes::Bytes::new(),
        }
    };
    read(naive, event, attempt, done).await?;
    Ok(())
}

/// The inbox row, changed, in a transaction of its own.
async fn read<W: World>(
    naive: &Naive<W>,
    event: &Event,
    attempt: u32,
    change: impl FnOnce(&mut InboxRow),
) -> Result<InboxRow, Failure> {
    let mut tx = naive
        .world
        .store()
        .begin(naive.scope(event, attempt))
        .await?;
    let consumer = naive.consumer.name();
    let mut row = tx.inbox_open(consumer, &event.idempotency_key).await?;
    change(&mut row);
    tx.inbox_save(&row).await?;
    tx.commit().await?;
    Ok(row)
}
