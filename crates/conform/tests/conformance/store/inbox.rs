//! The inbox: opening, saving, renewing, purging.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redeliver_core::dead_letter::{DeadLetter, Reason};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::ports::store::{StoreError, Tx};
use redeliver_core::ports::{Env, Scope, Timestamp};

use super::{Account, Database, LONG, Lab, SHORT, account, is_refused};
use crate::lab::{eventually, spawn};

crate::cases!(store "Inbox":
    opening_gives_a_fresh_row_once,
    every_state_comes_back_as_it_was_saved,
    what_is_opened_and_not_saved_is_new,
    work_that_ends_without_an_answer_is_done,
    a_new_row_may_be_opened_and_saved_again,
    many_rows_come_in_the_order_of_their_keys,
    two_that_open_the_same_rows_do_not_hold_each_other,
    opening_waits_for_who_holds_the_row,
    a_rolled_back_opening_leaves_nothing,
    saving_what_was_never_opened_is_refused_for_good,
    consumers_do_not_meet,
    a_claim_is_renewed_by_its_token_only,
    nothing_but_a_claim_is_renewed,
    only_ended_rows_are_purged,
    rows_are_purged_by_age_and_in_small_batches,
    what_ended_first_is_purged_first,
);

/// Opens a row, changes it and commits.
async fn save<S: Database, E: Env>(
    lab: &Lab<S, E>,
    key: &str,
    change: impl FnOnce(&mut InboxRow),
) -> InboxRow {
    lab.committed(async |tx| {
        let mut row = tx.inbox_open("pay", key).await.unwrap();
        change(&mut row);
        tx.inbox_save(&row).await.unwrap();
        row
    })
    .await
}

/// Opens a row and rolls back.
async fn look<S: Database, E: Env>(lab: &Lab<S, E>, key: &str) -> InboxRow {
    let mut tx = lab.begin().await;
    let row = tx.inbox_open("pay", key).await.unwrap();
    tx.rollback().await;
    row
}

fn done() -> InboxState {
    let result = Bytes::from_static(b"\0\xff");
    InboxState::Done { result }
}

fn dead(published: bool) -> InboxState {
    let story = DeadLetter {
        reason: Reason::Poison,
        class: "payment-refused".into(),
        error: "no such account: ä".to_owned(),
        attempts: 3,
        first_failure: Timestamp(1_764_000_000_000_001_000),
        last_failure: Timestamp(1_764_000_000_000_002_000),
        consumer: "pay".into(),
        queue: "pay".into(),
        exchange: "orders".into(),
        routing_key: "order.placed".into(),
        worker: "pay-1/0".into(),
    };
    let story = Box::new(story);
    InboxState::Dead { story, published }
}

/// What is stored, without the clock at the reading.
fn stored(row: InboxRow) -> InboxRow {
    InboxRow {
        now: Timestamp(0),
        updated_at: Timestamp(0),
        ..row
    }
}

async fn opening_gives_a_fresh_row_once<S: Database, E: Env>(lab: Lab<S, E>) {
    let row = lab
        .committed(async |tx| tx.inbox_open("pay", "a").await.unwrap())
        .await;
    let fresh = InboxRow::fresh("pay".into(), "a".into(), row.now);
    assert_eq!(stored(row.clone()), stored(fresh));
    let again = look(&lab, "a").await;
    assert_eq!(again.updated_at, row.updated_at);
    assert!(
        again.now > row.now,
        "each opening tells the database's clock"
    );
    assert_eq!(lab.store.read_all().await.unwrap().inbox.len(), 1);
}

