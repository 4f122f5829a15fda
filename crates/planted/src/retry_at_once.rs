//! Attempts are counted and capped, but none waits for its time: when a service is down, every
//! message has used up its attempts before it is back.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::naive::Naive;
use super::ports::shipped_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::policy::Policy;
use redeliver_core::ports::Settlement;
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Consumer;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "retry-at-once",
    class: "retries without a wait",
    change: "a consumer that puts what failed back as its next attempt, without a wait",
    report: "elixir-broadway/broadway_rabbitmq#73",
    anomalies: &[AnomalyKind::OverRetried],
    checkers: &["over_retried"],
    needs: &[Need::Retries],
    scenario: || {
        scenario::<Orders>("retry-at-once", |s| {
            s.rules = vec![fault(Kind::ServiceFails, 30, "charge-card")];
        })
    },
    planted: on::<Orders, RetryAtOnce>,
    build: Altered::of::<RetryAtOnce>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetryAtOnce;

impl Build for RetryAtOnce {
    shipped_ports!();

    async fn consumer(
        self,
        world: WorldOf<Self>,
        consumer: Consumer<WorldOf<Self>>,
        policy: Policy,
    ) {
        let naive = Naive::new(world, consumer, policy);
        naive
            .settle_each(
                async |delivery, event| match naive.done(event, delivery.attempt).await {
                    Ok(()) => Settlement::Done,
                    Err(failure) => match naive.after(delivery, event, &failure) {
                        Settlement::RetryAfter {
                            attempt,
                            first_failure,
                            ..
                        } => Settlement::RetryAfter {
                            delay: Duration::ZERO,
                            attempt,
                            first_failure,
                        },
                        other => other,
                    },
                },
            )
            .await;
    }
}
