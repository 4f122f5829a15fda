//! Events are published as they come, inside the transaction: if that does not commit, something
//! was announced that never happened.

use redeliver_sim::fault::{Kind, Seam};

use super::dual_write::send;
use super::ports::bent_ports;
use super::{Plant, fault_at, on, scenario, shipped};
use redeliver_core::event::Outgoing;
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts, SimTransport};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Boxed;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "publish-before-commit",
    class: "publish inside an open transaction",
    change: "a store that publishes an event when it is emitted",
    report: "n8n-io/n8n#24050",
    anomalies: &[AnomalyKind::EffectWithoutEvent],
    checkers: &["effect_without_event"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("publish-before-commit", |s| {
            s.rules = vec![fault_at(Seam::Commit, Kind::Crash, 20, "client")];
        })
    },
    planted: on::<Orders, PublishBeforeCommit>,
    build: Altered::of::<PublishBeforeCommit>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishBeforeCommit;

impl Build for PublishBeforeCommit {
    bent_ports!(|bare: &SimPorts| AtOnce(bare.transport.clone()));
}

#[derive(Debug)]
struct AtOnce(SimTransport);

impl Bend for AtOnce {
    fn emit<'a>(&'a self, event: &'a Outgoing) -> Boxed<'a, bool> {
        Box::pin(async move {
            send(&self.0, vec![event.clone()]).await;
            true
        })
    }
}
