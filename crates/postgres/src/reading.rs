//! Reading everything, for checkers.

use std::sync::Arc;

use futures_util::TryStreamExt;
use sqlx::Executor;
use sqlx::postgres::{PgConnection, PgRow};

use super::codec::{self, column, event_columns, inbox_columns, text, time};
use super::{PgStore, answered, error};
use redeliver_core::audit::{AuditEntry, WorkflowHead};
use redeliver_core::inbox::InboxRow;
use redeliver_core::outbox::OutboxRow;
use redeliver_core::ports::env::Timestamp;
use redeliver_core::ports::store::{KeptMessage, Reading, StoreError};

const OUTBOX: &str = concat!(
    "select o.id, (extract(epoch from o.published_at) * 1000000)::bigint as published_at, \
     (extract(epoch from o.lease_until) * 1000000)::bigint as lease_until, ",
    event_columns!("o"),
    " from redeliver.outbox o order by o.id"
);
const INBOX: &str = concat!(
    "select ",
    inbox_columns!(),
    " from redeliver.inbox order by consumer, idempotency_key"
);
const KEPT: &str = "\
    select consumer, order_scope, order_seq, idempotency_key from redeliver.inbox_kept \
    order by consumer, order_scope, order_seq";
const AUDIT: &str = "\
    select workflow, sequence, from_state, to_state, event_id, previous, hash, \
        (extract(epoch from at) * 1000000)::bigint as at \
    from redeliver.audit order by workflow, sequence";
/// A workflow that was opened and never changed is none.
const WORKFLOWS: &str = "\
    select workflow, state, sequence, hash from redeliver.workflow \
    where sequence > 0 order by workflow";
const ROWS: &str = "select tbl, key, version, doc from redeliver.row_store order by tbl, key";
const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint as now";

const BACKLOG: &str = "\
    select count(*) as waiting, \
        coalesce(extract(epoch from clock_timestamp() - min(event_time)) * 1000, 0)::bigint as oldest \
    from redeliver.outbox where published_at is null";
const UNENDED: &str = "\
    select count(*) as unended from redeliver.inbox \
    where state in ('open', 'claimed') or (state = 'dead' and not dead_published)";

/// What has not ended yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Events in the outbox that are not published.
    pub outbox: u64,
    /// For how long the oldest of them has waited, in milliseconds.
    pub oldest_ms: u64,
    /// Works of the inbox that were begun and have not ended.
    pub inbox: u64,
}

/// One row of a reading.
#[derive(Clone, Debug)]
pub enum ReadRow {
    /// Of the outbox.
    Outbox(OutboxRow),
    /// Of the inbox.
    Inbox(InboxRow),
    /// Of the messages that wait for their turn.
    Kept(KeptMessage),
    /// Of the audit.
    Audit(AuditEntry),
    /// The head of a workflow.
    Workflow(WorkflowHead),
    /// Of the workload: table, key, version, document.
    Document(Arc<str>, Arc<str>, i64, serde_json::Value),
    /// The database's clock.
    Now(Timestamp),
}

/// One snapshot of all tables.
pub(super) async fn read_all(store: &PgStore) -> Result<Reading, StoreError> {
    let mut reading = Reading::default();
    let mut keep = |row| match row {
        ReadRow::Outbox(row) => reading.outbox.push(row),
        ReadRow::Inbox(row) => reading.inbox.push(row),
        ReadRow::Kept(message) => reading.kept.push(message),
        ReadRow::Audit(entry) => reading.audit.push(entry),
        ReadRow::Workflow(head) => reading.workflows.push(head),
        ReadRow::Document(table, key, version, document) => {
            reading.rows.push((table, key, version, document));
        }
        ReadRow::Now(now) => reading.now = now,
    };
    read_each(store, &mut keep).await?;
    Ok(reading)
}

/// Who takes rows as they come.
type Take<'a> = &'a mut (dyn FnMut(ReadRow) + Send);

/// The same row by row, in one REPEATABLE READ transaction.
pub(super) async fn read_each(store: &PgStore, take: Take<'_>) -> Result<(), StoreError> {
    let mut tx = store.shared.pool.begin().await.map_err(error::connecting)?;
    let mode = "set transaction isolation level repeatable read, read only";
    tx.execute(mode).await.map_err(|e| error::within(&e))?;
    let outbox = |row: &PgRow| outbox_row(row).map(ReadRow::Outbox);
    each(store, &mut tx, OUTBOX, outbox, take).await?;
    let inbox = |row: &PgRow| codec::inbox_row(row).map(ReadRow::Inbox);
    each(store, &mut tx, INBOX, inbox, take).await?;
    let kept = |row: &PgRow| kept_message(row).map(ReadRow::Kept);
    each(store, &mut tx, KEPT, kept, take).await?;
    let audit = |row: &PgRow| codec::audit_entry(row).map(ReadRow::Audit);
    each(store, &mut tx, AUDIT, audit, take).await?;
    let head = |row: &PgRow| codec::workflow_head(row).map(ReadRow::Workflow);
    each(store, &mut tx, WORKFLOWS, head, take).await?;
    let document = |row: &PgRow| {
        let (table, key) = (text(row, "tbl")?, text(row, "key")?);
        let (version, document) = (column(row, "version")?, codec::document(row)?);
        Ok(ReadRow::Document(table, key, version, document))
    };
    each(store, &mut tx, ROWS, document, take).await?;
    let now = |row: &PgRow| time(row, "now").map(ReadRow::Now);
    each(store, &mut tx, NOW, now, take).await?;
    tx.rollback().await.map_err(|e| error::within(&e))
}

/// What has not ended yet.
pub(super) async fn backlog(store: &PgStore) -> Result<Backlog, StoreError> {
    let ask = async |text| {
        let query = sqlx::query(store.shared.sql(text));
        let asked = query.fetch_one(&store.shared.pool);
        let row = answered(store.shared.options.answer_within, asked).await;
        row.map_err(|e| error::within(&e))
    };
    let (outbox, inbox) = (ask(BACKLOG).await?, ask(UNENDED).await?);
    let number = |row, name| Ok(u64::try_from(column::<i64>(row, name)?).unwrap_or(0));
    Ok(Backlog {
        outbox: number(&outbox, "waiting")?,
        oldest_ms: number(&outbox, "oldest")?,
        inbox: number(&inbox, "unended")?,
    })
}

async fn each(
    store: &PgStore,
    connection: &mut PgConnection,
    text: &'static str,
    decode: impl Fn(&PgRow) -> Result<ReadRow, StoreError> + Send,
    take: Take<'_>,
) -> Result<(), StoreError> {
    let mut rows = sqlx::query(store.shared.sql(text)).fetch(connection);
    let limit = store.shared.options.answer_within;
    while let Some(row) = (answered(limit, rows.try_next()).await).map_err(|e| error::within(&e))? {
        take(decode(&row)?);
    }
    Ok(())
}

fn outbox_row(row: &PgRow) -> Result<OutboxRow, StoreError> {
    Ok(OutboxRow {
        id: column(row, "id")?,
        outgoing: codec::outgoing(row)?,
        published_at: codec::maybe_time(row, "published_at")?,
        lease_until: codec::maybe_time(row, "lease_until")?,
    })
}

fn kept_message(row: &PgRow) -> Result<KeptMessage, StoreError> {
    Ok(KeptMessage {
        consumer: text(row, "consumer")?,
        scope: text(row, "order_scope")?,
        sequence: codec::unsigned(row, "order_seq")?,
        idempotency_key: text(row, "idempotency_key")?,
    })
}
