//! One transaction.

use redeliver_core::boxed::{Boxed, boxed};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Json;
use sqlx::{Postgres, Transaction};
use tokio::runtime::Handle;

use super::codec::{self, column, inbox_columns, inbox_row, micros_of, signed, text, time};
use super::{Query, Shared, answered, error, outbox};
use redeliver_core::audit::{AuditEntry, WorkflowHead};
use redeliver_core::event::{Event, Outgoing};
use redeliver_core::inbox::{Created, InboxRow, InboxState};
use redeliver_core::ports::store::{Native, Row, StoreError, Tx, Versioned};

/// A transaction on PostgreSQL, READ COMMITTED.
///
/// Dropping it rolls it back: the ROLLBACK is queued and sent by the task that gives the
/// connection back to the pool, so locks are free a moment later, not at once.
/// [`Tx::rollback`] waits for that moment.
pub struct PgTx {
    /// `None` only while it ends.
    tx: Option<Transaction<'static, Postgres>>,
    shared: Arc<Shared>,
    runtime: Handle,
    /// Why it cannot be committed any more.
    poison: Option<StoreError>,
    /// Relays are to be woken once it is committed.
    emitted: bool,
    /// The attempt that it was opened for.
    attempt: u32,
    /// Inbox rows that it has inserted.
    created: Created,
    /// A handler had the connection: its statements may have failed without our knowledge.
    lent: bool,
}

impl PgTx {
    pub(super) async fn begin(shared: Arc<Shared>, attempt: u32) -> Result<Self, StoreError> {
        let limit = shared.options.connect_within + shared.options.answer_within;
        let begun = answered(limit, shared.pool.begin()).await;
        Ok(Self {
            tx: Some(begun.map_err(error::connecting)?),
            shared,
            runtime: Handle::current(),
            poison: None,
            emitted: false,
            attempt,
            created: Created::default(),
            lent: false,
        })
    }

    /// The connection, for a handler's own SQL inside this transaction. Do not end the
    /// transaction through it; `sqlx`'s own `begin` on it makes a savepoint. A statement that
    /// failed ends the transaction, even if the error is ignored: commit then refuses.
    pub fn connection(&mut self) -> &mut PgConnection {
        self.lent = true;
        self.open()
    }

