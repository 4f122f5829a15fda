//! Plain `sqlx` in the world, without a pipeline.

use std::cell::RefCell;
use std::time::Duration;

use redeliver_sim::fault::{Kind, Rule};
use redeliver_sim::postgres::{Database, Server};
use redeliver_sim::{Options, Outcome, World, sleep, with};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor, Row};

/// 2026-01-01.
const EPOCH: i64 = 1_767_225_600_000_000;

thread_local! {
    static DATABASE: RefCell<Option<Database>> = const { RefCell::new(None) };
}

/// The database of this thread, with one table.
fn database() -> Database {
    if let Some(mut known) = DATABASE.take() {
        known.refresh().expect("it is put back");
        return known;
    }
    let server = Server::of_this_program().expect("PostgreSQL is installed");
    let mut first = Database::empty(&server).expect("the server makes a database");
    first
        .rows(
            "create table accounts (name text primary key, amount int not null); \
             create table log (id serial, what text, at timestamptz default now(), \
                token uuid default gen_random_uuid(), chance float8 default random())",
        )
        .expect("the tables are made");
    let name = first.close().expect("nobody is connected");
    Database::copy(&server, &name).expect("a copy")
}

pub(crate) async fn connect() -> PgConnection {
    let folder = with(World::database_socket);
    let name = database_name();
    let options = PgConnectOptions::new_without_pgpass()
        .socket(folder)
        .username("postgres")
        .database(&name)
        .disable_statement_logging();
    loop {
        match PgConnection::connect_with(&options).await {
            Ok(connection) => return connection,
            Err(_) => sleep(100_000_000).await,
        }
    }
}

pub(crate) fn database_name() -> String {
    DATABASE_NAME.with_borrow(Clone::clone)
}

thread_local! {
    static DATABASE_NAME: RefCell<String> = const { RefCell::new(String::new()) };
}

pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// Runs `main` in a world over a fresh database; gives the rows of `last` at the end.
pub(crate) fn run<F: Future<Output = ()> + 'static>(
    options: &Options,
    last: &str,
    main: impl FnOnce() -> F,
) -> (Outcome, Rows) {
    let (ended, outcome, mut database) = attempt(options, main);
    assert_eq!(outcome.panics, Vec::<String>::new());
    assert_eq!(outcome.unrepeatable, None);
    assert!(ended.is_some(), "it came to its end: {:?}", outcome.trace);
    let rows = database.rows(last).expect("a look at the tables");
    DATABASE.set(Some(database));
    (outcome, rows)
}

/// Runs `main`, which may fail.
pub(crate) fn attempt<F: Future<Output = ()> + 'static>(
    options: &Options,
    main: impl FnOnce() -> F,
) -> (Option<()>, Outcome, Database) {
    let database = database();
    DATABASE_NAME.set(database.name().to_owned());
    let options = Options {
        record: true,
        ..options.clone()
    };
    World::run_with_postgres(&options, database, EPOCH, main())
}

pub(crate) fn seeded(seed: u64) -> Options {
    Options {
        seed,
        ..Options::default()
    }
}

pub(crate) fn told(outcome: &Outcome) -> String {
    let lines = outcome.trace.iter();
    lines
        .map(|e| format!("{:>12} {} {} {}\n", e.at, e.actor, e.what, e.detail))
        .collect()
}

#[test]
fn the_servers_clock_chance_and_numbers_are_the_seeds() {
    if !crate::has_postgres() {
        return;
    }
    let once = |seed| {
        run(
            &seeded(seed),
            "select id::text, at::text, token::text, chance::text from log order by id",
            || async {
                with(|w| {
                    w.add_process("writer", |_| {
                        Box::pin(async {
                            let mut connection = connect().await;
                            for _ in 0..3 {
                                sleep(1_000_000_000).await;
                                connection
                                    .execute("insert into log (what) values ('x')")
                                    .await
                                    .expect("it is written");
                            }
                        })
                    })
                });
                sleep(10_000_000_000).await;
            },
        )
    };
    let (first, rows) = once(7);
    assert_eq!(rows.len(), 3, "{}", told(&first));
    assert!(
        rows[0][1]
            .as_ref()
            .is_some_and(|at| at.starts_with("2026-01-01 00:00:01")),
        "{rows:?}"
    );
    let (again, same) = once(7);
    assert_eq!((first.hash, &rows), (again.hash, &same), "{}", told(&first));
    let (_, other) = once(8);
    assert_ne!(rows[0][2], other[0][2]);
}

/// Transfers in both directions at once: lock waits, and deadlocks that the server itself finds.
fn transfers(options: &Options) -> (Outcome, Rows) {
    let main = || async {
        with(|w| {
            w.add_process("setup", |_| {
                Box::pin(async {
                    let mut connection = connect().await;
                    connection
                        .execute("insert into accounts values ('a', 100), ('b', 100)")
                        .await
                        .ok();
                })
            });
        });
        sleep(2_000_000_000).await;
        for i in 0..4 {
            let name = format!("mover-{i}");
            with(|w| {
                w.add_process(&name, move |_| {
                    Box::pin(async move {
                        let mut connection = connect().await;
                        for _ in 0..3 {
                            let (from, to) = if i % 2 == 0 { ("a", "b") } else { ("b", "a") };
                            loop {
                                if transfer(&mut connection, from, to).await.is_ok() {
                                    break;
                                }
                                if connection.ping().await.is_err() {
                                    connection = connect().await;
                                }
                                // Whoever tries again in step meets the same deadlock again.
                                let chance = with(|w| {
                                    let me = w.current_process().expect("a task");
                                    w.random(me, "test.backoff", "", 0)
                                });
                                sleep(chance % 3_000_000_000).await;
                            }
                        }
                    })
                })
            });
        }
        sleep(120_000_000_000).await;
    };
    run(
        options,
        "select (select sum(amount) from accounts)::text, (select count(*) from log)::text",
        main,
    )
}

