//! The outbox: emitting, claiming, marking, releasing, purging, waking.

use std::collections::BTreeSet;
use std::time::Duration;

use redeliver_core::outbox::RelayClaim;
use redeliver_core::ports::Env;
use redeliver_core::ports::store::Tx;

use super::{Database, LONG, Lab, SHORT, outgoing, tokens};
use crate::lab::{eventually, spawn};

crate::cases!(store "Outbox":
    an_event_is_claimed_after_commit_as_it_was_put,
    a_rolled_back_event_never_was,
    claims_take_the_oldest_up_to_their_limit,
    a_lease_keeps_rows_from_others_until_it_is_over,
    a_stale_token_marks_and_releases_nothing,
    marking_twice_counts_once,
    a_published_row_is_not_released,
    a_released_row_holds_no_lease_to_release,
    a_released_row_can_still_be_marked,
    a_released_row_waits_and_counts_its_failure,
    what_is_not_there_is_not_marked,
    rivals_never_claim_the_same_row,
    only_published_rows_are_purged_in_small_batches,
    what_was_published_first_is_purged_first,
    a_commit_wakes_who_waits_for_rows,
);

async fn an_event_is_claimed_after_commit_as_it_was_put<S: Database, E: Env>(lab: Lab<S, E>) {
    let (plain, ordered) = (
        outgoing("order.placed", "a", false),
        outgoing("order.paid", "a", true),
    );
    let mut tx = lab.begin().await;
    assert_eq!(tx.emit(plain.clone()).await.unwrap(), plain);
    let numbered = tx.emit(ordered.clone()).await.unwrap();
    assert_eq!(numbered.event.sequence, Some(1));
    assert!(lab.claim(9, LONG).await.is_empty(), "not committed yet");
    tx.commit().await.unwrap();

    let rows = lab.claim(9, LONG).await;
    let events: Vec<_> = rows.iter().map(|row| &row.outgoing).collect();
    assert_eq!(events, [&plain, &numbered]);
    assert!(rows.iter().all(|row| row.token == 1 && row.failures == 0));
    assert!(rows[0].id < rows[1].id);

    let reading = lab.store.read_all().await.unwrap();
    assert_eq!(reading.outbox[1].outgoing, numbered);
    assert!(reading.outbox[0].lease_until.unwrap() > reading.now);
    assert_eq!(reading.outbox[0].published_at, None);
}

async fn a_rolled_back_event_never_was<S: Database, E: Env>(lab: Lab<S, E>) {
    let mut tx = lab.begin().await;
    tx.emit(outgoing("order.placed", "a", false)).await.unwrap();
    tx.rollback().await;
    assert!(lab.claim(9, LONG).await.is_empty());
    assert!(lab.store.read_all().await.unwrap().outbox.is_empty());
}

async fn claims_take_the_oldest_up_to_their_limit<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit(7).await;
    assert!(lab.claim(0, LONG).await.is_empty());
    let (first, second) = (lab.claim(3, LONG).await, lab.claim(30, LONG).await);
    assert_eq!((first.len(), second.len()), (3, 4));
    let ids: Vec<i64> = first.iter().chain(&second).map(|row| row.id).collect();
    assert!(ids.is_sorted());
    assert!(lab.claim(30, LONG).await.is_empty());
}

async fn a_lease_keeps_rows_from_others_until_it_is_over<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit(1).await;
    let held = lab.claim(1, Duration::from_millis(300)).await;
    let until = lab.store.read_all().await.unwrap().outbox[0]
        .lease_until
        .unwrap();
    let taken = lab.claim_some(1).await;
    assert_eq!(
        (taken[0].id, taken[0].token),
        (held[0].id, held[0].token + 1)
    );
    assert!(
        lab.store.read_all().await.unwrap().now >= until,
        "by the database's clock"
    );
    assert!(lab.claim(1, LONG).await.is_empty());
}

async fn a_stale_token_marks_and_releases_nothing<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit(1).await;
    let old = tokens(&lab.claim(1, SHORT).await);
    let new = tokens(&lab.claim_some(1).await);
    assert_eq!(lab.store.outbox_mark(&old).await, Ok(0));
    assert_eq!(lab.store.outbox_release(&old, SHORT, "late").await, Ok(0));
    let row = lab.store.read_all().await.unwrap().outbox.remove(0);
    assert!(row.published_at.is_none() && row.lease_until.is_some());
    assert_eq!(lab.store.outbox_mark(&new).await, Ok(1));
}

async fn marking_twice_counts_once<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit(2).await;
    let rows = tokens(&lab.claim(2, LONG).await);
    assert_eq!(lab.store.outbox_mark(&rows[..1]).await, Ok(1));
    let first = lab.store.read_all().await.unwrap().outbox[0].published_at;
    assert!(first.is_some());
    assert_eq!(lab.store.outbox_mark(&rows).await, Ok(1), "the other one");
    let row = lab.store.read_all().await.unwrap().outbox.remove(0);
    assert_eq!((row.published_at, row.lease_until), (first, None));
}

async fn a_published_row_is_not_released<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit(1).await;
    let rows = tokens(&lab.claim(1, LONG).await);
    assert_eq!(lab.store.outbox_mark(&rows).await, Ok(1));
    assert_eq!(
        lab.store
            .outbox_release(&rows, Duration::ZERO, "late")
            .await,
        Ok(0)
    );
    let row = lab.store.read_all().await.unwrap().outbox.remove(0);
    assert!(row.published_at.is_some());
    assert!(lab.claim(1, LONG).await.is_empty());
}

