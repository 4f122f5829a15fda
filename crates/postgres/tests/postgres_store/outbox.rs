//! Putting, claiming, marking, releasing, purging, waking.

use std::time::Duration;

use redeliver_core::outbox::{ClaimedRow, RelayClaim};
use redeliver_core::ports::Scope;
use redeliver_core::ports::store::{Store, Tx};
use redeliver_postgres::PgStore;

use crate::{committed, outgoing, with_store};
use redeliver_testing::{bounded, eventually};

pub(crate) const LONG: Duration = Duration::from_secs(600);
pub(crate) const SHORT: Duration = Duration::from_millis(1);

pub(crate) async fn claim(store: &PgStore, limit: u32, lease: Duration) -> Vec<ClaimedRow> {
    let claim = RelayClaim {
        relay: "relay-0".into(),
        limit,
        lease,
    };
    store.outbox_claim(&claim).await.expect("claim")
}

pub(crate) fn tokens(rows: &[ClaimedRow]) -> Vec<(i64, i64)> {
    rows.iter().map(|row| (row.id, row.token)).collect()
}

async fn emit(store: &PgStore, count: usize) {
    committed(store, async |tx| {
        for n in 0..count {
            let out = outgoing("order.placed", &format!("order-{n}"), false);
            tx.emit(out).await.expect("emit");
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_is_there_after_commit_and_as_it_was_put() {
    with_store(|store| async move {
        let plain = outgoing("order.placed", "order-1", false);
        let ordered = outgoing("order.paid", "order-1", true);
        let mut tx = store.begin(Scope::default()).await.unwrap();
        assert_eq!(tx.emit(plain.clone()).await.unwrap(), plain);
        let numbered = tx.emit(ordered.clone()).await.unwrap();
        assert_eq!(numbered.event.sequence, Some(1));
        assert!(
            claim(&store, 10, LONG).await.is_empty(),
            "not committed yet"
        );
        tx.commit().await.unwrap();

        let rows = claim(&store, 10, LONG).await;
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].outgoing, plain);
        assert_eq!(rows[1].outgoing, numbered);
        assert!(rows.iter().all(|row| row.token == 1 && row.failures == 0));
        assert!(rows[0].id < rows[1].id);
        assert!(
            claim(&store, 10, LONG).await.is_empty(),
            "another relay holds them"
        );

        let reading = store.read_all().await.unwrap();
        assert_eq!(reading.outbox[0].outgoing, plain);
        assert!(reading.outbox[0].lease_until.unwrap() > reading.now);
        assert_eq!(reading.outbox[0].published_at, None);
    })
    .await;
}

#[tokio::test]
async fn a_rolled_back_event_never_was() {
    with_store(|store| async move {
        let mut tx = store.begin(Scope::default()).await.unwrap();
        tx.emit(outgoing("order.placed", "order-1", false))
            .await
            .unwrap();
        tx.rollback().await;
        assert!(store.read_all().await.unwrap().outbox.is_empty());
    })
    .await;
}

#[tokio::test]
async fn oldest_first_and_at_most_the_limit() {
    with_store(|store| async move {
        emit(&store, 7).await;
        let first = claim(&store, 3, LONG).await;
        let second = claim(&store, 30, LONG).await;
        assert_eq!((first.len(), second.len()), (3, 4));
        assert!(first.last().unwrap().id < second[0].id);
        assert!(claim(&store, 0, LONG).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_and_fences_the_first_holder() {
    with_store(|store| async move {
        emit(&store, 1).await;
        let old = claim(&store, 1, SHORT).await;
        let new = eventually("the lease to be over", async || {
            Some(claim(&store, 1, LONG).await).filter(|rows| !rows.is_empty())
        })
        .await;
        assert_eq!(new[0].token, old[0].token + 1);
        assert_eq!(store.outbox_mark(&tokens(&old)).await.unwrap(), 0);
        let released = store.outbox_release(&tokens(&old), SHORT, "late").await;
        assert_eq!(released.unwrap(), 0);
        assert_eq!(store.outbox_mark(&tokens(&new)).await.unwrap(), 1);
        assert_eq!(
            store.outbox_mark(&tokens(&new)).await.unwrap(),
            0,
            "once only"
        );
        let row = &store.read_all().await.unwrap().outbox[0];
        assert!(row.published_at.is_some() && row.lease_until.is_none());
        assert!(claim(&store, 1, LONG).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_released_row_waits_counts_its_failure_and_keeps_the_reason() {
    with_store(|store| async move {
        emit(&store, 2).await;
        let rows = tokens(&claim(&store, 2, LONG).await);
        let reason = "é".repeat(2_000);
        let n = store
            .outbox_release(&rows[..1], Duration::ZERO, &reason)
            .await
            .unwrap();
        assert_eq!(n, 1);
        let n = store
            .outbox_release(&rows[1..], LONG, "no such exchange")
            .await
            .unwrap();
        assert_eq!(n, 1);
        let again = claim(&store, 2, LONG).await;
        assert_eq!(again.len(), 1, "the second one waits");
        assert_eq!(
            (again[0].id, again[0].failures, again[0].token),
            (rows[0].0, 1, 2)
        );
        let kept: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select last_error from {}.outbox order by id",
            store.schema()
        )))
        .fetch_all(store.pool())
        .await
        .unwrap();
        assert!(kept[0].len() <= 1_024 && kept[0].ends_with('…'));
        assert_eq!(kept[1], "no such exchange");
        // The broker's late confirm of a row that was given up is still the truth.
        assert_eq!(store.outbox_mark(&rows[1..]).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn only_published_rows_are_purged_in_small_batches() {
    with_store(|store| async move {
        emit(&store, 5).await;
        let rows = tokens(&claim(&store, 4, LONG).await);
        assert_eq!(store.outbox_mark(&rows).await.unwrap(), 4);
        assert_eq!(store.outbox_purge(LONG, 10).await.unwrap(), 0, "too young");
        assert_eq!(store.outbox_purge(Duration::ZERO, 3).await.unwrap(), 3);
        assert_eq!(store.outbox_purge(Duration::ZERO, 3).await.unwrap(), 1);
        assert_eq!(store.outbox_purge(Duration::ZERO, 3).await.unwrap(), 0);
        assert_eq!(store.read_all().await.unwrap().outbox.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_commit_wakes_every_waiting_relay() {
    with_store(|store| async move {
        let other = store.clone();
        // The first wait ends when listening has begun.
        bounded("listening", store.outbox_wait()).await;
        bounded("listening", other.outbox_wait()).await;
        emit(&store, 1).await;
        bounded("the notification", store.outbox_wait()).await;
        bounded("the notification, in another relay", other.outbox_wait()).await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_listener_comes_back() {
    with_store(|store| async move {
        bounded("listening", store.outbox_wait()).await;
        let ended: i64 = sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity \
             where query like 'LISTEN%' || $1 || '%'",
        )
        .bind(store.schema())
        .fetch_one(store.pool())
        .await
        .unwrap();
        assert_eq!(ended, 1);
        // Waiting may complete without cause; only a notification of this commit is conclusive.
        bounded("the loss, seen as a hint", store.outbox_wait()).await;
        eventually("a listener", async || {
            let found: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity where query like 'LISTEN%' || $1 || '%'",
            )
            .bind(store.schema())
            .fetch_one(store.pool())
            .await
            .unwrap();
            (found == 1).then_some(())
        })
        .await;
        emit(&store, 1).await;
        bounded("the notification", store.outbox_wait()).await;
    })
    .await;
}
