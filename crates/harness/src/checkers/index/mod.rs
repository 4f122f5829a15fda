//! What all checkers share, read once from a view.
//!
//! A *work* is one consumer and one idempotency key: what the pipeline promises to do effectively
//! once. The index says of each work which events ask for it, which deliveries, handler runs and
//! commits were made for it, and what stands of it at the end.
//!
//! A commit in doubt is resolved where the final reading can tell: by the events, rows, audit
//! entries and inbox rows that it would have left. Where it cannot, the commit is neither counted
//! as an effect nor accused of lacking one.
//!
//! Building is one pass over the history with a look-up or two an entry; everything is ordered by
//! first appearance, so that the same run gives the same anomalies in the same order.

use std::sync::Arc;

use redeliver_sim::hash::QuickMap;
use uuid::Uuid;

use crate::watch::history::{Effects, Ended, Entry, OnBehalf, Seen};
use crate::watch::reading::{Dropped, Letter, Queued};
use redeliver_core::event::Event;
use redeliver_core::inbox::InboxRow;
use redeliver_core::outbox::OutboxRow;
use redeliver_core::ports::store::KeptMessage;

mod end;
mod ends;
mod fill;
mod truth;

pub(super) use end::{End, Place};
pub(super) use ends::called_for;

/// For look-ups only: nothing ever goes through it in its order.
type Lookup<K> = QuickMap<K, usize>;

/// No work.
const NONE: usize = usize::MAX;

/// Whether something in doubt happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    /// It did.
    Yes,
    /// It did not.
    No,
    /// Nobody can say.
    Unknown,
}

/// An event that somebody tried to commit.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) event: &'a Arc<Event>,
    pub(super) committed: Truth,
    pub(super) outbox: Option<&'a OutboxRow>,
    /// Where a commit with it was last seen to end, as a place in the history.
    pub(super) commit: Option<usize>,
    seen_ok: bool,
    /// How many commits in doubt carry it.
    in_doubt: u32,
}

/// One run of a handler.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) number: u64,
    pub(super) on: &'a OnBehalf,
    pub(super) process: &'a Arc<str>,
    /// Place in the history.
    pub(super) start: usize,
    /// How many entries the history had when its inbox row was read.
    pub(super) read: usize,
    pub(super) started_at: u64,
    pub(super) end: Option<RunEnd<'a>>,
    /// Its process crashed or stopped under it, as far as the history says.
    pub(super) died: bool,
    /// It surely works on a delivery that was flagged as redelivered: its process held no other.
    pub(super) redelivered: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunEnd<'a> {
    pub(super) place: usize,
    pub(super) at: u64,
    pub(super) how: &'a Ended,
}

impl RunEnd<'_> {
    /// Its batch was rolled back: that was no attempt at its message.
    pub(super) fn is_of_batch(&self) -> bool {
        matches!(self.how, Ended::BatchFailed(_))
    }
}

impl Run<'_> {
    pub(super) fn ended_ok(&self) -> bool {
        matches!(self.end, Some(end) if *end.how == Ended::Ok)
    }
}

/// One commit.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    pub(super) place: usize,
    pub(super) entry: &'a Entry,
    pub(super) effects: &'a Effects,
    pub(super) seen: &'a Seen,
    pub(super) truth: Truth,
    /// The handler run whose effects they most likely are: a place in [`Index::runs`].
    pub(super) run: Option<usize>,
}

/// One consumer and one idempotency key.
#[derive(Debug, Default)]
pub(super) struct Work<'a> {
    pub(super) consumer: usize,
    pub(super) key: usize,
    /// Events, committed or perhaps committed, that ask for it: places in [`Index::events`].
    pub(super) events: Vec<usize>,
    /// At least one of them is committed.
    pub(super) expected: bool,
    pub(super) inbox: Option<&'a InboxRow>,
    /// It waits in the store for its turn.
    pub(super) kept: Option<&'a KeptMessage>,
    /// A commit that was seen to happen has saved it as done.
    pub(super) saved_done: bool,
    /// A commit that was seen to happen, or perhaps did, has saved it as dead.
    pub(super) saved_dead: bool,
    pub(super) letters: Vec<&'a Letter>,
    pub(super) queued: Vec<&'a Queued>,
    /// Copies of it that the broker threw away.
    pub(super) dropped: Vec<&'a Dropped>,
    /// Places in [`Index::runs`].
    pub(super) runs: Vec<usize>,
    /// Places in [`Index::commits`].
    pub(super) commits: Vec<usize>,
    /// Places in the history.
    pub(super) deliveries: Vec<usize>,
    /// Places in the history.
    pub(super) settled: Vec<usize>,
}

