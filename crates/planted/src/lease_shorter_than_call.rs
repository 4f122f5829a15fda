//! A claim ends while its holder still works: another worker takes the same work up.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::shipped_ports;
use super::{Need, Plant, fault, forgetful_payments, on, scenario, shipped};
use redeliver_core::policy::Policy;
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::consumer::Runner;
use redeliver_pipeline::handler::Consumer;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "lease-shorter-than-call",
    class: "lease shorter than the run",
    change: "a consumer whose claims last two seconds, whatever the policy says",
    report: "celery/kombu#337",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Claim],
    scenario: || {
        scenario::<Orders>("lease-shorter-than-call", |s| {
            s.services = vec![forgetful_payments()];
            s.rules = vec![fault(Kind::DuplicatePublish, 50, "relay")];
        })
    },
    planted: on::<Orders, LeaseShorterThanCall>,
    build: Altered::of::<LeaseShorterThanCall>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseShorterThanCall;

impl Build for LeaseShorterThanCall {
    shipped_ports!();

    async fn consumer(
        self,
        world: WorldOf<Self>,
        consumer: Consumer<WorldOf<Self>>,
        mut policy: Policy,
    ) {
        policy.consumer.lease = Duration::from_secs(2);
        Runner::new(world, consumer, policy).run().await;
    }
}
