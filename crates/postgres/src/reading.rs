//! Reading everything, for checkers.

use sqlx::Executor;
use sqlx::postgres::{PgConnection, PgRow};

use super::codec::{self, column, event_columns, inbox_columns, text, time};
use super::{PgStore, answered, error};
use redeliver_core::outbox::OutboxRow;
use redeliver_core::ports::store::{Reading, StoreError};

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

/// One snapshot of all tables, in one REPEATABLE READ transaction.
pub(super) async fn read_all(store: &PgStore) -> Result<Reading, StoreError> {
    let mut tx = store.shared.pool.begin().await.map_err(error::connecting)?;
    let mode = "set transaction isolation level repeatable read, read only";
    tx.execute(mode).await.map_err(|e| error::within(&e))?;
    let reading = Reading {
        outbox: all(store, &mut tx, OUTBOX, outbox_row).await?,
        inbox: all(store, &mut tx, INBOX, codec::inbox_row).await?,
        audit: all(store, &mut tx, AUDIT, codec::audit_entry).await?,
        workflows: all(store, &mut tx, WORKFLOWS, codec::workflow_head).await?,
        rows: all(store, &mut tx, ROWS, |row| {
            let (table, key) = (text(row, "tbl")?, text(row, "key")?);
            Ok((table, key, column(row, "version")?, codec::document(row)?))
        })
        .await?,
        now: all(store, &mut tx, NOW, |row| time(row, "now"))
            .await?
            .pop()
            .unwrap_or_default(),
    };
    tx.rollback().await.map_err(|e| error::within(&e))?;
    Ok(reading)
}

async fn all<T>(
    store: &PgStore,
    connection: &mut PgConnection,
    text: &'static str,
    decode: fn(&PgRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let query = sqlx::query(store.shared.sql(text));
    let rows = answered(
        store.shared.options.answer_within,
        query.fetch_all(connection),
    );
    let rows = rows.await.map_err(|e| error::within(&e))?;
    rows.iter().map(decode).collect()
}

fn outbox_row(row: &PgRow) -> Result<OutboxRow, StoreError> {
    Ok(OutboxRow {
        id: column(row, "id")?,
        outgoing: codec::outgoing(row)?,
        published_at: codec::maybe_time(row, "published_at")?,
        lease_until: codec::maybe_time(row, "lease_until")?,
    })
}
