//! The inbox, the order of consumption, and workflows with their audit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redeliver_core::audit::{WorkflowHead, verify};
use redeliver_core::dead_letter::{DeadLetter, Reason};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::ports::Scope;
use redeliver_core::ports::env::Timestamp;
use redeliver_core::ports::store::{Store, StoreError, Tx};
use redeliver_postgres::PgStore;
use uuid::Uuid;

use crate::outbox::{LONG, SHORT};
use crate::{committed, somebody_waits, with_store};
use redeliver_testing::{bounded, eventually};

const AT: Timestamp = Timestamp(1_764_000_000_123_456_000);

fn story() -> Box<DeadLetter> {
    Box::new(DeadLetter {
        reason: Reason::AttemptsExhausted,
        class: "payment-refused".into(),
        error: "no \"money\" ä".to_owned(),
        attempts: 5,
        first_failure: Timestamp(1),
        last_failure: AT,
        consumer: "billing".into(),
        queue: "billing".into(),
        exchange: "orders".into(),
        routing_key: "order.placed".into(),
        worker: "worker-1/0".into(),
    })
}

async fn open(store: &PgStore, key: &str) -> InboxRow {
    committed(store, async |tx| {
        tx.inbox_open("billing", key).await.unwrap()
    })
    .await
}

async fn save(store: &PgStore, key: &str, state: InboxState) {
    committed(store, async |tx| {
        let mut row = tx.inbox_open("billing", key).await.unwrap();
        row.state = state;
        tx.inbox_save(&row).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_row_is_fresh_at_first_and_then_as_it_was_saved() {
    with_store(|store| async move {
        let row = open(&store, "k").await;
        let fresh = InboxRow::fresh("billing".into(), "k".into(), row.now);
        let expected = InboxRow {
            updated_at: row.updated_at,
            ..fresh
        };
        assert_eq!(row, expected);
        let states = [
            InboxState::Claimed {
                lease_until: AT,
                worker: "worker-1/0".into(),
            },
            InboxState::Done {
                result: Bytes::from_static(b"\0{}"),
            },
            InboxState::Dead {
                story: story(),
                published: false,
            },
            InboxState::Dead {
                story: story(),
                published: true,
            },
            InboxState::Open,
        ];
        for (n, state) in states.into_iter().enumerate() {
            let mut tx = store.begin(Scope::default()).await.unwrap();
            let mut row = tx.inbox_open("billing", "k").await.unwrap();
            row.state = state;
            row.attempts = n as u32;
            row.token = 7 + n as u64;
            row.first_failure = (n > 0).then_some(AT);
            row.not_before = (n > 1).then_some(AT);
            tx.inbox_save(&row).await.unwrap();
            tx.commit().await.unwrap();
            let read = store.read_all().await.unwrap().inbox.remove(0);
            assert!(read.updated_at >= row.updated_at && read.now >= read.updated_at);
            let (now, updated_at) = (read.now, read.updated_at);
            row = InboxRow {
                now,
                updated_at,
                ..row
            };
            assert_eq!(read, row);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_waits_for_the_row_and_then_sees_that_it_is_done() {
    with_store(|store| async move {
        for key in ["never seen", "seen before"] {
            if key == "seen before" {
                open(&store, key).await;
            }
            let mut first = store.begin(Scope::default()).await.unwrap();
            let mut row = first.inbox_open("billing", key).await.unwrap();
            let other = store.clone();
            let duplicate = tokio::spawn(async move { open(&other, key).await });
            somebody_waits(&store).await;
            row.state = InboxState::Done {
                result: Bytes::from_static(b"42"),
            };
            first.inbox_save(&row).await.unwrap();
            first.commit().await.unwrap();
            let seen = bounded("the duplicate", duplicate).await.unwrap();
            assert_eq!(seen.state, row.state);
            assert!(
                seen.now >= seen.updated_at,
                "the clock is read after the wait"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_gets_the_work_when_the_first_rolls_back() {
    with_store(|store| async move {
        let mut first = store.begin(Scope::default()).await.unwrap();
        let mut row = first.inbox_open("billing", "k").await.unwrap();
        row.claim("worker-1/0".into(), LONG, 1);
        first.inbox_save(&row).await.unwrap();
        let other = store.clone();
        let duplicate = tokio::spawn(async move { open(&other, "k").await });
        somebody_waits(&store).await;
        first.rollback().await;
        let seen = bounded("the duplicate", duplicate).await.unwrap();
        assert_eq!(
            (seen.state, seen.attempts, seen.token),
            (InboxState::Open, 0, 0)
        );
    })
    .await;
}

async fn claim(store: &PgStore, lease: Duration) -> u64 {
    committed(store, async |tx| {
        let mut row = tx.inbox_open("billing", "k").await.unwrap();
        let token = row.claim("worker-1/0".into(), lease, 1);
        tx.inbox_save(&row).await.unwrap();
        token
    })
    .await
}

#[tokio::test]
async fn a_claim_is_renewed_by_its_token_only_and_taken_over_when_it_is_over() {
    with_store(|store| async move {
        let renew = async |token, lease| {
            store
                .inbox_renew("billing", "k", token, lease)
                .await
                .expect("renew")
        };
        let first = claim(&store, LONG).await;
        let left = open(&store, "k").await.live_claim().expect("it is held");
        assert!(left <= LONG && left > LONG / 2);
        assert!(!renew(first + 1, LONG).await);
        assert!(renew(first, SHORT).await);
        eventually("the lease to be over", async || {
            open(&store, "k").await.live_claim().is_none().then_some(())
        })
        .await;
        assert!(renew(first, SHORT).await, "nobody took it over yet");
        let second = claim(&store, LONG).await;
        assert_eq!(second, first + 1);
        assert!(!renew(first, LONG).await, "fenced off");
        assert!(!open(&store, "k").await.holds(first));
        let result = Bytes::from_static(b"{}");
        save(&store, "k", InboxState::Done { result }).await;
        assert!(!renew(second, LONG).await, "there is no claim any more");
    })
    .await;
}

#[tokio::test]
async fn only_ended_rows_are_purged_in_small_batches() {
    with_store(|store| async move {
        for n in 0..3 {
            let result = Bytes::new();
            save(&store, &format!("done {n}"), InboxState::Done { result }).await;
        }
        for published in [true, false] {
            let state = InboxState::Dead {
                story: story(),
                published,
            };
            save(&store, &format!("dead {published}"), state).await;
        }
        open(&store, "open").await;
        claim(&store, SHORT).await;
        assert_eq!(store.inbox_purge(LONG, 10).await.unwrap(), 0, "too young");
        assert_eq!(store.inbox_purge(Duration::ZERO, 3).await.unwrap(), 3);
        assert_eq!(store.inbox_purge(Duration::ZERO, 3).await.unwrap(), 1);
        let left = store.read_all().await.unwrap().inbox;
        let keys: Vec<_> = left.iter().map(|row| &*row.idempotency_key).collect();
        assert_eq!(keys, ["dead false", "k", "open"]);
    })
    .await;
}

#[tokio::test]
async fn a_workflow_keeps_its_chain() {
    with_store(|store| async move {
        let states = ["placed", "paid", "shipped"];
        for state in states {
            committed(&store, async |tx| {
                let head = tx.workflow_open("order-1").await.unwrap();
                let entry = head.transition(state.into(), Uuid::new_v4(), AT);
                tx.workflow_append(&entry).await.unwrap();
                assert_eq!(tx.workflow_open("order-1").await.unwrap(), entry.head());
            })
            .await;
        }
        let unused = committed(&store, async |tx| tx.workflow_open("order-2").await).await;
        assert_eq!(unused, Ok(WorkflowHead::new(Arc::from("order-2"))));
        let reading = store.read_all().await.unwrap();
        assert_eq!(reading.audit.len(), 3);
        assert_eq!(verify(&reading.audit), Ok(()));
        assert_eq!(reading.workflows, [reading.audit[2].head()]);

        let mut tx = store.begin(Scope::default()).await.unwrap();
        let stale = reading.audit[0]
            .head()
            .transition("lost".into(), Uuid::new_v4(), AT);
        let refused = tx.workflow_append(&stale).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused(_)));
        assert_eq!(
            tx.commit().await,
            Err(refused),
            "the transaction is poisoned"
        );
    })
    .await;
}