    fn open(&mut self) -> &mut Transaction<'static, Postgres> {
        self.tx
            .as_mut()
            .expect("a transaction is used only until it ends")
    }

    /// Runs one statement. An error, or an answer that nobody waited for, poisons the
    /// transaction.
    fn rows<'a>(&'a mut self, query: Query<'a>) -> Boxed<'a, Result<Vec<PgRow>, StoreError>> {
        boxed(async move {
            if let Some(poison) = &self.poison {
                return Err(poison.clone());
            }
            self.poison = Some(StoreError::Transient("a statement was given up".into()));
            let limit = self.shared.options.answer_within;
            match answered(limit, query.fetch_all(&mut **self.open())).await {
                Ok(rows) => {
                    self.poison = None;
                    Ok(rows)
                }
                Err(e) => {
                    let e = error::within(&e);
                    self.poison = Some(e.clone());
                    Err(e)
                }
            }
        })
    }

    async fn row(&mut self, query: Query<'_>) -> Result<PgRow, StoreError> {
        let row = self.rows(query).await?.pop();
        row.ok_or_else(|| error::corrupt("no row where there must be one"))
    }

    /// Runs a statement that saves `what`, and poisons the transaction where it is not there: a
    /// transaction that saves what it has not opened is mistaken as a whole.
    async fn saved(&mut self, what: &str, query: Query<'_>) -> Result<(), StoreError> {
        if self.rows(query).await?.is_empty() {
            let e = StoreError::not_opened(what);
            self.poison = Some(e.clone());
            return Err(e);
        }
        Ok(())
    }

    async fn read<R: Row>(
        &mut self,
        text: &'static str,
        key: &str,
    ) -> Result<Option<Versioned<R>>, StoreError> {
        let query = sqlx::query(self.shared.sql(text)).bind(R::TABLE).bind(key);
        self.rows(query)
            .await?
            .pop()
            .map(|row| versioned(&row))
            .transpose()
    }

    /// The rows of an insert into the inbox that gives what is there where it is there already.
    fn opened(&mut self, rows: &[PgRow]) -> Result<Vec<InboxRow>, StoreError> {
        let rows = rows.iter().map(|row| {
            let created: bool = column(row, "created")?;
            let (consumer, key) = (text(row, "consumer")?, text(row, "idempotency_key")?);
            // Of most rows nothing else is to be read.
            let opened = match created && !self.created.has(&consumer, &key) {
                true => InboxRow {
                    updated_at: time(row, "updated_at")?,
                    ..InboxRow::fresh(consumer, key, time(row, "now")?)
                },
                false => inbox_row(row)?,
            };
            Ok(self.created.opened(opened, created, self.attempt))
        });
        rows.collect()
    }

    /// Makes new again what was inserted as done and not saved since.
    async fn open_unsaved(&mut self) -> Result<(), StoreError> {
        let (consumers, keys): (Vec<_>, Vec<_>) = (self.created.unsaved())
            .map(|(consumer, key)| (consumer.to_string(), key.to_string()))
            .unzip();
        if consumers.is_empty() || self.poison.is_some() {
            return Ok(());
        }
        let query = sqlx::query(self.shared.sql(
            "update redeliver.inbox as i set state = 'open', result = null, attempts = 0 \
             from unnest($1::text[], $2::text[]) as unsaved (consumer, key) \
             where i.consumer = unsaved.consumer and i.idempotency_key = unsaved.key",
        ))
        .bind(consumers)
        .bind(keys);
        self.rows(query).await.map(drop)
    }

    async fn end(mut self, commit: bool) -> Result<(), StoreError> {
        if commit {
            // Where it fails the transaction is poisoned.
            let _ = self.open_unsaved().await;
        }
        let limit = self.shared.options.answer_within;
        let poison = self.poison.take();
        let mut tx = self.tx.take().expect("a transaction ends once");
        if commit && poison.is_none() {
            // PostgreSQL answers COMMIT of a failed transaction with ROLLBACK and no error: a statement
            // before it finds that out.
            match (self.lent, self.shared.seeded) {
                (false, _) => answered(limit, tx.commit()).await,
                (true, false) => {
                    // In one round trip. The client counts the transaction as open, and so it is:
                    // an empty one, which ends when it is dropped.
                    let both = sqlx::raw_sql("select 1; commit and chain");
                    let committed = sqlx::Executor::execute(&mut *tx, both);
                    answered(limit, committed).await.map(drop)
                }
                // A seeded world tells a COMMIT by its text.
                (true, true) => {
                    let probe = sqlx::raw_sql("select 1");
                    answered(limit, sqlx::Executor::execute(&mut *tx, probe))
                        .await
                        .map_err(|e| error::within(&e))?;
                    answered(limit, tx.commit()).await
                }
            }
            .map_err(error::alone)?;
            if self.emitted {
                self.shared.wake_relays();
            }
            return Ok(());
        }
        let rolled_back = answered(limit, tx.rollback()).await;
        match poison {
            Some(poison) if commit => Err(poison),
            _ => rolled_back.map_err(|e| error::within(&e)),
        }
    }
}

impl Drop for PgTx {
    fn drop(&mut self) {
        // Giving the connection back spawns a task; outside a runtime that would panic.
        let _runtime = self.runtime.enter();
        drop(self.tx.take());
    }
}

impl std::fmt::Debug for PgTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgTx")
            .field("poison", &self.poison)
            .finish_non_exhaustive()
    }
}

fn versioned<R: Row>(row: &PgRow) -> Result<Versioned<R>, StoreError> {
    Ok(Versioned {
        row: column::<Json<R>>(row, "doc")?.0,
        version: column(row, "version")?,
    })
}

/// Inserts or locks inbox rows in one statement: the update changes nothing, but it waits for the row,
/// locks it and returns its newest version, which a SELECT could not see. A row that was inserted has no
/// xmax.
macro_rules! open_inbox {
    ($rows:literal) => {
        concat!(
            "insert into redeliver.inbox as i \
                (consumer, idempotency_key, state, result, attempts) ",
            $rows,
            " on conflict (consumer, idempotency_key) do update set token = i.token \
             returning (xmax = 0) as created, ",
            inbox_columns!()
        )
    };
}

impl Tx for PgTx {
    fn connection(&mut self) -> Option<&mut Native> {
        Some(Self::connection(self))
    }

    fn pool(&self) -> Option<&Native> {
        Some(&self.shared.pool)
    }

    async fn insert<R: Row>(&mut self, row: &R) -> Result<Option<Versioned<R>>, StoreError> {
        let key = row.key();
        let query = sqlx::query(self.shared.sql(
            "insert into redeliver.row_store (tbl, key, version, doc) values ($1, $2, 1, $3) \
             on conflict (tbl, key) do nothing returning version",
        ))
        .bind(R::TABLE)
        .bind(&*key)
        .bind(Json(row));
        if !self.rows(query).await?.is_empty() {
            return Ok(None);
        }
        // A statement of its own: the row may be younger than the snapshot of the insert.
        let there = self.get(&key).await?;
        let gone = || StoreError::Transient("the row in the way has gone".into());
        there.map(Some).ok_or_else(gone)
    }

