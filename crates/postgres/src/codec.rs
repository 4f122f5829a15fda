//! Between columns and the pipeline's types. Times travel as whole microseconds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::Query;
use super::error::corrupt;
use redeliver_core::audit::{AuditEntry, Hash, WorkflowHead};
use redeliver_core::event::{Event, Kind, Outgoing};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::ports::env::Timestamp;
use redeliver_core::ports::store::StoreError;

/// The columns of an event in the outbox, as [`outgoing`] reads them.
macro_rules! event_columns {
    ($row:literal) => {
        concat!(
            $row,
            ".event_id, ",
            $row,
            ".idempotency_key, ",
            $row,
            ".kind, ",
            $row,
            ".event_type, ",
            $row,
            ".version, ",
            $row,
            ".key, ",
            $row,
            ".workflow, ",
            $row,
            ".correlation, ",
            $row,
            ".causation, ",
            $row,
            ".event_nanos, ",
            "(extract(epoch from ",
            $row,
            ".event_time) * 1000000)::bigint as event_time, ",
            $row,
            ".trace, ",
            $row,
            ".payload, ",
            $row,
            ".exchange, ",
            $row,
            ".routing_key, ",
            $row,
            ".order_seq"
        )
    };
}
/// The columns of an inbox row, as [`inbox_row`] reads them.
macro_rules! inbox_columns {
    () => {
        "consumer, idempotency_key, state, worker, result, story, dead_published, attempts, \
         token, (extract(epoch from lease_until) * 1000000)::bigint as lease_until, \
         (extract(epoch from first_failure) * 1000000)::bigint as first_failure, \
         (extract(epoch from not_before) * 1000000)::bigint as not_before, \
         (extract(epoch from updated_at) * 1000000)::bigint as updated_at, \
         (extract(epoch from clock_timestamp()) * 1000000)::bigint as now"
    };
}
pub(super) use {event_columns, inbox_columns};

/// Whole microseconds, at most about 100 years: an interval that PostgreSQL can add.
pub(super) fn micros(d: Duration) -> i64 {
    let century = 100 * 365 * 24 * 3600 * 1_000_000;
    i64::try_from(d.as_micros()).unwrap_or(century).min(century)
}

/// Whole microseconds since the epoch.
pub(super) fn micros_of(time: Timestamp) -> i64 {
    time.micros()
}

pub(super) fn signed(n: u64) -> Result<i64, StoreError> {
    i64::try_from(n).map_err(|_| StoreError::Refused(format!("{n} is beyond bigint")))
}

/// Reads a column.
pub(super) fn column<'r, T>(row: &'r PgRow, name: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(name).map_err(corrupt)
}

pub(super) fn text(row: &PgRow, name: &str) -> Result<Arc<str>, StoreError> {
    column::<&str>(row, name).map(Arc::from)
}

pub(super) fn time(row: &PgRow, name: &str) -> Result<Timestamp, StoreError> {
    column(row, name).map(Timestamp::from_micros)
}

pub(super) fn maybe_time(row: &PgRow, name: &str) -> Result<Option<Timestamp>, StoreError> {
    Ok(column::<Option<i64>>(row, name)?.map(Timestamp::from_micros))
}

pub(super) fn unsigned<T: TryFrom<i64>>(row: &PgRow, name: &str) -> Result<T, StoreError> {
    let n: i64 = column(row, name)?;
    T::try_from(n).map_err(|_| corrupt(format_args!("{name} = {n}")))
}

pub(super) fn small<T: TryFrom<i32>>(row: &PgRow, name: &str) -> Result<T, StoreError> {
    let n: i32 = column(row, name)?;
    T::try_from(n).map_err(|_| corrupt(format_args!("{name} = {n}")))
}

pub(super) fn hash(row: &PgRow, name: &str) -> Result<Hash, StoreError> {
    let bytes: &[u8] = column(row, name)?;
    Hash::try_from(bytes).map_err(|_| corrupt(format_args!("{name} of {} bytes", bytes.len())))
}

