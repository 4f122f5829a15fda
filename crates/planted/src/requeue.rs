//! What fails goes back to the queue at once and is not counted: one message that can never be
//! handled keeps everybody busy.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::naive::Naive;
use super::ports::shipped_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::policy::Policy;
use redeliver_core::ports::{Env, Settlement, World};
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Consumer;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "requeue",
    class: "nack and requeue without a cap",
    change: "a consumer that puts what failed back as the same attempt, without a wait",
    report: "symfony/symfony#34107",
    anomalies: &[AnomalyKind::OverRetried, AnomalyKind::Stuck],
    checkers: &["over_retried"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("requeue", |s| {
            s.poison.poison = 1;
            s.rules = vec![fault(Kind::ServiceFails, 20, "charge-card")];
            s.settle = Some(Duration::from_secs(300));
        })
    },
    planted: on::<Orders, Requeue>,
    build: Altered::of::<Requeue>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requeue;

impl Build for Requeue {
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
                    Err(_) => Settlement::RetryAfter {
                        delay: Duration::ZERO,
                        attempt: delivery.attempt,
                        first_failure: naive.world.env().now(),
                    },
                },
            )
            .await;
    }
}
