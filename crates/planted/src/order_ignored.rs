//! Each message is done once and in its own transaction, whatever its number: one that failed is
//! overtaken by its followers.

use redeliver_sim::fault::Kind;

use super::naive::Naive;
use super::ports::shipped_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::inbox::InboxState;
use redeliver_core::policy::Policy;
use redeliver_core::ports::{Settlement, Store, Tx, World};
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::{Consumer, Failure};
use redeliver_workloads::Deposits;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "order-ignored",
    class: "a late event is applied after newer ones; idempotency does not help",
    change: "a consumer with an inbox that does not look at the number of an ordered event",
    report: "KanishJebaMathewM/Truxify#9488",
    anomalies: &[AnomalyKind::Reordered],
    checkers: &["reordered"],
    needs: &[Need::Order],
    scenario: || {
        scenario::<Deposits>("order-ignored", |s| {
            s.messages = 30;
            s.rules = vec![fault(Kind::Abort, 5, "ledger")];
        })
    },
    planted: on::<Deposits, OrderIgnored>,
    build: Altered::of::<OrderIgnored>,
    shipped: shipped::<Deposits>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct OrderIgnored;

impl Build for OrderIgnored {
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
                match once(&naive, event, delivery.attempt).await {
                    Ok(()) => Settlement::Done,
                    Err(failure) => naive.after(delivery, event, &failure),
                }
            })
            .await;
    }
}

async fn once<W: World>(naive: &Naive<W>, event: &Event, attempt: u32) -> Result<(), Failure> {
    let answer = naive.call(event, attempt).await?;
    let mut tx = naive
        .world
        .store()
        .begin(naive.scope(event, attempt))
        .await?;
    let consumer = naive.consumer.name();
    let mut row = tx.inbox_open(consumer, &event.idempotency_key).await?;
    if matches!(row.state, InboxState::Done { .. }) {
        tx.rollback().await;
        return Ok(());
    }
    naive.apply(event, attempt, answer, &mut tx).await?;
    row.state = InboxState::Done {
        result: bytes::Bytes::new(),
    };
    tx.inbox_save(&row).await?;
    Ok(tx.commit().await?)
}
