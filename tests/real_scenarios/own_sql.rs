//! A workload that brings its own tables: its run has a database of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redeliver::harness::run::{
    CONNECTIONS, LiveError, LiveOptions, LiveReport, PATIENCE, Tell, run_live,
};
use redeliver::harness::scenario::Scenario;
use redeliver::harness::team::postgres::Postgres;
use redeliver::harness::team::workload::{Generator, Request, Workload};
use redeliver::harness::verdict::Verdict;
use redeliver::pipeline::handler::{Consumer, Cx, Failure, Handler};
use redeliver::ports::World;
use redeliver::postgres::Sql;
use redeliver::secret::Secret;

use crate::Servers;
use crate::shop::Placed;

struct Charge;

impl<W: World> Handler<W> for Charge {
    type Event = Placed;

    async fn handle(&self, placed: &Placed, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        sqlx::query("insert into charges (order_id) values ($1)")
            .bind(&placed.order)
            .execute(cx.sql()?)
            .await?;
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Shop;

impl Workload for Shop {
    const NAME: &'static str = "shop";

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![Consumer::new("charge").on(Charge)]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        generator.each(Placed::number)
    }

    fn postgres(&self) -> Option<Postgres> {
        let table =
            "create table charges (id serial primary key, order_id text not null, note text)";
        Some(Postgres::new().sql(table))
    }
}

/// Runs it with these queries; gives the name of the run too.
fn run(
    servers: &Servers,
    user: Option<&str>,
    no_rows: &[&str],
) -> (Result<LiveReport, LiveError>, String) {
    let mut scenario = Scenario::new("own-sql", Shop::NAME);
    scenario.messages = 5;
    scenario.over = Duration::from_secs(1);
    scenario.faults_until = Duration::from_secs(1);
    scenario.expect.no_rows = no_rows.iter().map(|sql| Arc::from(*sql)).collect();
    let name = redeliver_testing::unique("redeliver_own");
    let database = match user {
        Some(user) => servers.database.replace("postgres@", &format!("{user}@")),
        None => servers.database.clone(),
    };
    let options = LiveOptions {
        amqp_url: Secret::new(servers.amqp.clone()),
        database_url: Secret::new(database),
        name: name.clone(),
        seed: 1,
        queue_type: None,
        stop: Arc::new(AtomicBool::new(false)),
        connections: CONNECTIONS,
        patience: PATIENCE,
        tell: Tell::default(),
    };
    (run_live(&Shop, &scenario, &options), name)
}

fn ask(servers: &Servers, sql: &'static str, name: &str) -> bool {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let pool = sqlx::PgPool::connect(&servers.database)
            .await
            .expect("connect");
        let found = sqlx::query_scalar(sql).bind(name).fetch_one(&pool).await;
        found.expect("the catalogue can be read")
    })
}

const IS_LEFT: &str = "select exists (select from pg_database where datname = $1)";

#[test]
fn its_tables_are_made_its_queries_asked_and_all_of_it_removed() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let once = "select order_id from charges group by 1 having count(*) > 1";
    let (report, name) = run(&servers, None, &[once]);
    let result = report.expect("the servers answer").result;
    assert_eq!(
        (result.verdict, result.messages),
        (Verdict::Valid, 5),
        "{:#?}",
        result.anomalies
    );
    assert!(!ask(&servers, IS_LEFT, &name), "{name} is left");
}

#[test]
fn rows_where_there_are_to_be_none_are_told() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let broken = "select order_id, note from charges order by 1 limit 1";
    let (report, _) = run(&servers, None, &[broken, "select 1 from refunds"]);
    let result = report.expect("the servers answer").result;
    assert_eq!(result.verdict, Verdict::Violated);
    let told: Vec<_> = result.anomalies.iter().map(|a| &*a.seen).collect();
    insta::assert_snapshot!(told.join("\n"), @"
    `select order_id, note from charges order by 1 limit 1` gives (order-1, null)
    `select 1 from refunds` cannot be asked: the database refused: relation \"refunds\" does not exist (42P01)
    ");
}

#[test]
fn a_user_who_may_not_make_a_database_is_told_what_is_missing() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let user = redeliver_testing::unique("nobody");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let change = |sql: String| {
        runtime.block_on(async {
            let pool = sqlx::PgPool::connect(&servers.database)
                .await
                .expect("connect");
            let text = sqlx::AssertSqlSafe(sql);
            sqlx::raw_sql(text).execute(&pool).await.expect("a role");
        });
    };
    change(format!("create role {user} login"));
    let (report, name) = run(&servers, Some(&user), &[]);
    change(format!("drop role {user}"));
    let refused = report.expect_err("it may not").to_string();
    assert!(
        refused.contains(&format!("alter role {user} createdb")),
        "{refused}"
    );
    assert!(!ask(&servers, IS_LEFT, &name), "{name} is left");
}
