//! The store over the simulated database.
//!
//! It does with the model's row operations what the PostgreSQL store does with SQL, statement by
//! statement: each `run` below is one round trip. One suite holds the two equal.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::db::{
    Db, IndexId, Insert, Key, LockWait, Row as Stored, SequenceId, SessionId, SqlError, Step,
    TableDef, TableId, get, row,
};
use redeliver_sim::sql::{self, Listener, Transaction};
use redeliver_sim::with;
use serde_json::Value;

use crate::env::at;
use redeliver_core::audit::{AuditEntry, WorkflowHead};
use redeliver_core::event::{Event, Outgoing};
use redeliver_core::inbox::{Created, InboxRow, InboxState};
use redeliver_core::outbox::{ClaimedRow, OutboxRow, RelayClaim};
use redeliver_core::ports::env::nanos;
use redeliver_core::ports::store::{LOCK_TIMEOUT, Place, Reading};
use redeliver_core::ports::{Delivery, Row, Scope, Store, StoreError, Timestamp, Tx, Versioned};

mod kept;
mod outbox;

/// On whose behalf a statement is sent that is about no message.
const NOBODY: Scope<'static> = Scope {
    consumer: "",
    subject: "",
    attempt: 0,
};

/// The tables of a pipeline in the simulated database of this thread's world.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    outbox: TableId,
    unpublished: IndexId,
    published: IndexId,
    outbox_ids: SequenceId,
    outbox_order: TableId,
    inbox: TableId,
    ended: IndexId,
    inbox_order: TableId,
    kept: TableId,
    workflow: TableId,
    audit: TableId,
    rows: TableId,
}

impl Tables {
    /// Creates them.
    pub fn create(db: &mut Db) -> Self {
        let def = TableDef::new()
            .ordered("unpublished", outbox::if_unpublished)
            .ordered("published", outbox::if_published);
        let outbox = db.create_table("outbox", def);
        let inbox = db.create_table("inbox", TableDef::new().ordered("ended", if_ended));
        let mut plain = |name| db.create_table(name, TableDef::new());
        let (outbox_order, inbox_order) = (plain("outbox_order"), plain("inbox_order"));
        let kept = plain("inbox_kept");
        let workflow = plain("workflow");
        let (audit, rows) = (plain("audit"), plain("rows"));
        let unpublished = db.index(outbox, "unpublished");
        let published = db.index(outbox, "published");
        let ended = db.index(inbox, "ended");
        let outbox_ids = db.create_sequence("outbox_id");
        Self {
            outbox,
            unpublished,
            published,
            outbox_ids,
            outbox_order,
            inbox,
            ended,
            inbox_order,
            kept,
            workflow,
            audit,
            rows,
        }
    }
}

/// The index over inbox rows that have ended, by when. A dead letter that may not be in its queue
/// yet is known to its row and nobody else, so that one has not.
fn if_ended(_: &Key, there: &Stored) -> Option<Key> {
    let there: &InboxRow = get(there);
    let ended = matches!(
        there.state,
        InboxState::Done { .. }
            | InboxState::Dead {
                published: true,
                ..
            }
    );
    ended.then(|| time_key(there.updated_at))
}

fn time_key(time: Timestamp) -> Key {
    Key::Int(i64::try_from(time.0).unwrap_or(i64::MAX))
}

/// The time that was so long ago.
fn before(db: &Db, age: Duration) -> Timestamp {
    let now = at(db.clock_timestamp());
    Timestamp(now.0.saturating_sub(nanos(age)))
}

/// The store of a process, over the simulated database.
#[derive(Clone, Debug)]
pub struct SimStore {
    tables: Tables,
    listener: Arc<std::sync::Mutex<Option<Arc<Listener>>>>,
    channel: Arc<str>,
}

impl SimStore {
    /// A store of one process.
    pub fn new(tables: Tables) -> Self {
        Self {
            tables,
            listener: Arc::default(),
            channel: Arc::from("outbox"),
        }
    }
}

