//! The checkers: one promise, one file.
//!
//! A checker sees the history and the final reading, never the world. Most of them speak only
//! about a run that has healed and settled: before that a recovery and a loss look the same.

use std::sync::Arc;

use crate::harness::history::History;
use crate::harness::reading::FinalReading;
use crate::harness::verdict::Anomaly;
use crate::pipeline::policy::Policy;
use crate::pipeline::topology::Topology;

/// Everything that a checker may look at.
#[derive(Debug)]
pub struct View<'a> {
    /// What clients saw.
    pub history: &'a History,
    /// What stands at the end.
    pub reading: &'a FinalReading,
    /// Who should have got what.
    pub topology: &'a Topology,
    /// The numbers that bound retries and in-flight work.
    pub policy: &'a Policy,
    /// The legal transitions of the workload's workflows: from, to. Empty where it has none.
    pub transitions: &'a [(&'static str, &'static str)],
    /// States in which a workflow may end. Empty where it has none.
    pub final_states: &'a [&'static str],
    /// Keys of messages that the scenario made poisonous: they must end in the dead letters.
    pub poison: &'a [Arc<str>],
    /// Malformed messages that the scenario published: so many dead letters without an event.
    pub malformed: u64,
    /// Whether the run came to rest within its bound: nothing was left to do.
    pub settled: bool,
}

/// One promise.
pub trait Checker: Sync {
    /// Its name in reports.
    fn name(&self) -> &'static str;
    /// Every place where the promise was broken.
    fn check(&self, view: &View<'_>) -> Vec<Anomaly>;
}

/// Everything that any checker has to say.
pub fn check_all(view: &View<'_>) -> Vec<Anomaly> {
    all().iter().flat_map(|checker| checker.check(view)).collect()
}

/// All checkers.
pub fn all() -> &'static [&'static dyn Checker] {
    &[]
}
