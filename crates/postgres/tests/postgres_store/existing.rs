//! An outbox that exists already, in the place of the pipeline's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redeliver_core::ports::store::{Store, StoreError};
use redeliver_postgres::{OutboxMapping, PgOptions, PgStore, migrations};
use sqlx::{AssertSqlSafe, Row};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::outbox::{LONG, claim, tokens};
use crate::{committed, outgoing};
use redeliver_testing::{bounded, eventually};

/// As it is found in the field: a numbered table with a message id of its own, JSON, and the time
/// of sending.
const NUMBERED: &str = "create table SCHEMA.messages ( \
    id bigint generated always as identity primary key, \
    message_id uuid not null unique default gen_random_uuid(), \
    topic text not null, order_id text, body jsonb not null, \
    created_at timestamptz not null default now(), sent_at timestamptz)";

fn numbered(schema: &str) -> OutboxMapping {
    OutboxMapping {
        id: Some("id".into()),
        event_id: Some("message_id".into()),
        event_time: Some("created_at".into()),
        published_at: Some("sent_at".into()),
        insert: [("topic".into(), "substr(new.event_type, 7)".into())].into(),
        ..OutboxMapping::new(
            &format!("{schema}.messages"),
            "'order.' || topic",
            "order_id",
            "body",
        )
    }
}

async fn run(store: &PgStore, sql: &str) {
    let text = sql.replace("SCHEMA", store.schema());
    sqlx::raw_sql(AssertSqlSafe(text))
        .execute(store.pool())
        .await
        .expect("the team's own SQL");
}

async fn count(store: &PgStore, what: &str) -> i64 {
    let text = format!(
        "select count(*) from {}.messages where {what}",
        store.schema()
    );
    sqlx::query_scalar(AssertSqlSafe(text))
        .fetch_one(store.pool())
        .await
        .expect("a count")
}

/// Runs `test` with a store over a team's table, not migrated yet, and removes everything.
async fn with_table<F>(
    table: &str,
    mapping: impl FnOnce(&str) -> Option<OutboxMapping>,
    test: impl FnOnce(PgStore) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(url) = redeliver_testing::server("DATABASE_URL") else {
        return;
    };
    let schema = redeliver_testing::unique("existing");
    let options = PgOptions {
        outbox: mapping(&schema),
        ..PgOptions::in_schema(&schema)
    };
    let store = PgStore::connect(&url, options).expect("options make sense");
    run(&store, "create schema SCHEMA").await;
    run(&store, table).await;
    let outcome = tokio::spawn(test(store.clone())).await;
    store.drop_schema().await.expect("tables can be removed");
    store.close().await;
    if let Err(e) = outcome {
        std::panic::resume_unwind(e.into_panic());
    }
}

#[tokio::test]
async fn rows_of_other_producers_are_published_and_marked_in_their_own_columns() {
    with_table(
        NUMBERED,
        |s| Some(numbered(s)),
        |store| async move {
            let before = "insert into SCHEMA.messages (topic, order_id, body, sent_at) \
                      values ('placed', 'order-0', '{}', now())";
            run(&store, before).await;
            store.migrate().await.unwrap();
            store.migrate().await.expect("again changes nothing");
            // Whoever begins to listen is woken once, for what came before.
            bounded("the first wake-up", store.outbox_wait()).await;
            let now = "insert into SCHEMA.messages (topic, order_id, body) \
                   values ('placed', 'order-1', '{\"cents\": 7}')";
            run(&store, now).await;
            bounded("a wake-up", store.outbox_wait()).await;

            let rows = claim(&store, 10, LONG).await;
            assert_eq!(rows.len(), 1, "what was sent before is not sent again");
            let event = &rows[0].outgoing.event;
            assert_eq!(
                (&*event.event_type, &*event.key),
                ("order.placed", "order-1")
            );
            assert_eq!(&event.payload[..], b"{\"cents\": 7}");
            assert_eq!(&*rows[0].outgoing.exchange, "order");
            assert_eq!(*event.idempotency_key, event.id.to_string());
            assert!(claim(&store, 10, LONG).await.is_empty(), "it is held");
            assert_eq!(store.outbox_mark(&tokens(&rows)).await.unwrap(), 1);
            assert_eq!(count(&store, "sent_at is null").await, 0);
            let left = store.outbox_purge(std::time::Duration::ZERO, 10).await;
            assert_eq!(left, Ok(0), "the team's rows stay");
        },
    )
    .await;
}

