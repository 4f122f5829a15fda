//! Small histories by hand, for the tests of the checkers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::{View, check_all};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::{
    Effects, Ended, Entry, History, InboxSaved, OnBehalf, Seen, Settled, What,
};
use crate::watch::reading::{FinalReading, LedgerEntry, Letter, Queued};
use redeliver_core::dead_letter::{DeadLetter, Reason};
use redeliver_core::event::{Event, Kind, Outgoing};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::outbox::OutboxRow;
use redeliver_core::policy::Policy;
use redeliver_core::ports::{PublishOutcome, Receipt, Timestamp};
use redeliver_core::retry::RetryPolicy;
use redeliver_core::topology::{QueueType, Subscription, Topology};

/// The event type of all tests, and the consumers of it.
pub(crate) const PLACED: &str = "order.placed";
pub(crate) const CHARGE: &str = "charge";
pub(crate) const MAIL: &str = "mail";

/// A millisecond.
pub(crate) const MS: u64 = 1_000_000;

/// A history in the making, with its final reading.
pub(crate) struct Kit {
    pub(crate) history: History,
    pub(crate) reading: FinalReading,
    pub(crate) topology: Topology,
    pub(crate) policy: Policy,
    pub(crate) transitions: &'static [(&'static str, &'static str)],
    pub(crate) final_states: &'static [&'static str],
    pub(crate) poison: Vec<Arc<str>>,
    pub(crate) malformed: u64,
    pub(crate) processes: u32,
    pub(crate) disturbed: Vec<(u64, u64)>,
    pub(crate) beside: Vec<redeliver_sim::Beside>,
    pub(crate) settled: bool,
    pub(crate) stopped: bool,
    pub(crate) now: u64,
    /// The channel of the deliveries to come: another one after a connection was lost.
    pub(crate) channel: u64,
    tag: u64,
    ids: u128,
}

/// A delivery in a worker's hands.
#[derive(Clone)]
pub(crate) struct Hand {
    pub(crate) event: Arc<Event>,
    pub(crate) process: String,
    pub(crate) consumer: &'static str,
    pub(crate) receipt: Receipt,
    pub(crate) attempt: u32,
}

impl Hand {
    pub(crate) fn on(&self) -> OnBehalf {
        OnBehalf {
            consumer: self.consumer.into(),
            subject: self.event.idempotency_key.clone(),
            attempt: self.attempt,
        }
    }
}

impl Kit {
    /// One consumer, three attempts, a first wait of a second, without jitter.
    pub(crate) fn new() -> Self {
        Self::with(&[CHARGE])
    }

