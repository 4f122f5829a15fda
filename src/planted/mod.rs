//! Bugs planted on purpose: they prove that the checkers see what they are there to see.
//!
//! Each stands in a file of its own, is made from public ports only, and follows a report of a
//! real project: a port that is bent in one place ([`bend`](mod@bend)), or a naive relay or
//! consumer in place of the shipped one. Nothing in the pipeline knows of them. With each goes the
//! smallest scenario that shows it, under which the shipped pipeline holds.

use std::fmt;
use std::time::Duration;

use redeliver_sim::choice::Ppm;
use redeliver_sim::fault::{Kind, Rule, Seam};

use crate::harness::build::{Build, Shipped};
use crate::harness::explore::Target;
use crate::harness::run::RunResult;
use crate::harness::scenario::Scenario;
use crate::harness::simulate::simulate_built;
use crate::harness::verdict::{Anomaly, AnomalyKind};
use crate::harness::workload::Workload;

pub mod bend;
mod naive;

pub mod ack_before_commit;
pub mod attempts_in_memory;
pub mod check_then_set;
pub mod cursor;
pub mod dual_write;
pub mod failed_head;
pub mod forgotten_mandatory;
pub mod give_up_at_once;
pub mod kept_claim;
pub mod mark_before_confirm;
pub mod no_dedup;
pub mod no_fence;
pub mod order_ignored;
pub mod publish_before_commit;
pub mod requeue;
pub mod retry_at_once;
pub mod short_dedup_window;
pub mod stranded_claim;
pub mod swallow;
pub mod unbounded_prefetch;
pub mod unconfirmed_letter;

/// A planted bug.
#[derive(Clone, Copy)]
pub struct Plant {
    /// Its name.
    pub name: &'static str,
    /// The class of bugs that it stands for.
    pub class: &'static str,
    /// What it changes about a run.
    pub change: &'static str,
    /// A report of a real project that had it.
    pub report: &'static str,
    /// What it does to a workflow: at least one of these has to be found.
    pub anomalies: &'static [AnomalyKind],
    /// By one of these checkers.
    pub checkers: &'static [&'static str],
    /// The smallest faults that show it.
    pub scenario: fn() -> Scenario,
    /// Runs a scenario with the bug: seed, and whether to keep the trace.
    pub planted: fn(&Scenario, u64, bool) -> RunResult,
    /// Runs the same workload on the shipped pipeline.
    pub shipped: fn(&Scenario, u64, bool) -> RunResult,
}

impl fmt::Debug for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plant")
            .field("name", &self.name)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl Plant {
    /// Whether a run shows the bug: an expected anomaly, found by an expected checker.
    pub fn is_shown_by(&self, run: &RunResult) -> bool {
        self.target(run).is_some()
    }

    /// The anomaly by which a run shows the bug.
    pub fn target(&self, run: &RunResult) -> Option<Target> {
        let expected = |found: &&Anomaly| {
            self.anomalies.contains(&found.kind) && self.checkers.contains(&found.checker)
        };
        run.anomalies.iter().find(expected).map(Target::of)
    }
}

/// All planted bugs, by name.
pub const ALL: &[Plant] = &[
    ack_before_commit::PLANT,
    attempts_in_memory::PLANT,
    check_then_set::PLANT,
    cursor::PLANT,
    dual_write::PLANT,
    failed_head::PLANT,
    forgotten_mandatory::PLANT,
    give_up_at_once::PLANT,
    kept_claim::PLANT,
    mark_before_confirm::PLANT,
    no_dedup::PLANT,
    no_fence::PLANT,
    order_ignored::PLANT,
    publish_before_commit::PLANT,
    requeue::PLANT,
    retry_at_once::PLANT,
    short_dedup_window::PLANT,
    stranded_claim::PLANT,
    swallow::PLANT,
    unbounded_prefetch::PLANT,
    unconfirmed_letter::PLANT,
];

/// Runs a workload on a build.
fn on<L: Workload + Default, B: Build + Default>(
    scenario: &Scenario,
    seed: u64,
    record: bool,
) -> RunResult {
    simulate_built(&B::default(), &L::default(), scenario, seed, record)
}

/// Runs a workload on the shipped pipeline.
fn shipped<L: Workload + Default>(scenario: &Scenario, seed: u64, record: bool) -> RunResult {
    on::<L, Shipped>(scenario, seed, record)
}

/// A small scenario in which faults strike for 40 s, with what `change` adds.
fn scenario<L: Workload>(name: &str, change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = Scenario::new(name, L::NAME);
    scenario.messages = 8;
    scenario.over = Duration::from_secs(10);
    scenario.faults_until = Duration::from_secs(40);
    change(&mut scenario);
    scenario
}

/// A fault that strikes processes whose name starts so.
fn fault(kind: Kind, percent: Ppm, process: &str) -> Rule {
    Rule {
        process: Some(process.into()),
        ..Rule::new(kind, percent * 10_000)
    }
}

/// A fault of that kind at one seam only.
fn fault_at(seam: Seam, kind: Kind, percent: Ppm, process: &str) -> Rule {
    Rule {
        seam: Some(seam),
        ..fault(kind, percent, process)
    }
}