async fn transfer(connection: &mut PgConnection, from: &str, to: &str) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    for (name, by) in [(from, -1), (to, 1)] {
        sqlx::query("update accounts set amount = amount + $2 where name = $1 returning amount")
            .bind(name)
            .bind(by)
            .fetch_one(&mut *tx)
            .await?
            .get::<i32, _>(0);
    }
    sqlx::query("insert into log (what) values ('moved')")
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

#[test]
fn sessions_wait_for_locks_and_deadlocks_are_found() {
    if !crate::has_postgres() {
        return;
    }
    let (mut waits, mut deadlocks) = (0, 0);
    for seed in 0..10 {
        let (outcome, rows) = transfers(&seeded(seed));
        assert_eq!(
            rows[0],
            [Some("200".to_owned()), Some("12".to_owned())],
            "seed {seed}:\n{}",
            told(&outcome)
        );
        let count = |text: &str| {
            let has = |e: &&redeliver_sim::trace::Entry| e.detail.contains(text);
            outcome.trace.iter().filter(has).count()
        };
        waits += count("after waiting for a lock");
        deadlocks += count("40P01");
        let (again, _) = transfers(&seeded(seed));
        assert_eq!(told(&outcome), told(&again));
    }
    assert!(
        waits > 0 && deadlocks > 0,
        "{waits} waits, {deadlocks} deadlocks"
    );
}

#[test]
fn crashes_roll_back_and_commits_are_in_doubt_on_either_side() {
    if !crate::has_postgres() {
        return;
    }
    let (mut crashes, mut lost, mut done) = (0, 0, 0);
    for seed in 0..20 {
        let mut options = seeded(seed);
        options.rules = [
            Kind::Crash,
            Kind::LostCommit,
            Kind::CommitInDoubt,
            Kind::Abort,
        ]
        .map(|kind| Rule::new(kind, 30_000))
        .to_vec();
        let (outcome, rows) = transfers(&options);
        // Whatever happened to them, transfers are whole.
        assert_eq!(rows[0][0].as_deref(), Some("200"), "{}", told(&outcome));
        let count = |kind| {
            let struck = outcome.faults.iter().find(|(struck, _)| *struck == kind);
            struck.map_or(0, |(_, count)| *count)
        };
        crashes += count(Kind::Crash);
        lost += count(Kind::LostCommit);
        done += count(Kind::CommitInDoubt);
        let (again, _) = transfers(&options);
        assert_eq!(told(&outcome), told(&again));
    }
    assert!(
        crashes > 0 && lost > 0 && done > 0,
        "{crashes} {lost} {done}"
    );
}

#[test]
fn a_lock_timeout_comes_in_virtual_time() {
    if !crate::has_postgres() {
        return;
    }
    let (outcome, _) = run(&seeded(1), "select 1", || async {
        with(|w| {
            w.add_process("holder", |_| {
                Box::pin(async {
                    let mut connection = connect().await;
                    connection
                        .execute("begin; lock table accounts")
                        .await
                        .expect("locked");
                    sleep(60_000_000_000).await;
                })
            });
            w.add_process("waiter", |_| {
                Box::pin(async {
                    sleep(1_000_000_000).await;
                    let mut connection = connect().await;
                    let asked = with(|w| w.now());
                    connection
                        .execute("set lock_timeout = '10s'")
                        .await
                        .expect("set");
                    let refused = connection.execute("select * from accounts").await;
                    let after = Duration::from_nanos(with(|w| w.now()) - asked);
                    let code = match &refused {
                        Err(sqlx::Error::Database(e)) => e.code().map(String::from),
                        _ => None,
                    };
                    assert_eq!(
                        code.as_deref(),
                        Some("55P03"),
                        "{refused:?} after {after:?}"
                    );
                    assert!((10..12).contains(&after.as_secs()), "{after:?}");
                })
            });
        });
        sleep(100_000_000_000).await;
    });
    assert!(told(&outcome).contains("55P03"), "{}", told(&outcome));
}

/// What the closures above share is only the thread.
#[test]
fn worlds_on_several_threads_do_not_meet() {
    if !crate::has_postgres() {
        return;
    }
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let all = || {
                (0..3)
                    .map(|seed| told(&transfers(&seeded(seed)).0))
                    .collect()
            };
            std::thread::spawn(all)
        })
        .collect();
    let runs: Vec<Vec<String>> = threads
        .into_iter()
        .map(|thread| thread.join().expect("it ends"))
        .collect();
    assert_eq!(runs[0], runs[1]);
}
