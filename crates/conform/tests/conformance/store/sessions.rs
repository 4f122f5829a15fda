//! Two sessions at once: locks, deadlocks, transactions that fail.

use std::time::Duration;

use redeliver_core::ports::store::{LOCK_TIMEOUT, StoreError, Tx};
use redeliver_core::ports::{Env, Scope};

use super::{Account, Database, Lab, account, is_refused, outgoing};
use crate::lab::{Task, spawn};

crate::cases!(store "Sessions and locks":
    an_insert_waits_for_an_uncommitted_rival_and_then_conflicts,
    an_insert_waits_for_an_uncommitted_rival_and_then_succeeds,
    a_locked_row_is_waited_for_and_read_as_it_was_left,
    a_read_without_a_lock_waits_for_nobody,
    an_update_waits_and_then_finds_another_version,
    an_update_waits_and_then_finds_its_version,
    a_wait_for_a_lock_ends_in_time_and_may_be_tried_again,
    a_deadlock_ends_one_of_the_two,
    a_failed_statement_poisons_its_transaction,
    the_commit_of_a_failed_transaction_is_an_error,
    a_session_that_was_cut_is_rolled_back_and_may_be_tried_again,
);

type Inserted = Option<redeliver_core::ports::Versioned<Account>>;

/// Starts a transaction of another session that inserts a row and commits.
fn insert<S: Database, E: Env>(lab: &Lab<S, E>, row: Account) -> Task<Inserted> {
    let store = lab.store.clone();
    spawn(&lab.env, async move {
        let mut tx = store.begin(Scope::default()).await.unwrap();
        let there = tx.insert(&row).await.unwrap();
        tx.commit().await.unwrap();
        there
    })
}

/// Starts a transaction of another session that updates a row by its version and commits.
fn update<S: Database, E: Env>(lab: &Lab<S, E>, row: Account, version: i64) -> Task<bool> {
    let store = lab.store.clone();
    spawn(&lab.env, async move {
        let mut tx = store.begin(Scope::default()).await.unwrap();
        let updated = tx.update(&row, version).await.unwrap();
        tx.commit().await.unwrap();
        updated
    })
}

async fn an_insert_waits_for_an_uncommitted_rival_and_then_conflicts<S: Database, E: Env>(
    lab: Lab<S, E>,
) {
    let mut tx = lab.begin().await;
    tx.insert(&account("a", 1)).await.unwrap();
    let mut rival = insert(&lab, account("a", 2));
    lab.until_waiting(1).await;
    assert!(rival.is_running());
    tx.commit().await.unwrap();
    let there = rival.end(&lab.env).await.expect("the first one's row");
    assert_eq!((there.row.cents, there.version), (1, 1));
}

async fn an_insert_waits_for_an_uncommitted_rival_and_then_succeeds<S: Database, E: Env>(
    lab: Lab<S, E>,
) {
    let mut tx = lab.begin().await;
    tx.insert(&account("a", 1)).await.unwrap();
    let mut rival = insert(&lab, account("a", 2));
    lab.until_waiting(1).await;
    assert!(rival.is_running());
    tx.rollback().await;
    assert_eq!(rival.end(&lab.env).await, None);
}

async fn a_locked_row_is_waited_for_and_read_as_it_was_left<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| tx.insert(&account("a", 1)).await.unwrap())
        .await;
    let mut tx = lab.begin().await;
    tx.get_for_update::<Account>("a").await.unwrap();
    let store = lab.store.clone();
    let mut rival = spawn(&lab.env, async move {
        let mut tx = store.begin(Scope::default()).await.unwrap();
        let found = tx.get_for_update::<Account>("a").await.unwrap();
        tx.rollback().await;
        found
    });
    lab.until_waiting(1).await;
    assert!(rival.is_running());
    assert_eq!(tx.update(&account("a", 2), 1).await, Ok(true));
    tx.commit().await.unwrap();
    let found = rival.end(&lab.env).await.expect("the row");
    assert_eq!((found.row.cents, found.version), (2, 2));
}

async fn a_read_without_a_lock_waits_for_nobody<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| tx.insert(&account("a", 1)).await.unwrap())
        .await;
    let mut tx = lab.begin().await;
    assert_eq!(tx.update(&account("a", 2), 1).await, Ok(true));
    lab.committed(async |other| {
        let seen = other.get::<Account>("a").await.unwrap().expect("the row");
        assert_eq!((seen.row.cents, seen.version), (1, 1));
        assert_eq!(other.scan::<Account>("", 9).await.unwrap(), [seen]);
    })
    .await;
    tx.rollback().await;
}

async fn an_update_waits_and_then_finds_another_version<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| tx.insert(&account("a", 1)).await.unwrap())
        .await;
    let mut tx = lab.begin().await;
    assert_eq!(tx.update(&account("a", 2), 1).await, Ok(true));
    let rival = update(&lab, account("a", 3), 1);
    lab.until_waiting(1).await;
    tx.commit().await.unwrap();
    assert!(!rival.end(&lab.env).await);
}

