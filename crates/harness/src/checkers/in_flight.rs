//! Work in hand is bounded.
//!
//! A subscription holds at most the prefetch of unsettled deliveries, and a process runs at most
//! as many handlers of a consumer at the same time as it has workers.
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

use super::index::{Index, Run};
use super::say::{About, At, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::What;

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

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let mut found = Vec::new();
        deliveries(view, &mut found);
        handlers(view, index, &mut found);
        found
    }
}

/// Unsettled deliveries of one subscription: few, so that a search through them is quickest.
#[derive(Default)]
struct Held {
    tags: Vec<u64>,
    accused: bool,
}

fn deliveries(view: &View<'_>, found: &mut Vec<Anomaly>) {
    let consumer = &view.policy.consumer;
    let (prefetch, workers) = (
        usize::from(consumer.prefetch),
        usize::from(consumer.workers),
    );
    let most = if prefetch < workers {
        prefetch + workers
    } else {
        prefetch
    };
    let mut held: BTreeMap<(u64, &str, &str), Held> = BTreeMap::new();
    for entry in &view.history.entries {
        match &entry.what {
            What::Delivered {
                consumer,
                receipt,
                key,
                ..
            } => {
                let of = (receipt.channel, &**consumer, &*entry.process);
                let held = held.entry(of).or_default();
                held.tags.push(receipt.tag);
                let count = held.tags.len();
                if count > most && !std::mem::replace(&mut held.accused, true) {
                    let (process, at) = (&entry.process, At(entry.at));
                    let about = About {
                        message: key.as_deref().unwrap_or_default(),
                        id: None,
                        consumer,
                    };
                    let seen = format!(
                        "{process} had {count} unsettled deliveries of {consumer} in hand at \
                         {at}; its prefetch is {prefetch}"
                    );
                    found.push(PROMISE.broken(about, seen));
                }
            }
            What::Settled {
                consumer, receipt, ..
            } => {
                if let Some(held) = held.get_mut(&(receipt.channel, consumer, &entry.process)) {
                    held.tags.retain(|tag| *tag != receipt.tag);
                }
            }
            _ => {}
        }
    }
}

fn handlers(view: &View<'_>, index: &Index<'_>, found: &mut Vec<Anomaly>) {
    let most = usize::from(view.policy.consumer.workers);
    let mut running: BTreeMap<(&str, &str), Vec<&Run<'_>>> = BTreeMap::new();
    let mut accused: BTreeSet<(&str, &str)> = BTreeSet::new();
    let deaths = deaths(view);
    for run in &index.runs {
        let of = (&**run.process, &*run.on.consumer);
        let others = running.entry(of).or_default();
        others.retain(|other| {
            let ended = other.end.is_some_and(|end| end.place < run.start);
            let died = deaths.get(of.0).is_some_and(|places| {
                let after = places.partition_point(|place| *place < other.start);
                places.get(after).is_some_and(|place| *place < run.start)
            });
            !ended && !died
        });
        others.push(run);
        if others.len() > most && accused.insert(of) {
            let (process, consumer) = of;
            let about = About {
                message: &run.on.subject,
                id: None,
                consumer,
            };
            let seen = format!(
                "{process} ran {} handlers of {consumer} at {}; it has {most} workers",
                others.len(),
                At(run.started_at)
            );
            found.push(PROMISE.broken(about, seen));
        }
    }
}

/// Where each process crashed, stopped or began anew: no run of it goes on beyond.
fn deaths<'a>(view: &View<'a>) -> BTreeMap<&'a str, Vec<usize>> {
    let mut deaths: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, entry) in view.history.entries.iter().enumerate() {
        if matches!(
            entry.what,
            What::Process {
                what: "crashed" | "stopped" | "started"
            }
        ) {
            deaths.entry(&entry.process).or_default().push(place);
        }
    }
    deaths
}
