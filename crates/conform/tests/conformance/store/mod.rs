//! The store port.

mod flow;
mod inbox;
mod order;
mod outbox;
mod rows;
mod runs;
mod sessions;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redeliver_core::env::live::LiveEnv;
use redeliver_core::event::{Event, Kind, Outgoing};
use redeliver_core::outbox::{ClaimedRow, RelayClaim};
use redeliver_core::ports::store::{Row, Store, StoreError, Tx};
use redeliver_core::ports::{Env, Scope, Timestamp};
use redeliver_postgres::{OutboxMapping, PgOptions, PgStore};
use redeliver_sim::with;
use redeliver_simulated::env::SimEnv;
use redeliver_simulated::store::{SimStore, Tables};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lab::{eventually, in_worlds, on_real_time};
use crate::table::{Outcome, Suite};

pub(crate) const SUITES: &[&Suite] = &[
    &rows::CASES,
    &sessions::CASES,
    &outbox::CASES,
    &runs::CASES,
    &inbox::CASES,
    &order::CASES,
    &flow::CASES,
];

pub(crate) const LONG: Duration = Duration::from_secs(600);
pub(crate) const SHORT: Duration = Duration::from_millis(1);

/// A store, with what its server knows of its sessions.
pub(crate) trait Database: Store {
    /// How many sessions wait for a lock that somebody else holds.
    fn waiting(&self) -> impl Future<Output = usize> + Send;
    /// Ends every session that is in a transaction, on the server's side.
    fn cut_sessions(&self) -> impl Future<Output = ()> + Send;
}

impl Database for SimStore {
    async fn waiting(&self) -> usize {
        with(|w| w.sql.db.waiting())
    }

    async fn cut_sessions(&self) {
        with(|w| w.fail_over(0, w.now()));
    }
}

impl Database for PgStore {
    async fn waiting(&self) -> usize {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity \
             where wait_event_type = 'Lock' and query like '%' || $1 || '.%'",
        )
        .bind(self.schema())
        .fetch_one(self.pool())
        .await
        .expect("activity can be read");
        usize::try_from(waiting).expect("a count")
    }

    async fn cut_sessions(&self) {
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where state like 'idle in transaction%' and query like '%' || $1 || '.%'",
        )
        .bind(self.schema())
        .execute(self.pool())
        .await
        .expect("sessions can be ended");
    }
}

/// What a case works with.
#[derive(Clone, Debug)]
pub(crate) struct Lab<S, E> {
    pub(crate) store: S,
    pub(crate) env: E,
}

