//! Rows are marked as published under a key that matches none of them, and nobody looks at how many
//! were: all of them are sent again with every sweep.

use std::time::Duration;

use super::ports::bent_ports;
use super::{Plant, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Orders;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "mark-matches-nothing",
    class: "the outbox never empties",
    change: "a store that marks no row and reports no error",
    report: "JasperFx/wolverine#2361",
    anomalies: &[AnomalyKind::Stuck],
    checkers: &["stuck"],
    needs: &[],
    scenario: || {
        scenario::<Orders>("mark-matches-nothing", |s| {
            s.settle = Some(Duration::from_secs(300));
        })
    },
    planted: on::<Orders, MarkMatchesNothing>,
    build: Altered::of::<MarkMatchesNothing>,
    shipped: shipped::<Orders>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MarkMatchesNothing;

impl Build for MarkMatchesNothing {
    bent_ports!(|_: &SimPorts| Unmarked);
}

#[derive(Debug)]
struct Unmarked;

impl Bend for Unmarked {
    fn marks(&self) -> bool {
        false
    }
}
