//! The checkers: one promise, one file.
//!
//! A checker sees the history and the final reading, never the world. Most of them speak only
//! about a run that has healed and settled: before that a recovery and a loss look the same.
//!
//! What all of them share is read once, into an [`Index`]: who should have got what, what was
//! done for it, and which of the commits in doubt did happen.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::verdict::Anomaly;
use crate::watch::history::History;
use crate::watch::reading::FinalReading;
use redeliver_core::policy::Policy;
use redeliver_core::topology::Topology;
use redeliver_sim::Beside;

pub(crate) mod across;
pub mod balance;
pub mod beside;
pub mod dead_letters;
pub mod deliveries;
pub mod duplicated;
pub mod effect_without_event;
pub mod fencing;
pub mod in_flight;
pub mod index;
pub mod leaked;
pub mod lineage;
pub mod lost;
pub mod order;
pub mod retries;
mod rules;
mod say;
pub mod starved;
pub mod stuck;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
pub mod transitions;

pub use index::Index;

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
    /// Processes of each consumer.
    pub processes: u32,
    /// When faults were at work, planned poison that kills among them: from when until when, in
    /// nanoseconds since the start of the run.
    pub disturbed: &'a [(u64, u64)],
    /// Rows that runs of handlers have inserted beside their transactions, where that can be seen.
    pub beside: &'a [Beside],
    /// What other parts of the run have shown, where this is one of several.
    pub elsewhere: Option<&'a Elsewhere>,
    /// When the run's last entry was made, in nanoseconds since its start.
    pub until: u64,
    /// Whether the run came to rest within its bound: nothing was left to do.
    pub settled: bool,
    /// Whether it was ended from outside before its bound was over.
    pub stopped: bool,
}

/// What is known from all of a run that is judged in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Those that have run handlers.
    pub ran: BTreeSet<Arc<str>>,
    /// Those that have saved rows in an inbox.
    pub keep_inboxes: BTreeSet<Arc<str>>,
    /// Tables of which the reading shows rows.
    pub tables: BTreeSet<Arc<str>>,
}

/// One promise.
pub trait Checker: Sync {
    /// Its name in reports.
    fn name(&self) -> &'static str;
    /// Every place where the promise was broken. `index` was built from `view`.
    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly>;
    /// Whether it counts or compares messages that have nothing to do with each other: of a run that
    /// is judged in parts it judges the whole.
    fn spans_parts(&self) -> bool {
        false
    }
}

/// All promises, in the order of reports.
pub fn all() -> &'static [&'static dyn Checker] {
    &[
        &lost::Lost,
        &duplicated::Duplicated,
        &beside::Besides,
        &effect_without_event::EffectWithoutEvent,
        &order::Order,
        &transitions::Transitions,
        &retries::Retries,
        &deliveries::Deliveries,
        &dead_letters::DeadLetters,
        &in_flight::InFlight,
        &fencing::Fencing,
        &leaked::Leaked,
        &lineage::Lineage,
        &balance::Balance,
        &stuck::Stuck,
        &starved::Starved,
    ]
}

/// Everything that any checker has to say.
pub fn check_all(view: &View<'_>) -> Vec<Anomaly> {
    check(view, &Index::new(view))
}

/// The same, by an index that was built from this view.
pub fn check(view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
    all()
        .iter()
        .flat_map(|checker| checker.check(view, index))
        .collect()
}
