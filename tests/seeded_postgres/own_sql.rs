//! A team's own tables, its own SQL through `sqlx`, and queries that say what must hold.

use std::time::Duration;

use redeliver::harness::explore::repeat;
use redeliver::harness::run::simulate;
use redeliver::harness::scenario::Scenario;
use redeliver::harness::team::postgres::Postgres;
use redeliver::harness::team::workload::{Generator, Request, Workload};
use redeliver::harness::verdict::{AnomalyKind, Verdict};
use redeliver::pipeline::event::{Kind, Message};
use redeliver::pipeline::handler::{Consumer, Cx, Failure, Handler};
use redeliver::ports::World;
use redeliver::postgres::Sql;
use redeliver_sim::fault::{Kind as Fault, Rule};
use serde::{Deserialize, Serialize};
use sqlx::Executor;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct OrderPlaced {
    order: String,
    cents: i64,
}

impl Message for OrderPlaced {
    const TYPE: &'static str = "order.placed";
    const KIND: Kind = Kind::Fact;
    fn key(&self) -> String {
        self.order.clone()
    }
}

/// Charges an order, with the balance of its customer in a row that all of them share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Charge {
    Right,
    /// Ends the transaction on its own, as nobody should: the charge is there before the pipeline
    /// knows that the message is done.
    Hasty,
    /// Lets a task of its own write, that nobody waits for.
    Detached,
    /// Asks for a number that the server gives as it comes.
    Numbered,
    /// Puts a job into a table of its own through the pool, beside the transaction.
    Pooled,
    /// The same in a transaction of its own.
    PooledTx,
    /// The same, with the values in the text of the statement: each attempt sends another.
    PooledText,
    /// The same, with `copy`.
    PooledCopy,
    /// The same, with an insert that stands in a CTE.
    PooledWith,
    /// The same, with a transaction of three statements in one query.
    PooledAtOnce,
    /// In one query, too, which rolls back.
    PooledAtOnceBack,
    /// The same, once for each order.
    PooledOnce,
    /// The same, one row for each order, whatever was there.
    PooledUpsert,
    /// In a transaction of its own, which it rolls back.
    PooledBack,
    /// Any error of the database is the end.
    ErrorIsTheEnd,
}

impl<W: World> Handler<W> for Charge {
    type Event = OrderPlaced;