    pub(crate) fn with(consumers: &[&str]) -> Self {
        let subscription = |consumer: &&str| Subscription {
            consumer: Arc::from(*consumer),
            types: vec![(Arc::from(PLACED), Kind::Fact)],
        };
        let retry = RetryPolicy {
            attempts: 3,
            first: Duration::from_secs(1),
            cap: Duration::from_secs(60),
            total: Duration::from_secs(600),
            jitter: false,
        };
        Self {
            history: History::default(),
            reading: FinalReading::default(),
            topology: Topology {
                exchanges: vec![Arc::from("order")],
                subscriptions: consumers.iter().map(subscription).collect(),
                rungs: Vec::new(),
                queue_type: QueueType::Quorum,
            },
            policy: Policy {
                retry,
                ..Policy::default()
            },
            transitions: &[],
            final_states: &[],
            poison: Vec::new(),
            malformed: 0,
            processes: 1,
            disturbed: Vec::new(),
            beside: Vec::new(),
            settled: true,
            stopped: false,
            now: 0,
            channel: 1,
            tag: 0,
            ids: 0,
        }
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            history: &self.history,
            reading: &self.reading,
            topology: &self.topology,
            policy: &self.policy,
            transitions: self.transitions,
            final_states: self.final_states,
            poison: &self.poison,
            malformed: self.malformed,
            processes: self.processes,
            disturbed: &self.disturbed,
            beside: &self.beside,
            settled: self.settled,
            elsewhere: None,
            until: self.history.until(),
            stopped: self.stopped,
        }
    }

    pub(crate) fn check(&self) -> Vec<Anomaly> {
        check_all(&self.view())
    }

    /// Nothing is wrong.
    #[track_caller]
    pub(crate) fn silent(&self) {
        let found = self.check();
        assert!(found.is_empty(), "{found:#?}");
    }

    /// The checker finds this kind, in words that contain `text`; gives all that was found.
    #[track_caller]
    pub(crate) fn red(&self, checker: &str, kind: AnomalyKind, text: &str) -> Vec<Anomaly> {
        let found = self.check();
        let hit = |a: &Anomaly| a.checker == checker && a.kind == kind && a.seen.contains(text);
        assert!(
            found.iter().any(hit),
            "no {checker} with {text:?} in {found:#?}"
        );
        found
    }

    /// Exactly this checker speaks.
    #[track_caller]
    pub(crate) fn only(&self, checker: &str, kind: AnomalyKind, text: &str) {
        let found = self.red(checker, kind, text);
        assert!(found.iter().all(|a| a.checker == checker), "{found:#?}");
    }

    pub(crate) fn wait(&mut self, nanos: u64) {
        self.now += nanos;
    }

    pub(crate) fn add(&mut self, process: &str, what: What) {
        self.now += MS;
        let (at, process) = (self.now, Arc::from(process));
        self.history.entries.push(Entry { at, process, what });
    }

    pub(crate) fn event(&mut self, key: &str) -> Arc<Event> {
        self.numbered(key, None)
    }

    /// An ordered event of business key `a`.
    pub(crate) fn ordered(&mut self, key: &str, sequence: u64) -> Arc<Event> {
        self.numbered(key, Some(sequence))
    }

    fn numbered(&mut self, key: &str, sequence: Option<u64>) -> Arc<Event> {
        self.ids += 1;
        let id = Uuid::from_u128(self.ids);
        let business = if sequence.is_some() { "a" } else { key };
        Arc::new(Event {
            id,
            idempotency_key: Arc::from(key),
            kind: Kind::Fact,
            event_type: Arc::from(PLACED),
            version: 1,
            key: Arc::from(business),
            workflow: Arc::from(key),
            correlation: id,
            causation: None,
            time: Timestamp(0),
            trace: None,
            sequence,
            payload: Bytes::new(),
        })
    }

    pub(crate) fn commit(&mut self, process: &str, on: OnBehalf, effects: Effects, seen: Seen) {
        let since = self.now;
        self.add(
            process,
            What::Commit {
                on,
                effects,
                seen,
                since,
            },
        );
    }

    /// A client's commit, without a row in the outbox.
    pub(crate) fn emit(&mut self, event: &Arc<Event>, seen: Seen) {
        let on = OnBehalf {
            consumer: Arc::from("client"),
            subject: event.idempotency_key.clone(),
            attempt: 1,
        };
        let effects = Effects {
            emitted: vec![event.clone()],
            ..Effects::default()
        };
        self.commit("client-1", on, effects, seen);
    }

    /// The event's row in the final outbox.
    pub(crate) fn outbox(&mut self, event: &Arc<Event>, published: bool) {
        let id = self.reading.store.outbox.len() as i64 + 1;
        self.reading.store.outbox.push(OutboxRow {
            id,
            outgoing: Outgoing {
                event: event.clone(),
                exchange: Arc::from("order"),
                routing_key: Arc::from(PLACED),
            },
            published_at: published.then_some(Timestamp(1)),
            lease_until: None,
        });
    }

    pub(crate) fn publish(&mut self, event: &Arc<Event>, outcome: PublishOutcome) {
        let event = event.clone();
        let since = self.now;
        self.add(
            "relay-1",
            What::Publish {
                event,
                outcome,
                since,
            },
        );
    }

    /// A committed, published event.
    pub(crate) fn accepted(&mut self, key: &str) -> Arc<Event> {
        let event = self.event(key);
        self.accept(&event);
        event
    }

    pub(crate) fn accept(&mut self, event: &Arc<Event>) {
        self.emit(event, Seen::Ok);
        self.outbox(event, true);
        self.publish(event, PublishOutcome::Confirmed);
    }

    pub(crate) fn deliver(&mut self, event: &Arc<Event>, process: &str) -> Hand {
        self.deliver_as(event, process, CHARGE, (1, false))
    }

    pub(crate) fn deliver_as(
        &mut self,
        event: &Arc<Event>,
        process: &str,
        consumer: &'static str,
        (attempt, redelivered): (u32, bool),
    ) -> Hand {
        self.tag += 1;
        let receipt = Receipt {
            channel: self.channel,
            tag: self.tag,
        };
        let what = What::Delivered {
            consumer: Arc::from(consumer),
            key: Some(event.idempotency_key.clone()),
            id: Some(event.id),
            receipt,
            attempt,
            redelivered,
            kept: false,
        };
        self.add(process, what);
        Hand {
            event: event.clone(),
            process: process.to_owned(),
            consumer,
            receipt,
            attempt,
        }
    }

    pub(crate) fn start(&mut self, hand: &Hand) -> u64 {
        let read = self.history.entries.len();
        self.start_after(hand, read)
    }

    /// A run that read its inbox row when the history had so many entries.
    pub(crate) fn start_after(&mut self, hand: &Hand, read: usize) -> u64 {
        self.start_with(hand, read, None)
    }

    /// A run in the batch that a run of this number has begun.
    pub(crate) fn start_in(&mut self, hand: &Hand, batch: u64) -> u64 {
        let read = self.history.entries.len();
        self.start_with(hand, read, Some(batch))
    }

    fn start_with(&mut self, hand: &Hand, read: usize, batch: Option<u64>) -> u64 {
        self.history.runs += 1;
        let (on, run) = (hand.on(), self.history.runs);
        self.add(
            &hand.process,
            What::HandlerStart {
                on,
                run,
                batch: batch.unwrap_or(run),
                read,
            },
        );
        run
    }

    pub(crate) fn end(&mut self, hand: &Hand, run: u64, ended: Ended) {
        self.add(&hand.process, What::HandlerEnd { run, ended });
    }

    /// One run, from start to end.
    pub(crate) fn run(&mut self, hand: &Hand, ended: Ended) {
        let run = self.start(hand);
        self.end(hand, run, ended);
    }

    /// Effects of a handler, with the inbox row saved as done.
    pub(crate) fn effects(hand: &Hand) -> Effects {
        let mut effects = Self::naive(hand);
        effects.inbox.push(Self::saved(hand, "done"));
        effects
    }

    /// Effects of a handler without an inbox.
    pub(crate) fn naive(hand: &Hand) -> Effects {
        Effects {
            rows: vec![("charges", hand.event.idempotency_key.clone())],
            ..Effects::default()
        }
    }

    pub(crate) fn saved(hand: &Hand, state: &'static str) -> InboxSaved {
        InboxSaved {
            consumer: Arc::from(hand.consumer),
            key: hand.event.idempotency_key.clone(),
            state,
            attempts: hand.attempt,
            token: 0,
        }
    }

    /// A handler's commit with these effects.
    pub(crate) fn handled(&mut self, hand: &Hand, effects: Effects, seen: Seen) {
        self.commit(&hand.process, hand.on(), effects, seen);
    }

    /// A commit that changes the inbox only.
    pub(crate) fn noted(&mut self, hand: &Hand, state: &'static str) {
        let effects = Effects {
            inbox: vec![Self::saved(hand, state)],
            ..Effects::default()
        };
        self.handled(hand, effects, Seen::Ok);
    }

    pub(crate) fn settle(&mut self, hand: &Hand, how: Settled) {
        let what = What::Settled {
            consumer: Arc::from(hand.consumer),
            key: Some(hand.event.idempotency_key.clone()),
            receipt: hand.receipt,
            how,
            letter: None,
            seen: Seen::Ok,
        };
        self.add(&hand.process, what);
    }

    pub(crate) fn inbox(&mut self, hand: &Hand, state: InboxState) {
        let (consumer, key) = (Arc::from(hand.consumer), hand.event.idempotency_key.clone());
        let row = InboxRow {
            state,
            attempts: hand.attempt,
            ..InboxRow::fresh(consumer, key, Timestamp(0))
        };
        self.reading.store.inbox.push(row);
    }

    pub(crate) fn done() -> InboxState {
        InboxState::Done {
            result: Bytes::new(),
        }
    }

    /// A good run: effects committed, acked, done in the final inbox.
    pub(crate) fn succeed(&mut self, hand: &Hand) {
        self.run(hand, Ended::Ok);
        self.handled(hand, Self::effects(hand), Seen::Ok);
        self.settle(hand, Settled::Done);
        self.inbox(hand, Self::done());
    }

    /// From request to effect.
    pub(crate) fn flow(&mut self, key: &str, process: &str) -> Hand {
        let event = self.accepted(key);
        let hand = self.deliver(&event, process);
        self.succeed(&hand);
        hand
    }

    /// A run that fails, is put on record and waits for the next attempt.
    pub(crate) fn fail(&mut self, hand: &Hand) {
        self.run(hand, transient());
        self.noted(hand, "open");
        let delay = self.policy.retry.nominal(hand.attempt);
        let retry = Settled::Retry {
            attempt: hand.attempt + 1,
            delay: redeliver_core::ports::env::nanos(delay),
        };
        self.settle(hand, retry);
        self.wait(redeliver_core::ports::env::nanos(delay));
    }

    pub(crate) fn story(hand: &Hand, reason: Reason) -> DeadLetter {
        DeadLetter {
            reason,
            class: Arc::from("refused"),
            error: "no".to_owned(),
            attempts: hand.attempt,
            first_failure: Timestamp(1),
            last_failure: Timestamp(2),
            consumer: Arc::from(hand.consumer),
            queue: Arc::from(hand.consumer),
            exchange: Arc::from("order"),
            routing_key: Arc::from(PLACED),
            worker: Arc::from("worker-1#0"),
        }
    }

    pub(crate) fn letter(&mut self, hand: &Hand, story: DeadLetter) {
        self.reading.letters.push(Letter {
            consumer: Arc::from(hand.consumer),
            event: Some(hand.event.clone()),
            raw: None,
            story: Some(story),
            death: None,
        });
    }

    /// Gives up: dead in the inbox, letter in its queue.
    pub(crate) fn bury(&mut self, hand: &Hand, story: DeadLetter) {
        self.noted(hand, "dead");
        self.settle(hand, Settled::DeadLetter(story.reason));
        self.letter(hand, story.clone());
        let state = InboxState::Dead {
            story: Box::new(story),
            published: true,
        };
        self.inbox(hand, state);
    }

    pub(crate) fn queued(&mut self, queue: &str, event: &Arc<Event>) {
        self.reading.queued.push(Queued {
            queue: Arc::from(queue),
            event: Some(event.clone()),
            unacked: false,
        });
    }

    pub(crate) fn charged(&mut self, key: &str, token: u64, at: u64) {
        self.reading.ledger.push(LedgerEntry {
            service: Arc::from("payments"),
            operation: Arc::from("charge"),
            key: Arc::from(key),
            token,
            payload: Bytes::new(),
            at,
        });
    }
}

pub(crate) fn transient() -> Ended {
    Ended::Transient("not now".to_owned())
}

pub(crate) fn poison() -> Ended {
    Ended::Poison("never".to_owned())
}

pub(crate) fn in_doubt() -> Seen {
    Seen::InDoubt("no answer".to_owned())
}

pub(crate) fn failed() -> Seen {
    Seen::Failed("serialization failure".to_owned())
}