    async fn get<R: Row>(&mut self, key: &str) -> Result<Option<Versioned<R>>, StoreError> {
        let text = "select version, doc from redeliver.row_store where tbl = $1 and key = $2";
        self.read(text, key).await
    }

    async fn get_for_update<R: Row>(
        &mut self,
        key: &str,
    ) -> Result<Option<Versioned<R>>, StoreError> {
        let text = "select version, doc from redeliver.row_store \
                    where tbl = $1 and key = $2 for update";
        self.read(text, key).await
    }

    async fn update<R: Row>(&mut self, row: &R, version: i64) -> Result<bool, StoreError> {
        let query = sqlx::query(self.shared.sql(
            "update redeliver.row_store set doc = $4, version = version + 1 \
             where tbl = $1 and key = $2 and version = $3 returning version",
        ))
        .bind(R::TABLE)
        .bind(row.key())
        .bind(version)
        .bind(Json(row));
        Ok(!self.rows(query).await?.is_empty())
    }

    async fn scan<R: Row>(
        &mut self,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        let query = sqlx::query(self.shared.sql(
            "select version, doc from redeliver.row_store \
             where tbl = $1 and key >= $2 and starts_with(key, $2) order by key limit $3",
        ))
        .bind(R::TABLE)
        .bind(prefix)
        .bind(i64::from(limit));
        self.rows(query).await?.iter().map(versioned).collect()
    }

    fn emit(
        &mut self,
        outgoing: Outgoing,
    ) -> impl Future<Output = Result<Outgoing, StoreError>> + Send {
        boxed(async move {
            let shared = self.shared.clone();
            let notify = shared.wakes_within() && !self.emitted;
            let row = self.row(outbox::emit(&shared, &outgoing, notify)).await?;
            self.emitted = true;
            let Some(number) = column::<Option<i64>>(&row, "order_seq")? else {
                return Ok(outgoing);
            };
            let sequence = Some(u64::try_from(number).map_err(error::corrupt)?);
            let event = Event {
                sequence,
                ..Event::clone(&outgoing.event)
            };
            Ok(Outgoing {
                event: Arc::new(event),
                ..outgoing
            })
        })
    }

    fn inbox_open(
        &mut self,
        consumer: &str,
        idempotency_key: &str,
    ) -> impl Future<Output = Result<InboxRow, StoreError>> + Send {
        let consumer = consumer.to_owned();
        let idempotency_key = idempotency_key.to_owned();
        boxed(async move {
            let query = sqlx::query(
                self.shared
                    .sql(open_inbox!("values ($1, $2, 'done', '', $3)")),
            )
            .bind(&consumer)
            .bind(&idempotency_key)
            .bind(i32::try_from(self.attempt).unwrap_or(i32::MAX));
            let row = self.row(query).await?;
            let row = self.opened(std::slice::from_ref(&row))?.pop();
            row.ok_or_else(|| error::corrupt("one row for one row"))
        })
    }

    fn inbox_open_all(
        &mut self,
        consumer: &str,
        idempotency_keys: &[Arc<str>],
    ) -> impl Future<Output = Result<Vec<InboxRow>, StoreError>> + Send {
        let consumer = consumer.to_owned();
        let keys: Vec<String> = idempotency_keys.iter().map(ToString::to_string).collect();
        boxed(async move {
            let query = sqlx::query(self.shared.sql(open_inbox!(
                "select $1, key, 'done', '', $3 from unnest($2::text[]) as key \
                 order by key collate \"C\""
            )))
            .bind(&consumer)
            .bind(&keys)
            .bind(i32::try_from(self.attempt).unwrap_or(i32::MAX));
            let rows = self.rows(query).await?;
            let rows = self.opened(&rows)?.into_iter();
            let mut rows: BTreeMap<Arc<str>, InboxRow> =
                rows.map(|row| (row.idempotency_key.clone(), row)).collect();
            let rows = keys.iter().map(|key| {
                let row = rows.remove(&**key);
                row.ok_or_else(|| error::corrupt("a row for each key, each given once"))
            });
            rows.collect()
        })
    }

