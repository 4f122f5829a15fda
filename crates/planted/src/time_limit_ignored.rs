//! Retries have a limit in number and one in time, and only the number is looked at.

use std::time::Duration;

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
    name: "time-limit-ignored",
    class: "retry budget of only one of count and time",
    change: "a consumer that is given a total time without end",
    report: "laravel/framework#27832",
    anomalies: &[AnomalyKind::OverRetried],
    checkers: &["over_retried"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("time-limit-ignored", |s| {
            s.policy.retry.first = Duration::from_secs(4);
            s.policy.retry.total = Duration::from_secs(5);
            s.worker_processes = 1;
            s.rules = vec![fault(Kind::ServiceFails, 60, "charge-card")];
        })
    },
    planted: on::<Orders, TimeLimitIgnored>,
    build: Altered::of::<TimeLimitIgnored>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeLimitIgnored;

impl Build for TimeLimitIgnored {
    shipped_ports!();

    async fn consumer(
        self,
        world: WorldOf<Self>,
        consumer: Consumer<WorldOf<Self>>,
        mut policy: Policy,
    ) {
        policy.retry.total = Duration::from_secs(30 * 24 * 3600);
        Runner::new(world, consumer, policy).run().await;
    }
}
