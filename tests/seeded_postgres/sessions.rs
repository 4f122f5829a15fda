//! What a session can carry besides statements, and what becomes of it when its client goes.

use futures_util::StreamExt;
use redeliver_sim::fault::{Event, Kind, Rule, Seam};
use redeliver_sim::{World, sleep, with};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::world::{attempt, connect, database_name, run, seeded, told};

const SECOND: u64 = 1_000_000_000;

async fn count(connection: &mut PgConnection) -> i64 {
    let row = connection.fetch_one("select count(*) from accounts").await;
    row.expect("a count").get(0)
}

fn process<F: Future<Output = ()> + 'static>(name: &str, main: fn() -> F) {
    with(|w: &mut World| w.add_process(name, move |_| Box::pin(main())));
}

/// Runs a world twice over; gives its trace, which is the same.
fn twice<F: Future<Output = ()> + 'static>(rules: &[Rule], main: fn() -> F) -> String {
    let mut options = seeded(1);
    options.rules = rules.to_vec();
    let once = || told(&run(&options, "select 1", main).0);
    let first = once();
    assert_eq!(first, once());
    first
}

const ROWS: &[u8] = b"a\t1\nb\t2\nc\t3\n";

#[test]
fn rows_are_copied_in_and_out() {
    if !crate::has_postgres() {
        return;
    }
    let trace = twice(&[], || async {
        process("copier", || async {
            let mut connection = connect().await;
            let copy = "copy accounts from stdin";
            let mut copying = connection.copy_in_raw(copy).await.expect("begun");
            for row in ROWS.split_inclusive(|byte| *byte == b'\n') {
                copying.send(row).await.expect("sent");
                sleep(SECOND).await;
            }
            assert_eq!(copying.finish().await.expect("copied"), 3);
            // More than a socket takes at once, each way.
            let many: String = (0..50_000)
                .map(|n| format!("account-{n:020}\t{n}\n"))
                .collect();
            let mut tx = connection.begin().await.expect("begun");
            let mut copying = tx.copy_in_raw(copy).await.expect("begun");
            copying.send(many.as_bytes()).await.expect("sent");
            assert_eq!(copying.finish().await.expect("copied"), 50_000);
            tx.commit().await.expect("committed");
            assert_eq!(count(&mut connection).await, 50_003);
            let mut out = connection
                .copy_out_raw("copy (select * from accounts where name like 'account%' order by name) to stdout")
                .await
                .expect("begun");
            let mut told = Vec::new();
            while let Some(part) = out.next().await {
                told.extend_from_slice(&part.expect("a row"));
            }
            assert!(told == many.as_bytes(), "{} bytes", told.len());
        });
        sleep(100 * SECOND).await;
    });
    assert!(
        trace.contains("copy accounts from stdin: COPY 3"),
        "{trace}"
    );
}

/// What a COPY was given is lost with its client, and its session is whole for the next one.
#[test]
fn a_copy_without_end_copies_nothing() {
    if !crate::has_postgres() {
        return;
    }
    let mut crash = Rule::new(Kind::Crash, 1_000_000);
    crash.process = Some("crashed".into());
    (crash.seam, crash.after, crash.limit) = (Some(Seam::Statement), Some(true), 1);
    let trace = twice(&[crash], || async {
        process("crashed", || async {
            if with(|w| w.now()) > 0 {
                return;
            }
            let mut connection = connect().await;
            let copy = "copy accounts from stdin";
            let mut copying = connection.copy_in_raw(copy).await.expect("begun");
            copying.send(ROWS).await.expect("sent");
            unreachable!("it dies when COPY has begun");
        });
        process("failing", || async {
            sleep(5 * SECOND).await;
            let mut connection = connect().await;
            assert_eq!(count(&mut connection).await, 0);
            let copy = "copy accounts from stdin";
            let mut copying = connection.copy_in_raw(copy).await.expect("begun");
            copying.send(ROWS).await.expect("sent");
            copying.send(&b"d\tmany\n"[..]).await.expect("sent");
            let refused = copying.finish().await.expect_err("that is no number");
            let code = refused.as_database_error().and_then(|e| e.code());
            assert_eq!(code.as_deref(), Some("22P02"), "{refused}");
            let copying = connection.copy_in_raw(copy).await.expect("begun");
            copying.abort("enough").await.expect("aborted");
            let lost = connection.copy_in_raw("copy nothing from stdin").await;
            let code = lost
                .err()
                .and_then(|e| e.into_database_error()?.code().map(String::from));
            assert_eq!(code.as_deref(), Some("42P01"));
            assert_eq!(count(&mut connection).await, 0);
        });
        sleep(100 * SECOND).await;
    });
    assert!(trace.contains("crash"), "{trace}");
}

