-- Claims rows of the outbox for a relay, oldest first.
--
-- Of an ordered scope a run is taken that starts at its first unpublished row, and never
-- anything else, whatever other claims do at the same moment:
--
-- 1. "candidate" locks rows that are free, in the order of their ids, which within a scope is
--    the order of their numbers. Rows that another claim has locked are skipped, rows that
--    another claim has taken since this statement's snapshot fail the conditions on their new
--    version (READ COMMITTED looks at it again) and are left out.
-- 2. "gap" finds the first row of each scope that was unpublished in the snapshot and is not
--    among the locked ones. What lies behind it is not taken. (To look at as many first rows
--    as may be claimed is enough: if all of them are locked ones, there are no others.)
--
-- The snapshot may be stale, and that is harmless: a number becomes visible only after all
-- smaller ones (they are given out under a row lock held until commit), and a published row
-- never becomes unpublished again. A stale snapshot can therefore only show too many gaps.
--
-- The look at the scope's head in "candidate" is not needed for that; it keeps the rows behind
-- a head that waits or is held from filling the limit. It tests no clock inside, so that the
-- planner may remember the head of a scope. Such rows are still passed one by one: a scope with
-- a backlog of 100 000 rows behind a held head costs each claim some 80 ms.
--
-- It is a function for the sake of its plan. Every row leaves the index of unpublished ones a
-- moment after it came, and what is left of it is passed quickly by an index scan, which remembers
-- it as dead; a bitmap scan reads all of it each time, with all pages of the table, and in a table
-- that nobody has analysed yet it looks cheaper. The plan is made once: to make it took five times
-- as long as to carry it out.
--
-- The schema stands here as "redeliver."; another name is put in its place when it is applied.
create function redeliver.claim(most bigint, who text, micros bigint)
returns table (
    id bigint, token bigint, failures integer, event_id uuid, idempotency_key text, kind text,
    event_type text, version integer, key text, workflow text, correlation uuid, causation uuid,
    event_time timestamptz, event_nanos smallint, trace text, payload bytea, exchange text,
    routing_key text, order_seq bigint
)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_bitmapscan = off
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
begin
    return query
    with candidate as materialized (
        select o.id, o.order_scope, o.order_seq from redeliver.outbox o
        left join lateral (
            select true as there, available_at, lease_until from redeliver.outbox
            where order_scope = o.order_scope and published_at is null
            order by order_seq limit 1) head on true
        where o.published_at is null
          and o.available_at <= clock_timestamp()
          and (o.lease_until is null or o.lease_until <= clock_timestamp())
          and (head.there is null or (head.available_at <= clock_timestamp()
            and (head.lease_until is null or head.lease_until <= clock_timestamp())))
        order by o.id limit most for update of o skip locked),
    bound as (
        select order_scope, max(order_seq) as last from candidate
        where order_scope is not null group by order_scope),
    first as (
        select b.order_scope, p.id, p.order_seq from bound b cross join lateral (
            select id, order_seq from redeliver.outbox
            where order_scope = b.order_scope and published_at is null
              and order_seq <= b.last
            order by order_seq limit most) p),
    gap as (
        select f.order_scope, min(f.order_seq) as seq
        from first f where f.id not in (select id from candidate)
        group by f.order_scope),
    taken as materialized (
        select c.id from candidate c left join gap g on g.order_scope = c.order_scope
        where g.seq is null or c.order_seq < g.seq)
    update redeliver.outbox o
    set token = o.token + 1, relay = who,
        lease_until = clock_timestamp() + micros * interval '1 microsecond'
    from taken t where o.id = t.id
    returning o.id, o.token, o.failures, o.event_id, o.idempotency_key, o.kind,
        o.event_type, o.version, o.key, o.workflow, o.correlation, o.causation,
        o.event_time, o.event_nanos, o.trace, o.payload, o.exchange, o.routing_key, o.order_seq;
end $$;