#[tokio::test]
async fn what_the_pipeline_emits_stands_in_the_same_table() {
    with_table(
        NUMBERED,
        |s| Some(numbered(s)),
        |store| async move {
            store.migrate().await.unwrap();
            let emitted = outgoing("mail.asked", "order-7", false);
            let put = emitted.clone();
            committed(&store, async |tx| {
                redeliver_core::ports::store::Tx::emit(tx, put)
                    .await
                    .expect("emit");
            })
            .await;
            assert_eq!(
                count(&store, "order_id = 'order-7' and body->>'cents' = '7'").await,
                1
            );
            let rows = claim(&store, 10, LONG).await;
            let told = &rows[0].outgoing;
            // jsonb keeps the value, not its spelling.
            let payload: serde_json::Value = serde_json::from_slice(&told.event.payload).unwrap();
            assert_eq!(payload, serde_json::json!({"cents": 7, "text": "ä"}));
            let mut event = (*told.event).clone();
            event.payload = emitted.event.payload.clone();
            assert_eq!(event, *emitted.event);
            assert_eq!(
                (&told.exchange, &told.routing_key),
                (&emitted.exchange, &emitted.routing_key)
            );
        },
    )
    .await;
}

/// One row that is no event must not hold up the others, nor change its id from try to try.
#[tokio::test]
async fn a_row_that_says_nothing_is_still_a_row() {
    let table = "create table SCHEMA.messages (id bigserial primary key, message_id uuid, \
                 topic text, order_id text, body text, created_at timestamptz, \
                 sent_at timestamptz, kind text, version integer)";
    let mapping = |schema: &str| {
        Some(OutboxMapping {
            kind: Some("kind".into()),
            version: Some("version".into()),
            idempotency_key: Some("order_id".into()),
            ..numbered(schema)
        })
    };
    with_table(table, mapping, |store| async move {
        store.migrate().await.unwrap();
        let rows = "insert into SCHEMA.messages (kind, version, created_at) values \
                    (null, null, null), ('nonsense', -1, 'infinity'), ('command', 99999, now())";
        run(&store, rows).await;
        let first = claim(&store, 10, std::time::Duration::from_millis(1)).await;
        assert_eq!(first.len(), 3);
        let versions: Vec<u16> = first.iter().map(|r| r.outgoing.event.version).collect();
        assert_eq!(versions, [1, 1, u16::MAX]);
        let again = eventually("the claim to end", async || {
            let rows = claim(&store, 10, LONG).await;
            (rows.len() == 3).then_some(rows)
        })
        .await;
        let ids = |rows: &[redeliver_core::outbox::ClaimedRow]| -> Vec<Uuid> {
            rows.iter().map(|row| row.outgoing.event.id).collect()
        };
        assert_eq!(ids(&first), ids(&again));
    })
    .await;
}

