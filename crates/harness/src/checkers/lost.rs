//! Nothing is lost.
//!
//! Every committed event reaches, for every consumer that is subscribed to its type, an end: its
//! effects are committed, or it is given up and lies in that consumer's dead letters.
//!
//! **When it may be judged.** When the run has settled: before that a loss and a recovery look
//! the same. In a run that has not settled, only work whose last copy was acked as done, that
//! stands in no queue, in no outbox and in nobody's hands, and of which no handler run is still
//! open: nothing is left that could end it.
//!
//! **What is an end.** An inbox row that is done, in the final reading or in a commit that was
//! seen (old rows are removed); a dead letter. For a consumer without an inbox, a committed
//! transaction with effects on behalf of the message, or an effect in an outside ledger after a
//! handler that returned Ok. An empty queue proves nothing. A row that is done although no run of
//! the handler came to a good end is a loss too: the work was written off, not done.
//!
//! **What is legal.** An event whose commit is in doubt and that is not in the outbox need not
//! arrive. An event that nobody subscribes to need not either.
//!
//! **What it cannot see.** Whether a handler that returned Ok did all it should: that is what a
//! workload's own invariants are for. A consumer without an inbox whose handler leaves no effect
//! looks like a loss. A commit that is in doubt for ever counts as an end where there is no
//! inbox.

use super::index::{End, Index, Place, Work};
use super::say::{At, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::{Seen, Settled, What};

const PROMISE: Promise = Promise {
    checker: "lost",
    kind: AnomalyKind::Lost,
    text: "Every committed event is done by each of its consumers, or is in their dead letters.",
};

/// No accepted work vanishes.
#[derive(Debug)]
pub struct Lost;

impl Checker for Lost {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let expected = index.works.iter().filter(|work| work.expected);
        expected
            .filter_map(|work| {
                let seen = judge(view, index, work)?;
                Some(PROMISE.broken(index.about(work), seen))
            })
            .collect()
    }
}

fn judge(view: &View<'_>, index: &Index<'_>, work: &Work<'_>) -> Option<String> {
    let (key, consumer) = (index.key_of(work), index.consumer_of(work));
    match index.end(work) {
        End::Dead | End::Perhaps => None,
        End::Done => {
            let written_off = view.settled && was_written_off(index, work);
            written_off.then(|| {
                format!(
                    "{key} is marked as done by {consumer}, but no run of its handler ever came \
                     to a good end ({} began)",
                    work.runs.len()
                )
            })
        }
        End::Unfiled => view.settled.then(|| {
            format!(
                "{key} was given up by {consumer}, but is not in its dead letters: {}",
                index.last_seen(work)
            )
        }),
        End::None => {
            let over = view.settled || nothing_is_left(index, work);
            over.then(|| {
                format!(
                    "{key} was committed{} for {consumer} and took no effect: {}; {}",
                    committed_at(index, work),
                    index.last_seen(work),
                    index.place(work)
                )
            })
        }
    }
}

fn committed_at(index: &Index<'_>, work: &Work<'_>) -> String {
    let commit = work.events.iter().find_map(|at| index.events[*at].commit);
    commit.map_or_else(String::new, |place| {
        format!(" at {}", At(index.entry(place).at))
    })
}

fn was_written_off(index: &Index<'_>, work: &Work<'_>) -> bool {
    let watched = index.ran[work.consumer];
    watched && !work.runs.iter().any(|run| index.runs[*run].ended_ok())
}

/// Also before the run has settled, nothing can end this work any more.
fn nothing_is_left(index: &Index<'_>, work: &Work<'_>) -> bool {
    let acked = work.settled.last().is_some_and(|place| {
        let what = &index.entry(*place).what;
        matches!(
            what,
            What::Settled {
                how: Settled::Done,
                seen: Seen::Ok,
                ..
            }
        )
    });
    let running = work.runs.iter().any(|run| index.runs[*run].end.is_none());
    let nowhere = matches!(index.place(work), Place::Nowhere | Place::Dropped(_));
    acked && !running && nowhere
}
