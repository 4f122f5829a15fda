//! A run that is judged in parts: what only all parts together can say.
//!
//! A run that is too large for memory is divided so that all that one message's story needs lies in
//! one part. Most checkers then judge each part for itself. Those that
//! [span parts](Checker::spans_parts) count, or compare messages that have nothing to do with each
//! other: each part adds to what they need, and they judge at the end.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::starved::{self, Shifts, Wait};
use super::{Index, View, all, balance, stuck};
use crate::verdict::Anomaly;

/// What the parts of a run have shown so far.
#[derive(Debug, Default)]
pub(crate) struct Across {
    balance: balance::Sums,
    open: stuck::Open,
    /// By consumer.
    waits: Vec<Vec<Wait>>,
    shifts: Vec<Shifts<Arc<str>>>,
    /// Names of processes, each once.
    processes: BTreeSet<Arc<str>>,
}

impl Across {
    /// Judges a part by the checkers that can, and adds what the others need.
    pub(crate) fn part(&mut self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        self.balance.add(index);
        self.open.add(view, index);
        if starved::can_tell(view.policy) {
            self.waits.resize_with(index.consumers.len(), Vec::new);
            for (consumer, waits) in self.waits.iter_mut().enumerate() {
                waits.extend(starved::waits(view, index, consumer));
            }
        }
        let own = all().iter().filter(|checker| !checker.spans_parts());
        own.flat_map(|checker| checker.check(view, index)).collect()
    }

    /// Whether all parts have to be shown [once more](Across::again).
    pub(crate) fn asks_again(&self) -> bool {
        self.waits.iter().any(|waits| !waits.is_empty())
    }

    /// Adds what workers did in a part.
    pub(crate) fn again(&mut self, view: &View<'_>, index: &Index<'_>) {
        self.shifts.resize_with(self.waits.len(), Shifts::default);
        for (consumer, shifts) in self.shifts.iter_mut().enumerate() {
            if !self.waits[consumer].is_empty() {
                let processes = &mut self.processes;
                shifts.add(view, index, consumer, |name| own(processes, name));
            }
        }
    }

    /// Judges all parts. `view` may be that of any of them.
    pub(crate) fn judge(self, view: &View<'_>) -> Vec<Anomaly> {
        let all = view.topology.subscriptions.iter();
        let consumers: Vec<&str> = all.map(|it| &*it.consumer).collect();
        let mut found = self.balance.judge(&consumers, view.settled);
        found.extend(self.open.judge());
        let waits = self.waits.into_iter().zip(self.shifts);
        for ((mut waits, shifts), consumer) in waits.zip(consumers) {
            waits.sort_by_key(|wait| wait.from);
            found.extend(starved::judge(view, (consumer, waits), shifts));
        }
        found
    }
}

fn own(known: &mut BTreeSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(name) = known.get(name) {
        return name.clone();
    }
    let name: Arc<str> = Arc::from(name);
    known.insert(name.clone());
    name
}
