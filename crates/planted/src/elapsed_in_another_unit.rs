//! The time since the first failure is counted in another unit than its limit: retries end long before
//! their time is over, and the letter says that it was.

use std::time::Duration;

use super::naive::{Naive, naive_consumer};
use super::{Plant, on, scenario, shipped};
use redeliver_core::dead_letter::Reason;
use redeliver_core::event::Event;
use redeliver_core::ports::{Delivery, Settlement, Timestamp, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Failure;
use redeliver_workloads::Orders;

/// So many of one unit make one of the other.
const FACTOR: u32 = 60;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "elapsed-in-another-unit",
    class: "a limit in minutes held against a time in seconds",
    change: "a consumer to which a second is a minute of its retry budget",
    report: "laravel/framework#27832",
    anomalies: &[AnomalyKind::Misfiled],
    checkers: &["misfiled"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("elapsed-in-another-unit", |s| {
            s.poison.transient = 1;
            s.policy.retry.attempts = 100;
            s.policy.retry.total = Duration::from_secs(600);
            s.policy.retry.cap = Duration::from_secs(10);
        })
    },
    planted: on::<Orders, ElapsedInAnotherUnit>,
    build: Altered::of::<ElapsedInAnotherUnit>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ElapsedInAnotherUnit;

impl Build for ElapsedInAnotherUnit {
    naive_consumer!(run);
}

async fn run<W: World>(naive: Naive<W>) {
    let handle = async |delivery: &Delivery, event: &Event| {
        let key = &event.idempotency_key;
        let done = naive.once(event, delivery.attempt, key).await;
        match (naive.judge(delivery, event, done), delivery.first_failure) {
            (Settlement::RetryAfter { .. }, Some(first)) if is_over(&naive, first) => {
                let failure = Failure::transient("spoiled", "its time is over");
                let buried = naive.bury(delivery, Reason::TimeExhausted, &failure);
                let Settlement::DeadLetter(mut story) = buried else {
                    return buried;
                };
                let told = story.last_failure.since(first) * FACTOR;
                let told = i64::try_from(told.as_micros()).unwrap_or(i64::MAX);
                let began = story.last_failure.micros() - told;
                story.first_failure = Timestamp::from_micros(began);
                Settlement::DeadLetter(story)
            }
            (settlement, _) => settlement,
        }
    };
    naive.settle_each(handle).await;
}

fn is_over<W: World>(naive: &Naive<W>, first: Timestamp) -> bool {
    use redeliver_core::ports::Env;
    let passed = naive.world.env().now().since(first) * FACTOR;
    passed > naive.policy.retry.total
}