/// A COPY outside of a transaction is a commit of its own: in doubt when its answer is lost.
#[test]
fn a_copy_can_be_in_doubt() {
    if !crate::has_postgres() {
        return;
    }
    for (kind, rows) in [(Kind::CommitInDoubt, 3), (Kind::LostCommit, 0)] {
        let mut cut = Rule::new(kind, 1_000_000);
        cut.limit = 1;
        let mut options = seeded(1);
        options.rules = vec![cut];
        let (outcome, found) = run(&options, "select count(*)::text from accounts", || async {
            process("copier", || async {
                let mut connection = connect().await;
                let copy = "copy accounts from stdin";
                let mut copying = connection.copy_in_raw(copy).await.expect("begun");
                copying.send(ROWS).await.expect("sent");
                copying.finish().await.expect_err("its answer is lost");
            });
            sleep(100 * SECOND).await;
        });
        assert_eq!(found[0][0], Some(rows.to_string()), "{}", told(&outcome));
    }
}

/// A client without a library, for what libraries do not do.
struct Raw(UnixStream);

impl Raw {
    async fn open() -> (Self, [u8; 8]) {
        let mut raw = Self::dial().await;
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        body.extend(format!("user\0postgres\0database\0{}\0\0", database_name()).into_bytes());
        raw.send_packet(&body).await;
        let greeting = raw.until_ready().await;
        let key = greeting.into_iter().find(|(kind, _)| *kind == b'K');
        let (_, key) = key.expect("a key by which to cancel");
        (raw, key.try_into().expect("two numbers"))
    }

    async fn dial() -> Self {
        let socket = with(World::database_socket).join(".s.PGSQL.5432");
        Self(
            UnixStream::connect(socket)
                .await
                .expect("it takes connections"),
        )
    }

    async fn send_packet(&mut self, body: &[u8]) {
        let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
        packet.extend(body);
        self.0.write_all(&packet).await.expect("sent");
    }

    async fn send(&mut self, kind: u8, body: &[u8]) {
        let mut packet = vec![kind];
        packet.extend((body.len() as u32 + 4).to_be_bytes());
        packet.extend(body);
        self.0.write_all(&packet).await.expect("sent");
    }

    /// Messages up to ReadyForQuery.
    async fn until_ready(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut messages = Vec::new();
        loop {
            let kind = self.0.read_u8().await.expect("a message");
            let length = self.0.read_u32().await.expect("its length");
            let mut body = vec![0; length as usize - 4];
            self.0.read_exact(&mut body).await.expect("its body");
            messages.push((kind, body));
            if kind == b'Z' {
                return messages;
            }
        }
    }

    /// Whether a statement is cancelled, and after how many seconds.
    async fn cancelled(&mut self, sql: &[u8]) -> (bool, u64) {
        let asked = with(|w| w.now());
        self.send(b'Q', &[sql, b"\0"].concat()).await;
        let answer = self.until_ready().await;
        let is_cancelled = |(kind, body): &(u8, Vec<u8>)| {
            *kind == b'E' && body.windows(5).any(|part| part == b"57014")
        };
        let after = (with(|w| w.now()) - asked) / SECOND;
        (answer.iter().any(is_cancelled), after)
    }
}