    async fn handle(&self, placed: &OrderPlaced, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        if matches!(self, Self::Pooled | Self::PooledOnce | Self::PooledUpsert) {
            let job = match self {
                Self::Pooled => "insert into jobs (order_id) values ($1)",
                Self::PooledUpsert => {
                    "insert into jobs (id, order_id) values (hashtext($1), $1) \
                      on conflict (id) do update set order_id = excluded.order_id"
                }
                _ => {
                    "insert into jobs (id, order_id) values (hashtext($1), $1) \
                      on conflict do nothing"
                }
            };
            let job = sqlx::query(job).bind(&placed.order);
            job.execute(&cx.pool()?).await?;
        }
        if matches!(self, Self::PooledTx | Self::PooledBack) {
            let mut tx = cx.pool()?.begin().await?;
            let job = sqlx::query("insert into jobs (order_id) values ($1)");
            job.bind(&placed.order).execute(&mut *tx).await?;
            match self {
                Self::PooledTx => tx.commit().await?,
                _ => tx.rollback().await?,
            }
        }
        if *self == Self::PooledCopy {
            let mut connection = cx.pool()?.acquire().await?;
            let copy = "copy jobs (order_id) from stdin";
            let mut rows = connection.copy_in_raw(copy).await?;
            rows.send(format!("{}\n", placed.order).into_bytes())
                .await?;
            rows.finish().await?;
        }
        let (order, attempt) = (&placed.order, cx.attempt());
        let text = match self {
            Self::PooledText => {
                format!("insert into jobs (order_id) values ('{order} {attempt}')")
            }
            Self::PooledWith => format!(
                "with job as (insert into jobs (order_id) values ('{order}') returning id) \
                 select id from job"
            ),
            Self::PooledAtOnce => {
                format!("begin; insert into jobs (order_id) values ('{order}'); commit")
            }
            Self::PooledAtOnceBack => {
                format!("begin; insert into jobs (order_id) values ('{order}'); rollback")
            }
            _ => String::new(),
        };
        if !text.is_empty() {
            let text = sqlx::AssertSqlSafe(text);
            sqlx::raw_sql(text).execute(&cx.pool()?).await?;
        }
        let sql = cx.sql()?;
        let charged = sqlx::query("insert into charges (order_id, cents) values ($1, $2)")
            .bind(&placed.order)
            .bind(placed.cents)
            .execute(&mut *sql)
            .await;
        match (self, charged) {
            (Self::ErrorIsTheEnd, Err(error)) => {
                return Err(Failure::poison("database", error.to_string()));
            }
            (_, charged) => charged.map(|_| ())?,
        }
        sqlx::query("update totals set cents = cents + $1 where currency = 'EUR'")
            .bind(placed.cents)
            .execute(&mut *sql)
            .await?;
        if *self == Self::Numbered {
            sql.execute("select txid_current()").await?;
        }
        if *self == Self::Detached {
            let pool = cx.pool()?;
            let task = async move { pool.execute("update totals set cents = cents").await };
            tokio::spawn(task);
            return Ok(());
        }
        if *self == Self::Hasty {
            sql.execute("commit and chain").await?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Checkout(Charge);

impl Workload for Checkout {
    const NAME: &'static str = "checkout";

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![Consumer::new("charge").on(self.0)]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        generator.each(|n| {
            let (order, cents) = (format!("order-{n}"), 100 + i64::from(n));
            OrderPlaced { order, cents }
        })
    }

    fn postgres(&self) -> Option<Postgres> {
        Some(Postgres::new().sql(
            "create table charges (id serial primary key, order_id text not null, \
                cents bigint not null, at timestamptz not null default now()); \
             create table jobs (id serial primary key, order_id text not null); \
             create table totals (currency text primary key, cents bigint not null); \
             insert into totals values ('EUR', 0)",
        ))
    }
}

const ONCE: &str = "select order_id from charges group by 1 having count(*) > 1 order by 1";
const BOOKS: &str = "select cents from totals \
                     where cents <> (select coalesce(sum(cents), 0) from charges)";

fn scenario() -> Scenario {
    let mut scenario = Scenario::new("checkout", Checkout::NAME);
    scenario.messages = 5;
    scenario.over = Duration::from_secs(1);
    scenario.faults_until = Duration::from_secs(4);
    scenario.rules = [
        Fault::Crash,
        Fault::LostAck,
        Fault::Abort,
        Fault::CommitInDoubt,
    ]
    .map(|kind| Rule::new(kind, 30_000))
    .to_vec();
    scenario.expect.no_rows = vec![ONCE.into(), BOOKS.into()];
    scenario
}

#[test]
fn sql_of_ones_own_takes_effect_once() {
    if !crate::has_postgres() {
        return;
    }
    let workload = Checkout(Charge::Right);
    for seed in 1..=10 {
        let run = simulate(&workload, &scenario(), seed, true);
        let told: Vec<_> = run.trace.iter().map(ToString::to_string).collect();
        let told = told.join("\n");
        let outcome = (run.verdict, &run.inconclusive);
        assert_eq!(
            outcome,
            (Verdict::Valid, &None),
            "{:#?}\n{told}",
            run.anomalies
        );
        // A client that does not know whether it was heard asks again.
        assert!(run.messages >= 5);
        assert!(told.contains("insert into charges"), "{told}");
    }
}

#[test]
fn what_commits_too_early_is_seen_by_the_teams_own_query() {
    if !crate::has_postgres() {
        return;
    }
    let workload = Checkout(Charge::Hasty);
    let mut runs = (1..=40).map(|seed| simulate(&workload, &scenario(), seed, false));
    let caught = runs.find(|run| run.verdict == Verdict::Violated);
    let caught = caught.expect("forty seeds catch it");
    let by_query = |a: &&redeliver::harness::verdict::Anomaly| {
        a.kind == AnomalyKind::Invariant && a.checker == "no-rows"
    };
    let seen = &caught
        .anomalies
        .iter()
        .find(by_query)
        .expect("by the query")
        .seen;
    assert!(seen.contains("gives (order-"), "{seen}");
}

#[test]
fn a_detached_task_is_refused_by_its_sql() {
    if !crate::has_postgres() {
        return;
    }
    let run = simulate(&Checkout(Charge::Detached), &scenario(), 1, false);
    assert_eq!(run.verdict, Verdict::Inconclusive, "{:#?}", run.anomalies);
    let why = run.inconclusive.expect("a reason");
    let told = why.contains("tokio::spawn") && why.contains("update totals set cents = cents");
    assert!(told, "{why}");
}

#[test]
fn a_number_of_the_servers_own_is_named() {
    if !crate::has_postgres() {
        return;
    }
    let workload = Checkout(Charge::Numbered);
    let run = |scenario: &Scenario, seed, record| simulate(&workload, scenario, seed, record);
    let mut scenario = scenario();
    scenario.rules.clear();
    let found = repeat(&run, &scenario, 1).expect("two runs differ");
    let told = found.to_string();
    assert!(told.contains("select txid_current()"), "{told}");
    assert!(
        told.contains("txid_current is a number that PostgreSQL gives"),
        "{told}"
    );
}

#[test]
fn a_query_that_cannot_be_asked_is_no_success() {
    if !crate::has_postgres() {
        return;
    }
    let workload = Checkout(Charge::Right);
    let mut scenario = scenario();
    scenario.rules.clear();
    scenario.expect.no_rows = vec!["select * from refunds".into(), ONCE.into()];
    let run = simulate(&workload, &scenario, 1, false);
    let seen: Vec<_> = run.anomalies.iter().map(|a| &*a.seen).collect();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(
        seen[0].contains("cannot be asked") && seen[0].contains("refunds"),
        "{seen:?}"
    );
}

/// What leaves a handler through the pool goes out at each attempt: seen without a query.
#[test]
fn rows_beside_the_transaction_are_seen_without_a_query() {
    if !crate::has_postgres() {
        return;
    }
    let mut scenario = scenario();
    scenario.expect.no_rows.clear();
    let bugs = [
        (Charge::Pooled, "insert into jobs (order_id) values ("),
        (Charge::PooledTx, "insert into jobs (order_id) values ("),
        (Charge::PooledText, "insert into jobs (order_id) values ("),
        (Charge::PooledCopy, "copy jobs (order_id) from stdin"),
        (Charge::PooledWith, "with job as (insert into jobs"),
        (Charge::PooledAtOnce, "begin; insert into jobs"),
    ];
    for (bug, sql) in bugs {
        let mut runs = (1..=40).map(|seed| simulate(&Checkout(bug), &scenario, seed, false));
        let found = runs.find_map(|run| {
            let mut all = run.anomalies.into_iter();
            all.find(|found| found.checker == "beside")
        });
        let found = found.expect("an attempt fails, and the next leaves the row again");
        assert_eq!(found.kind, AnomalyKind::Duplicated);
        assert!(found.seen.contains(sql), "{}", found.seen);
    }
    let right = [
        Charge::Right,
        Charge::PooledOnce,
        Charge::PooledUpsert,
        Charge::PooledBack,
        Charge::PooledAtOnceBack,
    ];
    for right in right {
        for seed in 1..=20 {
            let run = simulate(&Checkout(right), &scenario, seed, false);
            assert_eq!(run.verdict, Verdict::Valid, "{:#?}", run.anomalies);
        }
    }
}

/// The fault strikes a statement of the handler itself, which the pipeline does not send.
#[test]
fn an_aborted_statement_is_no_reason_to_give_up_for_good() {
    if !crate::has_postgres() {
        return;
    }
    let mut scenario = scenario();
    scenario.expect.no_rows.clear();
    scenario.rules = vec![Rule::new(Fault::Abort, 150_000)];
    let workload = Checkout(Charge::ErrorIsTheEnd);
    let mut runs = (1..=20).map(|seed| simulate(&workload, &scenario, seed, false));
    let found = runs.find_map(|run| {
        let mut all = run.anomalies.into_iter();
        all.find(|found| found.kind == AnomalyKind::UnexplainedLetter)
    });
    let seen = found.expect("an abort is taken for the end").seen;
    assert!(seen.contains("struck by abort"), "{seen}");
}
