//! Bytes that are no event go back to the queue: perhaps they can be read the next time.

use std::time::Duration;

use super::naive::{Naive, ReceiverOf, naive_consumer};
use super::{Plant, on, scenario, shipped};
use redeliver_core::ports::{Delivery, Receiver, Settlement, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "malformed-requeued",
    class: "unmarshal error, back to the head of the queue, again",
    change: "a consumer that puts back what it cannot read",
    report: "elixir-broadway/broadway_rabbitmq#73",
    anomalies: &[AnomalyKind::OverRetried],
    checkers: &["deliveries"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("malformed-requeued", |s| {
            s.poison.malformed = 1;
        })
    },
    planted: on::<Orders, MalformedRequeued>,
    build: Altered::of::<MalformedRequeued>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MalformedRequeued;

impl Build for MalformedRequeued {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |mail: &ReceiverOf<W>, delivery: &Delivery| {
        let settlement = match &delivery.event {
            Ok(event) => {
                let key = &event.idempotency_key;
                let done = naive.once(event, delivery.attempt, key).await;
                naive.judge(delivery, event, done)
            }
            Err(_) => {
                let delay = Duration::ZERO;
                Settlement::Park { delay }
            }
        };
        mail.settle(delivery, settlement).await
    };
    naive.each(handle).await;
}
