//! The numbers that are expected next, and messages that wait in the store for their turn.

use std::sync::Arc;
use std::time::Duration;

use redeliver_core::event::Event;
use redeliver_core::ports::store::{Place, Tx};
use redeliver_core::ports::{Delivery, Env, Receipt, Scope, Timestamp};
use uuid::Uuid;

use super::{Database, LONG, Lab, SHORT, eventually, is_refused, outgoing};
use crate::lab::spawn;

crate::cases!(store "Order":
    numbers_are_passed_one_after_the_other,
    a_number_that_was_passed_and_rolled_back_is_still_expected,
    passing_waits_for_who_passes,
    an_early_message_is_kept_as_it_came,
    a_message_whose_turn_it_is_or_was_is_not_kept,
    what_is_kept_twice_stays_as_it_was,
    an_unordered_message_has_no_place,
    a_row_of_messages_is_taken_up_to_the_first_gap,
    what_was_taken_stays_until_it_is_forgotten,
    consumers_and_scopes_keep_apart,
    nothing_is_overdue_before_its_turn,
    what_nobody_takes_on_is_overdue_and_flagged,
    an_overdue_message_is_given_out_once_for_a_while,
    a_scope_that_goes_on_has_nothing_overdue,
    what_is_claimed_or_waits_is_not_overdue,
    of_each_scope_all_that_is_due_is_overdue,
);

const SCOPE: &str = "order.paid/a";

/// A delivery of number `sequence` of the order `key`.
fn delivery(key: &str, sequence: u64) -> Delivery {
    let outgoing = outgoing("order.paid", key, true);
    let event = Event {
        id: Uuid::from_u128(1),
        correlation: Uuid::from_u128(2),
        causation: Some(Uuid::from_u128(3)),
        sequence: Some(sequence),
        idempotency_key: Arc::from(format!("{key}-{sequence}")),
        ..Event::clone(&outgoing.event)
    };
    Delivery {
        receipt: Receipt {
            channel: 3,
            tag: 17,
        },
        event: Ok(Arc::new(event)),
        attempt: 2,
        redelivered: false,
        first_failure: Some(Timestamp(1_764_000_000_000_001_000)),
        parked: 1,
        kept: false,
        queue: Arc::from("pay"),
        exchange: outgoing.exchange,
        routing_key: outgoing.routing_key,
    }
}

async fn keep<S: Database, E: Env>(lab: &Lab<S, E>, key: &str, sequence: u64) -> Place {
    let delivery = delivery(key, sequence);
    let kept = lab.store.order_keep(Scope::default(), &delivery).await;
    kept.unwrap()
}

async fn pass<S: Database, E: Env>(lab: &Lab<S, E>, scope: &str, sequence: u64) -> bool {
    lab.committed(async |tx| tx.order_pass("pay", scope, sequence).await.unwrap())
        .await
}

async fn take<S: Database, E: Env>(lab: &Lab<S, E>, limit: u32) -> Vec<u64> {
    numbers(&lab.store.order_take("pay", SCOPE, limit).await.unwrap())
}

async fn overdue<S: Database, E: Env>(lab: &Lab<S, E>, idle: Duration) -> Vec<Delivery> {
    lab.store.order_overdue("pay", idle, 9).await.unwrap()
}

fn numbers(taken: &[Delivery]) -> Vec<u64> {
    taken.iter().map(|one| one.receipt.tag).collect()
}

async fn numbers_are_passed_one_after_the_other<S: Database, E: Env>(lab: Lab<S, E>) {
    assert_eq!(lab.store.order_next("pay", SCOPE).await, Ok(1));
    assert!(!pass(&lab, SCOPE, 2).await, "the first is 1");
    for number in 1..4 {
        assert!(pass(&lab, SCOPE, number).await);
        assert!(!pass(&lab, SCOPE, number).await, "passed before");
        assert!(!pass(&lab, SCOPE, number + 2).await, "not its turn");
        assert_eq!(lab.store.order_next("pay", SCOPE).await, Ok(number + 1));
    }
    assert!(!pass(&lab, SCOPE, 1).await, "passed long ago");
}

