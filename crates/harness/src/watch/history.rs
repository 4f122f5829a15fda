//! The history of a run: what its clients saw, and nothing else.
//!
//! Decorators on the ports write it, in either world; see [`crate::watch::record`]. Checkers
//! judge a run by its history and by a final reading, so they judge a real run as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::file::{Appender, Record};
use redeliver_core::dead_letter::Reason;
use redeliver_core::event::Event;
use redeliver_core::ports::{PublishOutcome, Receipt, Scope};

/// A name from a program's text: a table, an operation, a kind of fault. By this other name, since
/// `Deserialize` takes a `&str` for one that borrows from its input.
pub type Name = &'static str;

/// On whose behalf, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnBehalf {
    /// The consumer, or `client` for a request from outside.
    pub consumer: Arc<str>,
    /// The idempotency key of the message or request.
    pub subject: Arc<str>,
    /// The attempt, from 1; 0 where there is none.
    pub attempt: u32,
}

impl OnBehalf {
    /// Of a borrowed scope.
    pub fn of(scope: Scope<'_>) -> Self {
        Self {
            consumer: Arc::from(scope.consumer),
            subject: Arc::from(scope.subject),
            attempt: scope.attempt,
        }
    }
}

/// How something asked of the outside ended, as its caller saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// It happened.
    Ok,
    /// It did not happen.
    Failed(String),
    /// Nobody can say.
    InDoubt(String),
}

/// A transition of a workflow: workflow, number, from, to.
pub type Transition = (Arc<str>, u64, Arc<str>, Arc<str>);

/// Everything a transaction would change, if it commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effects {
    /// Events put into the outbox, as numbered by it.
    pub emitted: Vec<Arc<Event>>,
    /// Rows of the workload inserted or updated: table and key.
    #[serde(deserialize_with = "names::with_keys")]
    pub rows: Vec<(Name, Arc<str>)>,
    /// Transitions: workflow, number, from, to.
    pub transitions: Vec<Transition>,
    /// Inbox rows saved: consumer, key, state, attempts, fencing token.
    pub inbox: Vec<InboxSaved>,
}

impl Effects {
    /// Whether it changes anything beside the inbox.
    pub fn is_empty(&self) -> bool {
        self.emitted.is_empty() && self.rows.is_empty() && self.transitions.is_empty()
    }
}

/// An inbox row as a transaction saved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxSaved {
    /// The consumer.
    pub consumer: Arc<str>,
    /// The idempotency key.
    pub key: Arc<str>,
    /// `open`, `claimed`, `done` or `dead`.
    #[serde(deserialize_with = "names::one")]
    pub state: Name,
    /// Attempts recorded.
    pub attempts: u32,
    /// Fencing token.
    pub token: u64,
}

/// What a delivery was settled as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settled {
    /// Acked.
    Done,
    /// To be tried again.
    Retry {
        /// The attempt to come.
        attempt: u32,
        /// Not before so many nanoseconds.
        delay: u64,
    },
    /// Waits in the store for an earlier message of its key.
    Kept,
    /// To be looked at again.
    Park {
        /// Not before so many nanoseconds.
        delay: u64,
    },
    /// Given up.
    DeadLetter(Reason),
}

/// How a handler's run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// It returned Ok. Its transaction may still fail to commit.
    Ok,
    /// It failed and may be tried again.
    Transient(String),
    /// It failed for good.
    Poison(String),
    /// It was dropped: stopped at its limit, or its process died.
    Dropped,
    /// The batch that it was part of failed and was rolled back. That is no attempt at its message,
    /// which is tried again in a smaller batch.
    BatchFailed(String),
}

/// One thing that a client did or saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// A load generator began to send a request.
    Request {
        /// Its idempotency key.
        key: Arc<str>,
        /// When it was to be sent. The entry's own time says when it was: their difference is the
        /// generator's lateness, and what the request waits for afterwards is the system's.
        due: u64,
    },
    /// A transaction ended.
    Commit {
        /// Whose.
        on: OnBehalf,
        /// What it changes.
        effects: Effects,
        /// How COMMIT ended.
        seen: Seen,
        /// When COMMIT was sent: what it changes can be seen from then on, long before it is known
        /// to have been carried out.
        since: u64,
    },
    /// A message was published and its outcome is known.
    Publish {
        /// The event.
        event: Arc<Event>,
        /// What became of it.
        outcome: PublishOutcome,
        /// When it was sent; it may be delivered before it is confirmed.
        since: u64,
    },
    /// A consumer got a message.
    Delivered {
        /// Which consumer (its queue).
        consumer: Arc<str>,
        /// Which message: its idempotency key; none for malformed ones.
        key: Option<Arc<str>>,
        /// Its event id where it could be read.
        id: Option<Uuid>,
        /// Delivery.
        receipt: Receipt,
        /// The attempt that the message carries.
        attempt: u32,
        /// Flagged by the broker.
        redelivered: bool,
        /// It came from the store, where it waited for its turn, and not from the broker.
        kept: bool,
    },
    /// A consumer settled a delivery.
    Settled {
        /// Which consumer.
        consumer: Arc<str>,
        /// Which message; none for malformed ones.
        key: Option<Arc<str>>,
        /// Delivery.
        receipt: Receipt,
        /// As what.
        how: Settled,
        /// What its dead letter tells, where it became one: class, error, attempts.
        letter: Option<Arc<str>>,
        /// Whether that is known to have happened.
        seen: Seen,
    },
    /// A handler began to run.
    HandlerStart {
        /// For which message.
        on: OnBehalf,
        /// Numbers the runs, from 1.
        run: u64,
        /// Runs of one batch are begun together, in one transaction: the number of the first of them;
        /// of a message that is alone its own.
        batch: u64,
        /// How many entries the history had when the inbox row was asked for that the run goes by;
        /// of a consumer without an inbox when the run began.
        read: usize,
    },
    /// A handler ended.
    HandlerEnd {
        /// Which run.
        run: u64,
        /// How.
        ended: Ended,
    },
    /// An outside service was called.
    Call {
        /// Which service and operation.
        #[serde(deserialize_with = "names::one")]
        service: Name,
        /// Which operation.
        #[serde(deserialize_with = "names::one")]
        operation: Name,
        /// With which idempotency key.
        key: Arc<str>,
        /// With which fencing token.
        token: u64,
        /// How it ended; none while it runs.
        seen: Option<Seen>,
    },
    /// A process started, stopped or died.
    Process {
        /// `started`, `stopped`, `crashed`, `paused`, `resumed`.
        #[serde(deserialize_with = "names::one")]
        what: Name,
    },
    /// A fault struck, by its name in scenario files.
    Fault {
        /// Kind.
        #[serde(deserialize_with = "names::one")]
        kind: Name,
        /// Where.
        at: String,
    },
    /// All faults are over from here on.
    Heal,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Nanoseconds since the start of the run.
    pub at: u64,
    /// Who.
    pub process: Arc<str>,
    /// What.
    pub what: What,
}

