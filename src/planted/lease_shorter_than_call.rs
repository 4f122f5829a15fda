//! A claim ends while its holder still works: another worker takes the same work up.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::shipped_ports;
use super::{Need, Plant, fault, forgetful_payments, on, scenario, shipped};
use crate::harness::build::{Altered, Build, WorldOf};
use crate::harness::verdict::AnomalyKind;
use crate::pipeline::consumer::Runner;
use crate::pipeline::handler::Consumer;
use crate::pipeline::policy::Policy;
use crate::workloads::Orders;

/// See the module.
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

/// See the module.
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
