//! A dead letter is published and the ack of the original is lost: what comes back is buried once more,
//! with another story.

use redeliver_sim::fault::Kind;

use super::naive::{Naive, naive_consumer};
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::event::Event;
use redeliver_core::ports::{Delivery, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "letter-twice",
    class: "dead letter published, ack lost",
    change: "a consumer that does not know what it has buried",
    report: "Shuttle/shuttle-esb#32",
    anomalies: &[AnomalyKind::Misfiled],
    checkers: &["misfiled"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("letter-twice", |s| {
            s.worker_processes = 1;
            s.poison.poison = 2;
            s.rules = vec![fault(Kind::LostAck, 50, "charge-card")];
        })
    },
    planted: on::<Orders, LetterTwice>,
    build: Altered::of::<LetterTwice>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LetterTwice;

impl Build for LetterTwice {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let key = &event.idempotency_key;
        let done = naive.once(event, delivery.attempt, key).await;
        naive.judge(delivery, event, done)
    };
    naive.settle_each(handle).await;
}
