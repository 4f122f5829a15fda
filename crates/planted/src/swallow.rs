//! A failure is written to the log, and the message acked.

use redeliver_sim::fault::Kind;

use super::naive::Naive;
use super::ports::shipped_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::policy::Policy;
use redeliver_core::ports::Settlement;
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Consumer;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "swallow",
    class: "drop as ack: an error in the handler ends the message",
    change: "a consumer that acks what failed",
    report: "getsentry/taskbroker#25",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("swallow", |s| {
            s.rules = vec![fault(Kind::ServiceFails, 30, "charge-card")];
        })
    },
    planted: on::<Orders, Swallow>,
    build: Altered::of::<Swallow>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swallow;

impl Build for Swallow {
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
                    Err(failure) => {
                        tracing::warn!(%failure, "a message failed");
                        Settlement::Done
                    }
                },
            )
            .await;
    }
}
