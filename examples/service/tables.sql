-- The team's own tables. Several processes may start at once, and `if not exists` alone does not
-- keep them apart: the lock does, until this text is carried out.
select pg_advisory_xact_lock(hashtext('shop tables'));

create table if not exists orders (
    order_id  text        primary key,
    cents     bigint      not null,
    placed_at timestamptz not null default clock_timestamp()
);

-- Without a unique key on purpose: an order that is charged twice must show, not fail in silence.
create table if not exists charges (
    order_id   text        not null,
    cents      bigint      not null,
    charged_at timestamptz not null default clock_timestamp()
);
create index if not exists charges_order on charges (order_id);