async fn a_number_that_was_passed_and_rolled_back_is_still_expected<S: Database, E: Env>(
    lab: Lab<S, E>,
) {
    for number in 1..3 {
        let mut tx = lab.begin().await;
        assert_eq!(tx.order_pass("pay", SCOPE, number).await, Ok(true));
        tx.rollback().await;
        assert_eq!(lab.store.order_next("pay", SCOPE).await, Ok(number));
        assert!(pass(&lab, SCOPE, number).await);
    }
}

async fn passing_waits_for_who_passes<S: Database, E: Env>(lab: Lab<S, E>) {
    for (number, commit) in [(1, true), (2, false)] {
        let mut tx = lab.begin().await;
        assert_eq!(tx.order_pass("pay", SCOPE, number).await, Ok(true));
        let store = lab.store.clone();
        let mut rival = spawn(&lab.env, async move {
            let mut tx = store.begin(Scope::default()).await.unwrap();
            let passed = tx.order_pass("pay", SCOPE, number).await.unwrap();
            tx.rollback().await;
            passed
        });
        lab.until_waiting(1).await;
        assert!(rival.is_running());
        // What is kept meanwhile waits for nobody.
        assert_eq!(keep(&lab, "a", number + 5).await, Place::Early);
        match commit {
            true => tx.commit().await.unwrap(),
            false => tx.rollback().await,
        }
        assert_eq!(rival.end(&lab.env).await, !commit);
    }
}

async fn an_early_message_is_kept_as_it_came<S: Database, E: Env>(lab: Lab<S, E>) {
    assert_eq!(keep(&lab, "a", 2).await, Place::Early);
    assert!(pass(&lab, SCOPE, 1).await);
    let taken = lab.store.order_take("pay", SCOPE, 1).await.unwrap();
    let expected = Delivery {
        receipt: Receipt { channel: 0, tag: 2 },
        kept: true,
        ..delivery("a", 2)
    };
    assert_eq!(taken, [expected]);
    let kept = lab.store.read_all().await.unwrap().kept;
    let kept: Vec<_> = kept
        .iter()
        .map(|it| (&*it.consumer, &*it.scope, it.sequence, &*it.idempotency_key))
        .collect();
    assert_eq!(kept, [("pay", SCOPE, 2, "a-2")]);
}

async fn a_message_whose_turn_it_is_or_was_is_not_kept<S: Database, E: Env>(lab: Lab<S, E>) {
    assert_eq!(keep(&lab, "a", 1).await, Place::Next);
    assert!(pass(&lab, SCOPE, 1).await);
    assert_eq!(keep(&lab, "a", 1).await, Place::Past);
    assert_eq!(keep(&lab, "a", 2).await, Place::Next);
    assert!(lab.store.read_all().await.unwrap().kept.is_empty());
}

async fn what_is_kept_twice_stays_as_it_was<S: Database, E: Env>(lab: Lab<S, E>) {
    assert_eq!(keep(&lab, "a", 2).await, Place::Early);
    let again = Delivery {
        attempt: 5,
        redelivered: true,
        ..delivery("a", 2)
    };
    let kept = lab.store.order_keep(Scope::default(), &again).await;
    assert_eq!(kept, Ok(Place::Early));
    assert!(pass(&lab, SCOPE, 1).await);
    let taken = lab.store.order_take("pay", SCOPE, 9).await.unwrap();
    assert_eq!((taken[0].attempt, taken[0].redelivered), (2, false));
    // Its turn may have come since it was kept: then that is the answer.
    let kept = lab.store.order_keep(Scope::default(), &again).await;
    assert_eq!(kept, Ok(Place::Next));
}

