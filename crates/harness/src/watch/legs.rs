//! How long the legs of a message's way take: from the time at which its request was to be sent to
//! its last effect.
//!
//! One pass over the entries of a history, in the order in which they were seen, while the run goes
//! on or later. What is remembered is bounded by what is under way: a message is forgotten when its
//! last consumer has settled it.
//!
//! A message that was tried again, or given up, has taken another way than one that went through.
//! Their times are kept apart: among all others they would look like a long tail of the pipeline.

mod leg;
mod standing;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use redeliver_sim::hash::QuickMap;
use uuid::Uuid;

pub use leg::Leg;
pub use standing::{Place, Standing};

use crate::watch::history::{Entry, History, Seen, Settled, What};
use redeliver_core::event::Event;
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::ports::PublishOutcome;
use redeliver_core::topology::Topology;

/// A time that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Of which leg.
    pub leg: Leg,
    /// When it ended, in nanoseconds since the start of the run.
    pub at: u64,
    /// How long it took, in nanoseconds.
    pub took: u64,
}

/// All times of a whole history: leg and nanoseconds. `due` says when its requests were to be sent.
pub fn times<'a>(
    history: &History,
    topology: &Topology,
    due: impl Iterator<Item = (&'a Arc<str>, u64)>,
) -> Vec<(Leg, u64)> {
    let mut legs = Legs::new(topology);
    for (key, at) in due {
        // Of a request that is sent twice the first time counts.
        legs.due.entry(key.clone()).or_insert(at);
    }
    let mut times = Vec::with_capacity(history.entries.len() / 2);
    for entry in &history.entries {
        legs.add(entry, &mut |sample| times.push((sample.leg, sample.took)));
    }
    times
}

/// What has become of a workflow's work so far, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were begun.
    pub sent: u64,
    /// Commits of requests that were seen.
    pub committed: u64,
    /// Events that are known to be in the outbox.
    pub events: u64,
    /// Publishes that were confirmed.
    pub confirmed: u64,
    /// Hand-overs to consumers.
    pub deliveries: u64,
    /// Of these the ones that were flagged as redelivered.
    pub redeliveries: u64,
    /// Works whose effects are committed.
    pub done: u64,
    /// Attempts that were put back to be tried again.
    pub retried: u64,
    /// Deliveries that were put back to be looked at later.
    pub parked: u64,
    /// Deliveries that were kept in the store until their turn in an ordered key.
    pub kept: u64,
    /// Works that were given up.
    pub dead: u64,
    /// Requests of which everything that followed has ended.
    pub workflows: u64,
}

/// Follows messages through a history.
#[derive(Debug)]
pub struct Legs {
    topology: Topology,
    counts: Counts,
    /// Events under way, by idempotency key.
    events: QuickMap<Arc<str>, Way>,
    /// Requests under way, by the id of their first event.
    chains: QuickMap<Uuid, Chain>,
    /// When requests were to be sent, by key; those of which no commit was seen yet.
    due: QuickMap<Arc<str>, u64>,
    /// Requests that were begun, by key and due time; the same, oldest first, with the time of that.
    requests: QuickMap<(Arc<str>, u64), ()>,
    begun: VecDeque<(u64, (Arc<str>, u64))>,
    /// Handlers that run: since when, and in which process.
    runs: QuickMap<u64, (u64, Arc<str>)>,
    /// Keys of messages that have ended, oldest first, with the time of that.
    ended: VecDeque<(u64, Arc<str>)>,
    /// When it is time to look for what will never end.
    sweep: u64,
    /// Works that were acked though no commit of theirs was seen, each with its chain: taken to have
    /// ended, until the final reading says otherwise.
    assumed: QuickMap<(Arc<str>, Arc<str>), Option<Uuid>>,
    /// Chains that have not ended after all.
    stuck: BTreeSet<Uuid>,
}

/// The way of one event.
#[derive(Debug, Default)]
struct Way {
    since: u64,
    chain: Option<Uuid>,
    committed: Option<u64>,
    published: Option<u64>,
    delivered: Option<u64>,
    confirmed: bool,
    works: Vec<Work>,
}