/// Works, events, deliveries, runs and commits of a view, each findable from the others.
#[derive(Debug)]
pub struct Index<'a> {
    entries: &'a [Entry],
    pub(super) consumers: Vec<&'a str>,
    /// Whether a consumer keeps an inbox; naive ones do not.
    pub(super) keeps_inbox: Vec<bool>,
    /// Whether handlers of a consumer were seen to run.
    pub(super) ran: Vec<bool>,
    key_ids: Lookup<&'a str>,
    pub(super) keys: Vec<&'a str>,
    pub(super) events: Vec<Known<'a>>,
    event_ids: Lookup<Uuid>,
    /// By key: some event of it is committed, or perhaps is.
    pub(super) caused: Vec<bool>,
    pub(super) works: Vec<Work<'a>>,
    /// By key and consumer, or [`NONE`].
    work_ids: Vec<usize>,
    pub(super) runs: Vec<Run<'a>>,
    pub(super) commits: Vec<Commit<'a>>,
    /// Places of publishes in the history.
    pub(super) publishes: Vec<usize>,
    /// Every committed event still has its row in the final outbox: no row was removed.
    pub(super) outbox_complete: bool,
    /// The run was too short for the cleaning of the outbox to have removed anything.
    pub(super) within_retention: bool,
    /// The history tells of processes, and of none that died: no commit is missing from it.
    pub(super) nobody_died: bool,
    /// Faults are over, or there were none.
    pub(super) healed: bool,
    /// Some ledger entry, by key.
    ledger_keys: Vec<bool>,
}

impl<'a> Index<'a> {
    /// The entry at a place in the history.
    pub(super) fn entry(&self, place: usize) -> &'a Entry {
        &self.entries[place]
    }

    /// The event of this id, if anybody tried to commit it.
    pub(super) fn event(&self, id: Uuid) -> Option<&Known<'a>> {
        self.event_ids.get(&id).map(|at| &self.events[*at])
    }

    /// The number of a key.
    pub(super) fn key_id(&self, key: &str) -> Option<usize> {
        self.key_ids.get(key).copied()
    }

    /// Whether some event of this key is committed, or perhaps is.
    pub(super) fn is_caused(&self, key: &str) -> bool {
        self.key_id(key).is_some_and(|at| self.caused[at])
    }

    /// The id of some event with a key.
    pub(super) fn event_with_key(&self, key: usize) -> Option<Uuid> {
        let name = self.keys[key];
        let of_key = |known: &&Known<'_>| *known.event.idempotency_key == *name;
        self.events.iter().find(of_key).map(|known| known.event.id)
    }

    /// The number of a consumer of the topology.
    pub(super) fn consumer_id(&self, name: &str) -> Option<usize> {
        self.consumers.iter().position(|known| *known == name)
    }

    /// Its idempotency key.
    pub(super) fn key_of(&self, work: &Work<'a>) -> &'a str {
        self.keys[work.key]
    }

    /// Its consumer.
    pub(super) fn consumer_of(&self, work: &Work<'a>) -> &'a str {
        self.consumers[work.consumer]
    }

    /// The event that asks for it, if any does.
    pub(super) fn event_of(&self, work: &Work<'a>) -> Option<&'a Arc<Event>> {
        work.events.first().map(|at| self.events[*at].event)
    }

    /// For anomalies about it.
    pub(super) fn about(&self, work: &Work<'a>) -> super::say::About<'a> {
        super::say::About {
            message: self.key_of(work),
            id: self.event_of(work).map(|event| event.id),
            consumer: self.consumer_of(work),
        }
    }
}
