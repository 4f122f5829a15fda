//! The final reading: what stands in tables, queues and services when a run is over.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use redeliver_core::dead_letter::DeadLetter;
use redeliver_core::event::Event;
use redeliver_core::ports::store;

/// A message found in a queue at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queued {
    /// The queue, without the run's namespace: a consumer's name, or that of a delay queue.
    pub queue: Arc<str>,
    /// The event, where the message is one.
    pub event: Option<Arc<Event>>,
    /// Handed over and not settled.
    pub unacked: bool,
}

/// A dead letter found at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// The dead-letter queue's consumer.
    pub consumer: Arc<str>,
    /// The event, where the message is one.
    pub event: Option<Arc<Event>>,
    /// The bytes of one that is none.
    pub raw: Option<Bytes>,
    /// Its story; none where it came here without one (through the broker's own dead lettering).
    pub story: Option<DeadLetter>,
    /// How the broker gave it up, where it did: its reason and the queue, without the namespace.
    pub death: Option<(Arc<str>, Arc<str>)>,
}

impl Letter {
    /// Why it was given up: the word of its story, or that of the broker.
    pub fn reason(&self) -> &'static str {
        match (&self.story, &self.death) {
            (Some(story), _) => story.reason.as_str(),
            (None, Some((reason, _))) => match &**reason {
                "expired" => "broker: expired",
                "maxlen" => "broker: maxlen",
                "delivery_limit" => "broker: delivery-limit",
                "rejected" => "broker: rejected",
                _ => "broker",
            },
            (None, None) => "unknown",
        }
    }
}

/// How the bytes of a malformed message begin that the harness publishes; its number follows.
pub const STRANGER: &str = "not an event, number ";

/// A message that the broker threw away, and told nobody. Only a broker model says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// When, in nanoseconds since the start of the run.
    pub at: u64,
    /// The queue, or for one that found none the exchange, without the namespace.
    pub queue: Arc<str>,
    /// Its idempotency key; none where it carries none.
    pub key: Option<Arc<str>>,
    /// Why, as a clause: `it was …`.
    pub why: &'static str,
}

impl FinalReading {
    /// Messages in the dead letters of a consumer. Copies of one letter count once: whoever dies
    /// between publishing a letter and noting that publishes it again.
    pub fn dead(&self) -> u64 {
        let known = self.letters.iter().filter_map(|letter| {
            let event = letter.event.as_ref()?;
            Some((&letter.consumer, &event.idempotency_key))
        });
        let unknown = self.letters.iter().filter(|letter| letter.event.is_none());
        (known.collect::<BTreeSet<_>>().len() + unknown.count()) as u64
    }
}

/// One effect in the ledger of an outside service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Which service.
    pub service: Arc<str>,
    /// What it did.
    pub operation: Arc<str>,
    /// For which idempotency key.
    pub key: Arc<str>,
    /// With which fencing token.
    pub token: u64,
    /// The request.
    pub payload: Bytes,
    /// When, in nanoseconds since the start of the run.
    pub at: u64,
}

/// What a query gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The query.
    pub sql: Arc<str>,
    /// Its rows, with their columns as text, or why it could not be asked.
    pub rows: Result<Vec<Vec<Option<String>>>, String>,
}

/// Everything at the end of a run.
#[derive(Clone, Debug, Default)]
pub struct FinalReading {
    /// All tables.
    pub store: store::Reading,
    /// What is left in work and delay queues.
    pub queued: Vec<Queued>,
    /// What is in the dead-letter queues.
    pub letters: Vec<Letter>,
    /// What the broker threw away, in order; the first thousands of it.
    pub dropped: Vec<Dropped>,
    /// What the outside services did, in order. An entry is an effect; an answer to a repeated
    /// key without a new effect is none.
    pub ledger: Vec<LedgerEntry>,
    /// Database sessions in a transaction, and row locks held.
    pub open_transactions: u64,
    /// See `open_transactions`.
    pub held_locks: u64,
    /// What queries gave that are to give no rows.
    pub no_rows: Vec<Answer>,
}
