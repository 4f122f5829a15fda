//! Nothing is left behind.
//!
//! When a run has settled there is no unpublished event in the outbox, no claim in the inbox,
//! nothing in work and delay queues, nothing unacked, and no transaction that holds rows locked.
//!
//! **When it may be judged.** Only in a settled run; before that all of these are work in hand.
//!
//! **What is legal.** A published row that still shows an old lease. Dead letters: they stay until
//! somebody looks at them. Rows that wait for their age to be removed. An open transaction that
//! holds no lock: a relay that finds its outbox empty has one for a moment.
//!
//! **What it cannot see.** Memory, tasks and connections of a process. A transaction that is left
//! open without a lock. It takes the reading's word that a lock is not just passing by: a reading
//! is made at rest.

use super::index::Index;
use super::say::{About, Count, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use redeliver_core::inbox::InboxState;

const PROMISE: Promise = Promise {
    checker: "leaked",
    kind: AnomalyKind::Leaked,
    text: "At rest no row is claimed, no message waits, no row is locked.",
};

/// Nothing is left behind.
#[derive(Debug)]
pub struct Leaked;

impl Checker for Leaked {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, _: &Index<'_>) -> Vec<Anomaly> {
        let mut found = Vec::new();
        if view.settled {
            rows(view, &mut found);
            messages(view, &mut found);
            sessions(view, &mut found);
        }
        found
    }
}

fn rows(view: &View<'_>, found: &mut Vec<Anomaly>) {
    let store = &view.reading.store;
    for row in store.outbox.iter().filter(|row| row.published_at.is_none()) {
        let event = &row.outgoing.event;
        let held = match row.lease_until {
            Some(until) if until > store.now => "held by a relay",
            Some(_) => "left by a relay whose lease is over",
            None => "claimed by no relay",
        };
        let about = About {
            message: &event.idempotency_key,
            id: Some(event.id),
            consumer: "",
        };
        let (id, key) = (row.id, &event.idempotency_key);
        let seen = format!("outbox row {id} with {key} is not published and {held}");
        found.push(PROMISE.broken(about, seen));
    }
    for row in &store.inbox {
        if let InboxState::Claimed {
            lease_until,
            worker,
        } = &row.state
        {
            let lease = if *lease_until > store.now {
                "still runs"
            } else {
                "is over"
            };
            let about = About {
                message: &row.idempotency_key,
                id: None,
                consumer: &row.consumer,
            };
            let (key, consumer) = (&row.idempotency_key, &row.consumer);
            let seen = format!("{key} is claimed in {consumer} by {worker}, whose lease {lease}");
            found.push(PROMISE.broken(about, seen));
        }
    }
}

fn messages(view: &View<'_>, found: &mut Vec<Anomaly>) {
    for queued in &view.reading.queued {
        let event = queued.event.as_ref();
        let about = About {
            message: event.map_or("", |event| &event.idempotency_key),
            id: event.map(|event| event.id),
            consumer: &queued.queue,
        };
        let what = event.map_or("a message that is no event", |event| &event.idempotency_key);
        let how = if queued.unacked { "unacked" } else { "waiting" };
        let seen = format!("{what} is still {how} in queue {}", queued.queue);
        found.push(PROMISE.broken(about, seen));
    }
}

fn sessions(view: &View<'_>, found: &mut Vec<Anomaly>) {
    let (open, locks) = (view.reading.open_transactions, view.reading.held_locks);
    if locks > 0 {
        let (locks, open) = (Count(locks, "row lock"), Count(open, "open transaction"));
        let seen = format!("{locks} still held, by {open}");
        found.push(PROMISE.broken(About::default(), seen));
    }
}
