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
    /// The same, once for each order.
    PooledOnce,
}

impl<W: World> Handler<W> for Charge {
    type Event = OrderPlaced;

    async fn handle(&self, placed: &OrderPlaced, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        if matches!(self, Self::Pooled | Self::PooledOnce) {
            let job = match self {
                Self::Pooled => "insert into jobs (order_id) values ($1)",
                _ => {
                    "insert into jobs (id, order_id) values (hashtext($1), $1) \
                      on conflict do nothing"
                }
            };
            let job = sqlx::query(job).bind(&placed.order);
            job.execute(&cx.pool()?).await?;
        }
        if *self == Self::PooledTx {
            let mut tx = cx.pool()?.begin().await?;
            let job = sqlx::query("insert into jobs (order_id) values ($1)");
            job.bind(&placed.order).execute(&mut *tx).await?;
            tx.commit().await?;
        }
        let sql = cx.sql()?;
        sqlx::query("insert into charges (order_id, cents) values ($1, $2)")
            .bind(&placed.order)
            .bind(placed.cents)
            .execute(&mut *sql)
            .await?;
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
    for bug in [Charge::Pooled, Charge::PooledTx] {
        let mut runs = (1..=40).map(|seed| simulate(&Checkout(bug), &scenario, seed, false));
        let found = runs.find_map(|run| {
            let mut all = run.anomalies.into_iter();
            all.find(|found| found.checker == "beside")
        });
        let found = found.expect("an attempt fails, and the next leaves the row again");
        assert_eq!(found.kind, AnomalyKind::Duplicated);
        assert!(
            found
                .seen
                .contains("insert into jobs (order_id) values ($1)"),
            "{}",
            found.seen
        );
    }
    for right in [Charge::Right, Charge::PooledOnce] {
        for seed in 1..=20 {
            let run = simulate(&Checkout(right), &scenario, seed, false);
            assert_eq!(run.verdict, Verdict::Valid, "{:#?}", run.anomalies);
        }
    }
}