    fn inbox_save(
        &mut self,
        row: &InboxRow,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        let row = row.to_owned();
        boxed(async move {
            let row = &row;
            if self.poison.is_none() && self.created.saves(row) {
                return Ok(());
            }
            let (mut lease, mut by, mut result, mut story, mut published) = Default::default();
            let state = match &row.state {
                InboxState::Open => "open",
                InboxState::Claimed {
                    lease_until,
                    worker,
                } => {
                    (lease, by) = (Some(micros_of(*lease_until)), Some(&**worker));
                    "claimed"
                }
                InboxState::Done { result: bytes } => {
                    result = Some(&bytes[..]);
                    "done"
                }
                InboxState::Dead {
                    story: told,
                    published: known,
                } => {
                    (story, published) = (Some(Json(&**told)), *known);
                    "dead"
                }
            };
            let query = sqlx::query(self.shared.sql(
                "update redeliver.inbox set state = $3, \
                lease_until = timestamptz 'epoch' + $4 * interval '1 microsecond', \
                worker = $5, result = $6, story = $7, dead_published = $8, attempts = $9, \
                token = $10, \
                first_failure = timestamptz 'epoch' + $11 * interval '1 microsecond', \
                not_before = timestamptz 'epoch' + $12 * interval '1 microsecond', \
                updated_at = clock_timestamp() \
             where consumer = $1 and idempotency_key = $2 returning token",
            ))
            .bind(&*row.consumer)
            .bind(&*row.idempotency_key)
            .bind(state)
            .bind(lease)
            .bind(by)
            .bind(result)
            .bind(story)
            .bind(published)
            .bind(i32::try_from(row.attempts).unwrap_or(i32::MAX))
            .bind(signed(row.token)?)
            .bind(row.first_failure.map(micros_of))
            .bind(row.not_before.map(micros_of));
            self.saved("the inbox row", query).await
        })
    }

    fn order_pass(
        &mut self,
        consumer: &str,
        scope: &str,
        sequence: u64,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        let consumer = consumer.to_owned();
        let scope = scope.to_owned();
        boxed(async move {
            // The first number creates the row that the others change.
            let text = match sequence {
                1 => {
                    "insert into redeliver.inbox_order as o (consumer, scope, next) \
                     values ($1, $2, $3 + 1) on conflict (consumer, scope) do update \
                     set next = excluded.next, passed_at = clock_timestamp() \
                     where o.next = $3 returning next"
                }
                _ => {
                    "update redeliver.inbox_order \
                     set next = $3 + 1, passed_at = clock_timestamp() \
                     where consumer = $1 and scope = $2 and next = $3 returning next"
                }
            };
            let query = sqlx::query(self.shared.sql(text))
                .bind(&consumer)
                .bind(&scope)
                .bind(signed(sequence)?);
            Ok(!self.rows(query).await?.is_empty())
        })
    }

    fn workflow_open(
        &mut self,
        workflow: &str,
    ) -> impl Future<Output = Result<WorkflowHead, StoreError>> + Send {
        let workflow = workflow.to_owned();
        boxed(async move {
            let workflow = &*workflow;
            let query = sqlx::query(self.shared.sql(
                "insert into redeliver.workflow as w (workflow) values ($1) \
             on conflict (workflow) do update set sequence = w.sequence \
             returning workflow, state, sequence, hash",
            ))
            .bind(workflow);
            codec::workflow_head(&self.row(query).await?)
        })
    }

    fn workflow_append(
        &mut self,
        entry: &AuditEntry,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        let entry = entry.to_owned();
        boxed(async move {
            let entry = &entry;
            let query = sqlx::query(self.shared.sql(
                "with head as ( \
                update redeliver.workflow set state = $4, sequence = $2, hash = $8 \
                where workflow = $1 and sequence = $2 - 1 and state = $3 and hash = $7 \
                returning workflow) \
             insert into redeliver.audit \
                (workflow, sequence, from_state, to_state, event_id, at, previous, hash) \
             select workflow, $2, $3, $4, $5, \
                timestamptz 'epoch' + $6 * interval '1 microsecond', $7, $8 from head \
             returning sequence",
            ))
            .bind(&*entry.workflow)
            .bind(signed(entry.sequence)?)
            .bind(&*entry.from)
            .bind(&*entry.to)
            .bind(entry.event)
            .bind(entry.at.micros())
            .bind(&entry.previous[..])
            .bind(&entry.hash[..]);
            if self.rows(query).await?.is_empty() {
                let (number, name) = (entry.sequence, &entry.workflow);
                let e = StoreError::Refused(format!("entry {number} does not follow in {name}"));
                self.poison = Some(e.clone());
                return Err(e);
            }
            Ok(())
        })
    }

    fn commit(self) -> impl Future<Output = Result<(), StoreError>> + Send {
        boxed(async move { self.end(true).await })
    }

    fn rollback(self) -> impl Future<Output = ()> + Send {
        boxed(async move {
            if let Err(error) = self.end(false).await {
                tracing::debug!(%error, "rolling back failed; the server does it on its own");
            }
        })
    }
}
