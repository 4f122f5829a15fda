//! Work in hand is bounded.
//!
//! A subscription holds at most the prefetch of unsettled deliveries, and a process runs at most
//! as many handlers of a consumer at the same time as it has workers; a batch counts as one.
//!
//! **When it may be judged.** At any time.
//!
//! **What is legal.** Deliveries of a channel that is gone: their number is void, and channels are
//! numbered over all of a run. Handlers that died with their process. Where the policy itself has
//! a prefetch below the workers, a worker may get a delivery before the settlement that made room
//! for it is noted; so many more are allowed then.
//!
//! **What it cannot see.** Deliveries that the client library holds back and has not handed over.
//! Handler code that goes on after its run was dropped (a detached task).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use super::index::Index;
use super::say::{About, At, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::{Entry, What};
use redeliver_core::policy::ConsumerPolicy;
use redeliver_core::ports::Receipt;

const PROMISE: Promise = Promise {
    checker: "in_flight",
    kind: AnomalyKind::Invariant,
    text: "A process has no more deliveries in hand than its prefetch, nor handlers than workers.",
};

/// No more work is in hand than the policy allows.
#[derive(Debug)]
pub struct InFlight;

impl Checker for InFlight {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, _: &Index<'_>) -> Vec<Anomaly> {
        let mut hands = Hands::new(&view.policy.consumer);
        let steps = view.history.entries.iter().filter_map(step);
        steps.for_each(|step| hands.add(step));
        hands.found()
    }

    fn spans_parts(&self) -> bool {
        true
    }
}

/// One entry of a history, in so far as it changes what a process has in hand. Names are borrowed
/// from a history in memory, or owned where it is read entry by entry.
#[derive(Clone, Debug)]
pub(crate) struct Step<N> {
    pub(crate) at: u64,
    process: N,
    change: Change<N>,
}

#[derive(Clone, Debug)]
enum Change<N> {
    /// A delivery of this message to this consumer.
    Took(N, Receipt, N),
    /// A settlement at this consumer.
    Gave(N, Receipt),
    /// A handler of this consumer begins, with its run and that of its batch, for this message.
    Begins(N, (u64, u64), N),
    /// A handler ends.
    Ends(u64),
    /// The process crashed, stopped or began anew: no run of it goes on beyond.
    Gone,
}

/// What an entry changes; none where it changes nothing of this kind.
fn step(entry: &Entry) -> Option<Step<&str>> {
    let change = match &entry.what {
        What::Delivered {
            consumer,
            receipt,
            key,
            ..
        } => Change::Took(&**consumer, *receipt, key.as_deref().unwrap_or_default()),
        What::Settled {
            consumer, receipt, ..
        } => Change::Gave(&**consumer, *receipt),
        What::HandlerStart { on, run, batch, .. } => {
            Change::Begins(&*on.consumer, (*run, *batch), &*on.subject)
        }
        What::HandlerEnd { run, .. } => Change::Ends(*run),
        What::Process {
            what: "crashed" | "stopped" | "started",
        } => Change::Gone,
        _ => return None,
    };
    Some(Step {
        at: entry.at,
        process: &entry.process,
        change,
    })
}

/// The same, with names of its own.
pub(crate) fn owned_step(entry: &Entry) -> Option<Step<Arc<str>>> {
    let step = step(entry)?;
    let own = |name: &str| Arc::from(name);
    let change = match step.change {
        Change::Took(consumer, receipt, key) => Change::Took(own(consumer), receipt, own(key)),
        Change::Gave(consumer, receipt) => Change::Gave(own(consumer), receipt),
        Change::Begins(consumer, run, key) => Change::Begins(own(consumer), run, own(key)),
        Change::Ends(run) => Change::Ends(run),
        Change::Gone => Change::Gone,
    };
    Some(Step {
        at: step.at,
        process: entry.process.clone(),
        change,
    })
}

/// Unsettled deliveries of one subscription: few, so that a search through them is quickest.
#[derive(Debug, Default)]
struct Held {
    tags: Vec<u64>,
    accused: bool,
}

