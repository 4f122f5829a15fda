-- Puts an event into the outbox, in the transaction of whoever calls it: for producers in any
-- language, and for triggers.
--
--   select redeliver.enqueue('order.placed', 'order-17', '{"order": "order-17", "cents": 990}');
--
-- The schema stands here as "redeliver."; another name is put in its place when it is applied.
create function redeliver.enqueue(
    -- domain.what_happened; the part before the first dot names the exchange.
    event_type      text,
    -- The business key: the order, the account.
    key             text,
    payload         jsonb,
    -- What makes two events the same piece of work. A producer that may try again says it, so
    -- that its second try is known; left out, each call is a piece of work of its own.
    idempotency_key text default null,
    -- For exactly one consumer, not for whoever listens.
    command         boolean default false,
    -- Events of one type and key arrive in the order of their commits.
    ordered         boolean default false,
    -- Of the payload's shape.
    version         integer default 1,
    -- The workflow that it belongs to; its key where nothing is said.
    workflow        text default null,
    -- W3C traceparent.
    trace           text default null
) returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    -- UUID v7: the time in milliseconds, then chance.
    id    constant uuid := encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
              placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint)
                  from 3)
              from 1 for 6), 52, 1), 53, 1), 'hex')::uuid;
    scope constant text := case when ordered then event_type || '/' || key end;
    bytes constant bytea := convert_to(payload::text, 'UTF8');
    seq   bigint;
begin
    if event_type is null or key is null or payload is null then
        raise exception 'enqueue: type, key and payload of an event must not be null'
            using errcode = 'null_value_not_allowed';
    end if;
    if event_type !~ '^[^.]+\..+$' then
        raise exception 'enqueue: % is no type of an event: domain.what_happened', event_type
            using errcode = 'invalid_parameter_value';
    end if;
    if version not between 1 and 65535 then
        raise exception 'enqueue: version % is not in 1..65535', version
            using errcode = 'invalid_parameter_value';
    end if;
    -- As the pipeline's own limit: what is larger belongs into a store, with its key in the event.
    if length(bytes) > 262144 then
        raise exception 'enqueue: a payload of % bytes; the limit is 262144', length(bytes)
            using errcode = 'program_limit_exceeded';
    end if;
    if ordered then
        -- Held until commit: numbers rise in the order of commits, without gaps.
        insert into redeliver.outbox_order as o (scope, last) values (scope, 1)
        on conflict on constraint outbox_order_pkey do update set last = o.last + 1
        returning o.last into seq;
    end if;
    insert into redeliver.outbox (event_id, idempotency_key, kind, event_type, version, key,
        workflow, correlation, event_time, event_nanos, trace, payload, exchange, routing_key,
        order_scope, order_seq)
    values (id, coalesce(idempotency_key, id::text),
        case when command then 'command' else 'fact' end, event_type, version, key,
        coalesce(workflow, key), id, clock_timestamp(), 0, trace, bytes,
        split_part(event_type, '.', 1), event_type, scope, seq);
    -- The schema's name is put in place here too.
    perform pg_notify(rtrim('redeliver.', '.') || '_outbox', '');
    return id;
end $$;
