//! There is no outbox: the transaction is committed, then its events are published. What fails
//! in between is committed and never heard of.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Plant, on, scenario, shipped};
use redeliver_core::event::Outgoing;
use redeliver_core::ports::{Publisher, Transport};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts, SimTransport};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_pipeline::handler::Boxed;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "dual-write",
    class: "the event is sent after the commit, from memory",
    change: "a store that keeps events from the outbox and publishes them after the commit",
    report: "opendefender/OpenRisk#344",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("dual-write", |s| {
            s.rules = vec![redeliver_sim::fault::Rule::new(Kind::LostPublish, 100_000)];
        })
    },
    planted: on::<Orders, DualWrite>,
    build: Altered::of::<DualWrite>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DualWrite;

impl Build for DualWrite {
    bent_ports!(|bare: &SimPorts| Afterwards(bare.transport.clone()));
}

#[derive(Debug)]
struct Afterwards(SimTransport);

impl Bend for Afterwards {
    fn emit<'a>(&'a self, _: &'a Outgoing) -> Boxed<'a, bool> {
        Box::pin(std::future::ready(true))
    }

    fn committed(&self, events: Vec<Outgoing>) -> Boxed<'_, ()> {
        Box::pin(send(&self.0, events))
    }
}

/// Publishes; a failure is nobody's business.
pub(super) async fn send(transport: &SimTransport, events: Vec<Outgoing>) {
    match transport.publisher("direct").await {
        Ok(mut publisher) => {
            let outcomes = publisher.publish(&events, Duration::from_secs(5)).await;
            tracing::debug!(?outcomes, "published");
        }
        Err(error) => tracing::warn!(%error, "an event was not published"),
    }
}