/// Asks the server to cancel what this session does, so many seconds from now.
fn cancel_after(seconds: u64, key: [u8; 8]) {
    with(|w: &mut World| {
        w.add_process("canceller", move |_| {
            Box::pin(async move {
                sleep(seconds * SECOND).await;
                let mut raw = Raw::dial().await;
                let request = [&80_877_102_i32.to_be_bytes()[..], &key].concat();
                raw.send_packet(&request).await;
                assert_eq!(raw.0.read(&mut [0]).await.expect("no answer"), 0);
            })
        });
    });
}

#[test]
fn a_client_cancels_what_it_waits_for() {
    if !crate::has_postgres() {
        return;
    }
    let trace = twice(&[], || async {
        process("holder", || async {
            let mut connection = connect().await;
            let done = connection.execute("begin; lock table accounts").await;
            done.expect("locked");
            sleep(90 * SECOND).await;
        });
        process("client", || async {
            let (mut raw, key) = Raw::open().await;
            sleep(SECOND).await;
            cancel_after(3, key);
            assert_eq!(raw.cancelled(b"select pg_sleep(60)").await, (true, 3));
            cancel_after(4, key);
            assert_eq!(raw.cancelled(b"select * from accounts").await, (true, 4));
            // Nothing is under way, nothing is cancelled, and a wrong key opens nothing.
            cancel_after(1, key);
            sleep(2 * SECOND).await;
            cancel_after(1, [0; 8]);
            assert_eq!(raw.cancelled(b"select pg_sleep(10)").await, (false, 10));
        });
        sleep(100 * SECOND).await;
    });
    assert!(trace.contains("57014"), "{trace}");
}

/// A fault at commits strikes whatever commits something, however it is written.
#[test]
fn commits_are_struck_however_they_are_written() {
    if !crate::has_postgres() {
        return;
    }
    let commits = [
        "-- as a file has it\ncommit",
        "/* one */ insert into accounts values ('c-1', 1)",
        "with new as (insert into accounts values ('c-2', 2) returning *) select count(*) from new",
        "select 1; insert into accounts values ('c-3', 3)",
        "begin; insert into accounts values ('c-4', 4); commit",
    ];
    let looks = [
        "-- only a look\nselect count(*) from accounts",
        "with a as (select * from accounts) select count(*) from a",
        "begin; select 1; rollback",
    ];
    for (sql, struck) in commits
        .map(|sql| (sql, 1))
        .into_iter()
        .chain(looks.map(|sql| (sql, 0)))
    {
        let mut rule = Rule::new(Kind::LostCommit, 1_000_000);
        rule.seam = Some(Seam::Commit);
        let mut options = seeded(1);
        options.rules = vec![rule];
        let (outcome, rows) = run(&options, "select name from accounts", || async move {
            with(|w: &mut World| {
                w.add_process("client", move |_| {
                    Box::pin(async move {
                        let mut connection = connect().await;
                        if sql.ends_with("\ncommit") {
                            let begin = "begin; insert into accounts values ('c-0', 0)";
                            connection.execute(begin).await.expect("begun");
                        }
                        // Of one that is struck the client hears nothing.
                        let _ = connection.execute(sqlx::raw_sql(sql)).await;
                    })
                });
            });
            sleep(60 * SECOND).await;
        });
        let lost: u64 = outcome.faults.iter().map(|(_, count)| count).sum();
        assert_eq!(lost, struck, "{sql}");
        let left = rows
            .iter()
            .flatten()
            .flatten()
            .filter(|name| name.starts_with("c-"))
            .count();
        assert_eq!(left, 0, "nothing of it is there: {sql}: {rows:?}");
    }
}

/// Where a client waits for an answer that it has asked for with Flush, it is told so at once.
#[test]
fn a_flush_is_refused() {
    if !crate::has_postgres() {
        return;
    }
    let (_, outcome, _) = attempt(&seeded(1), || async {
        process("client", || async {
            let (mut raw, _) = Raw::open().await;
            raw.send(b'P', b"\0select 42\0\0\0").await;
            raw.send(b'H', b"").await;
            raw.until_ready().await;
        });
        sleep(100 * SECOND).await;
    });
    let why = outcome.unrepeatable.unwrap_or_default();
    assert!(why.contains("Flush") && why.contains("select 42"), "{why}");
}