/// One consumer's work with an event.
#[derive(Debug)]
struct Work {
    consumer: Arc<str>,
    effect: Option<u64>,
    acked: bool,
    retried: bool,
    ended: bool,
    /// With whom it is, and since when.
    with: With,
    since: u64,
}

/// With whom a message is that one consumer has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    /// The outbox, or the broker: it was not delivered.
    Nobody,
    /// A worker, or one that died with it.
    Worker,
    /// The broker once more, for a later attempt.
    Delay,
    /// The store, until its turn in an ordered key.
    Turn,
}

/// All that follows from a request.
#[derive(Debug, Default)]
struct Chain {
    /// When something of it was seen first.
    since: u64,
    /// The commit of its request was seen.
    begun: bool,
    due: Option<u64>,
    /// Works that have not ended.
    open: u64,
    retried: bool,
    dead: bool,
}

/// An ended message is known for so long, in nanoseconds: copies of it come late.
const KNOWN: u64 = 30_000_000_000;
/// A client that was killed is back within this time, and sends again what it had begun before.
const AGAIN: u64 = 300_000_000_000;
/// No more of them than this are known.
const MOST: usize = 200_000;
/// A message whose commit nobody has seen for so long will not be seen any more: its client died, or
/// was in doubt.
const UNSEEN: u64 = 60_000_000_000;

