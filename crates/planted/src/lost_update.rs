//! A row is read, changed in memory and written back, without a lock and without a look at its
//! version: of two changes at a time one is gone.

use std::time::Duration;

use redeliver_sim::fault::{Kind, Seam};

use super::ports::bent_ports;
use super::{Need, Plant, fault_at, on, scenario, shipped};
use redeliver_harness::run::assembly::bend::Bend;
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::verdict::AnomalyKind;
use redeliver_workloads::Onboarding;

/// The bug with the scenario and the anomaly that show it.
pub const PLANT: Plant = Plant {
    name: "lost-update",
    class: "a write over newer state",
    change: "a store that neither locks nor compares versions",
    report: "KanishJebaMathewM/Truxify#9488",
    anomalies: &[
        AnomalyKind::Lost,
        AnomalyKind::Stuck,
        AnomalyKind::Invariant,
        AnomalyKind::Duplicated,
    ],
    checkers: &["onboarding", "transitions"],
    needs: &[Need::LockedRow],
    scenario: || {
        scenario::<Onboarding>("lost-update", |s| {
            s.messages = 30;
            s.over = Duration::from_secs(3);
            s.rules = vec![fault_at(
                Seam::Statement,
                Kind::SlowStatement,
                10,
                "onboarding",
            )];
        })
    },
    planted: on::<Onboarding, LostUpdate>,
    build: Altered::of::<LostUpdate>,
    shipped: shipped::<Onboarding>,
};

/// The shipped pipeline with this bug in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LostUpdate;

impl Build for LostUpdate {
    bent_ports!(|_: &SimPorts| LastOneWins);
}

#[derive(Debug)]
struct LastOneWins;

impl Bend for LastOneWins {
    fn locks(&self) -> bool {
        false
    }
}