/// Binds an event and its address, as exchange and routing key: what [`outgoing`] reads, but for its
/// number, in the order of the tables' columns.
pub(super) fn bind_event<'q>(
    query: Query<'q>,
    event: &'q Event,
    (exchange, routing_key): (&'q str, &'q str),
) -> Query<'q> {
    let nanos = i16::try_from(event.time.0 % 1_000).unwrap_or_default();
    query
        .bind(event.id)
        .bind(&*event.idempotency_key)
        .bind(event.kind.as_str())
        .bind(&*event.event_type)
        .bind(i32::from(event.version))
        .bind(&*event.key)
        .bind(&*event.workflow)
        .bind(event.correlation)
        .bind(event.causation)
        .bind(event.time.micros())
        .bind(nanos)
        .bind(event.trace.as_deref())
        .bind(&event.payload[..])
        .bind(exchange)
        .bind(routing_key)
}

/// An event with its address.
pub(super) fn outgoing(row: &PgRow) -> Result<Outgoing, StoreError> {
    let kind: &str = column(row, "kind")?;
    let nanos: i16 = column(row, "event_nanos")?;
    let whole = time(row, "event_time")?;
    let sequence: Option<i64> = column(row, "order_seq")?;
    let event = Event {
        id: column::<Uuid>(row, "event_id")?,
        idempotency_key: text(row, "idempotency_key")?,
        kind: Kind::parse(kind).ok_or_else(|| corrupt(kind))?,
        event_type: text(row, "event_type")?,
        version: small(row, "version")?,
        key: text(row, "key")?,
        workflow: text(row, "workflow")?,
        correlation: column(row, "correlation")?,
        causation: column(row, "causation")?,
        time: Timestamp(whole.0 + u64::from(nanos.unsigned_abs())),
        trace: column::<Option<&str>>(row, "trace")?.map(Arc::from),
        sequence: sequence.map(u64::try_from).transpose().map_err(corrupt)?,
        payload: Bytes::from(column::<Vec<u8>>(row, "payload")?),
    };
    Ok(Outgoing {
        event: Arc::new(event),
        exchange: text(row, "exchange")?,
        routing_key: text(row, "routing_key")?,
    })
}

/// A row of the inbox.
pub(super) fn inbox_row(row: &PgRow) -> Result<InboxRow, StoreError> {
    let missing = |what: &str| corrupt(format_args!("an inbox row without {what}"));
    let state = match column::<&str>(row, "state")? {
        "open" => InboxState::Open,
        "claimed" => InboxState::Claimed {
            lease_until: maybe_time(row, "lease_until")?.ok_or_else(|| missing("lease_until"))?,
            worker: text(row, "worker")?,
        },
        "done" => InboxState::Done {
            result: Bytes::from(column::<Vec<u8>>(row, "result")?),
        },
        "dead" => InboxState::Dead {
            story: Box::new(column::<Json<_>>(row, "story")?.0),
            published: column(row, "dead_published")?,
        },
        other => return Err(corrupt(other)),
    };
    Ok(InboxRow {
        consumer: text(row, "consumer")?,
        idempotency_key: text(row, "idempotency_key")?,
        state,
        attempts: small(row, "attempts")?,
        token: unsigned(row, "token")?,
        first_failure: maybe_time(row, "first_failure")?,
        not_before: maybe_time(row, "not_before")?,
        updated_at: time(row, "updated_at")?,
        now: time(row, "now")?,
    })
}

pub(super) fn workflow_head(row: &PgRow) -> Result<WorkflowHead, StoreError> {
    Ok(WorkflowHead {
        workflow: text(row, "workflow")?,
        state: text(row, "state")?,
        sequence: unsigned(row, "sequence")?,
        hash: hash(row, "hash")?,
    })
}

pub(super) fn audit_entry(row: &PgRow) -> Result<AuditEntry, StoreError> {
    Ok(AuditEntry {
        workflow: text(row, "workflow")?,
        sequence: unsigned(row, "sequence")?,
        from: text(row, "from_state")?,
        to: text(row, "to_state")?,
        event: column(row, "event_id")?,
        at: time(row, "at")?,
        previous: hash(row, "previous")?,
        hash: hash(row, "hash")?,
    })
}

/// A document of `row_store`.
pub(super) fn document(row: &PgRow) -> Result<Value, StoreError> {
    Ok(column::<Json<Value>>(row, "doc")?.0)
}
