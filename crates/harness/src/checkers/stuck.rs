//! What is accepted comes to an end within its bound.
//!
//! Once the faults are over, a run comes to rest within the time that its policy allows for
//! everything that was accepted: attempts, leases, waits and queues.
//!
//! **When it may be judged.** When faults are over, or there were none, and the run has not
//! settled: its driver waited for as long as the bound. Not in a run that was stopped before.
//!
//! **What is legal.** To be slow while faults last; to have ended late but within the bound.
//!
//! **What it cannot see.** Whether the bound is the right one. It names what has not ended and
//! where it stands, at most [`NAMED`] messages of each run; the rest it counts.

use super::index::{End, Index, Work};
use super::say::{About, Count, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};

/// So many messages are named.
pub const NAMED: usize = 8;

const PROMISE: Promise = Promise {
    checker: "stuck",
    kind: AnomalyKind::Stuck,
    text: "Once faults are over, everything accepted comes to an end within the policy's bound.",
};

/// What was accepted comes to its end.
#[derive(Debug)]
pub struct Stuck;

impl Checker for Stuck {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        if view.settled || view.stopped || !index.healed {
            return Vec::new();
        }
        let open = |work: &&Work<'_>| {
            let end = index.end(work);
            work.expected && matches!(end, End::None | End::Unfiled)
        };
        let open: Vec<&Work<'_>> = index.works.iter().filter(open).collect();
        let named = open.iter().take(NAMED);
        let mut found: Vec<Anomaly> = named
            .map(|work| PROMISE.broken(index.about(work), tell(index, work)))
            .collect();
        if let Some(rest) = open.len().checked_sub(NAMED).filter(|rest| *rest > 0) {
            let rest = Count(rest as u64, "more message");
            let seen = format!("{rest} came to no end either");
            found.push(PROMISE.broken(About::default(), seen));
        }
        if found.is_empty() {
            found.push(PROMISE.broken(About::default(), unrest(view)));
        }
        found
    }
}

fn tell(index: &Index<'_>, work: &Work<'_>) -> String {
    let (key, consumer) = (index.key_of(work), index.consumer_of(work));
    let runs = Count(work.runs.len() as u64, "run");
    let (place, last) = (index.place(work), index.last_seen(work));
    format!("{key} came to no end in {consumer} ({runs} so far): {place}; {last}")
}

/// Every message has ended, and yet there is no rest: what waits, and where.
fn unrest(view: &View<'_>) -> String {
    let mut waits: Vec<String> = Vec::new();
    for queued in &view.reading.queued {
        let event = queued.event.as_ref();
        let key = event.map_or("bytes that are no event", |event| &*event.idempotency_key);
        let how = match queued.unacked {
            true => "is with a consumer of",
            false => "waits in",
        };
        waits.push(format!("{key} {how} {}", queued.queue));
    }
    let outbox = view.reading.store.outbox.iter();
    for row in outbox.filter(|row| row.published_at.is_none()) {
        let key = &row.outgoing.event.idempotency_key;
        waits.push(format!("{key} waits in the outbox to be published"));
    }
    if waits.is_empty() {
        return "everything accepted has ended, and no queue holds anything at the end, but the \
                run did not come to rest within its bound"
            .to_owned();
    }
    let named = waits.iter().take(NAMED).cloned().collect::<Vec<_>>();
    let more = match waits.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; {more} more"),
    };
    format!(
        "everything accepted has ended, but {}{more}",
        named.join("; ")
    )
}