/// A run that goes on: its consumer, its number and the run that its batch began with.
type Running<N> = (N, (u64, u64));

/// What all processes have in hand as time goes on.
#[derive(Debug)]
pub(crate) struct Hands<N> {
    prefetch: usize,
    workers: usize,
    /// By channel, consumer and process.
    held: BTreeMap<(u64, N, N), Held>,
    /// By process: the runs that go on, each with its consumer and the run that its batch began with.
    running: BTreeMap<N, Vec<Running<N>>>,
    accused: BTreeSet<(N, N)>,
    /// Accusations: those of deliveries come first in reports.
    deliveries: Vec<Anomaly>,
    handlers: Vec<Anomaly>,
}

impl<N: Clone + Ord + Deref<Target = str>> Hands<N> {
    /// Of processes that work by a policy.
    pub(crate) fn new(policy: &ConsumerPolicy) -> Self {
        Self {
            prefetch: policy.prefetch.into(),
            workers: policy.workers.into(),
            held: BTreeMap::new(),
            running: BTreeMap::new(),
            accused: BTreeSet::new(),
            deliveries: Vec::new(),
            handlers: Vec::new(),
        }
    }

    /// Goes on by one step. Those of one process come in the order of time.
    pub(crate) fn add(&mut self, step: Step<N>) {
        let Step {
            at,
            process,
            change,
        } = step;
        match change {
            Change::Took(consumer, receipt, key) => {
                self.took((process, consumer), receipt, (&key, at));
            }
            Change::Gave(consumer, receipt) => {
                if let Some(held) = self.held.get_mut(&(receipt.channel, consumer, process)) {
                    held.tags.retain(|tag| *tag != receipt.tag);
                }
            }
            Change::Begins(consumer, run, key) => {
                self.begins((process, consumer), run, (&key, at));
            }
            Change::Ends(run) => {
                if let Some(runs) = self.running.get_mut(&process) {
                    runs.retain(|(_, (known, _))| *known != run);
                }
            }
            Change::Gone => {
                self.running.remove(&process);
            }
        }
    }

    fn took(&mut self, (process, consumer): (N, N), receipt: Receipt, (key, at): (&N, u64)) {
        // A worker may get a delivery before the settlement that made room for it is noted.
        let most = match self.prefetch < self.workers {
            true => self.prefetch + self.workers,
            false => self.prefetch,
        };
        let of = (receipt.channel, consumer.clone(), process.clone());
        let held = self.held.entry(of).or_default();
        held.tags.push(receipt.tag);
        let count = held.tags.len();
        if count > most && !std::mem::replace(&mut held.accused, true) {
            let (process, consumer, at) = (&*process, &*consumer, At(at));
            let about = About {
                message: key,
                id: None,
                consumer,
            };
            let seen = format!(
                "{process} had {count} unsettled deliveries of {consumer} in hand at {at}; its \
                 prefetch is {}",
                self.prefetch
            );
            self.deliveries.push(PROMISE.broken(about, seen));
        }
    }

    fn begins(&mut self, (process, consumer): (N, N), run: (u64, u64), (key, at): (&N, u64)) {
        let runs = self.running.entry(process.clone()).or_default();
        runs.push((consumer.clone(), run));
        let beside = || runs.iter().filter(|(of, _)| *of == consumer);
        let mut count = beside().count();
        if count > self.workers {
            // Those of a batch are one piece of work.
            let batches: BTreeSet<u64> = beside().map(|(_, (_, batch))| *batch).collect();
            count = batches.len();
        }
        if count > self.workers && self.accused.insert((process.clone(), consumer.clone())) {
            let (process, consumer, at) = (&*process, &*consumer, At(at));
            let about = About {
                message: key,
                id: None,
                consumer,
            };
            let seen = format!(
                "{process} ran {count} handlers of {consumer} at {at}; it has {} workers",
                self.workers
            );
            self.handlers.push(PROMISE.broken(about, seen));
        }
    }

    /// Everything of which somebody had too much.
    pub(crate) fn found(self) -> Vec<Anomaly> {
        let mut found = self.deliveries;
        found.extend(self.handlers);
        found
    }
}