/// Runs a case on the simulated store.
pub(crate) fn simulated<F>(case: impl Fn(Lab<SimStore, SimEnv>) -> F + Copy + 'static) -> Outcome
where
    F: Future<Output = ()> + 'static,
{
    in_worlds(|| async move {
        let store = SimStore::new(with(|w| w.database(Tables::create)));
        let env = SimEnv::current();
        case(Lab { store, env }).await;
    });
    Outcome::Passed
}

/// Runs a case on PostgreSQL, in a schema of its own: with an outbox of the pipeline's, and with a
/// team's table in its place.
pub(crate) fn real<F>(case: impl Fn(Lab<PgStore, LiveEnv>) -> F) -> Outcome
where
    F: Future<Output = ()>,
{
    let Some(url) = redeliver_testing::server("DATABASE_URL") else {
        return Outcome::LeftOut;
    };
    on_postgres(&url, &case, None);
    on_postgres(&url, &case, Some(TEAM));
    Outcome::Passed
}

/// An outbox as teams have them: identified by a `uuid`, flagged when sent, its payload as text,
/// and with a column that no event knows of.
const TEAM: &str = "create table messages ( \
    id uuid primary key, topic varchar(200) not null, entity text, body text not null, \
    tenant text not null, state text not null default 'new', \
    created_at timestamptz not null default now())";

fn mapping(schema: &str) -> OutboxMapping {
    let table = format!("{schema}.messages");
    OutboxMapping {
        event_id: Some("id".into()),
        event_time: Some("created_at".into()),
        published: Some("state = 'sent'".into()),
        on_published: [("state".into(), "'sent'".into())].into(),
        insert: [("tenant".into(), "'main'".into())].into(),
        purge: true,
        ..OutboxMapping::new(&table, "topic", "entity", "body")
    }
}

fn on_postgres<F>(url: &str, case: impl Fn(Lab<PgStore, LiveEnv>) -> F, team: Option<&'static str>)
where
    F: Future<Output = ()>,
{
    let schema = redeliver_testing::unique("conform");
    let store = async || {
        let options = PgOptions {
            connections: 5,
            outbox: team.map(|_| mapping(&schema)),
            ..PgOptions::in_schema(&schema)
        };
        PgStore::connect(url, options).expect("the options make sense")
    };
    on_real_time(
        async |env| {
            let store = store().await;
            if let Some(table) = team {
                let table = table.replace("messages (", &format!("{schema}.messages ("));
                let text = format!("create schema {schema}; {table}");
                sqlx::raw_sql(sqlx::AssertSqlSafe(text))
                    .execute(store.pool())
                    .await
                    .expect("a team can make its table");
            }
            store.migrate().await.expect("tables can be made");
            case(Lab { store, env }).await;
        },
        async || {
            let store = store().await;
            store.drop_schema().await.expect("tables can be removed");
            store.close().await;
        },
    );
}

impl<S: Database, E: Env> Lab<S, E> {
    pub(crate) async fn begin(&self) -> S::Tx {
        self.store.begin(Scope::default()).await.expect("begin")
    }

    /// Commits what `work` does.
    pub(crate) async fn committed<T>(&self, work: impl AsyncFnOnce(&mut S::Tx) -> T) -> T {
        let mut tx = self.begin().await;
        let out = work(&mut tx).await;
        tx.commit().await.expect("commit");
        out
    }

    /// Completes when so many sessions wait for a lock.
    pub(crate) async fn until_waiting(&self, count: usize) {
        eventually(&self.env, "a session that waits for a lock", async || {
            (self.store.waiting().await >= count).then_some(())
        })
        .await;
    }

    /// Emits unordered events and commits.
    pub(crate) async fn emit(&self, count: usize) {
        self.committed(async |tx| {
            for n in 0..count {
                let out = outgoing("order.placed", &format!("order-{n}"), false);
                tx.emit(out).await.expect("emit");
            }
        })
        .await;
    }

    /// Emits ordered events of one key and commits.
    pub(crate) async fn emit_run(&self, key: &str, count: usize) {
        self.committed(async |tx| {
            for _ in 0..count {
                let out = outgoing("order.paid", key, true);
                tx.emit(out).await.expect("emit");
            }
        })
        .await;
    }

    pub(crate) async fn claim(&self, limit: u32, lease: Duration) -> Vec<ClaimedRow> {
        let claim = RelayClaim {
            relay: "relay-0".into(),
            limit,
            lease,
        };
        self.store.outbox_claim(&claim).await.expect("claim")
    }

    /// Claims until there is something to be had.
    pub(crate) async fn claim_some(&self, limit: u32) -> Vec<ClaimedRow> {
        eventually(&self.env, "rows to claim", async || {
            Some(self.claim(limit, LONG).await).filter(|rows| !rows.is_empty())
        })
        .await
    }
}

/// Ids with their fencing tokens.
pub(crate) fn tokens(rows: &[ClaimedRow]) -> Vec<(i64, i64)> {
    rows.iter().map(|row| (row.id, row.token)).collect()
}

/// Which statement was refused for good.
pub(crate) fn is_refused<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Refused(_)))
}

/// A row of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) cents: i64,
}

impl Row for Account {
    const TABLE: &'static str = "account";
    fn key(&self) -> String {
        self.id.clone()
    }
}

pub(crate) fn account(id: &str, cents: i64) -> Account {
    let id = id.to_owned();
    Account { id, cents }
}

/// An event as a workload would emit it; an ordered one waits for its number.
pub(crate) fn outgoing(event_type: &str, key: &str, ordered: bool) -> Outgoing {
    let id = Uuid::new_v4();
    Outgoing {
        event: Arc::new(Event {
            id,
            idempotency_key: Arc::from(format!("{event_type}/{id}")),
            kind: Kind::Fact,
            event_type: Arc::from(event_type),
            version: 3,
            key: Arc::from(key),
            workflow: Arc::from(format!("flow {key}")),
            correlation: Uuid::new_v4(),
            causation: Some(Uuid::new_v4()),
            time: Timestamp(1_764_000_000_123_456_789),
            trace: Some(Arc::from(
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )),
            sequence: ordered.then_some(0),
            payload: Bytes::from_static(b"{ \"cents\": 7,  \"text\": \"\xc3\xa4\" }"),
        }),
        exchange: Arc::from("orders"),
        routing_key: Arc::from(event_type),
    }
}
