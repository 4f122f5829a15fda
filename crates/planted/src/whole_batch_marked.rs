//! A batch that was published in part is marked as a whole.

use redeliver_sim::fault::Kind;

use super::naive::{claimed, give_back, mark, naive_relay, published};
use super::ports::shipped_ports;
use super::{Need, Plant, event, on, scenario, shipped};
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{PublishOutcome, World};
use redeliver_harness::run::assembly::{Altered, Build};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "whole-batch-marked",
    class: "records the position of a batch regardless of failures in it",
    change: "a relay that marks a batch of which anything was confirmed",
    report: "linkedin/kafka-monitor#303",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[Need::TwoConsumers],
    scenario: || {
        scenario::<Orders>("whole-batch-marked", |s| {
            s.messages = 30;
            s.events = vec![event(Kind::UnboundQueue, 2, 20, "reserve-inventory")];
        })
    },
    planted: on::<Orders, WholeBatchMarked>,
    build: Altered::of::<WholeBatchMarked>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct WholeBatchMarked;

impl Build for WholeBatchMarked {
    shipped_ports!();

    naive_relay!(round);
}

async fn round<W: World>(world: &W, policy: &RelayPolicy) {
    let rows = claimed(world, policy).await;
    if rows.is_empty() {
        return;
    }
    let outcomes = published(world, policy, &rows).await;
    let sent = outcomes.contains(&PublishOutcome::Confirmed);
    for row in &rows {
        match sent {
            true => mark(world, row).await,
            false => give_back(world, policy, row).await,
        }
    }
}
