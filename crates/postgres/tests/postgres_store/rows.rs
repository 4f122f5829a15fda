//! Rows of workloads, a handler's own SQL, migrations.

use redeliver_core::ports::Scope;
use redeliver_core::ports::store::{Row, Store, StoreError, Tx, Versioned};
use redeliver_postgres::{PgOptions, PgStore};
use sqlx::{Connection, Executor};

use crate::{committed, somebody_waits, with_store};
use redeliver_testing::{bounded, server, unique};

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) cents: i64,
}

impl Row for Account {
    const TABLE: &'static str = "accounts";
    fn key(&self) -> String {
        self.id.clone()
    }
}

pub(crate) fn account(id: &str, cents: i64) -> Account {
    Account {
        id: id.to_owned(),
        cents,
    }
}

fn versioned(row: Account, version: i64) -> Versioned<Account> {
    Versioned { row, version }
}

#[tokio::test]
async fn rows_are_inserted_once_read_and_replaced_by_version() {
    with_store(|store| async move {
        let mut tx = store.begin(Scope::default()).await.unwrap();
        assert_eq!(tx.get::<Account>("a").await, Ok(None));
        assert_eq!(tx.insert(&account("a", 1)).await, Ok(None));
        let there = Some(versioned(account("a", 1), 1));
        assert_eq!(tx.insert(&account("a", 2)).await, Ok(there.clone()));
        assert_eq!(tx.get("a").await, Ok(there));
        assert_eq!(tx.update(&account("a", 3), 2).await, Ok(false));
        assert_eq!(tx.update(&account("b", 3), 1).await, Ok(false));
        assert_eq!(tx.update(&account("a", 3), 1).await, Ok(true));
        tx.commit().await.unwrap();
        let mut tx = store.begin(Scope::default()).await.unwrap();
        let now = Some(versioned(account("a", 3), 2));
        assert_eq!(tx.get_for_update("a").await, Ok(now));
        tx.rollback().await;
        let rows = store.read_all().await.unwrap().rows;
        assert_eq!(rows.len(), 1);
        assert_eq!((&*rows[0].0, &*rows[0].1, rows[0].2), ("accounts", "a", 2));
        assert_eq!(rows[0].3, serde_json::json!({ "id": "a", "cents": 3 }));
    })
    .await;
}

#[tokio::test]
async fn a_scan_takes_a_prefix_by_bytes_and_no_pattern() {
    with_store(|store| async move {
        let keys = ["a%", "a%b", "a_c", "aB", "ab", "a\u{e4}", "b", "a"];
        let mut tx = store.begin(Scope::default()).await.unwrap();
        for key in keys {
            tx.insert(&account(key, 0)).await.unwrap();
        }
        let mut found = async |prefix: &str, limit| -> Vec<String> {
            let rows = tx.scan::<Account>(prefix, limit).await.unwrap();
            rows.into_iter().map(|r| r.row.id).collect()
        };
        assert_eq!(found("a%", 9).await, ["a%", "a%b"]);
        assert_eq!(found("a_", 9).await, ["a_c"]);
        assert_eq!(found("", 3).await, ["a", "a%", "a%b"]);
        let sorted = ["a", "a%", "a%b", "aB", "a_c", "ab", "a\u{e4}"];
        assert_eq!(found("a", 99).await, sorted);
        assert_eq!(found("c", 9).await, [""; 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_waits_for_the_same_key_and_a_lock_for_its_holder() {
    with_store(|store| async move {
        let mut first = store.begin(Scope::default()).await.unwrap();
        first.insert(&account("a", 1)).await.unwrap();
        let other = store.clone();
        let second = tokio::spawn(async move {
            committed(&other, async |tx| tx.insert(&account("a", 2)).await).await
        });
        somebody_waits(&store).await;
        first.commit().await.unwrap();
        let there = bounded("the second insert", second).await.unwrap();
        assert_eq!(there, Ok(Some(versioned(account("a", 1), 1))));

        let mut first = store.begin(Scope::default()).await.unwrap();
        first.get_for_update::<Account>("a").await.unwrap();
        let other = store.clone();
        let second = tokio::spawn(async move {
            committed(&other, async |tx| tx.get_for_update::<Account>("a").await).await
        });
        somebody_waits(&store).await;
        first.update(&account("a", 9), 1).await.unwrap();
        first.commit().await.unwrap();
        let seen = bounded("the second lock", second).await.unwrap();
        assert_eq!(seen, Ok(Some(versioned(account("a", 9), 2))));
    })
    .await;
}

#[tokio::test]
async fn a_handler_uses_its_own_sql_in_the_same_transaction() {
    with_store(|store| async move {
        let table = format!("{}.ledger", store.schema());
        let own = |text: &str| sqlx::AssertSqlSafe(text.replace("ledger", &table));
        let mut tx = store.begin(Scope::default()).await.unwrap();
        tx.connection()
            .execute(own("create table ledger (n int primary key)"))
            .await
            .unwrap();
        tx.commit().await.unwrap();

        let mut tx = store.begin(Scope::default()).await.unwrap();
        tx.connection()
            .execute(own("insert into ledger values (1)"))
            .await
            .unwrap();
        // A savepoint of the handler's own: its failure stays in it.
        let mut nested = tx.connection().begin().await.unwrap();
        nested
            .execute(own("insert into ledger values (1)"))
            .await
            .unwrap_err();
        nested.rollback().await.unwrap();
        tx.connection()
            .execute("set search_path to pg_catalog")
            .await
            .unwrap();
        tx.insert(&account("a", 1)).await.unwrap();
        tx.commit().await.unwrap();

        let mut tx = store.begin(Scope::default()).await.unwrap();
        tx.insert(&account("b", 1)).await.unwrap();
        // The handler swallows its error; PostgreSQL would answer COMMIT with a mere ROLLBACK.
        tx.connection()
            .execute(own("insert into ledger values (1)"))
            .await
            .unwrap_err();
        let refused = tx.commit().await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
        let rows = store.read_all().await.unwrap().rows;
        assert_eq!(rows.iter().map(|r| &*r.1).collect::<Vec<_>>(), ["a"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_processes_may_migrate_at_once() {
    let Some(url) = server("DATABASE_URL") else {
        return;
    };
    let schema = unique("migrate");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let store = PgStore::connect(&url, PgOptions::in_schema(&schema)).unwrap();
        tasks.spawn(async move {
            store.migrate().await?;
            store.migrate().await
        });
    }
    let outcomes = bounded("migrations", tasks.join_all()).await;
    let store = PgStore::connect(&url, PgOptions::in_schema(&schema)).unwrap();
    let empty = store.read_all().await;
    store.drop_schema().await.unwrap();
    store.drop_schema().await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert!(empty.unwrap().outbox.is_empty());
    assert!(
        matches!(store.read_all().await, Err(StoreError::Refused(_))),
        "tables are gone"
    );
}