/// An error of a statement that is no part of a larger transaction.
fn outside(error: sql::Error) -> StoreError {
    match error {
        sql::Error::Sql(error) if error.is_transient() => StoreError::Transient(error.to_string()),
        sql::Error::Sql(error) => StoreError::Refused(error.to_string()),
        sql::Error::Lost(what) => StoreError::Unreachable(what.to_owned()),
    }
}

/// A row of a workload.
struct Doc {
    version: i64,
    value: Arc<dyn Any + Send + Sync>,
    json: fn(&(dyn Any + Send + Sync)) -> Value,
}

impl Doc {
    fn of<R: Row>(row: &R, version: i64) -> Stored {
        let json = |value: &(dyn Any + Send + Sync)| {
            let value = value.downcast_ref::<R>().expect("a row of this table");
            serde_json::to_value(value).unwrap_or(Value::Null)
        };
        self::row(Self {
            version,
            value: Arc::new(row.clone()),
            json,
        })
    }

    fn versioned<R: Row>(stored: &Stored) -> Versioned<R> {
        let doc: &Self = get(stored);
        let row = doc
            .value
            .downcast_ref::<R>()
            .expect("one row type for each table")
            .clone();
        Versioned {
            row,
            version: doc.version,
        }
    }
}

/// See [`Tx`].
#[derive(Debug)]
pub struct SimTx {
    transaction: Transaction,
    tables: Tables,
    channel: Arc<str>,
    /// Why it cannot be committed any more.
    poison: Option<StoreError>,
    /// Relays are to be woken once it is committed.
    emitted: bool,
    /// The attempt that it was opened for.
    attempt: u32,
    /// Inbox rows that it has inserted.
    created: Created,
}

fn row_key<R: Row>(key: &str) -> Key {
    Key::pair(R::TABLE, key)
}

impl SimTx {
    async fn run<T>(
        &mut self,
        statement: impl FnMut(&mut Db, SessionId) -> Result<Step<T>, SqlError> + Send,
    ) -> Result<T, StoreError> {
        if let Some(poison) = &self.poison {
            return Err(poison.clone());
        }
        let result = self.transaction.run(statement).await;
        result.map_err(|error| self.poisoned(within(error)))
    }

    /// Makes new again what was inserted as done and not saved since.
    async fn open_unsaved(&mut self) -> Result<(), StoreError> {
        let unsaved: Vec<_> = (self.created.unsaved())
            .map(|(consumer, key)| (consumer.clone(), key.clone()))
            .collect();
        if unsaved.is_empty() {
            return Ok(());
        }
        let table = self.tables.inbox;
        self.run(|db, s| {
            for (consumer, key) in &unsaved {
                let index = Key::pair(consumer.clone(), key.clone());
                let fresh = |there: &Stored| {
                    let there: &InboxRow = get(there);
                    let fresh = InboxRow::fresh(consumer.clone(), key.clone(), there.now);
                    Some(row(InboxRow {
                        updated_at: there.updated_at,
                        ..fresh
                    }))
                };
                step!(db.update(s, table, &index, fresh));
            }
            done(())
        })
        .await
    }

    /// What is to be saved must be there.
    fn saved<T>(&mut self, what: &str, updated: Option<T>) -> Result<(), StoreError> {
        match updated {
            Some(_) => Ok(()),
            None => Err(self.poisoned(StoreError::not_opened(what))),
        }
    }

    fn poisoned(&mut self, error: StoreError) -> StoreError {
        self.poison = Some(error.clone());
        error
    }
}

/// An error inside a transaction. That a lost session did not commit is certain.
fn within(error: sql::Error) -> StoreError {
    match error {
        sql::Error::Lost(what) => StoreError::Transient(what.to_owned()),
        error => outside(error),
    }
}

/// An error of COMMIT.
fn at_commit(error: sql::Error) -> StoreError {
    match error {
        sql::Error::Lost(what) => StoreError::InDoubt(what.to_owned()),
        sql::Error::Sql(error) => StoreError::Transient(error.to_string()),
    }
}