/// A history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// In the order in which it was seen.
    pub entries: Vec<Entry>,
    /// Handler runs so far.
    pub runs: u64,
}

impl History {
    /// When the last entry was made; 0 where there is none.
    pub fn until(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.at)
    }
}

/// Where a running system writes its history: into memory, or as it happens into a file.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Sink>);

#[derive(Debug)]
enum Sink {
    Memory(Mutex<History>),
    File { file: Appender, runs: AtomicU64 },
}

impl Default for Recorder {
    /// Into memory.
    fn default() -> Self {
        Self(Arc::new(Sink::Memory(Mutex::default())))
    }
}

impl Recorder {
    /// Into a file, to which other processes may write as well. The numbers of this one's handler
    /// runs begin above `runs`.
    pub fn to_file(file: Appender, runs: u64) -> Self {
        let runs = AtomicU64::new(runs);
        Self(Arc::new(Sink::File { file, runs }))
    }

    /// Makes room for a run of so many messages: moving a long history as it grows is dear.
    pub fn expect(&self, messages: usize) {
        if let Sink::Memory(history) = &*self.0 {
            lock(history).entries.reserve(messages.saturating_mul(32));
        }
    }

    /// Adds an entry.
    pub fn add(&self, at: u64, process: &Arc<str>, what: What) {
        let process = process.clone();
        let entry = Entry { at, process, what };
        match &*self.0 {
            Sink::Memory(history) => lock(history).entries.push(entry),
            Sink::File { file, .. } => file.append(&Record::Entry(entry)),
        }
    }

    /// Gives the next run its number.
    pub fn next_run(&self) -> u64 {
        match &*self.0 {
            Sink::Memory(history) => {
                let mut history = lock(history);
                history.runs += 1;
                history.runs
            }
            Sink::File { runs, .. } => runs.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    /// Where the history stands at the time `now`: how many entries it has, or for a file, which
    /// others write as well, that time. Whoever reads the file makes the one of the other.
    pub fn place(&self, now: impl FnOnce() -> u64) -> usize {
        match &*self.0 {
            Sink::Memory(history) => lock(history).entries.len(),
            Sink::File { .. } => usize::try_from(now()).unwrap_or(usize::MAX),
        }
    }

    /// How many entries there are in memory.
    pub fn len(&self) -> usize {
        match &*self.0 {
            Sink::Memory(history) => lock(history).entries.len(),
            Sink::File { .. } => 0,
        }
    }

    /// Whether there are none in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the history out of memory, leaving an empty one.
    pub fn take(&self) -> History {
        match &*self.0 {
            Sink::Memory(history) => std::mem::take(&mut *lock(history)),
            Sink::File { .. } => History::default(),
        }
    }
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names that live as long as the program: a history that is read back from a file has the same
/// few ones as the program that wrote it.
pub(crate) mod names {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex, PoisonError};

    use serde::de::{Deserialize, Deserializer, Error};

    /// More different names than any workload has: a file with more is no history.
    const MOST: usize = 10_000;

    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

    fn known<E: Error>(name: &str) -> Result<&'static str, E> {
        let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = all.get(name) {
            return Ok(*name);
        }
        if all.len() >= MOST {
            return Err(E::custom("too many different names"));
        }
        let name: &'static str = Box::leak(Box::from(name));
        all.insert(name);
        Ok(name)
    }

    pub(crate) fn one<'de, D: Deserializer<'de>>(input: D) -> Result<&'static str, D::Error> {
        known(&String::deserialize(input)?)
    }

    pub(super) type Keyed = Vec<(&'static str, Arc<str>)>;

    pub(super) fn with_keys<'de, D: Deserializer<'de>>(input: D) -> Result<Keyed, D::Error> {
        let all = Vec::<(String, Arc<str>)>::deserialize(input)?.into_iter();
        all.map(|(name, key)| Ok((known(&name)?, key))).collect()
    }
}
