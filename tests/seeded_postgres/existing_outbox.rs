//! Producers that are not ours: they insert into a table of their own that stands in the outbox's
//! place, or call `enqueue`.

use std::time::Duration;

use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::harness::team::postgres::Postgres;
use redeliver::harness::team::workload::{Generator, Request, Workload};
use redeliver::harness::verdict::{AnomalyKind, Verdict};
use redeliver::pipeline::event::{Kind, Message};
use redeliver::pipeline::handler::{Consumer, Cx, Failure, Handler};
use redeliver::ports::World;
use redeliver::postgres::{OutboxMapping, PgOptions, Sql};
use redeliver_sim::fault::{Kind as Fault, Rule};
use serde::{Deserialize, Serialize};

use crate::shop::Placed;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Charged {
    order: String,
}

impl Message for Charged {
    const TYPE: &'static str = "order.charged";
    const KIND: Kind = Kind::Fact;
    fn key(&self) -> String {
        self.order.clone()
    }
}

/// How a request comes into the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Producer {
    /// Its own table, with what tells two tries of one request from two requests.
    Table,
    /// The same, but the mapping says nothing of that column.
    Forgetful,
    /// `enqueue`.
    Function,
}

#[derive(Clone, Copy)]
struct Shop(Producer);

struct Charge;
impl<W: World> Handler<W> for Charge {
    type Event = Placed;
    async fn handle(&self, placed: &Placed, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        sqlx::query("insert into charges (order_id) values ($1)")
            .bind(&placed.order)
            .execute(cx.sql()?)
            .await?;
        let order = placed.order.clone();
        Ok(cx.emit(&Charged { order }).await?)
    }
}

struct Ship;
impl<W: World> Handler<W> for Ship {
    type Event = Charged;
    async fn handle(&self, charged: &Charged, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        sqlx::query("insert into parcels (order_id) values ($1)")
            .bind(&charged.order)
            .execute(cx.sql()?)
            .await?;
        Ok(())
    }
}

impl Workload for Shop {
    const NAME: &'static str = "shop";

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![
            Consumer::new("charge").on(Charge),
            Consumer::new("ship").on(Ship),
        ]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        generator.each(Placed::number)
    }

    async fn submit<W: World>(&self, request: &Request, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let text = match self.0 {
            Producer::Function => {
                "select redeliver.enqueue('order.placed', $1, $2::jsonb, idempotency_key => $3)"
            }
            _ => "insert into messages (topic, entity, body, dedup) values ('placed', $1, $2, $3)",
        };
        sqlx::query(text)
            .bind(&*request.draft.key)
            .bind(String::from_utf8_lossy(&request.draft.payload))
            .bind(&*request.key)
            .execute(cx.sql()?)
            .await?;
        Ok(())
    }

    fn postgres(&self) -> Option<Postgres> {
        let mut mapping = OutboxMapping {
            event_id: Some("id".into()),
            published: Some("sent".into()),
            on_published: [("sent".into(), "true".into())].into(),
            insert: [("topic".into(), "'ours'".into())].into(),
            ..OutboxMapping::new("public.messages", "'order.' || topic", "entity", "body")
        };
        if self.0 == Producer::Table {
            mapping.idempotency_key = Some("dedup".into());
        }
        let options = PgOptions {
            outbox: (self.0 != Producer::Function).then_some(mapping),
            ..PgOptions::default()
        };
        let tables = Postgres::new().before(
            "create table messages (id uuid primary key default gen_random_uuid(), \
                 topic text not null, entity text, body text not null, dedup text, \
                 sent boolean not null default false); \
             create table charges (id serial primary key, order_id text not null); \
             create table parcels (id serial primary key, order_id text not null)",
        );
        Some(tables.options(options))
    }
}

const ONCE: &str = "select order_id from charges group by 1 having count(*) > 1 order by 1";
const ALL: &str =
    "select order_id from charges where order_id not in (select order_id from parcels)";

fn run(producer: Producer, seed: u64) -> RunResult {
    let mut scenario = Scenario::new("shop", Shop::NAME);
    scenario.messages = 5;
    scenario.over = Duration::from_secs(1);
    scenario.faults_until = Duration::from_secs(4);
    scenario.rules = [
        Fault::Crash,
        Fault::LostConfirm,
        Fault::Abort,
        Fault::CommitInDoubt,
    ]
    .map(|kind| Rule::new(kind, 30_000))
    .to_vec();
    scenario.expect.no_rows = vec![ONCE.into(), ALL.into()];
    simulate(&Shop(producer), &scenario, seed, true)
}

#[test]
fn their_events_take_effect_once() {
    if !crate::has_postgres() {
        return;
    }
    for producer in [Producer::Table, Producer::Function] {
        for seed in 1..=8 {
            let run = run(producer, seed);
            let told: Vec<_> = run.trace.iter().map(ToString::to_string).collect();
            let outcome = (run.verdict, &run.inconclusive);
            assert_eq!(
                outcome,
                (Verdict::Valid, &None),
                "{producer:?}, seed {seed}: {:#?}\n{}",
                run.anomalies,
                told.join("\n")
            );
            assert!(run.messages >= 10, "each order is charged and shipped");
        }
        let (one, other) = (self::run(producer, 1), self::run(producer, 1));
        assert_eq!((one.hash, one.state), (other.hash, other.state));
    }
}

/// A client that does not know whether it was heard asks again; nothing then says that it is the
/// same piece of work.
#[test]
fn a_mapping_without_the_idempotency_key_is_caught() {
    if !crate::has_postgres() {
        return;
    }
    let mut runs = (1..=60).map(|seed| run(Producer::Forgetful, seed));
    let caught = runs.find(|run| run.verdict == Verdict::Violated);
    let caught = caught.expect("sixty seeds catch it");
    let found = |a: &redeliver::harness::verdict::Anomaly| {
        a.kind == AnomalyKind::Invariant && a.seen.contains("gives (order-")
    };
    assert!(
        caught.anomalies.iter().any(found),
        "{:#?}",
        caught.anomalies
    );
}