#[tokio::test]
async fn mappings_that_cannot_work_are_refused_by_name() {
    let tell = Arc::new(Mutex::new(Vec::new()));
    type Change = fn(&mut OutboxMapping);
    let cases: [(&str, Change); 5] = [
        (NUMBERED, |m| m.insert.clear()),
        (NUMBERED, |m| m.event_id = Some("order_id".into())),
        (NUMBERED, |m| m.key = "no_such_column".into()),
        (NUMBERED, |m| m.payload = "'{}'".into()),
        ("create table SCHEMA.other (id int)", |_| {}),
    ];
    for (table, change) in cases {
        let mapping = |schema: &str| {
            let mut mapping = numbered(schema);
            change(&mut mapping);
            Some(mapping)
        };
        let heard = tell.clone();
        with_table(table, mapping, |store| async move {
            let refused = store.migrate().await.expect_err("it cannot work");
            heard
                .lock()
                .await
                .push(refused.to_string().replace(store.schema(), "SCHEMA"));
        })
        .await;
    }
    let told = tell.lock().await;
    // None, where there is no server.
    if !told.is_empty() {
        insta::assert_snapshot!(told.join("\n"), @r#"
        the database refused: outbox mapping: an event of the pipeline's own would leave topic empty, which must not be null (P0001); say their values under insert, or give them defaults
        the database refused: COALESCE types text and uuid cannot be matched (42804), at: coalesce(t."order_id", md5('SCHEMA.messages/' || t."id")::uuid) as event_id,
        the database refused: column t.no_such_column does not exist (42703), at: coalesce(t."no_such_column"::text, '') as key,
        the database refused: outbox mapping: an event of the pipeline's own would leave body empty, which must not be null (P0001); say their values under insert, or give them defaults
        the database refused: relation "SCHEMA.messages" does not exist (42P01)
        "#);
    }
}

#[tokio::test]
async fn a_process_that_does_not_know_of_the_mapping_does_not_start() {
    with_table(
        NUMBERED,
        |s| Some(numbered(s)),
        |store| async move {
            store.migrate().await.unwrap();
            let plain = PgOptions::in_schema(store.schema());
            let other = PgStore::with_pool(store.pool().clone(), plain).unwrap();
            let refused = other
                .migrate()
                .await
                .expect_err("it would work on another table");
            assert!(
                refused.to_string().contains("say the same mapping"),
                "{refused}"
            );
        },
    )
    .await;
}

#[tokio::test]
async fn an_own_outbox_is_replaced_only_once_it_is_drained() {
    with_table(
        NUMBERED,
        |_| None,
        |store| async move {
            store.migrate().await.unwrap();
            committed(&store, async |tx| {
                let event = outgoing("order.placed", "order-1", false);
                redeliver_core::ports::store::Tx::emit(tx, event)
                    .await
                    .expect("emit");
            })
            .await;
            let options = PgOptions {
                outbox: Some(numbered(store.schema())),
                ..PgOptions::in_schema(store.schema())
            };
            let mapped = PgStore::with_pool(store.pool().clone(), options).unwrap();
            let refused = mapped.migrate().await.expect_err("an event would be lost");
            assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
            assert!(
                refused.to_string().contains("still has events to publish"),
                "{refused}"
            );
            let rows = claim(&store, 10, LONG).await;
            store.outbox_mark(&tokens(&rows)).await.unwrap();
            mapped.migrate().await.expect("now it may be");
        },
    )
    .await;
}

/// What is printed for those who apply it by other means is what `migrate` does.
#[tokio::test]
async fn printed_migrations_and_our_own_are_the_same() {
    with_table(
        NUMBERED,
        |s| Some(numbered(s)),
        |store| async move {
            let options = PgOptions {
                outbox: Some(numbered(store.schema())),
                ..PgOptions::in_schema(store.schema())
            };
            for step in migrations(&options).unwrap() {
                run(&store, &step.sql).await;
            }
            let made = marks(&store).await;
            store.migrate().await.expect("nothing is left to be done");
            assert_eq!(marks(&store).await, made);
        },
    )
    .await;
}

/// A database that was mapped by an earlier version of this library: a view stands where later steps
/// expect a table.
#[tokio::test]
async fn a_mapped_database_of_each_version_is_brought_up() {
    with_table(
        NUMBERED,
        |s| Some(numbered(s)),
        |store| async move {
            let schema = store.schema().to_owned();
            let options = PgOptions {
                outbox: Some(numbered(&schema)),
                ..PgOptions::in_schema(&schema)
            };
            let all = migrations(&options).unwrap();
            let newest = all.iter().filter_map(|step| step.version).max().unwrap();
            for version in 1..=newest {
                let then = all
                    .iter()
                    .filter(|step| step.version.is_none_or(|it| it <= version));
                for step in then {
                    run(&store, &step.sql).await;
                }
                store.migrate().await.expect("the rest is added");
                let applied = format!("select max(version) from {schema}.migration");
                let applied: i32 = sqlx::query_scalar(AssertSqlSafe(applied))
                    .fetch_one(store.pool())
                    .await
                    .expect("a version");
                assert_eq!(applied, newest, "from {version}");
                run(&store, "drop schema SCHEMA cascade; create schema SCHEMA").await;
                run(&store, NUMBERED).await;
            }
        },
    )
    .await;
}

/// What changes if something is made anew.
async fn marks(store: &PgStore) -> Vec<(String, i64)> {
    let text = "select relname::text, oid::bigint from pg_class \
                where relnamespace = $1::text::regnamespace order by 1";
    let rows = sqlx::query(text)
        .bind(store.schema())
        .fetch_all(store.pool())
        .await
        .expect("the catalogue can be read");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What the old relay and the new one have published: id of the message, and how often.
type Published = Arc<Mutex<BTreeMap<Uuid, u32>>>;

async fn note(published: &Published, id: Uuid) {
    *published.lock().await.entry(id).or_default() += 1;
}

/// A relay as teams write it: it takes a batch, publishes, marks, in one transaction.
async fn old_relay(store: PgStore, published: Published, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Acquire) {
        let mut tx = store.pool().begin().await.expect("begin");
        let batch = format!(
            "select id, message_id from {}.messages where sent_at is null \
             order by id limit 5 for update skip locked",
            store.schema()
        );
        let rows = sqlx::query(AssertSqlSafe(batch))
            .fetch_all(&mut *tx)
            .await
            .expect("a batch");
        for row in &rows {
            note(&published, row.get("message_id")).await;
            let mark = format!(
                "update {}.messages set sent_at = now() where id = $1",
                store.schema()
            );
            sqlx::query(AssertSqlSafe(mark))
                .bind(row.get::<i64, _>("id"))
                .execute(&mut *tx)
                .await
                .expect("a mark");
        }
        tx.commit().await.expect("commit");
        tokio::task::yield_now().await;
    }
}

async fn produce(store: PgStore, stop: Arc<AtomicBool>) -> u64 {
    let mut put = 0;
    while !stop.load(Ordering::Acquire) {
        let row = "insert into SCHEMA.messages (topic, order_id, body) \
                   values ('placed', 'order-1', '{}')";
        run(&store, row).await;
        put += 1;
    }
    put
}

/// The cut-over of the guide: stop the old relay, wait until it has ended, migrate, start ours.
/// Producers never stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cut_over_neither_loses_nor_doubles() {
    with_table(
        NUMBERED,
        |s| Some(numbered(s)),
        |store| async move {
            let published = Published::default();
            let (stop_old, stop_producing) = (
                Arc::new(AtomicBool::new(false)),
                Arc::new(AtomicBool::new(false)),
            );
            let producers: Vec<_> = (0..3)
                .map(|_| tokio::spawn(produce(store.clone(), stop_producing.clone())))
                .collect();
            let old = tokio::spawn(old_relay(
                store.clone(),
                published.clone(),
                stop_old.clone(),
            ));
            eventually("the old relay to have published something", async || {
                (published.lock().await.len() > 20).then_some(())
            })
            .await;

            stop_old.store(true, Ordering::Release);
            old.await.unwrap();
            let by_old = published.lock().await.len();
            store.migrate().await.expect("while producers go on");

            eventually("our relay to have published something", async || {
                let rows = claim(&store, 10, LONG).await;
                for row in &rows {
                    note(&published, row.outgoing.event.id).await;
                }
                store.outbox_mark(&tokens(&rows)).await.unwrap();
                let new = published.lock().await.len() - by_old;
                if new > 50 {
                    stop_producing.store(true, Ordering::Release);
                }
                let all_stopped = producers.iter().all(tokio::task::JoinHandle::is_finished);
                (all_stopped && rows.is_empty()).then_some(())
            })
            .await;

            let mut put = 0;
            for producer in producers {
                put += producer.await.unwrap();
            }
            let published = published.lock().await;
            assert_eq!(published.len() as u64, put, "each event was published");
            assert!(published.values().all(|times| *times == 1), "and only once");
            assert_eq!(count(&store, "sent_at is null").await, 0);
        },
    )
    .await;
}
