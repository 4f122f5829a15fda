//! Retries have a limit in number and one in time, and only the time is looked at.

use redeliver_sim::fault::Kind;

use super::ports::shipped_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::policy::Policy;
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::consumer::Runner;
use redeliver_pipeline::handler::Consumer;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "tries-ignored",
    class: "a time limit makes the number of tries ignored",
    change: "a consumer that is given a thousand attempts",
    report: "laravel/framework#15696",
    anomalies: &[AnomalyKind::OverRetried],
    checkers: &["over_retried"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("tries-ignored", |s| {
            s.policy.retry.attempts = 2;
            s.worker_processes = 1;
            s.rules = vec![fault(Kind::ServiceFails, 60, "charge-card")];
        })
    },
    planted: on::<Orders, TriesIgnored>,
    build: Altered::of::<TriesIgnored>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TriesIgnored;

impl Build for TriesIgnored {
    shipped_ports!();

    async fn consumer(
        self,
        world: WorldOf<Self>,
        consumer: Consumer<WorldOf<Self>>,
        mut policy: Policy,
    ) {
        policy.retry.attempts = 1_000;
        Runner::new(world, consumer, policy).run().await;
    }
}
