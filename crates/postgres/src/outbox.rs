//! Statements of the outbox.

use std::time::Duration;

use sqlx::postgres::PgRow;

use super::codec::{self, column, event_columns, micros, outgoing, small};
use super::{PgStore, Shared};
use redeliver_core::dead_letter::{MAX_ERROR_BYTES, bounded};
use redeliver_core::event::Outgoing;
use redeliver_core::outbox::{ClaimedRow, RelayClaim};
use redeliver_core::ports::store::StoreError;

/// Claims rows, oldest first: a function of the database, see `0004_claim.sql`.
const CLAIM: &str = concat!(
    "select o.id, o.token, o.failures, ",
    event_columns!("o"),
    " from redeliver.claim($1, $2, $3) o"
);

pub(super) async fn claim(
    store: &PgStore,
    claim: &RelayClaim,
) -> Result<Vec<ClaimedRow>, StoreError> {
    let query = sqlx::query(store.shared.sql(CLAIM))
        .bind(i64::from(claim.limit))
        .bind(&*claim.relay)
        .bind(micros(claim.lease));
    let rows = store.fetch_all(query).await?;
    let mut rows: Vec<_> = rows.iter().map(claimed_row).collect::<Result<_, _>>()?;
    rows.sort_unstable_by_key(|row| row.id);
    Ok(rows)
}

fn claimed_row(row: &PgRow) -> Result<ClaimedRow, StoreError> {
    Ok(ClaimedRow {
        id: column(row, "id")?,
        token: column(row, "token")?,
        failures: small(row, "failures")?,
        outgoing: outgoing(row)?,
    })
}

/// Locks the named rows in one order: a relay that lost its lease and its successor may both
/// mark the same ones, and would end in a deadlock if each went its own way.
macro_rules! held {
    () => {
        "with held as materialized ( \
            select o.id from redeliver.outbox o \
            join unnest($1::bigint[], $2::bigint[]) as m (id, token) \
                on o.id = m.id and o.token = m.token \
            where o.published_at is null order by o.id for update of o) "
    };
}

/// All rows of a batch are published at one moment, once they are locked: which of them is
/// updated first is the planner's affair, and is not to decide which is purged first.
pub(super) async fn mark(store: &PgStore, rows: &[(i64, i64)]) -> Result<u64, StoreError> {
    let (ids, tokens): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
    let query = sqlx::query(store.shared.sql(concat!(
        held!(),
        ", moment as materialized (select count(*), clock_timestamp() as at from held) \
         update redeliver.outbox o set published_at = moment.at, lease_until = null \
         from held, moment where o.id = held.id"
    )))
    .bind(ids)
    .bind(tokens);
    store.execute(query).await
}

pub(super) async fn release(
    store: &PgStore,
    rows: &[(i64, i64)],
    delay: Duration,
    reason: &str,
) -> Result<u64, StoreError> {
    let (ids, tokens): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
    let query = sqlx::query(store.shared.sql(concat!(
        held!(),
        "update redeliver.outbox o \
         set lease_until = null, failures = o.failures + 1, last_error = $4, \
             available_at = clock_timestamp() + $3 * interval '1 microsecond' \
         from held where o.id = held.id and o.lease_until is not null"
    )))
    .bind(ids)
    .bind(tokens)
    .bind(micros(delay))
    .bind(bounded(reason, MAX_ERROR_BYTES));
    store.execute(query).await
}

/// Removes what was published first, of equals what was put in first.
pub(super) async fn purge(store: &PgStore, age: Duration, limit: u32) -> Result<u64, StoreError> {
    let mapping = store.shared.options.outbox.as_ref();
    if mapping.is_some_and(|mapping| !mapping.purge) {
        // The rows are the team's.
        return Ok(0);
    }
    let query = sqlx::query(store.shared.sql(
        "with old as materialized ( \
            select id from redeliver.outbox \
            where published_at < clock_timestamp() - $1 * interval '1 microsecond' \
            order by published_at, id limit $2 for update skip locked) \
         delete from redeliver.outbox o using old where o.id = old.id",
    ))
    .bind(micros(age))
    .bind(i64::from(limit));
    store.execute(query).await
}

/// Inserts an event that is not ordered; gives no number.
const EMIT: &str = "\
    with row as ( \
        insert into redeliver.outbox (event_id, idempotency_key, kind, event_type, version, key, \
            workflow, correlation, causation, event_time, event_nanos, trace, payload, \
            exchange, routing_key) \
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, \
            timestamptz 'epoch' + $10 * interval '1 microsecond', $11, $12, $13, $14, $15) \
        returning order_seq) \
    select row.order_seq, case when $16 then pg_notify($17, '') is null end from row";

/// Inserts an ordered event. The number is taken first and its row lock is held until commit, so
/// the id of the row, drawn afterwards, rises with the number.
const EMIT_ORDERED: &str = "\
    with number as ( \
        insert into redeliver.outbox_order as o (scope, last) values ($18, 1) \
        on conflict (scope) do update set last = o.last + 1 returning last), \
    row as ( \
        insert into redeliver.outbox (event_id, idempotency_key, kind, event_type, version, key, \
            workflow, correlation, causation, event_time, event_nanos, trace, payload, \
            exchange, routing_key, order_scope, order_seq) \
        select $1, $2, $3, $4, $5, $6, $7, $8, $9, \
            timestamptz 'epoch' + $10 * interval '1 microsecond', $11, $12, $13, $14, $15, \
            $18, number.last from number \
        returning order_seq) \
    select row.order_seq, case when $16 then pg_notify($17, '') is null end from row";

/// The statement that puts `outgoing` into the outbox; wakes relays at commit if `notify`.
pub(super) fn emit<'q>(shared: &Shared, outgoing: &'q Outgoing, notify: bool) -> super::Query<'q> {
    let event = &outgoing.event;
    let ordered = event.sequence.is_some();
    let text = if ordered { EMIT_ORDERED } else { EMIT };
    let address = (&*outgoing.exchange, &*outgoing.routing_key);
    let query = codec::bind_event(sqlx::query(shared.sql(text)), event, address)
        .bind(notify)
        .bind(shared.channel());
    if ordered {
        query.bind(event.order_scope())
    } else {
        query
    }
}
