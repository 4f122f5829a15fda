//! Rows in transactions.
//!
//! READ COMMITTED is assumed and nothing stronger: every rule of the pipeline holds by row locks
//! and unique keys. What a row means (inbox states, leases, fencing) is decided by pure functions
//! in the pipeline; a store only keeps rows and locks them, so that both worlds share the rules.

use std::any::Any;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::audit::{AuditEntry, WorkflowHead};
use crate::event::Outgoing;
use crate::inbox::InboxRow;
use crate::outbox::{ClaimedRow, OutboxRow, RelayClaim};
use crate::ports::env::{Scope, Timestamp};
use crate::ports::transport::Delivery;

/// How long a statement waits for a row that another transaction holds, where nobody says
/// otherwise. One for all stores: what waits too long must fail in each of them.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a store could not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The transaction did not happen and may succeed if tried again: deadlock, serialization
    /// failure, statement time-out, a lost connection before COMMIT was sent.
    #[error("the database did not carry it out, try again: {0}")]
    Transient(String),
    /// COMMIT was sent and no answer came: it may have happened.
    #[error("the commit is in doubt: {0}")]
    InDoubt(String),
    /// The database does not answer.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// It would fail again: a constraint, a wrong type, a missing table.
    #[error("the database refused: {0}")]
    Refused(String),
}

impl StoreError {
    /// `what` was to be saved by a transaction that has not opened it.
    pub fn not_opened(what: &str) -> Self {
        Self::Refused(format!("{what} was not opened by this transaction"))
    }
}

/// A row type of a workload. It is kept as a JSON document under its key.
pub trait Row: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The name of its table, `[a-z_]+`.
    const TABLE: &'static str;
    /// Its primary key.
    fn key(&self) -> String;
}

/// A row with the version under which it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<R> {
    /// The row.
    pub row: R,
    /// Starts at 1 and rises by 1 with every update.
    pub version: i64,
}

/// Where an ordered message stands in its key, for one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the next.
    Next,
    /// It was passed before: a duplicate of work that has ended.
    Past,
    /// A predecessor is still to come.
    Early,
}

impl Place {
    /// The place of number `sequence` where `next` is expected.
    pub fn of(sequence: u64, next: u64) -> Self {
        match sequence.cmp(&next) {
            std::cmp::Ordering::Equal => Self::Next,
            std::cmp::Ordering::Less => Self::Past,
            std::cmp::Ordering::Greater => Self::Early,
        }
    }
}

/// What a backend has behind a port, as the type of its own client.
pub type Native = dyn Any + Send + Sync;

/// Gives what the backend has behind a port. A backend's extension trait builds on it, so that
/// handlers reach their database and the pipeline names none.
pub trait Behind {
    /// See [`Tx::connection`]; `None` outside of a transaction.
    fn connection(&mut self) -> Option<&mut Native>;
    /// See [`Store::pool`].
    fn pool(&self) -> Option<&Native>;
}

/// One transaction. Dropping it rolls it back; a failed statement poisons it.
pub trait Tx: Send {
    /// Says on whose behalf it is used from now on, where it does the work of several messages.
    fn on_behalf(&mut self, scope: Scope<'_>) {
        let _ = scope;
    }

    /// The database client's own connection behind it, for statements of a handler's own; its type
    /// is the backend's to say. `None` where there is none, as in a model of a database. Nobody
    /// ends the transaction through it.
    fn connection(&mut self) -> Option<&mut Native> {
        None
    }

    /// The client's connections of the store behind it, for what is not to be part of the
    /// transaction. As [`Tx::connection`].
    fn pool(&self) -> Option<&Native> {
        None
    }

    /// Inserts `row`; where its key exists, inserts nothing and gives the row that is there.
    /// Waits for a transaction that has inserted the same key and not ended yet.
    fn insert<R: Row>(
        &mut self,
        row: &R,
    ) -> impl Future<Output = Result<Option<Versioned<R>>, StoreError>> + Send;

    /// Reads a row without locking it.
    fn get<R: Row>(
        &mut self,
        key: &str,
    ) -> impl Future<Output = Result<Option<Versioned<R>>, StoreError>> + Send;

