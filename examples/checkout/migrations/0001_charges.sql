create table charges (
    id bigint generated always as identity primary key,
    order_id text not null,
    cents bigint not null,
    reference text not null,
    charged_at timestamptz not null default now()
);

create table revenue (
    currency text primary key,
    cents bigint not null
);

insert into revenue (currency, cents) values ('EUR', 0);
