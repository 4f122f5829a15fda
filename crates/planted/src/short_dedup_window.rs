//! Inbox rows are removed as soon as their work is done: a copy that comes late is new again.

use std::time::Duration;

use redeliver_sim::fault::Kind;

use super::ports::bent_ports;
use super::{Need, Plant, fault, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "short-dedup-window",
    class: "dedup window shorter than the redelivery horizon",
    change: "a store that removes ended inbox rows after a second, whatever age it is told",
    report: "Particular/docs.particular.net#3552",
    anomalies: &[AnomalyKind::Duplicated],
    checkers: &["duplicated"],
    needs: &[Need::Repeats],
    scenario: || {
        scenario::<Orders>("short-dedup-window", |s| {
            s.policy.consumer.purge_every = Duration::from_secs(2);
            s.policy.relay.backoff = Duration::from_secs(20);
            s.rules = vec![fault(Kind::LostConfirm, 20, "relay")];
        })
    },
    planted: on::<Orders, ShortDedupWindow>,
    build: Altered::of::<ShortDedupWindow>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShortDedupWindow;

impl Build for ShortDedupWindow {
    bent_ports!(|_: &SimPorts| Forgetful);
}

#[derive(Debug)]
struct Forgetful;

impl Bend for Forgetful {
    fn purge_age(&self, _: Duration) -> Duration {
        Duration::from_secs(1)
    }
}
