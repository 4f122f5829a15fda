//! The store against a real PostgreSQL: every statement, and what concurrent sessions make of it.
//!
//! Needs `DATABASE_URL`. Each test works in a schema of its own and removes it.

mod enqueue;
mod existing;
mod failures;
mod inbox;
mod order;
mod outbox;
mod rows;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use redeliver_core::event::{Event, Kind, Outgoing};
use redeliver_core::ports::Scope;
use redeliver_core::ports::env::Timestamp;
use redeliver_core::ports::store::{Store, Tx};
use redeliver_postgres::{PgOptions, PgStore, PgTx};
use uuid::Uuid;

/// Runs `test` on a store with fresh tables; removes them even if it panics.
async fn with_store<F>(test: impl FnOnce(PgStore) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    with_options(PgOptions::default(), test).await;
}

async fn with_options<F>(options: PgOptions, test: impl FnOnce(PgStore) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(url) = redeliver_testing::server("DATABASE_URL") else {
        return;
    };
    let schema = redeliver_testing::unique("test");
    let options = PgOptions { schema, ..options };
    let store = PgStore::connect(&url, options).expect("options make sense");
    store.migrate().await.expect("tables can be made");
    let outcome = tokio::spawn(test(store.clone())).await;
    store.drop_schema().await.expect("tables can be removed");
    store.close().await;
    if let Err(e) = outcome {
        std::panic::resume_unwind(e.into_panic());
    }
}

/// Commits what `work` does.
async fn committed<T>(store: &PgStore, work: impl AsyncFnOnce(&mut PgTx) -> T) -> T {
    let mut tx = store.begin(Scope::default()).await.expect("begin");
    let out = work(&mut tx).await;
    tx.commit().await.expect("commit");
    out
}

/// How many sessions wait for a lock that somebody else holds, among those whose statement names
/// this store's schema.
async fn waiting_for_locks(store: &PgStore) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity \
         where wait_event_type = 'Lock' and query like '%' || $1 || '.%'",
    )
    .bind(store.schema())
    .fetch_one(store.pool())
    .await
    .expect("activity can be read")
}

/// Completes when somebody waits for a lock.
async fn somebody_waits(store: &PgStore) {
    redeliver_testing::eventually("a session that waits for a lock", async || {
        (waiting_for_locks(store).await > 0).then_some(())
    })
    .await;
}

/// An event as a workload would emit it; ordered events wait for their number.
fn outgoing(event_type: &str, key: &str, ordered: bool) -> Outgoing {
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
