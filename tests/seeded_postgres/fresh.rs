//! Each run begins where the migrations have ended, whatever the runs before it have done.

use redeliver_sim::postgres::{Database, Server};

/// What a team's migrations may leave behind.
const MIGRATIONS: &str = "\
    create table rates (currency text primary key, cents int not null, \
        twice int generated always as (2 * cents) stored); \
    insert into rates values ('EUR', 100), ('USD', 90), ('GBP', 120); \
    create table prices (id int generated always as identity, \
        currency text not null references rates on delete cascade, cents int not null); \
    insert into prices (currency, cents) values ('EUR', 5), ('USD', 6); \
    create sequence invoices; \
    select setval('invoices', 1000, false); \
    create sequence receipts start 7; \
    select nextval('receipts'), nextval('receipts'); \
    create sequence untouched start 50; \
    create sequence \"It's\"; \
    create table journal (id serial, what text not null); \
    create function forbid() returns trigger language plpgsql as \
        $$ begin raise exception 'a journal is only added to'; end $$; \
    create trigger append_only before update or delete on journal \
        for each row execute function forbid(); \
    create trigger never_emptied before truncate on journal \
        for each statement execute function forbid(); \
    create function note() returns trigger language plpgsql as \
        $$ begin insert into journal (what) values (tg_op); return null; end $$; \
    create trigger noted after insert or update or delete on rates \
        for each statement execute function note(); \
    create materialized view totals as select sum(cents) as cents from rates; \
    create table parts (at int not null, what text) partition by range (at); \
    create table parts_0 partition of parts for values from (0) to (10); \
    insert into parts values (1, 'kept')";

/// All that is in it, and what its sequences say next.
const LOOK: &str = "\
    select format('rate %s %s %s', currency, cents, twice) from rates union all \
    select format('price %s %s %s', id, currency, cents) from prices union all \
    select format('journal %s %s', id, what) from journal union all \
    select format('total %s', cents) from totals union all \
    select format('part %s %s', at, what) from parts union all \
    select format('sequence %s %s', name, nextval(name)) from \
        unnest(array['invoices', 'receipts', 'untouched', 'journal_id_seq', 'prices_id_seq']) name";

fn look(database: &mut Database) -> Vec<String> {
    let rows = database.rows(LOOK).expect("a look at the tables");
    rows.into_iter().flatten().flatten().collect()
}

#[test]
fn what_migrations_left_is_there_at_each_start() {
    if !crate::has_postgres() {
        return;
    }
    let server = Server::of_this_program().expect("PostgreSQL is installed");
    let mut first = Database::empty(&server).expect("the server makes a database");
    first.rows(MIGRATIONS).expect("migrated");
    let name = first.close().expect("nobody is connected");
    let mut database = Database::copy(&server, &name).expect("a copy");
    database.refresh().expect("fresh");
    let start = look(&mut database);
    for expected in [
        "rate EUR 100 200",
        "price 2 USD 6",
        "total 310",
        "part 1 kept",
        "sequence invoices 1000",
        "sequence receipts 9",
        "sequence untouched 50",
        "sequence prices_id_seq 3",
    ] {
        assert!(
            start.iter().any(|line| line == expected),
            "{expected}: {start:#?}"
        );
    }
    for doing in [
        "update rates set cents = 1 where currency = 'EUR'",
        "delete from rates",
        "truncate rates cascade",
        "insert into journal (what) values ('by a handler')",
        "select nextval('invoices'), nextval('receipts'), nextval('untouched')",
        "select setval('invoices', 5), setval('receipts', 1, false)",
        "alter sequence invoices restart with 3",
        "insert into rates values ('SEK', 9); refresh materialized view totals",
        "insert into parts values (2, 'more')",
        "select 1",
    ] {
        database.rows(doing).expect(doing);
        database.refresh().expect(doing);
        assert_eq!(look(&mut database), start, "after: {doing}");
    }
}

/// A handler that changes what tables there are has no fresh database but a new one.
#[test]
fn what_tables_there_are_is_the_same_at_each_start() {
    if !crate::has_postgres() {
        return;
    }
    let server = Server::of_this_program().expect("PostgreSQL is installed");
    let mut first = Database::empty(&server).expect("the server makes a database");
    first.rows(MIGRATIONS).expect("migrated");
    let name = first.close().expect("nobody is connected");
    let mut database = Database::copy(&server, &name).expect("a copy");
    let start = look(&mut database);
    let name = database.name().to_owned();
    let temporary = "create temporary table t (n int primary key); drop table t";
    database
        .rows(temporary)
        .expect("a table of the session's own");
    database.refresh().expect("fresh");
    assert_eq!(
        database.name(),
        name,
        "which makes no other database necessary"
    );
    for doing in [
        "create table parts_1 partition of parts for values from (10) to (20)",
        "alter table rates add column since date",
        "create index on journal (what)",
        "create function more() returns int language sql as 'select 1'",
        "create type mood as enum ('ok')",
        "drop table prices; create table prices (id int, currency text, cents int)",
        "alter sequence receipts increment 5",
    ] {
        database.rows(doing).expect(doing);
        database.refresh().expect(doing);
        assert_eq!(look(&mut database), start, "after: {doing}");
        // It can be done again, as in the first run.
        database.rows(doing).expect(doing);
        database.refresh().expect(doing);
    }
}
