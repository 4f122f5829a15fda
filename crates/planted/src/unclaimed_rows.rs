//! Relays read what is unpublished and do not claim it: two that look at the same moment send the
//! same rows, and the consumers have no memory.

use super::naive::{Naive, mark, naive_consumer, naive_relay, published};
use super::{Need, Plant, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::outbox::{ClaimedRow, OutboxRow};
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{Delivery, PublishOutcome, Store, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "unclaimed-rows",
    class: "two relays fetch the same rows",
    change: "relays that publish without a claim, before consumers without an inbox",
    report: "dotnetcore/CAP#1257",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Repeats],
    scenario: || {
        scenario::<Orders>("unclaimed-rows", |s| {
            s.relays = 3;
        })
    },
    planted: on::<Orders, UnclaimedRows>,
    build: Altered::of::<UnclaimedRows>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnclaimedRows;

impl Build for UnclaimedRows {
    naive_consumer!(run);

    naive_relay!(round);
}

async fn round<W: World>(world: &W, policy: &RelayPolicy) {
    let Ok(reading) = world.store().read_all().await else {
        return;
    };
    let unpublished = |row: &OutboxRow| row.published_at.is_none();
    for row in reading.outbox.into_iter().filter(unpublished) {
        let row = ClaimedRow {
            id: row.id,
            token: 0,
            failures: 0,
            outgoing: row.outgoing,
        };
        let outcomes = published(world, policy, std::slice::from_ref(&row)).await;
        if outcomes == [PublishOutcome::Confirmed] {
            mark(world, &row).await;
        }
    }
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let done = naive.done(event, delivery.attempt).await;
        naive.judge(delivery, event, done)
    };
    naive.settle_each(handle).await;
}