fn done<T>(value: T) -> Result<Step<T>, SqlError> {
    Ok(Step::Done(value))
}

/// Unwraps a step inside a statement of several: a blocked part blocks the whole, before it has
/// changed anything.
macro_rules! step {
    ($step:expr) => {
        match $step? {
            Step::Done(value) => value,
            Step::Blocked => return Ok(Step::Blocked),
        }
    };
}
use step;

impl Tx for SimTx {
    async fn insert<R: Row>(&mut self, row: &R) -> Result<Option<Versioned<R>>, StoreError> {
        let (table, key, doc) = (self.tables.rows, row_key::<R>(&row.key()), Doc::of(row, 1));
        let inserted = self.run(|db, s| db.insert(s, table, key.clone(), doc.clone()));
        Ok(match inserted.await? {
            Insert::Inserted => None,
            Insert::Conflict(there) => Some(Doc::versioned(&there)),
        })
    }

    async fn get<R: Row>(&mut self, key: &str) -> Result<Option<Versioned<R>>, StoreError> {
        let (table, key) = (self.tables.rows, row_key::<R>(key));
        let found = self
            .run(|db, s| db.get(s, table, &key).map(Step::Done))
            .await?;
        Ok(found.as_ref().map(Doc::versioned))
    }

    async fn get_for_update<R: Row>(
        &mut self,
        key: &str,
    ) -> Result<Option<Versioned<R>>, StoreError> {
        let (table, key) = (self.tables.rows, row_key::<R>(key));
        let found = self.run(|db, s| db.get_for_update(s, table, &key)).await?;
        Ok(found.as_ref().map(Doc::versioned))
    }

    async fn update<R: Row>(&mut self, row: &R, version: i64) -> Result<bool, StoreError> {
        let (table, key) = (self.tables.rows, row_key::<R>(&row.key()));
        let next = Doc::of(row, version + 1);
        let updated = self.run(|db, s| {
            db.update(s, table, &key, |there| {
                (get::<Doc>(there).version == version).then(|| next.clone())
            })
        });
        Ok(updated.await?.is_some())
    }

    async fn scan<R: Row>(
        &mut self,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        let table = self.tables.rows;
        let found = self.run(|db, s| {
            let from = row_key::<R>(prefix);
            let to = Key::pair(R::TABLE, Key::Highest);
            let matches = |key: &Key, _: &Stored| matches!(
                key,
                Key::Pair(pair) if matches!(&pair.1, Key::Text(text) if text.starts_with(prefix))
            );
            db.scan(s, table, from..to, &matches, limit as usize).map(Step::Done)
        });
        Ok(found
            .await?
            .iter()
            .map(|(_, stored)| Doc::versioned(stored))
            .collect())
    }

    async fn emit(&mut self, outgoing: Outgoing) -> Result<Outgoing, StoreError> {
        let tables = self.tables;
        self.emitted = true;
        self.run(|db, s| {
            let outgoing = match outgoing.event.sequence {
                None => outgoing.clone(),
                Some(_) => {
                    let scope = Key::text(outgoing.event.order_scope());
                    let next = |last: Option<&Stored>| row(last.map_or(1, |n| get::<u64>(n) + 1));
                    let number = step!(db.upsert(s, tables.outbox_order, scope, next));
                    let sequence = Some(*get::<u64>(&number));
                    let event = Arc::new(Event {
                        sequence,
                        ..(*outgoing.event).clone()
                    });
                    Outgoing {
                        event,
                        ..outgoing.clone()
                    }
                }
            };
            let id = db.nextval(tables.outbox_ids);
            let stored = row(outbox::Stored::new(outgoing.clone()));
            step!(db.insert_strict(s, tables.outbox, Key::Int(id), stored));
            done(outgoing)
        })
        .await
    }

    async fn inbox_open(&mut self, consumer: &str, key: &str) -> Result<InboxRow, StoreError> {
        let opened = self.inbox_open_all(consumer, &[Arc::from(key)]).await?;
        Ok(opened.into_iter().next().expect("a row for the key"))
    }

