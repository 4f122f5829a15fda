//! A message is acked as soon as it is received: what its process does not finish is gone.

use redeliver_sim::fault::{Kind, Seam};

use super::naive::Naive;
use super::ports::shipped_ports;
use super::{Plant, fault_at, on, scenario, shipped};
use redeliver_core::policy::Policy;
use redeliver_core::ports::{Receiver, Settlement, Tx};
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Consumer;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "ack-before-commit",
    class: "ack before the effect is durable",
    change: "a consumer that acks on receipt, then works",
    report: "celery/celery#1628",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("ack-before-commit", |s| {
            let worker = "reserve-inventory";
            s.rules = vec![fault_at(Seam::Commit, Kind::Crash, 20, worker)];
        })
    },
    planted: on::<Orders, AckBeforeCommit>,
    build: Altered::of::<AckBeforeCommit>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AckBeforeCommit;

impl Build for AckBeforeCommit {
    shipped_ports!();

    async fn consumer(
        self,
        world: WorldOf<Self>,
        consumer: Consumer<WorldOf<Self>>,
        policy: Policy,
    ) {
        let naive = Naive::new(world, consumer, policy);
        naive
            .each(async |mail, delivery| {
                mail.settle(delivery, Settlement::Done).await?;
                if let Ok(event) = &delivery.event
                    && let Ok(tx) = naive.work(event, delivery.attempt).await
                {
                    tx.commit().await.ok();
                }
                Ok(())
            })
            .await;
    }
}
