//! Nothing happens without a committed event behind it.
//!
//! Whatever is published, handed to a consumer, committed by a handler, put down in an inbox or
//! done by an outside service goes back to an event whose transaction committed.
//!
//! **When it may be judged.** At any time: a transaction that did not commit never will.
//!
//! **What is legal.** An event whose commit is in doubt, unless the final outbox shows that it did
//! not happen. An event that is published before its client has seen the commit: the relay may
//! be quicker than the answer. A service key that has the key of a committed event as its
//! beginning (`order-7/refund`).
//!
//! **What it cannot see.** A message that is published inside a transaction that later commits:
//! by then its event is there. An event without a trace of its commit in a run that is longer
//! than the retention of the outbox: its row may have been removed. Messages that are no events;
//! the dead letters answer for them. Dead letters without event are judged with the dead letters.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::index::{Index, Truth};
use super::say::{About, At, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::What;
use redeliver_core::inbox::InboxState;

const PROMISE: Promise = Promise {
    checker: "effect_without_event",
    kind: AnomalyKind::EffectWithoutEvent,
    text: "Whatever is published or takes effect goes back to a committed event.",
};

/// Each effect has an event behind it.
#[derive(Debug)]
pub struct EffectWithoutEvent;

impl Checker for EffectWithoutEvent {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let mut found = Vec::new();
        messages(index, &mut found);
        effects(index, &mut found);
        ledger(view, index, &mut found);
        found
    }
}

/// Whether an event certainly never committed.
fn never_committed(index: &Index<'_>, id: Uuid) -> bool {
    match index.event(id) {
        Some(known) => known.committed == Truth::No,
        None => index.within_retention,
    }
}

fn messages(index: &Index<'_>, found: &mut Vec<Anomaly>) {
    let mut accused: BTreeSet<Uuid> = BTreeSet::new();
    for place in &index.publishes {
        let entry = index.entry(*place);
        if let What::Publish { event, .. } = &entry.what
            && never_committed(index, event.id)
            && accused.insert(event.id)
        {
            let about = About {
                message: &event.idempotency_key,
                id: Some(event.id),
                consumer: "",
            };
            let (key, process, at) = (&event.idempotency_key, &entry.process, At(entry.at));
            let seen = format!("{process} published {key} at {at}; its event never committed");
            found.push(PROMISE.broken(about, seen));
        }
    }
    for work in &index.works {
        for place in &work.deliveries {
            let entry = index.entry(*place);
            if let What::Delivered { id: Some(id), .. } = &entry.what
                && never_committed(index, *id)
                && accused.insert(*id)
            {
                let about = About {
                    id: Some(*id),
                    ..index.about(work)
                };
                let (key, process, at) = (index.key_of(work), &entry.process, At(entry.at));
                let seen = format!("{process} got {key} at {at}; its event never committed");
                found.push(PROMISE.broken(about, seen));
            }
        }
    }
}

fn effects(index: &Index<'_>, found: &mut Vec<Anomaly>) {
    for work in &index.works {
        if index.caused[work.key] || !index.within_retention {
            continue;
        }
        let commits = work.commits.iter().map(|at| &index.commits[*at]);
        let (key, consumer) = (index.key_of(work), index.consumer_of(work));
        let committed = commits.filter(|c| c.truth == Truth::Yes && !c.effects.is_empty());
        if let Some(commit) = committed.into_iter().next() {
            let (process, at) = (&commit.entry.process, At(commit.entry.at));
            let seen = format!(
                "{process} committed effects of {consumer} for {key} at {at}; no event of that \
                 key ever committed"
            );
            found.push(PROMISE.broken(index.about(work), seen));
        } else if let Some(InboxState::Done { .. }) = work.inbox.map(|row| &row.state) {
            let seen =
                format!("{consumer} has {key} down as done; no event of that key ever committed");
            found.push(PROMISE.broken(index.about(work), seen));
        }
    }
}

/// Whether a key is another one with something behind it; `order-75` is not `order-7` and a 5.
fn goes_on(key: &str, known: &str) -> bool {
    let Some(rest) = key.strip_prefix(known) else {
        return false;
    };
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    !(digit(known.chars().next_back()) && digit(rest.chars().next()))
}

fn ledger(view: &View<'_>, index: &Index<'_>, found: &mut Vec<Anomaly>) {
    if !index.within_retention {
        return;
    }
    let derived = |key: &str| {
        let begins = |(at, known): (usize, &&str)| index.caused[at] && goes_on(key, known);
        index.keys.iter().enumerate().any(begins)
    };
    for entry in &view.reading.ledger {
        if index.is_caused(&entry.key) || derived(&entry.key) {
            continue;
        }
        let about = About {
            message: &entry.key,
            ..About::default()
        };
        let (service, operation, key) = (&entry.service, &entry.operation, &entry.key);
        let at = At(entry.at);
        let seen = format!(
            "{service} did {operation} for {key} at {at}; no event of that key ever committed"
        );
        found.push(PROMISE.broken(about, seen));
    }
}