async fn a_released_row_holds_no_lease_to_release<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit(1).await;
    let rows = tokens(&lab.claim(1, LONG).await);
    assert_eq!(
        lab.store
            .outbox_release(&rows, Duration::ZERO, "first")
            .await,
        Ok(1)
    );
    assert_eq!(lab.store.outbox_release(&rows, LONG, "again").await, Ok(0));
    let again = lab.claim_some(1).await;
    assert_eq!(again[0].failures, 1, "the second release changed nothing");
}

async fn a_released_row_can_still_be_marked<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit(1).await;
    let rows = tokens(&lab.claim(1, LONG).await);
    assert_eq!(
        lab.store.outbox_release(&rows, LONG, "no answer").await,
        Ok(1)
    );
    // The broker's late confirm of a row that was given up is still the truth.
    assert_eq!(lab.store.outbox_mark(&rows).await, Ok(1));
}

async fn a_released_row_waits_and_counts_its_failure<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit(2).await;
    let rows = tokens(&lab.claim(2, LONG).await);
    let reason = "é".repeat(2_000);
    assert_eq!(
        lab.store
            .outbox_release(&rows[..1], Duration::ZERO, &reason)
            .await,
        Ok(1)
    );
    assert_eq!(
        lab.store
            .outbox_release(&rows[1..], LONG, "no exchange")
            .await,
        Ok(1)
    );
    let again = lab.claim_some(2).await;
    assert_eq!(again.len(), 1, "the second one waits");
    assert_eq!(
        (again[0].id, again[0].failures, again[0].token),
        (rows[0].0, 1, 2)
    );
    let reading = lab.store.read_all().await.unwrap();
    assert_eq!(reading.outbox[1].lease_until, None);
}

async fn what_is_not_there_is_not_marked<S: Database, E: Env>(lab: Lab<S, E>) {
    assert_eq!(lab.store.outbox_mark(&[]).await, Ok(0));
    assert_eq!(lab.store.outbox_release(&[], SHORT, "").await, Ok(0));
    assert_eq!(lab.store.outbox_mark(&[(999_999, 1)]).await, Ok(0));
    lab.emit(1).await;
    let id = lab.store.read_all().await.unwrap().outbox[0].id;
    assert_eq!(
        lab.store.outbox_mark(&[(id, 1)]).await,
        Ok(0),
        "nobody has claimed it"
    );
}

async fn rivals_never_claim_the_same_row<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit(60).await;
    let mut rivals = Vec::new();
    for _ in 0..4 {
        let store = lab.store.clone();
        rivals.push(spawn(&lab.env, async move {
            let claim = RelayClaim {
                relay: "rival".into(),
                limit: 7,
                lease: LONG,
            };
            let mut ids = Vec::new();
            loop {
                let rows = store.outbox_claim(&claim).await.unwrap();
                if rows.is_empty() {
                    return ids;
                }
                assert!(rows.len() <= 7);
                ids.extend(rows.iter().map(|row| (row.id, row.token)));
            }
        }));
    }
    let mut all = Vec::new();
    for rival in rivals {
        all.extend(rival.end(&lab.env).await);
    }
    // A rival may find everything locked for a moment and end before the others.
    all.extend(tokens(&lab.claim(60, LONG).await));
    assert_eq!(all.len(), 60);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 60);
    assert!(all.iter().all(|(_, token)| *token == 1));
}

async fn only_published_rows_are_purged_in_small_batches<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit(5).await;
    let rows = tokens(&lab.claim(4, LONG).await);
    assert_eq!(lab.store.outbox_mark(&rows).await, Ok(4));
    assert_eq!(lab.store.outbox_purge(LONG, 9).await, Ok(0), "too young");
    assert_eq!(lab.store.outbox_purge(Duration::ZERO, 3).await, Ok(3));
    assert_eq!(lab.store.outbox_purge(Duration::ZERO, 3).await, Ok(1));
    assert_eq!(lab.store.outbox_purge(Duration::ZERO, 3).await, Ok(0));
    assert_eq!(lab.store.read_all().await.unwrap().outbox.len(), 1);
}

async fn what_was_published_first_is_purged_first<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit(6).await;
    let rows = tokens(&lab.claim(6, LONG).await);
    let (first, last) = rows.split_at(2);
    // The younger ones, and not in their order: of one batch all are published at once.
    let last: Vec<_> = last.iter().rev().copied().collect();
    assert_eq!(lab.store.outbox_mark(&last).await, Ok(4));
    lab.env.sleep(SHORT).await;
    assert_eq!(lab.store.outbox_mark(first).await, Ok(2));
    lab.env.sleep(SHORT).await;
    let ids: Vec<i64> = rows.iter().map(|(id, _)| *id).collect();
    for left in [&[0, 1, 4, 5][..], &[0, 1], &[]] {
        assert_eq!(lab.store.outbox_purge(Duration::ZERO, 2).await, Ok(2));
        let there = lab.store.read_all().await.unwrap().outbox;
        let there: Vec<i64> = there.iter().map(|row| row.id).collect();
        let left: Vec<i64> = left.iter().map(|at| ids[*at]).collect();
        assert_eq!(there, left);
    }
}

async fn a_commit_wakes_who_waits_for_rows<S: Database, E: Env>(lab: Lab<S, E>) {
    let store = lab.store.clone();
    let mut waiter = spawn(&lab.env, async move {
        let claim = RelayClaim {
            relay: "waiter".into(),
            limit: 1,
            lease: LONG,
        };
        // It may be woken without cause; it never polls by itself.
        loop {
            store.outbox_wait().await;
            let rows = store.outbox_claim(&claim).await.unwrap();
            if !rows.is_empty() {
                return rows.len();
            }
        }
    });
    // A commit before anybody listens wakes nobody: commit until somebody is woken.
    eventually(&lab.env, "the waiter to be woken", async || {
        lab.emit(1).await;
        (!waiter.is_running()).then_some(())
    })
    .await;
}
