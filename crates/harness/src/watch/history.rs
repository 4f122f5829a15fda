//! The history of a run: what its clients saw, and nothing else.
//!
//! Decorators on the ports write it, in either world; see [`crate::watch::record`]. Checkers
//! judge a run by its history and by a final reading, so they judge a real run as well.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use redeliver_core::dead_letter::Reason;
use redeliver_core::event::Event;
use redeliver_core::ports::{PublishOutcome, Receipt, Scope};

/// On whose behalf, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Events put into the outbox, as numbered by it.
    pub emitted: Vec<Arc<Event>>,
    /// Rows of the workload inserted or updated: table and key.
    pub rows: Vec<(&'static str, Arc<str>)>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxSaved {
    /// The consumer.
    pub consumer: Arc<str>,
    /// The idempotency key.
    pub key: Arc<str>,
    /// `open`, `claimed`, `done` or `dead`.
    pub state: &'static str,
    /// Attempts recorded.
    pub attempts: u32,
    /// Fencing token.
    pub token: u64,
}

/// What a delivery was settled as.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// To be looked at again.
    Park {
        /// Not before so many nanoseconds.
        delay: u64,
    },
    /// Given up.
    DeadLetter(Reason),
}

/// How a handler's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It returned Ok. Its transaction may still fail to commit.
    Ok,
    /// It failed and may be tried again.
    Transient(String),
    /// It failed for good.
    Poison(String),
    /// It was dropped: stopped at its limit, or its process died.
    Dropped,
}

/// One thing that a client did or saw.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
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
        service: &'static str,
        /// Which operation.
        operation: &'static str,
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
        what: &'static str,
    },
    /// A fault struck, by its name in scenario files.
    Fault {
        /// Kind.
        kind: &'static str,
        /// Where.
        at: String,
    },
    /// All faults are over from here on.
    Heal,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
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

/// Where a running system writes its history.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<History>>);

impl Recorder {
    /// Makes room for a run of so many messages: moving a long history as it grows is dear.
    pub fn expect(&self, messages: usize) {
        self.lock().entries.reserve(messages.saturating_mul(32));
    }

    /// Adds an entry.
    pub fn add(&self, at: u64, process: &Arc<str>, what: What) {
        self.lock().entries.push(Entry {
            at,
            process: process.clone(),
            what,
        });
    }

    /// Gives the next run its number.
    pub fn next_run(&self) -> u64 {
        let mut history = self.lock();
        history.runs += 1;
        history.runs
    }

    /// Takes the history, leaving an empty one.
    pub fn take(&self) -> History {
        std::mem::take(&mut *self.lock())
    }

    /// Looks at the history so far.
    pub fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