async fn an_unordered_message_has_no_place<S: Database, E: Env>(lab: Lab<S, E>) {
    let mut without = delivery("a", 1);
    without.event = without.event.map(|event| {
        Arc::new(Event {
            sequence: None,
            ..Event::clone(&event)
        })
    });
    let kept = lab.store.order_keep(Scope::default(), &without).await;
    assert!(is_refused(&kept), "{kept:?}");
}

async fn a_row_of_messages_is_taken_up_to_the_first_gap<S: Database, E: Env>(lab: Lab<S, E>) {
    for sequence in [2, 3, 4, 6] {
        assert_eq!(keep(&lab, "a", sequence).await, Place::Early);
    }
    assert_eq!(take(&lab, 9).await, [0u64; 0], "1 is still to come");
    assert!(pass(&lab, SCOPE, 1).await);
    assert_eq!(take(&lab, 9).await, [2, 3, 4]);
    assert_eq!(take(&lab, 2).await, [2, 3]);
    for sequence in 2..5 {
        assert!(pass(&lab, SCOPE, sequence).await);
    }
    assert_eq!(take(&lab, 9).await, [0u64; 0], "5 is still to come");
}

async fn what_was_taken_stays_until_it_is_forgotten<S: Database, E: Env>(lab: Lab<S, E>) {
    for sequence in [2, 3, 4] {
        keep(&lab, "a", sequence).await;
    }
    assert!(pass(&lab, SCOPE, 1).await);
    assert_eq!(take(&lab, 9).await, take(&lab, 9).await);
    let forget = async |numbers: &[u64]| {
        let gone = lab.store.order_forget("pay", SCOPE, numbers).await;
        gone.unwrap()
    };
    assert_eq!(forget(&[]).await, 0);
    assert_eq!(forget(&[2, 4, 9]).await, 2);
    assert_eq!(forget(&[2, 4]).await, 0, "once");
    let kept = lab.store.read_all().await.unwrap().kept;
    assert_eq!(kept.iter().map(|it| it.sequence).collect::<Vec<_>>(), [3]);
}

async fn consumers_and_scopes_keep_apart<S: Database, E: Env>(lab: Lab<S, E>) {
    keep(&lab, "a", 2).await;
    keep(&lab, "b", 2).await;
    let other = Delivery {
        queue: Arc::from("ship"),
        ..delivery("a", 2)
    };
    lab.store
        .order_keep(Scope::default(), &other)
        .await
        .unwrap();
    assert!(pass(&lab, SCOPE, 1).await);
    assert_eq!(take(&lab, 9).await, [2]);
    let of = async |consumer, scope| {
        let taken = lab.store.order_take(consumer, scope, 9).await;
        taken.unwrap().len()
    };
    assert_eq!(of("pay", "order.paid/b").await, 0);
    assert_eq!(of("ship", SCOPE).await, 0);
    assert_eq!(lab.store.order_forget("ship", SCOPE, &[2]).await, Ok(1));
    assert_eq!(lab.store.read_all().await.unwrap().kept.len(), 2);
}

async fn nothing_is_overdue_before_its_turn<S: Database, E: Env>(lab: Lab<S, E>) {
    keep(&lab, "a", 2).await;
    keep(&lab, "b", 3).await;
    assert!(pass(&lab, "order.paid/b", 1).await);
    lab.env.sleep(SHORT * 5).await;
    assert_eq!(overdue(&lab, SHORT).await, []);
}

async fn what_nobody_takes_on_is_overdue_and_flagged<S: Database, E: Env>(lab: Lab<S, E>) {
    keep(&lab, "a", 2).await;
    assert!(pass(&lab, SCOPE, 1).await);
    lab.env.sleep(SHORT * 5).await;
    let expected = [Delivery {
        receipt: Receipt { channel: 0, tag: 2 },
        kept: true,
        redelivered: true,
        ..delivery("a", 2)
    }];
    assert_eq!(overdue(&lab, SHORT).await, expected);
    let taken = lab.store.order_take("pay", SCOPE, 9).await.unwrap();
    assert_eq!(taken, expected, "the flag stays");
}

