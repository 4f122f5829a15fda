//! What is done is remembered by the message alone: of two consumers of a fact only the first ever
//! works.

use std::sync::Arc;

use super::ports::bent_ports;
use super::{Need, Plant, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Onboarding;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "shared-dedup-key",
    class: "a dedup key that is too wide: work is silently discarded",
    change: "a store with one inbox for all consumers",
    report: "developerz-ai/wurk#218",
    anomalies: &[AnomalyKind::Lost],
    checkers: &["lost", "balance"],
    needs: &[Need::SharedFact],
    scenario: || {
        scenario::<Onboarding>("shared-dedup-key", |s| {
            s.messages = 4;
        })
    },
    planted: on::<Onboarding, SharedDedupKey>,
    build: Altered::of::<SharedDedupKey>,
    shipped: shipped::<Onboarding>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharedDedupKey;

impl Build for SharedDedupKey {
    bent_ports!(|_: &SimPorts| ForAll);
}

#[derive(Debug)]
struct ForAll;

impl Bend for ForAll {
    fn inbox_key(&self, _: &str, key: &str) -> (Arc<str>, Arc<str>) {
        ("all".into(), key.into())
    }
}
