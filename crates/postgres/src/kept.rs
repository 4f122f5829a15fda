//! Statements of ordered messages that wait in the store for their turn.

use std::time::Duration;

use sqlx::postgres::PgRow;

use super::codec::{
    bind_event, column, event_columns, maybe_time, micros, micros_of, outgoing, signed,
};
use super::codec::{small, text, unsigned};
use super::{PgStore, error};
use redeliver_core::ports::store::{Place, StoreError};
use redeliver_core::ports::{Delivery, Receipt};

/// Where a message stands, and keeps it if it is early: one statement, so that one that is not kept
/// costs no transaction.
const KEEP: &str = "\
    with place as ( \
        select coalesce((select next from redeliver.inbox_order \
            where consumer = $1 and scope = $2), 1) as next), \
    kept as ( \
        insert into redeliver.inbox_kept (consumer, order_scope, order_seq, event_id, \
            idempotency_key, kind, event_type, version, key, workflow, correlation, causation, \
            event_time, event_nanos, trace, payload, exchange, routing_key, attempt, redelivered, \
            first_failure, parked) \
        select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
            timestamptz 'epoch' + $13 * interval '1 microsecond', $14, $15, $16, $17, $18, $19, \
            $20, timestamptz 'epoch' + $21 * interval '1 microsecond', $22 \
        from place where $3 > place.next \
        on conflict (consumer, order_scope, order_seq) do nothing) \
    select next from place";

const NEXT: &str = "\
    select coalesce((select next from redeliver.inbox_order \
        where consumer = $1 and scope = $2), 1) as next";

/// All that [`delivery`] reads.
macro_rules! kept_columns {
    () => {
        concat!(
            event_columns!("k"),
            ", k.consumer, k.attempt, k.redelivered, k.parked, \
             (extract(epoch from k.first_failure) * 1000000)::bigint as first_failure"
        )
    };
}

const TAKE: &str = concat!(
    "with place as ( \
        select coalesce((select next from redeliver.inbox_order \
            where consumer = $1 and scope = $2), 1) as next) \
     select ",
    kept_columns!(),
    ", place.next from place, redeliver.inbox_kept k \
     where k.consumer = $1 and k.order_scope = $2 \
       and k.order_seq >= place.next and k.order_seq < place.next + $3 \
     order by k.order_seq"
);

/// Goes from scope to scope by the primary key, so that a long row of messages behind one costs as
/// much as a short one.
const OVERDUE: &str = concat!(
    "with recursive scope as ( \
        (select order_scope from redeliver.inbox_kept where consumer = $1 \
            order by order_scope limit 1) \
        union all \
        select following.order_scope from scope cross join lateral ( \
            select order_scope from redeliver.inbox_kept \
            where consumer = $1 and order_scope > scope.order_scope \
            order by order_scope limit 1) following), \
     overdue as materialized ( \
        select k.order_scope, k.order_seq from scope \
        left join redeliver.inbox_order o on o.consumer = $1 and o.scope = scope.order_scope \
        join redeliver.inbox_kept k on k.consumer = $1 and k.order_scope = scope.order_scope \
            and k.order_seq <= coalesce(o.next, 1) \
        left join redeliver.inbox i on i.consumer = $1 \
            and i.idempotency_key = k.idempotency_key \
        where (o.passed_at is null \
            or o.passed_at <= clock_timestamp() - $2 * interval '1 microsecond') \
          and (k.looked_until is null or k.looked_until <= clock_timestamp()) \
          and (i.state is distinct from 'claimed' or i.lease_until <= clock_timestamp()) \
          and (i.not_before is null or i.not_before <= clock_timestamp()) \
        order by k.order_scope, k.order_seq limit $3 for update of k skip locked) \
     update redeliver.inbox_kept k \
     set redelivered = true, \
         looked_until = clock_timestamp() + $2 * interval '1 microsecond' \
     from overdue \
     where k.consumer = $1 and k.order_scope = overdue.order_scope \
       and k.order_seq = overdue.order_seq \
     returning ",
    kept_columns!()
);