async fn an_overdue_message_is_given_out_once_for_a_while<S: Database, E: Env>(lab: Lab<S, E>) {
    keep(&lab, "a", 2).await;
    assert!(pass(&lab, SCOPE, 1).await);
    let idle = Duration::from_millis(300);
    let found = eventually(&lab.env, "it to be overdue", async || {
        let found = overdue(&lab, idle).await;
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(numbers(&found.await), [2]);
    assert_eq!(overdue(&lab, idle).await, [], "somebody has it");
    let again = eventually(&lab.env, "it to be given out again", async || {
        let found = overdue(&lab, idle).await;
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(numbers(&again.await), [2]);
}

async fn a_scope_that_goes_on_has_nothing_overdue<S: Database, E: Env>(lab: Lab<S, E>) {
    keep(&lab, "a", 2).await;
    assert!(pass(&lab, SCOPE, 1).await);
    assert_eq!(overdue(&lab, LONG).await, [], "passed a moment ago");
}

async fn what_is_claimed_or_waits_is_not_overdue<S: Database, E: Env>(lab: Lab<S, E>) {
    for key in ["a", "b", "c"] {
        keep(&lab, key, 2).await;
        assert!(pass(&lab, &format!("order.paid/{key}"), 1).await);
    }
    lab.committed(async |tx| {
        let mut row = tx.inbox_open("pay", "a-2").await.unwrap();
        row.claim("pay-1/0".into(), LONG, 1);
        tx.inbox_save(&row).await.unwrap();
        let mut row = tx.inbox_open("pay", "b-2").await.unwrap();
        row.failed(1, LONG);
        tx.inbox_save(&row).await.unwrap();
        let mut row = tx.inbox_open("pay", "c-2").await.unwrap();
        row.claim("pay-1/0".into(), SHORT, 1);
        tx.inbox_save(&row).await.unwrap();
    })
    .await;
    lab.env.sleep(SHORT * 5).await;
    let found = overdue(&lab, SHORT).await;
    let keys: Vec<_> = found.iter().map(|it| it.event.as_ref().unwrap()).collect();
    let keys: Vec<_> = keys.iter().map(|event| &*event.key).collect();
    assert_eq!(keys, ["c"], "its lease is over");
}

async fn of_each_scope_all_that_is_due_is_overdue<S: Database, E: Env>(lab: Lab<S, E>) {
    for key in ["b", "a", "c"] {
        for sequence in [2, 3, 4] {
            keep(&lab, key, sequence).await;
        }
    }
    // Of the first key two have ended that were not forgotten; the last is not begun.
    for (scope, upto) in [("order.paid/a", 4), ("order.paid/b", 2)] {
        for sequence in 1..upto {
            assert!(pass(&lab, scope, sequence).await);
        }
    }
    lab.env.sleep(SHORT * 5).await;
    let found = lab.store.order_overdue("pay", SHORT, 3).await.unwrap();
    let places = |found: &[Delivery]| -> Vec<(String, u64)> {
        let place = |it: &Delivery| {
            let event = it.event.as_ref().unwrap();
            (event.key.to_string(), it.receipt.tag)
        };
        found.iter().map(place).collect()
    };
    let named = |all: &[(&str, u64)]| -> Vec<(String, u64)> {
        all.iter().map(|(key, n)| ((*key).to_owned(), *n)).collect()
    };
    assert_eq!(places(&found), named(&[("a", 2), ("a", 3), ("a", 4)]));
    lab.env.sleep(SHORT * 5).await;
    let all = overdue(&lab, SHORT).await;
    let expected = named(&[("a", 2), ("a", 3), ("a", 4), ("b", 2)]);
    assert_eq!(places(&all), expected);
}