    async fn inbox_open_all(
        &mut self,
        consumer: &str,
        keys: &[Arc<str>],
    ) -> Result<Vec<InboxRow>, StoreError> {
        let (table, attempt) = (self.tables.inbox, self.attempt);
        let consumer: Arc<str> = Arc::from(consumer);
        let mut places: Vec<usize> = (0..keys.len()).collect();
        places.sort_by_key(|at| &keys[*at]);
        let mut opened: Vec<(usize, InboxRow, bool)> = Vec::with_capacity(keys.len());
        // Those that it has before it waits for one stay locked meanwhile.
        self.run(|db, s| {
            let now = at(db.clock_timestamp());
            while let Some(place) = places.get(opened.len()) {
                let key = &keys[*place];
                let mut created = false;
                let index = Key::pair(consumer.clone(), key.clone());
                let stored = step!(db.upsert(s, table, index, |there| {
                    there.cloned().unwrap_or_else(|| {
                        created = true;
                        let fresh = InboxRow::fresh(consumer.clone(), key.clone(), now);
                        row(Created::as_done(fresh, attempt))
                    })
                }));
                let opening = InboxRow {
                    now,
                    ..get::<InboxRow>(&stored).clone()
                };
                opened.push((*place, opening, created));
            }
            done(())
        })
        .await?;
        opened.sort_unstable_by_key(|(place, ..)| *place);
        let rows = opened
            .into_iter()
            .map(|(_, row, created)| self.created.opened(row, created, attempt));
        Ok(rows.collect())
    }

    async fn inbox_save(&mut self, saved: &InboxRow) -> Result<(), StoreError> {
        if self.poison.is_none() && self.created.saves(saved) {
            return Ok(());
        }
        let table = self.tables.inbox;
        let index = Key::pair(saved.consumer.clone(), saved.idempotency_key.clone());
        let updated = self.run(|db, s| {
            let now = at(db.clock_timestamp());
            let next = row(InboxRow {
                updated_at: now,
                now,
                ..saved.clone()
            });
            db.update(s, table, &index, |_| Some(next))
        });
        let updated = updated.await?;
        self.saved("the inbox row", updated)
    }

    async fn order_pass(
        &mut self,
        consumer: &str,
        scope: &str,
        sequence: u64,
    ) -> Result<bool, StoreError> {
        let (tables, of) = (self.tables, (consumer, scope));
        self.run(|db, s| kept::pass(db, s, tables, of, sequence))
            .await
    }

    async fn workflow_open(&mut self, workflow: &str) -> Result<WorkflowHead, StoreError> {
        let (table, name) = (self.tables.workflow, Arc::<str>::from(workflow));
        let head = self.run(|db, s| {
            db.upsert(s, table, Key::Text(name.clone()), |there| {
                there
                    .cloned()
                    .unwrap_or_else(|| row(WorkflowHead::new(name.clone())))
            })
        });
        Ok(get::<WorkflowHead>(&head.await?).clone())
    }

    async fn workflow_append(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let tables = self.tables;
        let appended = self.run(|db, s| {
            let head = Key::Text(entry.workflow.clone());
            let follows = |there: &Stored| follows(get(there), entry).then(|| row(entry.head()));
            if step!(db.update(s, tables.workflow, &head, follows)).is_none() {
                return done(false);
            }
            let number = i64::try_from(entry.sequence).unwrap_or(i64::MAX);
            let key = Key::pair(entry.workflow.clone(), number);
            step!(db.insert_strict(s, tables.audit, key, row(entry.clone())));
            done(true)
        });
        if appended.await? {
            return Ok(());
        }
        let (number, name) = (entry.sequence, &entry.workflow);
        let error = StoreError::Refused(format!("entry {number} does not follow in {name}"));
        Err(self.poisoned(error))
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        if self.poison.is_none() {
            // Where it fails the transaction is poisoned.
            let _ = self.open_unsaved().await;
        }
        if let Some(poison) = self.poison {
            self.transaction.rollback().await;
            return Err(poison);
        }
        self.transaction.commit().await.map_err(at_commit)?;
        if self.emitted {
            // A statement of its own: a commit that carries it would hold up all others.
            with(|w| w.database(|db| notify(db, &self.channel)));
        }
        Ok(())
    }

