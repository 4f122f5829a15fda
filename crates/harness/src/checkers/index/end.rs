//! How a work stands at the end, and where it is if it has not ended.

use std::fmt;

use super::{Index, Truth, Work};
use crate::checkers::say::At;
use crate::watch::history::{Seen, Settled, What};
use crate::watch::reading::Dropped;
use redeliver_core::inbox::InboxState;
use redeliver_core::ports::store::KeptMessage;

/// How a work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::checkers) enum End {
    /// Its effects are committed.
    Done,
    /// It is in the dead letters.
    Dead,
    /// It was given up, and no dead letter of it is there.
    Unfiled,
    /// A commit in doubt may have ended it.
    Perhaps,
    /// It has not.
    None,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::checkers) enum Place<'a> {
    /// In the outbox, not marked as published.
    Outbox,
    /// In a queue; held by a consumer if the flag says so.
    Queue(&'a str, bool),
    /// Claimed in the inbox.
    Claimed(&'a str),
    /// In the store, until its turn in its ordered key.
    Kept(&'a KeptMessage),
    /// Delivered to a process that has not settled it.
    InHand(&'a str, u64),
    /// Nowhere any more: the broker threw its last copy away.
    Dropped(&'a Dropped),
    /// Nowhere that anybody could see.
    Nowhere,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outbox => f.write_str("it is in the outbox, not published"),
            Self::Queue(queue, false) => write!(f, "it waits in queue {queue}"),
            Self::Queue(queue, true) => write!(f, "it is unacked in queue {queue}"),
            Self::Claimed(worker) => write!(f, "it is claimed by {worker}"),
            Self::Kept(KeptMessage {
                scope, sequence, ..
            }) => write!(f, "it waits in the store as number {sequence} of {scope}"),
            Self::InHand(process, at) => {
                write!(f, "{process} got it at {} and never settled it", At(*at))
            }
            Self::Dropped(Dropped { at, queue, why, .. }) => write!(
                f,
                "it is in no queue and in nobody's hands: at {} the broker dropped it in {queue}, \
                 {why}",
                At(*at)
            ),
            Self::Nowhere => f.write_str(
                "it is in no queue and in nobody's hands, and nobody was told what \
                 became of it",
            ),
        }
    }
}

impl<'a> Index<'a> {
    /// How a work ended.
    pub(in crate::checkers) fn end(&self, work: &Work<'a>) -> End {
        let state = work.inbox.map(|row| &row.state);
        if work.saved_done || matches!(state, Some(InboxState::Done { .. })) {
            return End::Done;
        }
        if !work.letters.is_empty() {
            return End::Dead;
        }
        if matches!(state, Some(InboxState::Dead { .. })) {
            return End::Unfiled;
        }
        if self.keeps_inbox[work.consumer] {
            return End::None;
        }
        self.end_without_inbox(work)
    }

    /// Without an inbox only effects can tell: those of a transaction, or those outside of a
    /// handler that came to its end.
    fn end_without_inbox(&self, work: &Work<'a>) -> End {
        let ran = work.runs.iter().any(|run| self.runs[*run].ended_ok());
        let commits = || work.commits.iter().map(|at| &self.commits[*at]);
        let effect = |truth| {
            let counts =
                move |c: &super::Commit<'_>| c.truth == truth && (!c.effects.is_empty() || ran);
            commits().any(counts)
        };
        let outside = ran && self.ledger_keys.get(work.key) == Some(&true);
        if effect(Truth::Yes) || outside {
            End::Done
        } else if effect(Truth::Unknown) {
            End::Perhaps
        } else {
            End::None
        }
    }

    /// Where a work that has not ended is.
    pub(in crate::checkers) fn place(&self, work: &Work<'a>) -> Place<'a> {
        let unpublished = |at: &usize| {
            let row = self.events[*at].outbox;
            row.is_some_and(|row| row.published_at.is_none())
        };
        if let Some(queued) = work.queued.first() {
            return Place::Queue(&queued.queue, queued.unacked);
        }
        if let Some(InboxState::Claimed { worker, .. }) = work.inbox.map(|row| &row.state) {
            return Place::Claimed(worker);
        }
        if let Some(kept) = work.kept {
            return Place::Kept(kept);
        }
        if let Some((process, at)) = self.in_hand(work) {
            return Place::InHand(process, at);
        }
        if work.events.iter().any(unpublished) {
            return Place::Outbox;
        }
        match work.dropped.last() {
            Some(dropped) => Place::Dropped(dropped),
            None => Place::Nowhere,
        }
    }

    /// The last delivery of a work, if it was not settled.
    fn in_hand(&self, work: &Work<'a>) -> Option<(&'a str, u64)> {
        let place = *work.deliveries.last()?;
        let last = self.entry(place);
        let What::Delivered { receipt: got, .. } = &last.what else {
            return None;
        };
        let after = work.settled.iter().filter(|at| **at > place);
        let settled = after.map(|at| self.entry(*at)).any(|entry| {
            let same = matches!(&entry.what, What::Settled { receipt, .. } if receipt == got);
            same && entry.process == last.process
        });
        (!settled).then_some((&*last.process, last.at))
    }

    /// The last thing that happened to a work, as a sentence.
    pub(in crate::checkers) fn last_seen(&self, work: &Work<'a>) -> String {
        if let Some(place) = work.settled.last() {
            let entry = self.entry(*place);
            let What::Settled { how, seen, .. } = &entry.what else {
                unreachable!("the index keeps places of settlements");
            };
            let how = match how {
                Settled::Done => "acked it as done",
                Settled::Retry { .. } => "put it back for another attempt",
                Settled::Kept => "kept it in the store until its turn",
                Settled::Park { .. } => "parked it",
                Settled::DeadLetter(_) => "sent it to the dead letters",
            };
            let sure = match seen {
                Seen::Ok => "",
                Seen::Failed(_) => " (which failed)",
                Seen::InDoubt(_) => " (in doubt)",
            };
            return format!("{} {how}{sure} at {}", entry.process, At(entry.at));
        }
        if let Some(place) = work.deliveries.last() {
            let entry = self.entry(*place);
            return format!("{} got it at {}", entry.process, At(entry.at));
        }
        "it was never delivered".to_owned()
    }
}
