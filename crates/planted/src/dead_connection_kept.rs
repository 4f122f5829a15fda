//! A publisher opens its connection at the start and keeps it: that it has died nobody is told.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::naive::{claimed, give_back, mark};
use super::ports::shipped_ports;
use super::{Plant, fault, on, scenario, shipped};
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{Env, PublishOutcome, Publisher, Transport, World};
use redeliver_harness::run::assembly::{Altered, Build, WorldOf};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "dead-connection-kept",
    class: "no notification of channel death",
    change: "a relay that never opens a second connection",
    report: "amqp-rs/lapin#371",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["stuck"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("dead-connection-kept", |s| {
            s.relays = 1;
            s.rules = vec![fault(Kind::LostPublish, 10, "relay")];
            s.settle = Some(Duration::from_secs(600));
        })
    },
    planted: on::<Orders, DeadConnectionKept>,
    build: Altered::of::<DeadConnectionKept>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadConnectionKept;

impl Build for DeadConnectionKept {
    shipped_ports!();

    async fn relay(self, world: WorldOf<Self>, policy: RelayPolicy) {
        let mut publisher = loop {
            match world.transport().publisher("relay").await {
                Ok(publisher) => break publisher,
                Err(_) => world.env().sleep(policy.poll).await,
            }
        };
        loop {
            for row in claimed(&world, &policy).await {
                let batch = std::slice::from_ref(&row.outgoing);
                let outcomes = publisher.publish(batch, policy.confirm_timeout).await;
                match outcomes == [PublishOutcome::Confirmed] {
                    true => mark(&world, &row).await,
                    false => give_back(&world, &policy, &row).await,
                }
            }
            world.env().sleep(policy.poll).await;
        }
    }
}
