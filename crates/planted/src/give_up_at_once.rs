//! The first failure sends a message to the dead letters, though attempts are left: the parts
//! that retry and that give up are wrapped in the wrong order.

use redeliver_sim::fault::Kind;

use super::naive::Naive;
use super::ports::shipped_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_core::dead_letter::Reason;
use redeliver_core::policy::Policy;
use redeliver_core::ports::Settlement;
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Consumer;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "give-up-at-once",
    class: "dead letter before the retries",
    change: "a consumer that buries at the first failure",
    report: "ThreeDotsLabs/watermill#580",
    anomalies: &[AnomalyKind::Misfiled],
    checkers: &["misfiled"],
    needs: &[Need::Retries],
    scenario: || {
        scenario::<Orders>("give-up-at-once", |s| {
            s.rules = vec![fault(Kind::ServiceFails, 30, "charge-card")];
        })
    },
    planted: on::<Orders, GiveUpAtOnce>,
    build: Altered::of::<GiveUpAtOnce>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct GiveUpAtOnce;

impl Build for GiveUpAtOnce {
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
                    Err(failure) => naive.bury(delivery, Reason::AttemptsExhausted, &failure),
                },
            )
            .await;
    }
}
