//! A publish that got no answer is tried again under a new message id, by which consumers know what
//! they have done.

use std::sync::Arc;

use redeliver_sim::fault::Kind;

use super::naive::{Naive, claimed, give_back, mark, naive_consumer, naive_relay, published};
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{Delivery, EnvExt, PublishOutcome, Scope, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "new-id-per-publish",
    class: "a new id per publish attempt",
    change: "a relay that makes a new id for a second try, and consumers that go by that id",
    report: "pragmaticalabs/pragmatica#1237",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("new-id-per-publish", |s| {
            s.rules = vec![fault(Kind::LostConfirm, 20, "relay")];
        })
    },
    planted: on::<Orders, NewIdPerPublish>,
    build: Altered::of::<NewIdPerPublish>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewIdPerPublish;

impl Build for NewIdPerPublish {
    naive_consumer!(run);

    naive_relay!(round);
}

async fn round<W: World>(world: &W, policy: &RelayPolicy) {
    for mut row in claimed(world, policy).await {
        if row.failures > 0 {
            let subject = row.outgoing.event.idempotency_key.clone();
            let scope = Scope {
                consumer: "relay",
                subject: &subject,
                attempt: row.failures,
            };
            Arc::make_mut(&mut row.outgoing.event).id = world.env().uuid(scope);
        }
        let outcomes = published(world, policy, std::slice::from_ref(&row)).await;
        match outcomes == [PublishOutcome::Confirmed] {
            true => mark(world, &row).await,
            false => give_back(world, policy, &row).await,
        }
    }
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let id = event.id.to_string();
        let done = naive.once(event, delivery.attempt, &id).await;
        naive.judge(delivery, event, done)
    };
    naive.settle_each(handle).await;
}