    async fn rollback(self) {
        self.transaction.rollback().await;
    }
}

/// Wakes relays. Nobody waits for it, and nothing depends on it.
fn notify(db: &mut Db, channel: &Arc<str>) {
    let session = db.connect();
    db.notify(session, channel).ok();
    db.disconnect(session);
}

impl Store for SimStore {
    type Tx = SimTx;

    async fn begin(&self, scope: Scope<'_>) -> Result<SimTx, StoreError> {
        let begun = sql::begin(scope.subject, scope.attempt, nanos(LOCK_TIMEOUT)).await;
        let transaction = begun.map_err(outside)?;
        Ok(SimTx {
            transaction,
            tables: self.tables,
            channel: self.channel.clone(),
            poison: None,
            emitted: false,
            attempt: scope.attempt,
            created: Created::default(),
        })
    }

    async fn outbox_claim(&self, claim: &RelayClaim) -> Result<Vec<ClaimedRow>, StoreError> {
        let tables = self.tables;
        self.alone(NOBODY, |db, s| {
            outbox::claim(db, s, tables, claim).map(Step::Done)
        })
        .await
    }

    async fn outbox_mark(&self, rows: &[(i64, i64)]) -> Result<u64, StoreError> {
        let (tables, mut done) = (self.tables, outbox::Progress::default());
        self.alone(NOBODY, |db, s| outbox::mark(db, s, tables, rows, &mut done))
            .await
    }

    async fn outbox_release(
        &self,
        rows: &[(i64, i64)],
        delay: Duration,
        _: &str,
    ) -> Result<u64, StoreError> {
        let (tables, mut done) = (self.tables, outbox::Progress::default());
        self.alone(NOBODY, |db, s| {
            outbox::release(db, s, tables, rows, delay, &mut done)
        })
        .await
    }

    async fn outbox_purge(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        let tables = self.tables;
        self.alone(NOBODY, |db, s| outbox::purge(db, s, tables, age, limit))
            .await
    }

    async fn outbox_wait(&self) {
        let listener = {
            let mut slot = self.listener.lock().unwrap_or_else(|e| e.into_inner());
            slot.get_or_insert_with(|| Arc::new(Listener::listen(&self.channel)))
                .clone()
        };
        listener.notified().await;
    }

    async fn inbox_renew(
        &self,
        consumer: &str,
        key: &str,
        token: u64,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let (table, index) = (self.tables.inbox, Key::pair(consumer, key));
        self.alone(NOBODY, |db, s| {
            let now = at(db.clock_timestamp());
            let renewed = step!(db.update(s, table, &index, |there| {
                let mut next = get::<InboxRow>(there).clone();
                let InboxState::Claimed { lease_until, .. } = &mut next.state else {
                    return None;
                };
                *lease_until = now.after(lease);
                (next.token == token).then(|| row(next))
            }));
            done(renewed.is_some())
        })
        .await
    }

    async fn inbox_purge(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        let Tables { inbox, ended, .. } = self.tables;
        self.alone(NOBODY, |db, s| {
            let range = ..time_key(before(db, age));
            let limit = limit as usize;
            let all = |_: &Key, _: &Stored| true;
            let old = db.scan_for_update(s, ended, range, &all, limit, LockWait::SkipLocked);
            let old = step!(old);
            for (key, _) in &old {
                step!(db.delete(s, inbox, key, |_| true));
            }
            done(old.len() as u64)
        })
        .await
    }

    async fn order_keep(&self, on: Scope<'_>, delivery: &Delivery) -> Result<Place, StoreError> {
        let event = delivery.event.as_ref().ok();
        if event.is_none_or(|event| event.sequence.is_none()) {
            let why = "only ordered events have a place".to_owned();
            return Err(StoreError::Refused(why));
        }
        let tables = self.tables;
        self.alone(on, |db, s| kept::keep(db, s, tables, delivery))
            .await
    }

