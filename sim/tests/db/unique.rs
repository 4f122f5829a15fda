//! Unique keys and `ON CONFLICT`.

use redeliver_sim::db::{Insert, Key, SqlError, Step};

use super::{DONE, Item, World, code, item, named, value_of, world};

fn try_insert(w: &mut World, s: super::SessionId, id: i64, row: super::Row) -> Step<Option<i64>> {
    match w.db.insert(s, w.items, Key::Int(id), row).unwrap() {
        Step::Done(Insert::Inserted) => Step::Done(None),
        Step::Done(Insert::Conflict(row)) => Step::Done(Some(value_of::<Item>(&row).number)),
        Step::Blocked => Step::Blocked,
    }
}

#[test]
fn insert_waits_for_an_uncommitted_rival_and_conflicts_when_it_commits() {
    let mut w = world();
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(try_insert(&mut w, a, 1, item(10)), Step::Done(None));
    assert_eq!(try_insert(&mut w, b, 1, item(20)), Step::Blocked);
    assert!(w.woken().is_empty());
    w.db.commit(a).unwrap();
    assert_eq!(w.woken(), [b]);
    assert_eq!(try_insert(&mut w, b, 1, item(20)), Step::Done(Some(10)));
    w.db.commit(b).unwrap();
    assert_eq!(w.committed(), [(1, 10)]);
}

#[test]
fn insert_waits_for_an_uncommitted_rival_and_succeeds_when_it_rolls_back() {
    let mut w = world();
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(try_insert(&mut w, a, 1, item(10)), Step::Done(None));
    assert_eq!(try_insert(&mut w, b, 1, item(20)), Step::Blocked);
    w.db.rollback(a).unwrap();
    assert_eq!(w.woken(), [b]);
    assert_eq!(try_insert(&mut w, b, 1, item(20)), Step::Done(None));
    w.db.commit(b).unwrap();
    assert_eq!(w.committed(), [(1, 20)]);
}

#[test]
fn strict_insert_fails_on_a_taken_key_and_poisons_its_transaction() {
    let mut w = world();
    w.put(1, 10);
    let a = w.begin();
    let error =
        w.db.insert_strict(a, w.items, Key::Int(1), item(20))
            .unwrap_err();
    assert_eq!(error.code, SqlError::UNIQUE_VIOLATION);
    assert_eq!(error.constraint.as_deref(), Some("items_pkey"));
    assert!(!error.is_transient());
    assert_eq!(
        code(w.db.get(a, w.items, &Key::Int(1))),
        SqlError::IN_FAILED_TRANSACTION
    );
}

#[test]
fn strict_insert_waits_and_then_fails() {
    let mut w = world();
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(
        w.db.insert_strict(a, w.items, Key::Int(1), item(1)),
        Ok(Step::Done(()))
    );
    assert_eq!(
        w.db.insert_strict(b, w.items, Key::Int(1), item(2)),
        Ok(Step::Blocked)
    );
    w.db.commit(a).unwrap();
    assert_eq!(
        code(w.db.insert_strict(b, w.items, Key::Int(1), item(2))),
        "23505"
    );
}

#[test]
fn a_second_unique_key_is_contested_like_the_first() {
    let mut w = world();
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(try_insert(&mut w, a, 1, named("x", 10)), Step::Done(None));
    assert_eq!(try_insert(&mut w, b, 2, named("x", 20)), Step::Blocked);
    w.db.commit(a).unwrap();
    assert_eq!(w.woken(), [b]);
    assert_eq!(
        try_insert(&mut w, b, 2, named("x", 20)),
        Step::Done(Some(10))
    );
    assert_eq!(try_insert(&mut w, b, 2, named("y", 20)), Step::Done(None));
    let update =
        w.db.update(b, w.items, &Key::Int(2), |_| Some(named("x", 20)));
    assert_eq!(
        update.unwrap_err().constraint.as_deref(),
        Some("items_name_key")
    );
    w.db.check_invariants();
}

#[test]
fn a_value_given_up_in_the_same_transaction_is_free_at_once() {
    let mut w = world();
    let a = w.begin();
    assert_eq!(try_insert(&mut w, a, 1, named("x", 10)), Step::Done(None));
    w.db.commit(a).unwrap();
    w.db.begin(a).unwrap();
    assert!(
        w.db.delete(a, w.items, &Key::Int(1), |_| true)
            .unwrap()
            .done()
            .unwrap()
    );
    assert_eq!(try_insert(&mut w, a, 2, named("x", 20)), Step::Done(None));
    w.db.check_invariants();
    w.db.commit(a).unwrap();
    w.db.check_invariants();
    assert_eq!(
        try_insert(&mut w, a, 3, named("x", 30)),
        Step::Done(Some(20))
    );
}

#[test]
fn an_insert_waits_even_for_an_update_that_keeps_the_value() {
    let mut w = world();
    w.put(1, 10);
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 11), DONE);
    assert_eq!(try_insert(&mut w, b, 1, item(20)), Step::Blocked);
    w.db.commit(a).unwrap();
    assert_eq!(try_insert(&mut w, b, 1, item(20)), Step::Done(Some(11)));
}

#[test]
fn an_insert_conflicts_at_once_with_a_row_that_is_only_locked() {
    let mut w = world();
    w.put(1, 10);
    let (a, b) = (w.begin(), w.begin());
    assert!(
        !w.db
            .get_for_update(a, w.items, &Key::Int(1))
            .unwrap()
            .is_blocked()
    );
    assert_eq!(try_insert(&mut w, b, 1, item(20)), Step::Done(Some(10)));
}

#[test]
fn upsert_waits_for_the_row_and_builds_on_what_it_finds() {
    let mut w = world();
    let (a, b) = (w.begin(), w.begin());
    let add = |old: Option<&super::Row>| item(1 + old.map_or(0, |r| value_of::<Item>(r).number));
    assert!(
        !w.db
            .upsert(a, w.items, Key::Int(1), add)
            .unwrap()
            .is_blocked()
    );
    assert!(
        w.db.upsert(b, w.items, Key::Int(1), add)
            .unwrap()
            .is_blocked()
    );
    w.db.commit(a).unwrap();
    assert!(
        !w.db
            .upsert(b, w.items, Key::Int(1), add)
            .unwrap()
            .is_blocked()
    );
    w.db.commit(b).unwrap();
    assert_eq!(w.committed(), [(1, 2)]);
}