async fn every_state_comes_back_as_it_was_saved<S: Database, E: Env>(lab: Lab<S, E>) {
    let failed = save(&lab, "failed", |row| {
        row.claim("pay-1/0".into(), LONG, 1);
        row.failed(1, LONG);
    });
    let claimed = save(&lab, "claimed", |row| {
        row.claim("pay-1/0".into(), LONG, 4);
    });
    let (failed, claimed) = (failed.await, claimed.await);
    let done = save(&lab, "done", |row| row.state = done()).await;
    let dead = save(&lab, "dead", |row| row.state = dead(true)).await;
    for row in [failed, claimed, done, dead] {
        let back = look(&lab, &row.idempotency_key).await;
        assert!(back.updated_at > row.updated_at, "a save is stamped");
        assert_eq!(stored(back), stored(row));
    }
    let keys = lab.store.read_all().await.unwrap().inbox;
    let keys: Vec<_> = keys.iter().map(|row| &*row.idempotency_key).collect();
    assert_eq!(keys, ["claimed", "dead", "done", "failed"]);
}

/// It may be stored as anything until the commit.
async fn what_is_opened_and_not_saved_is_new<S: Database, E: Env>(lab: Lab<S, E>) {
    let of = |attempt| Scope {
        consumer: "pay",
        subject: "a",
        attempt,
    };
    let mut tx = lab.store.begin(of(3)).await.unwrap();
    tx.inbox_open("pay", "a").await.unwrap();
    let keys = ["c".into(), "b".into()];
    tx.inbox_open_all("pay", &keys).await.unwrap();
    tx.commit().await.unwrap();
    for key in ["a", "b", "c"] {
        let row = look(&lab, key).await;
        let fresh = InboxRow::fresh("pay".into(), key.into(), row.now);
        assert_eq!(stored(row), stored(fresh));
    }
    assert_eq!(lab.store.inbox_purge(Duration::ZERO, 9).await.unwrap(), 0);
}

async fn work_that_ends_without_an_answer_is_done<S: Database, E: Env>(lab: Lab<S, E>) {
    let ended = InboxState::Done {
        result: Bytes::new(),
    };
    for (key, attempt, attempts) in [("a", 1, 1), ("b", 1, 2), ("c", 4, 4)] {
        let scope = Scope {
            consumer: "pay",
            subject: key,
            attempt,
        };
        let mut tx = lab.store.begin(scope).await.unwrap();
        let mut row = tx.inbox_open("pay", key).await.unwrap();
        assert_eq!((&row.state, row.attempts), (&InboxState::Open, 0));
        (row.state, row.attempts) = (ended.clone(), attempts);
        tx.inbox_save(&row).await.unwrap();
        tx.commit().await.unwrap();
        let back = look(&lab, key).await;
        assert_eq!(stored(back), stored(row), "{key}");
    }
    assert_eq!(lab.store.inbox_purge(Duration::ZERO, 9).await.unwrap(), 3);
}

async fn a_new_row_may_be_opened_and_saved_again<S: Database, E: Env>(lab: Lab<S, E>) {
    let ended = InboxState::Done {
        result: Bytes::new(),
    };
    let mut tx = lab.begin().await;
    tx.inbox_open("pay", "a").await.unwrap();
    let mut row = tx.inbox_open("pay", "a").await.unwrap();
    assert_eq!(row.state, InboxState::Open, "nothing has ended it");
    row.state = ended.clone();
    tx.inbox_save(&row).await.unwrap();
    let mut row = tx.inbox_open("pay", "a").await.unwrap();
    assert_eq!(row.state, ended);
    row.failed(2, LONG);
    tx.inbox_save(&row).await.unwrap();
    let seen = tx.inbox_open("pay", "a").await.unwrap();
    assert_eq!(stored(seen), stored(row.clone()));
    tx.commit().await.unwrap();
    assert_eq!(stored(look(&lab, "a").await), stored(row));
}