/// What a session holds beside its transaction goes with it.
#[test]
fn locks_of_a_session_end_with_its_client() {
    if !crate::has_postgres() {
        return;
    }
    let mut crash = Rule::new(Kind::Crash, 1_000_000);
    crash.process = Some("leader".into());
    (crash.seam, crash.from, crash.limit) = (Some(Seam::Statement), 10 * SECOND, 1);
    let trace = twice(&[crash], || async {
        process("leader", || async {
            if with(|w| w.now()) > 15 * SECOND {
                return;
            }
            let mut connection = connect().await;
            let lock = "select pg_advisory_lock(7)";
            connection.execute(lock).await.expect("locked");
            sleep(20 * SECOND).await;
            connection.execute("select 1").await.expect_err("it dies");
        });
        process("follower", || async {
            sleep(5 * SECOND).await;
            let mut connection = connect().await;
            let asked = with(|w| w.now());
            let lock = "select pg_advisory_lock(7)";
            connection.execute(lock).await.expect("locked");
            let after = (with(|w| w.now()) - asked) / SECOND;
            assert!((14..=15).contains(&after), "{after} s");
            let unlock = "select pg_advisory_unlock(7)";
            connection.execute(unlock).await.expect("unlocked");
        });
        sleep(100 * SECOND).await;
    });
    assert!(trace.contains("crash"), "{trace}");
}

/// A session that another one has ended is no end of the world.
#[test]
fn a_terminated_session_is_gone_for_its_client() {
    if !crate::has_postgres() {
        return;
    }
    let trace = twice(&[], || async {
        process("victim", || async {
            let mut connection = connect().await;
            let done = connection.execute("begin; lock table accounts").await;
            done.expect("locked");
            sleep(10 * SECOND).await;
            connection
                .execute("select 1")
                .await
                .expect_err("its session has gone");
        });
        process("watchdog", || async {
            sleep(5 * SECOND).await;
            let mut connection = connect().await;
            let holders = "select pg_terminate_backend(pid) from pg_locks \
                           where relation = 'accounts'::regclass";
            connection.execute(holders).await.expect("carried out");
        });
        sleep(100 * SECOND).await;
    });
    assert!(trace.contains("57P01"), "{trace}");
}

#[test]
fn a_fail_over_ends_every_session() {
    if !crate::has_postgres() {
        return;
    }
    let trace = twice(&[], || async {
        with(|w: &mut World| {
            w.plan(Event {
                kind: Kind::FailOver,
                at: 10 * SECOND,
                lasts: 20 * SECOND,
                target: None,
                amount: 0,
            });
        });
        process("holder", || async {
            let mut connection = connect().await;
            let mut tx = connection.begin().await.expect("begun");
            let insert = "insert into accounts values ('a', 1)";
            tx.execute(insert).await.expect("inserted");
            sleep(15 * SECOND).await;
            tx.execute(insert).await.expect_err("its session has gone");
            drop(tx);
            connection.execute("select 1").await.expect_err("for good");
            // It comes back when the database does, and finds nothing of its transaction.
            let mut connection = connect().await;
            assert!(with(|w| w.now()) > 30 * SECOND);
            assert_eq!(count(&mut connection).await, 0);
        });
        process("waiter", || async {
            sleep(5 * SECOND).await;
            let mut connection = connect().await;
            // It waits for the other's row, which comes free in the moment in which all end.
            let insert = "insert into accounts values ('a', 2)";
            connection
                .execute(insert)
                .await
                .expect_err("its session has gone");
            assert_eq!(with(|w| w.now()) / SECOND, 10);
        });
        process("sleeper", || async {
            let mut connection = connect().await;
            let slept = connection.execute("select pg_sleep(60)").await;
            slept.expect_err("its session has gone");
            assert_eq!(with(|w| w.now()) / SECOND, 10);
        });
        sleep(100 * SECOND).await;
    });
    assert!(!trace.contains("values ('a', 2)"), "{trace}");
}
