//! An event that a handler emits says where it comes from.
//!
//! It carries the correlation and the trace context of the event that was handled, and names that event
//! as its causation. These fields connect a request with all events that follow from it.
//!
//! **When it may be judged.** At any time, of events whose commit was seen and whose cause is known.
//!
//! **What is legal.** To name any of the events of one key as the cause: a client that does not know
//! whether it was heard asks again, and its first request may have been heard as well.
//!
//! **What it cannot see.** Whether a request from outside carries the context of its caller.

use super::index::{Index, Known};
use super::say::{About, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::{OnBehalf, What};
use redeliver_core::event::Event;
use redeliver_pipeline::client::CLIENT;

const PROMISE: Promise = Promise {
    checker: "lineage",
    kind: AnomalyKind::Invariant,
    text: "An event has the correlation and the trace of the event that caused it, and names it.",
};

/// Emitted events carry the correlation of their cause, and name it.
#[derive(Debug)]
pub struct Lineage;

impl Checker for Lineage {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, _: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        // By key: the first event, as a place in the index.
        let mut firsts = vec![None; index.keys.len()];
        for (at, known) in index.events.iter().enumerate() {
            if let Some(key) = index.key_id(&known.event.idempotency_key) {
                firsts[key].get_or_insert(at);
            }
        }
        let first = |key: &str| {
            let place = firsts[index.key_id(key)?];
            place.map(|at: usize| &index.events[at])
        };
        let mut found = Vec::new();
        for known in &index.events {
            let Some(on) = emitter(index, known) else {
                continue;
            };
            let Some(cause) = first(&on.subject) else {
                continue;
            };
            let event = known.event;
            if !follows(event, cause.event)
                && !any_other(index, &on.subject, |other| follows(event, other))
            {
                let about = About {
                    message: &event.idempotency_key,
                    id: Some(event.id),
                    consumer: &on.consumer,
                };
                let seen = differs(event, cause.event, on);
                found.push(PROMISE.broken(about, seen));
            }
        }
        found
    }
}

/// The handler that emitted an event; none for a request from outside.
fn emitter<'a>(index: &Index<'a>, known: &Known<'a>) -> Option<&'a OnBehalf> {
    match &index.entry(known.commit?).what {
        What::Commit { on, .. } if *on.consumer != *CLIENT => Some(on),
        _ => None,
    }
}

fn any_other(index: &Index<'_>, key: &str, holds: impl Fn(&Event) -> bool) -> bool {
    let mut events = index.events.iter().map(|known| known.event);
    events.any(|event| *event.idempotency_key == *key && holds(event))
}

fn follows(event: &Event, cause: &Event) -> bool {
    event.correlation == cause.correlation
        && event.causation == Some(cause.id)
        && event.trace == cause.trace
}

fn differs(event: &Event, cause: &Event, on: &OnBehalf) -> String {
    let (what, is, ought) = if event.causation != Some(cause.id) {
        let named = event
            .causation
            .map_or("none".to_owned(), |id| id.to_string());
        ("causation", named, cause.id.to_string())
    } else if event.correlation != cause.correlation {
        let (is, ought) = (event.correlation, cause.correlation);
        ("correlation", is.to_string(), ought.to_string())
    } else {
        let text = |event: &Event| event.trace.as_deref().unwrap_or("none").to_owned();
        ("trace context", text(event), text(cause))
    };
    format!(
        "{} was emitted by {} for {} with the {what} {is}, not {ought}",
        event.idempotency_key, on.consumer, on.subject
    )
}