async fn many_rows_come_in_the_order_of_their_keys<S: Database, E: Env>(lab: Lab<S, E>) {
    save(&lab, "b", |row| row.state = done()).await;
    let mut tx = lab.begin().await;
    let keys = ["c".into(), "ä".into(), "b".into(), "a".into()];
    let rows = tx.inbox_open_all("pay", &keys).await.unwrap();
    let found: Vec<_> = (rows.iter())
        .map(|row| (&*row.idempotency_key, row.state == InboxState::Open))
        .collect();
    let expected = [("c", true), ("ä", true), ("b", false), ("a", true)];
    assert_eq!(found, expected);
    assert!(tx.inbox_open_all("pay", &[]).await.unwrap().is_empty());
    tx.rollback().await;
    assert_eq!(lab.store.read_all().await.unwrap().inbox.len(), 1);
}

async fn two_that_open_the_same_rows_do_not_hold_each_other<S: Database, E: Env>(lab: Lab<S, E>) {
    let keys: Vec<Arc<str>> = (0..40).map(|n| format!("{n}").into()).collect();
    let backwards: Vec<_> = keys.iter().rev().cloned().collect();
    let open = |keys: Vec<Arc<str>>| {
        let store = lab.store.clone();
        spawn(&lab.env, async move {
            for _ in 0..20 {
                let mut tx = store.begin(Scope::default()).await?;
                tx.inbox_open_all("pay", &keys).await?;
                tx.rollback().await;
            }
            Ok::<_, StoreError>(())
        })
    };
    let both = [open(keys), open(backwards)];
    for one in both {
        one.end(&lab.env).await.expect("no deadlock");
    }
}

async fn opening_waits_for_who_holds_the_row<S: Database, E: Env>(lab: Lab<S, E>) {
    for commit in [false, true] {
        let mut tx = lab.begin().await;
        let mut row = tx.inbox_open("pay", "a").await.unwrap();
        let store = lab.store.clone();
        let mut rival = spawn(&lab.env, async move {
            let mut tx = store.begin(Scope::default()).await.unwrap();
            let row = tx.inbox_open("pay", "a").await.unwrap();
            tx.rollback().await;
            row
        });
        lab.until_waiting(1).await;
        assert!(rival.is_running());
        row.state = done();
        tx.inbox_save(&row).await.unwrap();
        match commit {
            true => tx.commit().await.unwrap(),
            false => tx.rollback().await,
        }
        let found = rival.end(&lab.env).await;
        let expected = if commit { done() } else { InboxState::Open };
        assert_eq!(found.state, expected);
    }
}

async fn a_rolled_back_opening_leaves_nothing<S: Database, E: Env>(lab: Lab<S, E>) {
    look(&lab, "a").await;
    assert!(lab.store.read_all().await.unwrap().inbox.is_empty());
}

async fn saving_what_was_never_opened_is_refused_for_good<S: Database, E: Env>(lab: Lab<S, E>) {
    let mut tx = lab.begin().await;
    tx.insert(&account("a", 1)).await.unwrap();
    let row = InboxRow::fresh("pay".into(), "a".into(), Timestamp(0));
    let saved = tx.inbox_save(&row).await;
    assert!(is_refused(&saved), "{saved:?}");
    // The transaction is mistaken as a whole.
    let why = saved.unwrap_err();
    assert_eq!(tx.get::<Account>("a").await, Err(why.clone()));
    assert_eq!(tx.commit().await, Err(why));
    let reading = lab.store.read_all().await.unwrap();
    assert!(reading.rows.is_empty() && reading.inbox.is_empty());
}

async fn consumers_do_not_meet<S: Database, E: Env>(lab: Lab<S, E>) {
    save(&lab, "a", |row| row.state = done()).await;
    lab.committed(async |tx| {
        let other = tx.inbox_open("ship", "a").await.unwrap();
        assert_eq!(other.state, InboxState::Open);
        assert_eq!(tx.order_pass("pay", "order.paid/a", 1).await, Ok(true));
    })
    .await;
    assert_eq!(lab.store.order_next("pay", "order.paid/a").await, Ok(2));
    assert_eq!(lab.store.order_next("ship", "order.paid/a").await, Ok(1));
}

