//! Rows of workloads: insert, get, update, scan.

use redeliver_core::ports::store::{Row, Tx, Versioned};
use redeliver_core::ports::{Env, Scope};
use serde::{Deserialize, Serialize};

use super::{Account, Database, Lab, account};
use crate::lab::{eventually, spawn};

crate::cases!(store "Rows":
    an_inserted_row_is_seen_by_others_after_commit,
    a_taken_key_gives_the_row_that_is_there,
    a_transaction_sees_its_own_writes,
    an_update_needs_the_version_that_was_read,
    a_missing_row_is_none,
    a_scan_goes_by_key_from_the_prefix_to_the_limit,
    keys_are_compared_by_bytes,
    tables_do_not_meet,
    a_rollback_leaves_nothing,
    a_dropped_transaction_leaves_nothing,
);

/// A row of another table under the same keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    id: String,
}

impl Row for Note {
    const TABLE: &'static str = "note";
    fn key(&self) -> String {
        self.id.clone()
    }
}

fn version<R>(row: R, version: i64) -> Versioned<R> {
    Versioned { row, version }
}

async fn an_inserted_row_is_seen_by_others_after_commit<S: Database, E: Env>(lab: Lab<S, E>) {
    let row = account("a", 1);
    let (mut writer, mut reader) = (lab.begin().await, lab.begin().await);
    assert_eq!(writer.insert(&row).await, Ok(None));
    assert_eq!(reader.get::<Account>("a").await, Ok(None));
    writer.commit().await.unwrap();
    let seen = reader.get::<Account>("a").await.unwrap();
    assert_eq!(
        seen,
        Some(version(row, 1)),
        "each statement sees what is committed by then"
    );
    reader.rollback().await;
}

async fn a_taken_key_gives_the_row_that_is_there<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| tx.insert(&account("a", 1)).await.unwrap())
        .await;
    lab.committed(async |tx| {
        let there = tx.insert(&account("a", 2)).await.unwrap();
        assert_eq!(there, Some(version(account("a", 1), 1)));
        let still = tx.get::<Account>("a").await.unwrap();
        assert_eq!(still, there, "nothing was inserted");
        let own = tx.insert(&account("b", 1)).await.unwrap();
        let again = tx.insert(&account("b", 2)).await.unwrap();
        assert_eq!((own, again), (None, Some(version(account("b", 1), 1))));
    })
    .await;
}

async fn a_transaction_sees_its_own_writes<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| {
        tx.insert(&account("a", 1)).await.unwrap();
        assert_eq!(tx.update(&account("a", 2), 1).await, Ok(true));
        let expected = Some(version(account("a", 2), 2));
        assert_eq!(tx.get::<Account>("a").await.unwrap(), expected);
        assert_eq!(tx.get_for_update::<Account>("a").await.unwrap(), expected);
        assert_eq!(tx.scan::<Account>("", 9).await.unwrap().len(), 1);
    })
    .await;
}

async fn an_update_needs_the_version_that_was_read<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| tx.insert(&account("a", 1)).await.unwrap())
        .await;
    lab.committed(async |tx| {
        assert_eq!(tx.update(&account("a", 2), 1).await, Ok(true));
        assert_eq!(tx.update(&account("a", 3), 1).await, Ok(false));
        assert_eq!(tx.update(&account("a", 3), 2).await, Ok(true));
        assert_eq!(tx.update(&account("missing", 3), 1).await, Ok(false));
    })
    .await;
    let reading = lab.store.read_all().await.unwrap();
    let (table, key, number, doc) = &reading.rows[0];
    assert_eq!((&**table, &**key, *number), ("account", "a", 3));
    assert_eq!(doc["cents"], 3);
    assert_eq!(reading.rows.len(), 1);
}

async fn a_missing_row_is_none<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| {
        assert_eq!(tx.get::<Account>("a").await, Ok(None));
        assert_eq!(tx.get_for_update::<Account>("a").await, Ok(None));
        assert_eq!(tx.scan::<Account>("", 9).await, Ok(vec![]));
    })
    .await;
}

async fn a_scan_goes_by_key_from_the_prefix_to_the_limit<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| {
        for id in [
            "order-2", "order-10", "order-1", "orders", "ordea", "order%x", "order_x",
        ] {
            tx.insert(&account(id, 1)).await.unwrap();
        }
        let mut scan = async |prefix: &str, limit| {
            let found = tx.scan::<Account>(prefix, limit).await.unwrap();
            found
                .into_iter()
                .map(|found| found.row.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(scan("order-", 9).await, ["order-1", "order-10", "order-2"]);
        assert_eq!(scan("order-", 2).await, ["order-1", "order-10"]);
        assert_eq!(
            scan("order%", 9).await,
            ["order%x"],
            "a prefix is no pattern"
        );
        assert_eq!(scan("order_", 9).await, ["order_x"]);
        assert!(scan("order-", 0).await.is_empty());
        assert!(scan("p", 9).await.is_empty());
        assert_eq!(scan("", 99).await.len(), 7);
    })
    .await;
}

async fn keys_are_compared_by_bytes<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| {
        for id in ["ä", "a", "Z", "\u{1F980}", "-", ""] {
            tx.insert(&account(id, 1)).await.unwrap();
        }
        let found = tx.scan::<Account>("", 9).await.unwrap();
        let found: Vec<_> = found.iter().map(|found| &*found.row.id).collect();
        assert_eq!(found, ["", "-", "Z", "a", "ä", "\u{1F980}"]);
    })
    .await;
}

async fn tables_do_not_meet<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| {
        tx.insert(&account("a", 1)).await.unwrap();
        let note = Note { id: "a".to_owned() };
        assert_eq!(tx.get::<Note>("a").await, Ok(None));
        assert_eq!(tx.insert(&note).await, Ok(None));
        assert_eq!(tx.scan::<Note>("", 9).await, Ok(vec![version(note, 1)]));
        assert_eq!(tx.scan::<Account>("", 9).await.unwrap().len(), 1);
    })
    .await;
}

async fn a_rollback_leaves_nothing<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| tx.insert(&account("a", 1)).await.unwrap())
        .await;
    let mut tx = lab.begin().await;
    tx.insert(&account("b", 1)).await.unwrap();
    assert_eq!(tx.update(&account("a", 2), 1).await, Ok(true));
    tx.rollback().await;
    lab.committed(async |tx| {
        // The locks are free: this one waits for nobody.
        let there = tx.get_for_update::<Account>("a").await.unwrap();
        assert_eq!(there, Some(version(account("a", 1), 1)));
        assert_eq!(tx.get::<Account>("b").await, Ok(None));
    })
    .await;
}

async fn a_dropped_transaction_leaves_nothing<S: Database, E: Env>(lab: Lab<S, E>) {
    let mut tx = lab.begin().await;
    tx.insert(&account("a", 1)).await.unwrap();
    drop(tx);
    let (store, env) = (lab.store.clone(), lab.env.clone());
    // Waits until the lock is free, and then there is no row in the way.
    let rival = spawn(&env, async move {
        let mut tx = store.begin(Scope::default()).await.unwrap();
        let there = tx.insert(&account("a", 2)).await.unwrap();
        tx.commit().await.unwrap();
        there
    });
    assert_eq!(rival.end(&lab.env).await, None);
    eventually(&lab.env, "the rival's row", async || {
        let reading = lab.store.read_all().await.unwrap();
        reading
            .rows
            .first()
            .map(|row| assert_eq!(row.3["cents"], 2))
    })
    .await;
}
