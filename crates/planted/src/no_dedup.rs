//! A right consumer but for its memory: it commits, then acks, retries by the policy, and takes
//! every copy of a message for a new one.

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
    name: "no-dedup",
    class: "no memory of what is done: a republished message takes effect again",
    change: "a consumer without an inbox",
    report: "Particular/docs.particular.net#1816",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Repeats],
    scenario: || {
        scenario::<Orders>("no-dedup", |s| {
            s.rules = vec![fault(Kind::LostConfirm, 20, "relay")];
        })
    },
    planted: on::<Orders, NoDedup>,
    build: Altered::of::<NoDedup>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDedup;

impl Build for NoDedup {
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
                    Err(failure) => naive.after(delivery, event, &failure),
                },
            )
            .await;
    }
}
