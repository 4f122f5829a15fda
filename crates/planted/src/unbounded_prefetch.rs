//! Takes whatever the queue gives and starts a task for each: when the broker takes the messages
//! back, or the process dies, all of them are begun again.

use std::sync::Arc;

use super::naive::Naive;
use super::ports::shipped_ports;
use super::{Plant, on, scenario, shipped};
use redeliver_core::policy::Policy;
use redeliver_core::ports::{Env, Receiver, Settlement, Tx, World};
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::{Consumer, Failure};
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "unbounded-prefetch",
    class: "no bound on the work in hand: a closed channel requeues all of it",
    change: "a consumer with a task for each delivery and a prefetch far above the policy's",
    report: "ruby-amqp/hutch#364",
    anomalies: &[AnomalyKind::Invariant],
    checkers: &["in_flight"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("unbounded-prefetch", |s| {
            s.messages = 40;
            s.worker_processes = 1;
            s.policy.consumer.workers = 2;
            s.policy.consumer.prefetch = 2;
            s.over = std::time::Duration::from_secs(1);
        })
    },
    planted: on::<Orders, UnboundedPrefetch>,
    build: Altered::of::<UnboundedPrefetch>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnboundedPrefetch;

impl Build for UnboundedPrefetch {
    shipped_ports!();

    async fn consumer(
        self,
        world: WorldOf<Self>,
        consumer: Consumer<WorldOf<Self>>,
        policy: Policy,
    ) {
        let naive = Arc::new(Naive::new(world, consumer, policy));
        loop {
            let mail = naive.subscribe(1_000).await;
            while let Ok(delivery) = mail.receive().await {
                let (naive, mail) = (naive.clone(), mail.clone());
                naive.clone().world.env().spawn("delivery", async move {
                    let Ok(event) = &delivery.event else { return };
                    let done = async {
                        let tx = naive.work(event, delivery.attempt).await?;
                        Ok::<(), Failure>(tx.commit().await?)
                    };
                    let settlement = match done.await {
                        Ok(()) => Settlement::Done,
                        Err(failure) => naive.after(&delivery, event, &failure),
                    };
                    mail.settle(&delivery, settlement).await.ok();
                });
            }
            mail.close().await;
        }
    }
}
