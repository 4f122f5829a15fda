//! Waiting in the server takes virtual time: time-outs that a team sets, and `pg_sleep`.

use std::time::Duration;

use redeliver_sim::fault::{Kind, Rule, Seam};
use redeliver_sim::{World, sleep, with};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use crate::world::{connect, run, seeded, told};

const SECOND: u64 = 1_000_000_000;

/// How a statement ended, and after how long.
async fn ask(connection: &mut PgConnection, sql: &str) -> (Result<(), String>, Duration) {
    let asked = with(|w| w.now());
    let answer = connection.execute(sqlx::AssertSqlSafe(sql)).await;
    let after = Duration::from_nanos(with(|w| w.now()) - asked);
    let code = |error: sqlx::Error| match error.as_database_error().and_then(|e| e.code()) {
        Some(code) => code.into_owned(),
        None => error.to_string(),
    };
    (answer.map(|_| ()).map_err(code), after)
}

/// Within a statement's latency of so many seconds.
#[track_caller]
fn took(seconds: u64, after: Duration) {
    let allowed = Duration::from_secs(seconds)..Duration::from_secs(seconds + 1);
    assert!(allowed.contains(&after), "{after:?}, not {seconds} s");
}

fn refused(code: &str) -> Result<(), String> {
    Err(code.to_owned())
}

/// One process, for so long; twice, with the same trace.
fn alone<F: Future<Output = ()> + 'static>(client: fn() -> F) -> String {
    both(client, || async {})
}

/// Two processes.
fn both<F, G>(one: fn() -> F, other: fn() -> G) -> String
where
    F: Future<Output = ()> + 'static,
    G: Future<Output = ()> + 'static,
{
    struck(&[], one, other)
}

fn struck<F, G>(rules: &[Rule], one: fn() -> F, other: fn() -> G) -> String
where
    F: Future<Output = ()> + 'static,
    G: Future<Output = ()> + 'static,
{
    let mut options = seeded(1);
    options.rules = rules.to_vec();
    let once = || {
        let main = || async move {
            with(|w: &mut World| {
                w.add_process("one", move |_| Box::pin(one()));
                w.add_process("other", move |_| Box::pin(other()));
            });
            sleep(300 * SECOND).await;
        };
        told(&run(&options, "select 1", main).0)
    };
    let first = once();
    assert_eq!(first, once());
    first
}

#[test]
fn a_sleep_in_the_server_takes_virtual_time() {
    if !crate::has_postgres() {
        return;
    }
    alone(|| async {
        let mut connection = connect().await;
        for (sql, seconds) in [
            ("select pg_sleep(5)", 5),
            ("select pg_sleep_for('1 minute')", 60),
            (
                "do $$ begin perform pg_sleep(2); perform pg_sleep(3); end $$",
                5,
            ),
            ("select pg_sleep(0)", 0),
        ] {
            let (answer, after) = ask(&mut connection, sql).await;
            assert_eq!(answer, Ok(()), "{sql}");
            took(seconds, after);
        }
        let mut tx = connection.begin().await.expect("begun");
        // The time of the transaction stands still, that of the wall has gone on.
        let sql = "select 1 / (clock_timestamp() - now() between '2 s' and '3 s')::int \
                   from pg_sleep(2)";
        let (answer, after) = ask(&mut tx, sql).await;
        assert_eq!(answer, Ok(()));
        took(2, after);
    });
}

/// A row lock is held while its holder sleeps in the server, and others go on.
#[test]
fn others_go_on_and_wait_for_a_sleeper() {
    if !crate::has_postgres() {
        return;
    }
    let trace = both(
        || async {
            let mut connection = connect().await;
            let insert = "insert into accounts values ('a', 0)";
            assert_eq!(ask(&mut connection, insert).await.0, Ok(()));
            let mut tx = connection.begin().await.expect("begun");
            let sql = "update accounts set amount = amount + 1; select pg_sleep(10)";
            assert_eq!(ask(&mut tx, sql).await.0, Ok(()));
            tx.commit().await.expect("committed");
        },
        || async {
            sleep(3 * SECOND).await;
            let mut connection = connect().await;
            let (answer, after) = ask(&mut connection, "insert into log (what) values ('x')").await;
            assert_eq!(answer, Ok(()));
            took(0, after);
            let sql = "update accounts set amount = amount + 1; select pg_sleep(4)";
            let (answer, after) = ask(&mut connection, sql).await;
            assert_eq!(answer, Ok(()));
            took(7 + 4, after + Duration::from_millis(500));
        },
    );
    assert!(trace.contains("pg_sleep(10)"), "{trace}");
}