    /// Reads a row and locks it until the transaction ends.
    fn get_for_update<R: Row>(
        &mut self,
        key: &str,
    ) -> impl Future<Output = Result<Option<Versioned<R>>, StoreError>> + Send;

    /// Replaces a row if it still has `version`; false where it has not, or is not there.
    fn update<R: Row>(
        &mut self,
        row: &R,
        version: i64,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The rows whose key starts with `prefix`, by key, at most `limit`.
    fn scan<R: Row>(
        &mut self,
        prefix: &str,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Versioned<R>>, StoreError>> + Send;

    /// Puts an event into the outbox. For an ordered event it also takes the next number of the
    /// event's key, from 1, without gaps, in commit order: producers of one key wait here for
    /// each other. Gives the event as stored.
    fn emit(
        &mut self,
        outgoing: Outgoing,
    ) -> impl Future<Output = Result<Outgoing, StoreError>> + Send;

    /// Gives the inbox row of `consumer` and `idempotency_key`, locked; creates it as
    /// [`InboxRow::fresh`] where there is none. Waits for a transaction that holds it.
    /// The row carries the database's clock, by which leases are judged.
    fn inbox_open(
        &mut self,
        consumer: &str,
        idempotency_key: &str,
    ) -> impl Future<Output = Result<InboxRow, StoreError>> + Send;

    /// As [`Tx::inbox_open`], for many keys, each given once; the rows come in the order of the keys. It
    /// locks them in an order of its own, the same for all transactions, so that two that open the
    /// same rows do not wait for each other.
    fn inbox_open_all(
        &mut self,
        consumer: &str,
        idempotency_keys: &[Arc<str>],
    ) -> impl Future<Output = Result<Vec<InboxRow>, StoreError>> + Send;

    /// Stores an inbox row that this transaction has opened.
    fn inbox_save(&mut self, row: &InboxRow)
    -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Passes number `sequence` of an ordered `scope`: `consumer` expects the one after it from then
    /// on. False, and nothing changed, where another number is expected. Waits for a transaction
    /// that passes a number of the same scope.
    fn order_pass(
        &mut self,
        consumer: &str,
        scope: &str,
        sequence: u64,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives the head of a workflow, locked; [`WorkflowHead::new`] where there is none.
    fn workflow_open(
        &mut self,
        workflow: &str,
    ) -> impl Future<Output = Result<WorkflowHead, StoreError>> + Send;

    /// Appends an audit entry and stores the head that follows from it.
    fn workflow_append(
        &mut self,
        entry: &AuditEntry,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Commits.
    ///
    /// # Errors
    /// [`StoreError::InDoubt`] when the answer is missing: it may have happened. Any other error
    /// means that it did not.
    fn commit(self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Rolls back and waits until the locks are free.
    fn rollback(self) -> impl Future<Output = ()> + Send;
}

/// A database. The operations outside [`Tx`] are each a short transaction of their own.
pub trait Store: Clone + Send + Sync + 'static {
    /// See [`Tx`].
    type Tx: Tx;

    /// Opens a transaction on behalf of `scope`.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when there is no database.
    fn begin(&self, scope: Scope<'_>) -> impl Future<Output = Result<Self::Tx, StoreError>> + Send;

    /// Claims outbox rows for a relay, oldest first: unpublished ones that nobody holds, skipping
    /// what others are claiming at this moment. Of an ordered key it takes a run that starts at
    /// the first unpublished row, or nothing. Each gets the fencing token of this claim.
    fn outbox_claim(
        &self,
        claim: &RelayClaim,
    ) -> impl Future<Output = Result<Vec<ClaimedRow>, StoreError>> + Send;

    /// Marks rows as published where they still carry the given fencing token; gives how many.
    fn outbox_mark(
        &self,
        rows: &[(i64, i64)],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Gives rows back, to be claimed again after `delay`, where they still carry the given
    /// fencing token. Counts a failed attempt and keeps `reason` for the operator.
    fn outbox_release(
        &self,
        rows: &[(i64, i64)],
        delay: Duration,
        reason: &str,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Removes at most `limit` rows published longer ago than `age`, first published first; gives
    /// how many.
    fn outbox_purge(
        &self,
        age: Duration,
        limit: u32,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Completes when rows may have come into the outbox (NOTIFY). It may complete without
    /// cause, and a notification may be lost: callers also poll.
    fn outbox_wait(&self) -> impl Future<Output = ()> + Send;

    /// Extends the lease of an inbox claim that still carries `token`; false where it does not.
    fn inbox_renew(
        &self,
        consumer: &str,
        idempotency_key: &str,
        token: u64,
        lease: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes at most `limit` inbox rows that ended longer ago than `age` (the dedup window),
    /// first ended first; gives how many.
    fn inbox_purge(
        &self,
        age: Duration,
        limit: u32,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Says where a delivery of an ordered event stands. An early one is kept in the store with all
    /// that it carries, so that it may be acked; one that is kept already stays as it is. Gives
    /// [`Place::Early`] only where it is kept. `on` says on whose behalf.
    ///
    /// The expected number may rise before the answer is there, and the message with it: who keeps
    /// one looks at [`Store::order_next`] once more, or nobody may take it on.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a delivery without an ordered event.
    fn order_keep(
        &self,
        on: Scope<'_>,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<Place, StoreError>> + Send;

    /// The number that `consumer` expects next of an ordered `scope`; 1 where nothing was passed.
    fn order_next(
        &self,
        consumer: &str,
        scope: &str,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The kept messages whose turn it is or comes without a gap after that, in their order, at
    /// most `limit`. They stay kept until they are forgotten. Each names its number as its delivery
    /// tag.
    fn order_take(
        &self,
        consumer: &str,
        scope: &str,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Delivery>, StoreError>> + Send;

    /// The kept messages whose turn it is or was and that nobody takes on: in their scope no number
    /// was passed for `idle`, they were not given out here for `idle`, and their inbox row neither
    /// carries a live claim nor waits for its backoff. At most `limit`, by scope and number. They
    /// are flagged as redelivered from then on: one of them may have killed its worker.
    fn order_overdue(
        &self,
        consumer: &str,
        idle: Duration,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Delivery>, StoreError>> + Send;

    /// Forgets kept messages of a scope by their numbers; gives how many there were.
    fn order_forget(
        &self,
        consumer: &str,
        scope: &str,
        sequences: &[u64],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The client's connections behind it, for statements outside of any transaction of the
    /// pipeline. As [`Tx::connection`].
    fn pool(&self) -> Option<&Native> {
        None
    }

    /// Judges an error of the database's client that a handler met in statements of its own;
    /// `None` for an error that is not the client's.
    fn judge(error: &(dyn Error + 'static)) -> Option<StoreError> {
        let _ = error;
        None
    }

    /// Reads everything, for checkers at the end of a run.
    fn read_all(&self) -> impl Future<Output = Result<Reading, StoreError>> + Send;
}

/// All tables at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The outbox, by id.
    pub outbox: Vec<OutboxRow>,
    /// The inbox, by consumer and key.
    pub inbox: Vec<InboxRow>,
    /// Audit entries, by workflow and number.
    pub audit: Vec<AuditEntry>,
    /// Heads of the workflows, by id.
    pub workflows: Vec<WorkflowHead>,
    /// Messages that wait in the store for their turn, by consumer, scope and number.
    pub kept: Vec<KeptMessage>,
    /// Rows of the workload: table, key, version, document; by table and key.
    pub rows: Vec<(Arc<str>, Arc<str>, i64, serde_json::Value)>,
    /// The database's clock at the reading.
    pub now: Timestamp,
}

/// A message that waits in the store for its turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMessage {
    /// Whose inbox it waits for.
    pub consumer: Arc<str>,
    /// The ordered scope.
    pub scope: Arc<str>,
    /// Its number.
    pub sequence: u64,
    /// Its idempotency key.
    pub idempotency_key: Arc<str>,
}