impl Legs {
    /// Of a run whose consumers take what this topology says.
    pub fn new(topology: &Topology) -> Self {
        Self {
            topology: topology.clone(),
            counts: Counts::default(),
            events: QuickMap::default(),
            chains: QuickMap::default(),
            due: QuickMap::default(),
            requests: QuickMap::default(),
            begun: VecDeque::new(),
            runs: QuickMap::default(),
            ended: VecDeque::new(),
            sweep: 0,
            assumed: QuickMap::default(),
            stuck: BTreeSet::new(),
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Requests whose commit was seen, and of which something has not ended.
    pub fn open_workflows(&self) -> u64 {
        let open = self.chains.values().filter(|chain| chain.begun).count();
        (open + self.stuck.len()) as u64
    }

    /// Requests that were begun and of which no commit was seen.
    pub fn uncommitted(&self) -> u64 {
        self.due.len() as u64
    }

    /// Goes on by a row of the final reading: work that was only acked has not ended.
    pub fn read(&mut self, row: &InboxRow) {
        let work = (row.consumer.clone(), row.idempotency_key.clone());
        let Some(chain) = self.assumed.remove(&work) else {
            return;
        };
        if matches!(row.state, InboxState::Open | InboxState::Claimed { .. }) {
            self.counts.done -= 1;
            let first = chain.is_some_and(|chain| self.stuck.insert(chain));
            self.counts.workflows -= u64::from(first);
        }
    }

    /// Handlers that run.
    pub fn in_handlers(&self) -> u64 {
        self.runs.len() as u64
    }

    /// Goes on by one entry. Each time that was taken by it is given to `sample`.
    pub fn add(&mut self, entry: &Entry, sample: &mut impl FnMut(Sample)) {
        let at = entry.at;
        let mut give = |leg, took| sample(Sample { leg, at, took });
        match &entry.what {
            // A client that was killed sends again what it has heard no answer to. A request that is
            // sent twice on purpose is due at another time.
            What::Request { key, due } if !self.is_new(key, *due, at) => {}
            What::Request { key, due } => {
                self.counts.sent += 1;
                give(Leg::Lateness, at.saturating_sub(*due));
                // Of a request that is sent twice the first time counts: what is known already has been
                // committed, and the second one commits nothing.
                if !self.events.contains_key(key) {
                    self.due.entry(key.clone()).or_insert(*due);
                }
            }
            What::Commit {
                on, effects, seen, ..
            } if *seen == Seen::Ok => {
                for event in &effects.emitted {
                    self.committed(event, (&on.subject, at), &mut give);
                }
                for saved in &effects.inbox {
                    match saved.state {
                        "done" => self.effect(&saved.consumer, &saved.key, at, &mut give),
                        "dead" => self.given_up(&saved.consumer, &saved.key, at, &mut give),
                        _ => {}
                    }
                }
            }
            What::Publish {
                event,
                outcome,
                since,
            } => {
                self.published(event, (*since, at), outcome, &mut give);
            }
            What::Delivered {
                consumer,
                key,
                redelivered,
                kept,
                ..
            } => {
                self.counts.deliveries += u64::from(!*kept);
                self.counts.redeliveries += u64::from(*redelivered && !*kept);
                if let Some(key) = key {
                    self.delivered((consumer, key), at, &mut give);
                }
            }
            What::HandlerStart { run, .. } => {
                self.runs.insert(*run, (at, entry.process.clone()));
            }
            What::HandlerEnd { run, .. } => {
                if let Some((since, _)) = self.runs.remove(run) {
                    give(Leg::Handler, at.saturating_sub(since));
                }
            }
            What::Settled {
                consumer,
                key: Some(key),
                how,
                seen,
                ..
            } if *seen == Seen::Ok => {
                self.settled((consumer, key), how, at, &mut give);
            }
            What::Process { what } if *what != "started" => {
                self.runs
                    .retain(|_, (_, process)| *process != entry.process);
            }
            _ => {}
        }
        self.forget(at);
    }

    /// Whether a request was not begun before, as far as that is remembered.
    fn is_new(&mut self, key: &Arc<str>, due: u64, at: u64) -> bool {
        let request = (key.clone(), due);
        let known = self.requests.insert(request.clone(), ()).is_some();
        if !known {
            self.begun.push_back((at, request));
        }
        while let Some((since, _)) = self.begun.front() {
            if at.saturating_sub(*since) < AGAIN && self.begun.len() <= MOST {
                break;
            }
            if let Some((_, request)) = self.begun.pop_front() {
                self.requests.remove(&request);
            }
        }
        !known
    }

    fn way(&mut self, key: &Arc<str>, at: u64) -> &mut Way {
        self.events.entry(key.clone()).or_insert_with(|| Way {
            since: at,
            ..Way::default()
        })
    }

    fn committed(
        &mut self,
        event: &Arc<Event>,
        (subject, at): (&Arc<str>, u64),
        give: &mut impl FnMut(Leg, u64),
    ) {
        let is_first = event.id == event.correlation;
        let due = is_first.then(|| self.due.remove(subject)).flatten();
        self.counts.events += 1;
        self.counts.committed += u64::from(is_first);
        if let (true, Some(due)) = (is_first, due) {
            give(Leg::Request, at.saturating_sub(due));
        }
        let way = self.way(&event.idempotency_key, at);
        if way.committed.is_some() {
            // Another event of the same work: what is measured is the first.
            return;
        }
        way.committed = Some(at);
        way.chain = Some(event.correlation);
        if let Some(published) = way.published {
            give(Leg::CommitToPublished, published.saturating_sub(at));
        }
        let takers: Vec<Arc<str>> = takers(&self.topology, event).collect();
        let way = self.way(&event.idempotency_key, at);
        for consumer in takers {
            if !way.works.iter().any(|work| work.consumer == consumer) {
                way.works.push(Work::new(consumer, at));
            }
        }
        let (works, ended): (u64, u64) = (
            way.works.len() as u64,
            way.works.iter().filter(|work| work.ended).count() as u64,
        );
        // Seen before its commit was: a client hears of its commit late.
        let early: Vec<_> = (way.works.iter().filter_map(|work| work.effect)).collect();
        for effect in early {
            give(Leg::CommitToEffect, effect.saturating_sub(at));
        }
        let chain = self
            .chains
            .entry(event.correlation)
            .or_insert_with(|| Chain {
                since: at,
                ..Chain::default()
            });
        chain.due = chain.due.or(due);
        chain.begun |= is_first;
        chain.open += works - ended;
        self.close(event.correlation, at, give);
    }

    fn published(
        &mut self,
        event: &Arc<Event>,
        (since, at): (u64, u64),
        outcome: &PublishOutcome,
        give: &mut impl FnMut(Leg, u64),
    ) {
        let way = self.way(&event.idempotency_key, since);
        if way.published.is_none() {
            way.published = Some(since);
            if let Some(committed) = way.committed {
                give(Leg::CommitToPublished, since.saturating_sub(committed));
            }
            if let Some(delivered) = way.delivered {
                give(Leg::PublishedToDelivered, delivered.saturating_sub(since));
            }
        }
        if *outcome == PublishOutcome::Confirmed {
            if !std::mem::replace(&mut way.confirmed, true) {
                give(Leg::PublishedToConfirmed, at.saturating_sub(since));
            }
            self.counts.confirmed += 1;
        }
    }

    fn delivered(
        &mut self,
        (consumer, key): (&Arc<str>, &Arc<str>),
        at: u64,
        give: &mut impl FnMut(Leg, u64),
    ) {
        let way = self.way(key, at);
        if let Some(work) = way.works.iter_mut().find(|work| work.consumer == *consumer) {
            (work.with, work.since) = (With::Worker, at);
        }
        if way.delivered.is_none() {
            way.delivered = Some(at);
            if let Some(published) = way.published {
                give(Leg::PublishedToDelivered, at.saturating_sub(published));
            }
        }
    }

    fn work(&mut self, consumer: &Arc<str>, key: &Arc<str>, at: u64) -> (&mut Way, usize) {
        let way = self.way(key, at);
        let place = way.works.iter().position(|work| work.consumer == *consumer);
        let place = place.unwrap_or_else(|| {
            way.works.push(Work::new(consumer.clone(), at));
            way.works.len() - 1
        });
        (way, place)
    }

    fn effect(
        &mut self,
        consumer: &Arc<str>,
        key: &Arc<str>,
        at: u64,
        give: &mut impl FnMut(Leg, u64),
    ) {
        let (way, place) = self.work(consumer, key, at);
        let committed = way.committed;
        let work = &mut way.works[place];
        if work.ended || work.effect.is_some() {
            return;
        }
        work.effect = Some(at);
        if let Some(committed) = committed {
            let leg = match work.retried {
                true => Leg::CommitToEffectRetried,
                false => Leg::CommitToEffect,
            };
            give(leg, at.saturating_sub(committed));
        }
        self.counts.done += 1;
        self.end(consumer, key, (at, false), give);
    }

    fn given_up(
        &mut self,
        consumer: &Arc<str>,
        key: &Arc<str>,
        at: u64,
        give: &mut impl FnMut(Leg, u64),
    ) {
        let (way, place) = self.work(consumer, key, at);
        if way.works[place].ended {
            return;
        }
        let committed = way.committed;
        if let Some(committed) = committed {
            give(Leg::DeadLetter, at.saturating_sub(committed));
        }
        self.counts.dead += 1;
        self.end(consumer, key, (at, true), give);
    }

    fn settled(
        &mut self,
        (consumer, key): (&Arc<str>, &Arc<str>),
        how: &Settled,
        at: u64,
        give: &mut impl FnMut(Leg, u64),
    ) {
        match how {
            Settled::Retry { .. } => {
                self.counts.retried += 1;
                let (way, place) = self.work(consumer, key, at);
                way.works[place].retried = true;
                (way.works[place].with, way.works[place].since) = (With::Delay, at);
                let chain = way.chain;
                if let Some(chain) = chain.and_then(|id| self.chains.get_mut(&id)) {
                    chain.retried = true;
                }
            }
            Settled::Kept => {
                self.counts.kept += 1;
                let (way, place) = self.work(consumer, key, at);
                (way.works[place].with, way.works[place].since) = (With::Turn, at);
            }
            Settled::Park { .. } => {
                self.counts.parked += 1;
                let (way, place) = self.work(consumer, key, at);
                (way.works[place].with, way.works[place].since) = (With::Delay, at);
            }
            Settled::Done => {
                let (way, place) = self.work(consumer, key, at);
                let committed = way.committed.is_some();
                let work = &mut way.works[place];
                match work.effect {
                    // Of several deliveries of a work the first ack counts.
                    Some(effect) if !work.acked => {
                        work.acked = true;
                        give(Leg::Ack, at.saturating_sub(effect));
                    }
                    // Done by a commit of which nobody heard.
                    None if committed && !work.ended => {
                        let work = (consumer.clone(), key.clone());
                        let chain = way.chain;
                        self.assumed.insert(work, chain);
                        self.counts.done += 1;
                        self.end(consumer, key, (at, false), give);
                    }
                    _ => {}
                }
            }
            Settled::DeadLetter(_) => self.given_up(consumer, key, at, give),
        }
    }

    /// Notes that a work has ended.
    fn end(
        &mut self,
        consumer: &Arc<str>,
        key: &Arc<str>,
        (at, dead): (u64, bool),
        give: &mut impl FnMut(Leg, u64),
    ) {
        let (way, place) = self.work(consumer, key, at);
        if std::mem::replace(&mut way.works[place].ended, true) {
            return;
        }
        let over = way.committed.is_some() && way.works.iter().all(|work| work.ended);
        let chain = way.chain;
        if over {
            self.ended.push_back((at, key.clone()));
        }
        let Some(id) = chain else { return };
        if let Some(chain) = self.chains.get_mut(&id) {
            chain.open = chain.open.saturating_sub(1);
            chain.dead |= dead;
        }
        self.close(id, at, give);
    }

    /// Ends a chain of which nothing is open.
    fn close(&mut self, id: Uuid, at: u64, give: &mut impl FnMut(Leg, u64)) {
        let is_over = |chain: &Chain| chain.begun && chain.open == 0;
        if !self.chains.get(&id).is_some_and(is_over) {
            return;
        }
        let Some(chain) = self.chains.remove(&id) else {
            return;
        };
        self.counts.workflows += 1;
        if let (Some(due), false) = (chain.due, chain.dead) {
            let leg = match chain.retried {
                true => Leg::EndToEndRetried,
                false => Leg::EndToEnd,
            };
            give(leg, at.saturating_sub(due));
        }
    }

    /// Forgets what ended long ago.
    fn forget(&mut self, now: u64) {
        while let Some((at, _)) = self.ended.front() {
            if now.saturating_sub(*at) < KNOWN && self.ended.len() <= MOST {
                break;
            }
            if let Some((_, key)) = self.ended.pop_front() {
                self.events.remove(&key);
            }
        }
        if now < self.sweep {
            return;
        }
        self.sweep = now + UNSEEN / 4;
        let fresh = |since: u64| now.saturating_sub(since) < UNSEEN;
        self.events
            .retain(|_, way| way.committed.is_some() || fresh(way.since));
        self.chains
            .retain(|_, chain| chain.begun || fresh(chain.since));
        // A request that was refused for good is never committed. One that waits long is what is to be
        // measured, so nothing is forgotten before there are very many.
        if self.due.len() > MOST {
            self.due.retain(|_, due| now.saturating_sub(*due) < AGAIN);
        }
    }
}

impl Work {
    fn new(consumer: Arc<str>, since: u64) -> Self {
        Self {
            consumer,
            effect: None,
            acked: false,
            retried: false,
            ended: false,
            with: With::Nobody,
            since,
        }
    }
}

/// The consumers that take an event.
fn takers<'a>(topology: &'a Topology, event: &'a Event) -> impl Iterator<Item = Arc<str>> + 'a {
    let takes = |(event_type, _): &(Arc<str>, _)| *event_type == event.event_type;
    let all = topology.subscriptions.iter();
    all.filter(move |it| it.types.iter().any(takes))
        .map(|it| it.consumer.clone())
}

#[cfg(test)]
mod tests;