async fn an_update_waits_and_then_finds_its_version<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| tx.insert(&account("a", 1)).await.unwrap())
        .await;
    let mut tx = lab.begin().await;
    assert_eq!(tx.update(&account("a", 2), 1).await, Ok(true));
    let rival = update(&lab, account("a", 3), 1);
    lab.until_waiting(1).await;
    tx.rollback().await;
    assert!(rival.end(&lab.env).await);
}

async fn a_wait_for_a_lock_ends_in_time_and_may_be_tried_again<S: Database, E: Env>(
    lab: Lab<S, E>,
) {
    lab.committed(async |tx| tx.insert(&account("a", 1)).await.unwrap())
        .await;
    let mut tx = lab.begin().await;
    tx.get_for_update::<Account>("a").await.unwrap();
    let mut rival = lab.begin().await;
    let begun = lab.env.elapsed();
    let found = rival.get_for_update::<Account>("a").await;
    assert!(matches!(found, Err(StoreError::Transient(_))), "{found:?}");
    let waited = lab.env.elapsed() - begun;
    // Servers count from when the statement has reached them, and may be busy.
    let most = LOCK_TIMEOUT + Duration::from_secs(4);
    assert!((LOCK_TIMEOUT..most).contains(&waited), "{waited:?}");
    rival.rollback().await;
    tx.commit().await.unwrap();
    let mut rival = lab.begin().await;
    assert!(rival.get_for_update::<Account>("a").await.is_ok());
    rival.rollback().await;
}

async fn a_deadlock_ends_one_of_the_two<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| {
        for id in ["a", "b"] {
            tx.insert(&account(id, 1)).await.unwrap();
        }
    })
    .await;
    let (mut first, mut second) = (lab.begin().await, lab.begin().await);
    first.get_for_update::<Account>("a").await.unwrap();
    second.get_for_update::<Account>("b").await.unwrap();
    let rival = spawn(&lab.env, async move {
        let found = first.get_for_update::<Account>("b").await;
        (found.map(drop), first.commit().await)
    });
    lab.until_waiting(1).await;
    let found = second.get_for_update::<Account>("a").await.map(drop);
    let mine = (found, second.commit().await);
    let ends = [mine, rival.end(&lab.env).await];
    let lost = |end: &(Result<(), StoreError>, Result<(), StoreError>)| {
        let transient = |r| matches!(r, &Err(StoreError::Transient(_)));
        transient(&end.0) && transient(&end.1)
    };
    assert_eq!(ends.iter().filter(|end| lost(end)).count(), 1, "{ends:?}");
    assert!(ends.contains(&(Ok(()), Ok(()))), "{ends:?}");
}

/// Makes a statement fail that can never succeed: an audit entry that follows from nothing.
async fn fail<T: Tx>(tx: &mut T) -> StoreError {
    let head = tx.workflow_open("flow").await.unwrap();
    let id = outgoing("order.placed", "a", false).event.id;
    let mut entry = head.transition("paid".into(), id, redeliver_core::ports::Timestamp(0));
    entry.sequence = 7;
    let failed = tx.workflow_append(&entry).await;
    assert!(is_refused(&failed), "{failed:?}");
    failed.unwrap_err()
}

async fn a_failed_statement_poisons_its_transaction<S: Database, E: Env>(lab: Lab<S, E>) {
    let mut tx = lab.begin().await;
    tx.insert(&account("a", 1)).await.unwrap();
    let why = fail(&mut tx).await;
    assert_eq!(tx.get::<Account>("a").await, Err(why.clone()));
    assert_eq!(tx.insert(&account("b", 1)).await, Err(why));
    tx.rollback().await;
}

async fn the_commit_of_a_failed_transaction_is_an_error<S: Database, E: Env>(lab: Lab<S, E>) {
    let mut tx = lab.begin().await;
    tx.insert(&account("a", 1)).await.unwrap();
    tx.emit(outgoing("order.placed", "a", false)).await.unwrap();
    let why = fail(&mut tx).await;
    assert_eq!(tx.commit().await, Err(why));
    let reading = lab.store.read_all().await.unwrap();
    assert!(reading.rows.is_empty() && reading.outbox.is_empty());
    assert!(reading.audit.is_empty() && reading.workflows.is_empty());
    // Its locks are free.
    lab.committed(async |tx| tx.insert(&account("a", 1)).await.unwrap())
        .await;
}

async fn a_session_that_was_cut_is_rolled_back_and_may_be_tried_again<S: Database, E: Env>(
    lab: Lab<S, E>,
) {
    let mut tx = lab.begin().await;
    tx.insert(&account("a", 1)).await.unwrap();
    lab.store.cut_sessions().await;
    let lost = tx.get::<Account>("a").await;
    assert!(matches!(lost, Err(StoreError::Transient(_))), "{lost:?}");
    let ended = tx.commit().await;
    assert!(matches!(ended, Err(StoreError::Transient(_))), "{ended:?}");
    lab.committed(async |tx| {
        let there = tx.insert(&account("a", 2)).await.unwrap();
        assert_eq!(there, None, "the first transaction did not happen");
    })
    .await;
}