#[test]
fn a_statement_timeout_comes_in_virtual_time() {
    if !crate::has_postgres() {
        return;
    }
    both(
        || async {
            let mut connection = connect().await;
            let holding = "begin; lock table accounts";
            assert_eq!(ask(&mut connection, holding).await.0, Ok(()));
            sleep(200 * SECOND).await;
        },
        || async {
            sleep(SECOND).await;
            let mut connection = connect().await;
            let (answer, _) = ask(&mut connection, "set statement_timeout = '20s'").await;
            assert_eq!(answer, Ok(()));
            for sql in ["select * from accounts", "select pg_sleep(60)"] {
                let (answer, after) = ask(&mut connection, sql).await;
                assert_eq!(answer, refused("57014"), "{sql}");
                took(20, after);
            }
            // Each statement has all of it.
            for _ in 0..3 {
                let (answer, after) = ask(&mut connection, "select pg_sleep(15)").await;
                assert_eq!(answer, Ok(()));
                took(15, after);
            }
        },
    );
}

#[test]
fn an_idle_transaction_is_ended_in_virtual_time() {
    if !crate::has_postgres() {
        return;
    }
    let trace = both(
        || async {
            let mut connection = connect().await;
            let limit = "set idle_in_transaction_session_timeout = '30s'";
            assert_eq!(ask(&mut connection, limit).await.0, Ok(()));
            let mut tx = connection.begin().await.expect("begun");
            assert_eq!(ask(&mut tx, "lock table accounts").await.0, Ok(()));
            sleep(20 * SECOND).await;
            // Work in between begins it anew, also work that takes longer than it.
            assert_eq!(ask(&mut tx, "select pg_sleep(40)").await.0, Ok(()));
            sleep(100 * SECOND).await;
            let (answer, _) = ask(&mut tx, "select 1").await;
            assert_eq!(answer, refused("25P03"));
        },
        || async {
            sleep(SECOND).await;
            let mut connection = connect().await;
            let (answer, after) = ask(&mut connection, "select * from accounts").await;
            assert_eq!(answer, Ok(()));
            // 20 s idle, 40 s asleep, 30 s idle; it came a second later.
            took(20 + 40 + 30, after + Duration::from_millis(1_500));
        },
    );
    assert!(trace.contains("25P03"), "{trace}");
}

/// What makes a statement slow is not idleness of its client.
#[test]
fn a_slow_statement_is_not_idle() {
    if !crate::has_postgres() {
        return;
    }
    let mut slow = Rule::new(Kind::SlowStatement, 1_000_000).lasting(Duration::from_secs(100));
    slow.from = 10 * SECOND;
    struck(
        &[slow],
        || async {
            let mut connection = connect().await;
            let limit = "set idle_in_transaction_session_timeout = '30s'";
            assert_eq!(ask(&mut connection, limit).await.0, Ok(()));
            sleep(20 * SECOND).await;
            let mut tx = connection.begin().await.expect("begun");
            let (answer, after) = ask(&mut tx, "insert into log (what) values ('x')").await;
            assert_eq!(answer, Ok(()));
            assert!(after.as_secs() >= 50, "{after:?}");
            tx.commit().await.expect("committed");
        },
        || async {},
    );
}

/// A process that stands still with an open transaction keeps its locks as long as its time-out
/// says, also where it stands still with the next statement on its lips.
#[test]
fn a_paused_process_loses_its_transaction() {
    if !crate::has_postgres() {
        return;
    }
    let mut pause = Rule::new(Kind::Pause, 1_000_000).lasting(Duration::from_secs(200));
    pause.process = Some("one".into());
    (pause.seam, pause.after) = (Some(Seam::Statement), Some(false));
    (pause.from, pause.limit) = (10 * SECOND, 1);
    let trace = struck(
        &[pause],
        || async {
            let mut connection = connect().await;
            let limit = "set idle_in_transaction_session_timeout = '30s'";
            assert_eq!(ask(&mut connection, limit).await.0, Ok(()));
            let mut tx = connection.begin().await.expect("begun");
            assert_eq!(ask(&mut tx, "lock table accounts").await.0, Ok(()));
            sleep(20 * SECOND).await;
            let (answer, after) = ask(&mut tx, "select 1").await;
            assert_eq!(answer, refused("25P03"));
            assert!(after.as_secs() >= 90, "{after:?}");
        },
        || async {
            sleep(SECOND).await;
            let mut connection = connect().await;
            let (answer, after) = ask(&mut connection, "select * from accounts").await;
            assert_eq!(answer, Ok(()));
            took(30, after + Duration::from_millis(1_500));
        },
    );
    assert!(
        trace.contains("pause") && trace.contains("25P03"),
        "{trace}"
    );
}
