//! Ordered scopes: numbers without gaps, and runs that never interleave.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redeliver_core::ports::Scope;
use redeliver_core::ports::store::{Store, Tx};
use redeliver_postgres::{PgOptions, PgStore};

use crate::outbox::{LONG, SHORT, claim, tokens};
use crate::{committed, outgoing, somebody_waits, with_options, with_store};
use redeliver_testing::{bounded, eventually};

async fn emit_ordered(store: &PgStore, key: &str, count: usize) {
    committed(store, async |tx| {
        for _ in 0..count {
            tx.emit(outgoing("order.paid", key, true))
                .await
                .expect("emit");
        }
    })
    .await;
}

fn numbers(rows: &[redeliver_core::outbox::ClaimedRow]) -> Vec<u64> {
    rows.iter()
        .filter_map(|row| row.outgoing.event.sequence)
        .collect()
}

#[tokio::test]
async fn numbers_start_at_one_in_each_scope_and_a_rollback_leaves_no_gap() {
    with_store(|store| async move {
        emit_ordered(&store, "a", 2).await;
        let mut tx = store.begin(Scope::default()).await.unwrap();
        let lost = tx.emit(outgoing("order.paid", "a", true)).await.unwrap();
        assert_eq!(lost.event.sequence, Some(3));
        tx.rollback().await;
        emit_ordered(&store, "a", 1).await;
        emit_ordered(&store, "b", 1).await;
        assert_eq!(numbers(&claim(&store, 10, LONG).await), [1, 2, 3, 1]);
    })
    .await;
}

#[tokio::test]
async fn producers_of_one_key_wait_for_each_other() {
    with_store(|store| async move {
        let mut first = store.begin(Scope::default()).await.unwrap();
        first.emit(outgoing("order.paid", "a", true)).await.unwrap();
        let other = store.clone();
        let second = tokio::spawn(async move {
            let mut tx = other.begin(Scope::default()).await.unwrap();
            let put = tx.emit(outgoing("order.paid", "a", true)).await.unwrap();
            tx.commit().await.unwrap();
            put.event.sequence
        });
        somebody_waits(&store).await;
        first.commit().await.unwrap();
        assert_eq!(
            bounded("the second producer", second).await.unwrap(),
            Some(2)
        );
    })
    .await;
}

#[tokio::test]
async fn nothing_behind_a_head_that_waits_or_is_held() {
    with_store(|store| async move {
        emit_ordered(&store, "a", 4).await;
        emit_ordered(&store, "b", 1).await;
        let head = claim(&store, 2, LONG).await;
        assert_eq!(numbers(&head), [1, 2]);
        assert_eq!(
            numbers(&claim(&store, 10, LONG).await),
            [1],
            "of b; a is held"
        );
        store
            .outbox_release(&tokens(&head), LONG, "nack")
            .await
            .unwrap();
        assert!(claim(&store, 10, LONG).await.is_empty(), "a's head waits");
        // Only the head is given up at once: the run ends before the row that still waits.
        let ready = store.outbox_mark(&tokens(&head)[..1]).await.unwrap();
        assert_eq!(ready, 1);
        assert!(claim(&store, 10, LONG).await.is_empty(), "number 2 waits");
    })
    .await;
}

#[tokio::test]
async fn a_held_scope_does_not_keep_others_from_the_limit() {
    with_store(|store| async move {
        emit_ordered(&store, "a", 50).await;
        emit_ordered(&store, "b", 2).await;
        assert_eq!(claim(&store, 1, LONG).await.len(), 1);
        assert_eq!(numbers(&claim(&store, 2, LONG).await), [1, 2]);
    })
    .await;
}

#[tokio::test]
async fn a_run_skips_what_a_late_mark_has_published() {
    with_store(|store| async move {
        emit_ordered(&store, "a", 3).await;
        let old = claim(&store, 3, SHORT).await;
        let new = eventually("the lease to be over", async || {
            Some(claim(&store, 1, SHORT).await).filter(|rows| !rows.is_empty())
        })
        .await;
        assert_eq!(numbers(&new), [1]);
        // The first relay had published all three; only its mark of the first is fenced off.
        assert_eq!(store.outbox_mark(&tokens(&old)[..2]).await.unwrap(), 1);
        let run = eventually("the second lease to be over", async || {
            Some(claim(&store, 9, LONG).await).filter(|rows| !rows.is_empty())
        })
        .await;
        assert_eq!(numbers(&run), [1, 3]);
    })
    .await;
}

/// What claimers have published, by scope, in the order in which they did.
type Log = Arc<Mutex<BTreeMap<String, Vec<u64>>>>;

/// Claims, publishes and marks until nothing is left. Each claimer asks for other limits.
async fn relay(store: PgStore, log: Log, number: usize, lease: Duration) {
    for round in number.. {
        let limit = 1 + (round * 7 % 11) as u32;
        let rows = claim(&store, limit, lease).await;
        for row in &rows {
            let event = &row.outgoing.event;
            let mut log = log.lock().unwrap();
            let scope = log.entry(event.key.to_string()).or_default();
            scope.push(event.sequence.unwrap_or(row.id as u64));
        }
        if rows.len() > 2 && round % 3 == 0 {
            let back = tokens(&rows[1..]);
            store
                .outbox_release(&back, Duration::ZERO, "nack")
                .await
                .unwrap();
        }
        store.outbox_mark(&tokens(&rows)).await.unwrap();
        if rows.is_empty() {
            let all = store.read_all().await.unwrap().outbox;
            if all.iter().all(|row| row.published_at.is_some()) {
                return;
            }
        }
    }
}

/// Several claimers at once, while producers still commit.
async fn race(store: PgStore, lease: Duration) -> BTreeMap<String, Vec<u64>> {
    let log = Log::default();
    for key in ["a", "b", "c", "d"] {
        emit_ordered(&store, key, 15).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for key in ["a", "b", "c"] {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..15 {
                emit_ordered(&store, key, 1).await;
                committed(&store, async |tx| {
                    tx.emit(outgoing("order.placed", "unordered", false))
                        .await
                        .unwrap();
                })
                .await;
            }
        });
    }
    for number in 0..6 {
        tasks.spawn(relay(store.clone(), log.clone(), number, lease));
    }
    while let Some(done) = bounded("the claimers", tasks.join_next()).await {
        done.unwrap();
    }
    Arc::into_inner(log).unwrap().into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_claimers_never_interleave_a_scope() {
    let options = PgOptions {
        connections: 12,
        ..PgOptions::default()
    };
    with_options(options, |store| async move {
        let log = race(store, LONG).await;
        for key in ["a", "b", "c", "d"] {
            let mut seen = log[key].clone();
            // A row that was given back comes again, and never before its predecessors.
            for (at, number) in log[key].iter().enumerate() {
                let before = &log[key][..at];
                assert!(
                    *number == 1 || before.contains(&(number - 1)),
                    "{key}: {seen:?}"
                );
            }
            seen.sort_unstable();
            seen.dedup();
            let last = if key == "d" { 15 } else { 30 };
            assert_eq!(seen, (1..=last).collect::<Vec<u64>>(), "{key}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_do_they_when_every_lease_is_too_short() {
    with_store(|store| async move {
        let log = race(store, Duration::from_micros(500)).await;
        for (key, seen) in log.iter().filter(|(key, _)| *key != "unordered") {
            for (at, number) in seen.iter().enumerate() {
                let known = *number == 1 || seen[..at].contains(&(number - 1));
                assert!(
                    known,
                    "{key}: {number} came before its predecessor: {seen:?}"
                );
            }
        }
    })
    .await;
}