async fn a_claim_is_renewed_by_its_token_only<S: Database, E: Env>(lab: Lab<S, E>) {
    let row = save(&lab, "a", |row| {
        row.claim("pay-1/0".into(), SHORT, 1);
    });
    let token = row.await.token;
    let renew = async |token| {
        lab.store
            .inbox_renew("pay", "a", token, LONG)
            .await
            .unwrap()
    };
    assert!(!renew(token + 1).await && !renew(token - 1).await);
    assert!(
        renew(token).await,
        "even where the lease was over: nobody has taken it"
    );
    let row = look(&lab, "a").await;
    let left = row.live_claim().expect("a live claim");
    assert!(left <= LONG && left > LONG / 2);
    assert_eq!((row.token, row.attempts), (token, 1));
    assert!(row.holds(token));
}

async fn nothing_but_a_claim_is_renewed<S: Database, E: Env>(lab: Lab<S, E>) {
    let renew = async |key| lab.store.inbox_renew("pay", key, 1, LONG).await.unwrap();
    for (key, state) in [
        ("open", InboxState::Open),
        ("done", done()),
        ("dead", dead(false)),
    ] {
        save(&lab, key, |row| {
            row.claim("pay-1/0".into(), LONG, 1);
            row.state = state;
        })
        .await;
        assert!(!renew(key).await, "{key}");
    }
    assert!(!renew("missing").await);
}

async fn only_ended_rows_are_purged<S: Database, E: Env>(lab: Lab<S, E>) {
    save(&lab, "open", |row| row.failed(1, SHORT)).await;
    save(&lab, "claimed", |row| {
        row.claim("pay-1/0".into(), SHORT, 1);
    })
    .await;
    save(&lab, "done", |row| row.state = done()).await;
    save(&lab, "dead", |row| row.state = dead(true)).await;
    // Its letter may not be in its queue yet: the row is all that is left of it.
    save(&lab, "dying", |row| row.state = dead(false)).await;
    assert_eq!(lab.store.inbox_purge(Duration::ZERO, 99).await, Ok(2));
    let left = lab.store.read_all().await.unwrap().inbox;
    let left: Vec<_> = left.iter().map(|row| &*row.idempotency_key).collect();
    assert_eq!(left, ["claimed", "dying", "open"]);
    save(&lab, "dying", |row| row.state = dead(true)).await;
    assert_eq!(lab.store.inbox_purge(Duration::ZERO, 99).await, Ok(1));
}

async fn rows_are_purged_by_age_and_in_small_batches<S: Database, E: Env>(lab: Lab<S, E>) {
    for n in 0..5 {
        save(&lab, &n.to_string(), |row| row.state = done()).await;
    }
    assert_eq!(lab.store.inbox_purge(LONG, 99).await, Ok(0), "too young");
    assert_eq!(lab.store.inbox_purge(Duration::ZERO, 2).await, Ok(2));
    // One that somebody has opened is passed over, not waited for.
    let mut tx = lab.begin().await;
    let left = lab.store.read_all().await.unwrap().inbox;
    tx.inbox_open("pay", &left[0].idempotency_key)
        .await
        .unwrap();
    assert_eq!(lab.store.inbox_purge(Duration::ZERO, 99).await, Ok(2));
    tx.rollback().await;
    eventually(&lab.env, "the last one to go", async || {
        let purged = lab.store.inbox_purge(Duration::ZERO, 99).await.unwrap();
        (purged == 1).then_some(())
    })
    .await;
}

async fn what_ended_first_is_purged_first<S: Database, E: Env>(lab: Lab<S, E>) {
    for key in ["b", "c", "a"] {
        save(&lab, key, |row| row.state = done()).await;
        lab.env.sleep(SHORT).await;
    }
    for left in [&["a", "c"][..], &["a"], &[]] {
        assert_eq!(lab.store.inbox_purge(Duration::ZERO, 1).await, Ok(1));
        let there = lab.store.read_all().await.unwrap().inbox;
        let there: Vec<_> = there.iter().map(|row| &*row.idempotency_key).collect();
        assert_eq!(there, left);
    }
}
