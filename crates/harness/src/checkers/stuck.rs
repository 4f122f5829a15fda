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
        let mut open = Open::default();
        open.add(view, index);
        open.judge()
    }

    fn spans_parts(&self) -> bool {
        true
    }
}

/// What has come to no end.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Whether there is a run to judge: one that ought to have come to rest and did not.
    judged: bool,
    /// The first messages.
    named: Vec<Anomaly>,
    /// How many more there are.
    more: u64,
    /// What waits somewhere, the first of it in words.
    waits: Vec<String>,
    waiting: u64,
}

impl Open {
    /// Adds the works of an index, and what its view shows to wait.
    pub(super) fn add(&mut self, view: &View<'_>, index: &Index<'_>) {
        if view.settled || view.stopped || !index.healed {
            return;
        }
        self.judged = true;
        for work in index.works.iter().filter(|work| work.expected) {
            if !matches!(index.end(work), End::None | End::Unfiled) {
                continue;
            }
            match self.named.len() < NAMED {
                true => {
                    let seen = tell(index, work);
                    self.named.push(PROMISE.broken(index.about(work), seen));
                }
                false => self.more += 1,
            }
        }
        if self.named.is_empty() {
            self.unrest(view);
        }
    }

    /// Every message has ended, and yet there is no rest: what waits, and where.
    fn unrest(&mut self, view: &View<'_>) {
        for queued in &view.reading.queued {
            let event = queued.event.as_ref();
            let key = event.map_or("bytes that are no event", |event| &*event.idempotency_key);
            let how = match queued.unacked {
                true => "is with a consumer of",
                false => "waits in",
            };
            self.wait(|| format!("{key} {how} {}", queued.queue));
        }
        for kept in &view.reading.store.kept {
            let (key, consumer) = (&kept.idempotency_key, &kept.consumer);
            self.wait(|| format!("{key} waits in the store of {consumer} for its turn"));
        }
        let outbox = view.reading.store.outbox.iter();
        for row in outbox.filter(|row| row.published_at.is_none()) {
            let key = &row.outgoing.event.idempotency_key;
            self.wait(|| format!("{key} waits in the outbox to be published"));
        }
    }

    fn wait(&mut self, told: impl FnOnce() -> String) {
        self.waiting += 1;
        if self.waits.len() < NAMED {
            self.waits.push(told());
        }
    }

    /// Everything that came to no end.
    pub(super) fn judge(self) -> Vec<Anomaly> {
        if !self.judged {
            return Vec::new();
        }
        let mut found = self.named;
        if self.more > 0 {
            let seen = format!("{} came to no end either", Count(self.more, "more message"));
            found.push(PROMISE.broken(About::default(), seen));
        }
        if found.is_empty() {
            let seen = match self.waiting.saturating_sub(NAMED as u64) {
                _ if self.waiting == 0 => NO_REST.to_owned(),
                0 => format!(
                    "everything accepted has ended, but {}",
                    self.waits.join("; ")
                ),
                more => {
                    let named = self.waits.join("; ");
                    format!("everything accepted has ended, but {named}; {more} more")
                }
            };
            found.push(PROMISE.broken(About::default(), seen));
        }
        found
    }
}

const NO_REST: &str = "everything accepted has ended, and no queue holds anything at the end, but \
                       the run did not come to rest within its bound";

fn tell(index: &Index<'_>, work: &Work<'_>) -> String {
    let (key, consumer) = (index.key_of(work), index.consumer_of(work));
    let runs = Count(work.runs.len() as u64, "run");
    let (place, last) = (index.place(work), index.last_seen(work));
    format!("{key} came to no end in {consumer} ({runs} so far): {place}; {last}")
}
