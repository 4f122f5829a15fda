//! The column for the idempotency key is too short, and the database cuts what does not fit: two
//! pieces of work become one.

use std::sync::Arc;

use super::ports::bent_ports;
use super::{Need, Plant, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "cut-dedup-key",
    class: "a dedup key that two requests share: the second is silently discarded",
    change: "a store that keeps the first 20 letters of a key",
    report: "zoolutions/sidekiq-unique-jobs#788",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[Need::AlikeKeys],
    scenario: || {
        scenario::<Orders>("cut-dedup-key", |s| {
            s.messages = 12;
        })
    },
    planted: on::<Orders, CutDedupKey>,
    build: Altered::of::<CutDedupKey>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct CutDedupKey;

impl Build for CutDedupKey {
    bent_ports!(|_: &SimPorts| ShortColumn);
}

#[derive(Debug)]
struct ShortColumn;

impl Bend for ShortColumn {
    fn inbox_key(&self, consumer: &str, key: &str) -> (Arc<str>, Arc<str>) {
        let cut: String = key.chars().take(super::survey::CUT).collect();
        (consumer.into(), cut.into())
    }
}
