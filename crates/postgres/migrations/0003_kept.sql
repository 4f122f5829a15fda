-- Ordered messages that came before their turn: they wait here, acked, and whoever passes the number
-- before one takes it on.
--
-- The schema stands here as "redeliver."; another name is put in its place when it is applied.

-- When a number was last passed: a scope that stands still has lost its worker.
alter table redeliver.inbox_order
    add column passed_at timestamptz not null default clock_timestamp();

create table redeliver.inbox_kept (
    consumer        text collate "C" not null,
    order_scope     text collate "C" not null,
    order_seq       bigint      not null,
    event_id        uuid        not null,
    idempotency_key text collate "C" not null,
    kind            text        not null check (kind in ('fact', 'command')),
    event_type      text        not null,
    version         integer     not null,
    key             text        not null,
    workflow        text        not null,
    correlation     uuid        not null,
    causation       uuid,
    event_time      timestamptz not null,
    -- Nanoseconds of event_time below its microsecond.
    event_nanos     smallint    not null,
    trace           text,
    payload         bytea       not null,
    exchange        text        not null,
    routing_key     text        not null,
    -- What travels with a delivery beside its event.
    attempt         integer     not null,
    redelivered     boolean     not null,
    first_failure   timestamptz,
    parked          integer     not null,
    -- Not given out to those who look for messages that nobody takes on before this.
    looked_until    timestamptz,
    primary key (consumer, order_scope, order_seq)
);
