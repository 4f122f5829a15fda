//! Ordered events: numbers without gaps, and runs that start at the head.

use std::time::Duration;

use redeliver_core::outbox::ClaimedRow;
use redeliver_core::ports::store::Tx;
use redeliver_core::ports::{Env, Scope};

use super::{Database, LONG, Lab, SHORT, outgoing, tokens};
use crate::lab::spawn;

crate::cases!(store "Ordered keys in the outbox":
    numbers_have_no_gaps_after_a_rollback,
    each_key_and_type_has_numbers_of_its_own,
    producers_of_one_key_wait_for_each_other,
    a_producer_takes_the_number_of_one_that_rolled_back,
    numbers_rise_in_the_order_of_ids,
    a_run_starts_at_the_first_unpublished_row_or_is_not_taken,
    a_waiting_head_holds_its_followers_back,
    what_follows_a_marked_head_waits_for_the_rest_of_its_run,
    a_held_run_keeps_no_other_key_waiting,
);

fn numbers(rows: &[ClaimedRow]) -> Vec<u64> {
    rows.iter()
        .filter_map(|row| row.outgoing.event.sequence)
        .collect()
}

async fn numbers_have_no_gaps_after_a_rollback<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit_run("a", 2).await;
    let mut tx = lab.begin().await;
    let lost = tx.emit(outgoing("order.paid", "a", true)).await.unwrap();
    assert_eq!(lost.event.sequence, Some(3));
    tx.rollback().await;
    lab.emit_run("a", 2).await;
    assert_eq!(numbers(&lab.claim(9, LONG).await), [1, 2, 3, 4]);
}

async fn each_key_and_type_has_numbers_of_its_own<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.committed(async |tx| {
        let mut emit = async |event_type: &str, key: &str| {
            let emitted = tx.emit(outgoing(event_type, key, true)).await.unwrap();
            emitted.event.sequence.unwrap()
        };
        assert_eq!(emit("order.paid", "a").await, 1);
        assert_eq!(emit("order.paid", "b").await, 1);
        assert_eq!(emit("order.sent", "a").await, 1);
        assert_eq!(emit("order.paid", "a").await, 2);
    })
    .await;
}

async fn producers_of_one_key_wait_for_each_other<S: Database, E: Env>(lab: Lab<S, E>) {
    assert_eq!(second_number(&lab, true).await, 2);
}

async fn a_producer_takes_the_number_of_one_that_rolled_back<S: Database, E: Env>(lab: Lab<S, E>) {
    assert_eq!(second_number(&lab, false).await, 1);
}

/// The number of a producer that had to wait for another, which then commits or rolls back.
async fn second_number<S: Database, E: Env>(lab: &Lab<S, E>, commit: bool) -> u64 {
    let mut first = lab.begin().await;
    first.emit(outgoing("order.paid", "a", true)).await.unwrap();
    let store = lab.store.clone();
    let mut rival = spawn(&lab.env, async move {
        let mut tx = store.begin(Scope::default()).await.unwrap();
        let emitted = tx.emit(outgoing("order.paid", "a", true)).await.unwrap();
        tx.commit().await.unwrap();
        emitted.event.sequence.unwrap()
    });
    lab.until_waiting(1).await;
    assert!(rival.is_running());
    match commit {
        true => first.commit().await.unwrap(),
        false => first.rollback().await,
    }
    rival.end(&lab.env).await
}

async fn numbers_rise_in_the_order_of_ids<S: Database, E: Env>(lab: Lab<S, E>) {
    let mut producers = Vec::new();
    for _ in 0..4 {
        let store = lab.store.clone();
        producers.push(spawn(&lab.env, async move {
            for _ in 0..5 {
                let mut tx = store.begin(Scope::default()).await.unwrap();
                tx.emit(outgoing("order.paid", "a", true)).await.unwrap();
                tx.emit(outgoing("order.placed", "a", false)).await.unwrap();
                tx.commit().await.unwrap();
            }
        }));
    }
    for producer in producers {
        producer.end(&lab.env).await;
    }
    let rows = lab.claim(99, LONG).await;
    assert_eq!(numbers(&rows), (1..=20).collect::<Vec<_>>());
    assert_eq!(rows.len(), 40);
}

async fn a_run_starts_at_the_first_unpublished_row_or_is_not_taken<S: Database, E: Env>(
    lab: Lab<S, E>,
) {
    lab.emit_run("a", 5).await;
    let head = lab.claim(2, LONG).await;
    assert_eq!(numbers(&head), [1, 2]);
    assert!(lab.claim(9, LONG).await.is_empty(), "the head is held");
    assert_eq!(lab.store.outbox_mark(&tokens(&head)).await, Ok(2));
    assert_eq!(numbers(&lab.claim(9, LONG).await), [3, 4, 5]);
}

async fn a_waiting_head_holds_its_followers_back<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit_run("a", 3).await;
    let rows = tokens(&lab.claim(9, LONG).await);
    assert_eq!(
        lab.store
            .outbox_release(&rows[..1], LONG, "no answer")
            .await,
        Ok(1)
    );
    assert_eq!(
        lab.store
            .outbox_release(&rows[1..], Duration::ZERO, "")
            .await,
        Ok(2)
    );
    assert!(lab.claim(9, LONG).await.is_empty());
    // The head's late confirm lets them go.
    assert_eq!(lab.store.outbox_mark(&rows[..1]).await, Ok(1));
    assert_eq!(numbers(&lab.claim_some(9).await), [2, 3]);
}

async fn what_follows_a_marked_head_waits_for_the_rest_of_its_run<S: Database, E: Env>(
    lab: Lab<S, E>,
) {
    lab.emit_run("a", 4).await;
    let held = tokens(&lab.claim(3, LONG).await);
    assert_eq!(lab.store.outbox_mark(&held[..1]).await, Ok(1));
    assert!(
        lab.claim(9, LONG).await.is_empty(),
        "2 and 3 are still held"
    );
    // The middle one of a run may be confirmed first: 2 is in the way of 4.
    assert_eq!(lab.store.outbox_mark(&held[2..]).await, Ok(1));
    assert!(lab.claim(9, LONG).await.is_empty());
    assert_eq!(
        lab.store
            .outbox_release(&held[1..2], Duration::ZERO, "")
            .await,
        Ok(1)
    );
    assert_eq!(numbers(&lab.claim_some(9).await), [2, 4]);
}

async fn a_held_run_keeps_no_other_key_waiting<S: Database, E: Env>(lab: Lab<S, E>) {
    lab.emit_run("a", 2).await;
    assert_eq!(lab.claim(1, LONG).await.len(), 1);
    lab.emit_run("b", 1).await;
    lab.emit(1).await;
    let rows = lab.claim(9, SHORT).await;
    let keys: Vec<_> = rows.iter().map(|row| &*row.outgoing.event.key).collect();
    assert_eq!(keys, ["b", "order-0"]);
}