const FORGET: &str = "\
    delete from redeliver.inbox_kept \
    where consumer = $1 and order_scope = $2 and order_seq = any($3)";

pub(super) async fn keep(store: &PgStore, delivery: &Delivery) -> Result<Place, StoreError> {
    let ordered = delivery.event.as_ref().ok();
    let ordered = ordered.and_then(|event| event.sequence.map(|sequence| (event, sequence)));
    let Some((event, sequence)) = ordered else {
        return Err(StoreError::Refused(
            "only ordered events have a place".to_owned(),
        ));
    };
    let query = sqlx::query(store.shared.sql(KEEP))
        .bind(&*delivery.queue)
        .bind(event.order_scope())
        .bind(signed(sequence)?);
    let address = (&*delivery.exchange, &*delivery.routing_key);
    let query = bind_event(query, event, address)
        .bind(i32::try_from(delivery.attempt).unwrap_or(i32::MAX))
        .bind(delivery.redelivered)
        .bind(delivery.first_failure.map(micros_of))
        .bind(i32::try_from(delivery.parked).unwrap_or(i32::MAX));
    Ok(Place::of(sequence, one(&store.fetch_all(query).await?)?))
}

fn one(rows: &[PgRow]) -> Result<u64, StoreError> {
    let row = rows.first();
    let row = row.ok_or_else(|| error::corrupt("no row where there must be one"))?;
    unsigned(row, "next")
}

pub(super) async fn next(store: &PgStore, consumer: &str, scope: &str) -> Result<u64, StoreError> {
    let query = sqlx::query(store.shared.sql(NEXT))
        .bind(consumer)
        .bind(scope);
    one(&store.fetch_all(query).await?)
}

pub(super) async fn take(
    store: &PgStore,
    (consumer, scope): (&str, &str),
    limit: u32,
) -> Result<Vec<Delivery>, StoreError> {
    let query = sqlx::query(store.shared.sql(TAKE))
        .bind(consumer)
        .bind(scope)
        .bind(i64::from(limit));
    let rows = store.fetch_all(query).await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in &rows {
        let (sequence, next): (u64, u64) = (unsigned(row, "order_seq")?, unsigned(row, "next")?);
        if sequence != next + taken.len() as u64 {
            break;
        }
        taken.push(delivery(row)?);
    }
    Ok(taken)
}

pub(super) async fn overdue(
    store: &PgStore,
    consumer: &str,
    idle: Duration,
    limit: u32,
) -> Result<Vec<Delivery>, StoreError> {
    let query = sqlx::query(store.shared.sql(OVERDUE))
        .persistent(store.shared.seeded)
        .bind(consumer)
        .bind(micros(idle))
        .bind(i64::from(limit));
    let rows = store.fetch_all(query).await?;
    let mut found: Vec<_> = rows.iter().map(delivery).collect::<Result<_, _>>()?;
    found.sort_by_cached_key(|found| {
        let event = found.event.as_ref().ok();
        event.map(|event| (event.order_scope(), event.sequence))
    });
    Ok(found)
}

pub(super) async fn forget(
    store: &PgStore,
    (consumer, scope): (&str, &str),
    sequences: &[u64],
) -> Result<u64, StoreError> {
    let numbers: Vec<i64> = sequences
        .iter()
        .copied()
        .map(signed)
        .collect::<Result<_, _>>()?;
    let query = sqlx::query(store.shared.sql(FORGET))
        .bind(consumer)
        .bind(scope)
        .bind(numbers);
    store.execute(query).await
}

fn delivery(row: &PgRow) -> Result<Delivery, StoreError> {
    let outgoing = outgoing(row)?;
    Ok(Delivery {
        receipt: Receipt {
            channel: 0,
            tag: unsigned(row, "order_seq")?,
        },
        event: Ok(outgoing.event),
        attempt: small(row, "attempt")?,
        redelivered: column(row, "redelivered")?,
        first_failure: maybe_time(row, "first_failure")?,
        parked: small(row, "parked")?,
        kept: true,
        queue: text(row, "consumer")?,
        exchange: outgoing.exchange,
        routing_key: outgoing.routing_key,
    })
}