    async fn order_next(&self, consumer: &str, scope: &str) -> Result<u64, StoreError> {
        let (tables, of) = (self.tables, (consumer, scope));
        self.alone(NOBODY, |db, s| {
            kept::next(db, s, tables, of).map(Step::Done)
        })
        .await
    }

    async fn order_take(
        &self,
        consumer: &str,
        scope: &str,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let (tables, of) = (self.tables, (consumer, scope));
        self.alone(NOBODY, |db, s| {
            kept::take(db, s, tables, of, limit).map(Step::Done)
        })
        .await
    }

    async fn order_overdue(
        &self,
        consumer: &str,
        idle: Duration,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let tables = self.tables;
        self.alone(NOBODY, |db, s| {
            kept::overdue(db, s, tables, consumer, idle, limit).map(Step::Done)
        })
        .await
    }

    async fn order_forget(
        &self,
        consumer: &str,
        scope: &str,
        sequences: &[u64],
    ) -> Result<u64, StoreError> {
        let (tables, of, mut progress) = (self.tables, (consumer, scope), (0, 0));
        self.alone(NOBODY, |db, s| {
            kept::forget(db, s, tables, of, sequences, &mut progress)
        })
        .await
    }

    async fn read_all(&self) -> Result<Reading, StoreError> {
        Ok(with(|w| read(&w.sql.db, self.tables)))
    }
}

impl SimStore {
    /// One statement in autocommit.
    async fn alone<T: Send>(
        &self,
        on: Scope<'_>,
        statement: impl FnMut(&mut Db, SessionId) -> Result<Step<T>, SqlError> + Send,
    ) -> Result<T, StoreError> {
        let on = (on.subject, on.attempt);
        let done = sql::alone(on, nanos(LOCK_TIMEOUT), statement).await;
        done.map_err(|failed| match failed {
            sql::Failed::Statement(error) => outside(error),
            sql::Failed::Commit(error) => at_commit(error),
        })
    }
}

/// Whether `entry` continues the workflow from where it stands.
fn follows(head: &WorkflowHead, entry: &AuditEntry) -> bool {
    head.sequence + 1 == entry.sequence && head.state == entry.from && head.hash == entry.previous
}

/// Whether no committed event is still to be published, and no message waits for its turn.
pub fn is_drained(db: &Db, tables: Tables) -> bool {
    db.is_empty(tables.unpublished) && db.committed(tables.kept).next().is_none()
}

/// Reads what is committed.
pub fn read(db: &Db, tables: Tables) -> Reading {
    let outbox = db.committed(tables.outbox).map(|(key, stored)| {
        let Key::Int(id) = key else {
            unreachable!("outbox ids are integers")
        };
        get::<outbox::Stored>(stored).reading(*id)
    });
    let rows = db.committed(tables.rows).map(|(key, stored)| {
        let doc: &Doc = get(stored);
        let Key::Pair(pair) = key else {
            unreachable!("rows have a table and a key")
        };
        let (Key::Text(table), Key::Text(key)) = &**pair else {
            unreachable!("both are text")
        };
        (
            table.clone(),
            key.clone(),
            doc.version,
            (doc.json)(&*doc.value),
        )
    });
    Reading {
        outbox: outbox.collect::<Vec<OutboxRow>>(),
        inbox: db
            .committed(tables.inbox)
            .map(|(_, r)| get::<InboxRow>(r).clone())
            .collect(),
        audit: db
            .committed(tables.audit)
            .map(|(_, r)| get::<AuditEntry>(r).clone())
            .collect(),
        workflows: db
            .committed(tables.workflow)
            .map(|(_, r)| get::<WorkflowHead>(r).clone())
            // A workflow that was opened and never changed is none.
            .filter(|head| head.sequence > 0)
            .collect(),
        kept: kept::reading(db, tables),
        rows: rows.collect(),
        now: Timestamp(at(db.clock_timestamp()).0),
    }
}
