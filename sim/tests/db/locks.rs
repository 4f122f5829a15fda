//! Row locks, waiting, deadlocks.

use redeliver_sim::db::{Key, LockWait, SessionId, SqlError, Step};

use super::{BLOCKED, DONE, Item, NO_ROW, World, code, ids, item, value_of, world};

fn lock_batch(w: &mut World, s: SessionId, limit: usize, wait: LockWait) -> Step<Vec<i64>> {
    let open = w.open;
    match w
        .db
        .scan_for_update(s, open, .., &|_, _| true, limit, wait)
        .unwrap()
    {
        Step::Done(rows) => Step::Done(ids(&rows)),
        Step::Blocked => Step::Blocked,
    }
}

#[test]
fn skip_locked_gives_two_relays_different_rows() {
    let mut w = world();
    for id in 1..=5 {
        w.put(id, id);
    }
    let (a, b, c) = (w.begin(), w.begin(), w.begin());
    assert_eq!(
        lock_batch(&mut w, a, 2, LockWait::SkipLocked),
        Step::Done(vec![1, 2])
    );
    assert_eq!(
        lock_batch(&mut w, b, 2, LockWait::SkipLocked),
        Step::Done(vec![3, 4])
    );
    assert_eq!(
        lock_batch(&mut w, c, 2, LockWait::SkipLocked),
        Step::Done(vec![5])
    );
    w.db.rollback(a).unwrap();
    assert_eq!(
        lock_batch(&mut w, c, 3, LockWait::SkipLocked),
        Step::Done(vec![1, 2, 5])
    );
    assert_eq!(w.db.held_locks(), 5);
    w.db.check_invariants();
}

#[test]
fn a_locking_scan_waits_and_checks_again() {
    let mut w = world();
    for id in 1..=3 {
        w.put(id, id);
    }
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(w.set(a, 2, -1), DONE);
    assert_eq!(lock_batch(&mut w, b, 2, LockWait::Block), Step::Blocked);
    assert_eq!(w.db.held_locks(), 2, "the first row stays locked meanwhile");
    w.db.commit(a).unwrap();
    assert_eq!(w.woken(), [b]);
    assert_eq!(
        lock_batch(&mut w, b, 2, LockWait::Block),
        Step::Done(vec![1, 3])
    );
}

#[test]
fn nowait_fails_instead_of_waiting() {
    let mut w = world();
    w.put(1, 1);
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 2), DONE);
    let open = w.open;
    let scan =
        w.db.scan_for_update(b, open, .., &|_, _| true, 9, LockWait::NoWait);
    assert_eq!(code(scan), SqlError::LOCK_NOT_AVAILABLE);
}

#[test]
fn an_update_waits_and_evaluates_its_condition_again() {
    let mut w = world();
    w.put(1, 0);
    let (a, b) = (w.begin(), w.begin());
    let claim = |old: &super::Row| (value_of::<Item>(old).number == 0).then(|| item(1));
    let key = Key::Int(1);
    assert!(
        w.db.update(a, w.items, &key, claim)
            .unwrap()
            .done()
            .unwrap()
            .is_some()
    );
    assert!(w.db.update(b, w.items, &key, claim).unwrap().is_blocked());
    w.db.commit(a).unwrap();
    assert_eq!(w.woken(), [b]);
    assert!(
        w.db.update(b, w.items, &key, claim)
            .unwrap()
            .done()
            .unwrap()
            .is_none()
    );
}

#[test]
fn an_update_whose_condition_is_false_now_does_not_wait() {
    let mut w = world();
    w.put(1, 0);
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 5), DONE);
    let update = w.db.update(b, w.items, &Key::Int(1), |old| {
        (value_of::<Item>(old).number == 5).then(|| item(6))
    });
    assert!(
        update.unwrap().done().unwrap().is_none(),
        "though it would hold after the commit"
    );
}

#[test]
fn a_row_inserted_and_not_committed_is_not_waited_for_by_an_update() {
    let mut w = world();
    let (a, b) = (w.begin(), w.begin());
    let items = w.items;
    w.db.insert(a, items, Key::Int(1), item(0))
        .unwrap()
        .done()
        .unwrap();
    assert_eq!(w.set(b, 1, 5), NO_ROW);
    assert!(
        w.db.get_for_update(b, items, &Key::Int(1))
            .unwrap()
            .done()
            .unwrap()
            .is_none()
    );
    assert!(
        !w.db
            .delete(b, items, &Key::Int(1), |_| true)
            .unwrap()
            .done()
            .unwrap()
    );
}

#[test]
fn a_delete_waited_for_leaves_no_row_to_update() {
    let mut w = world();
    w.put(1, 0);
    let (a, b) = (w.begin(), w.begin());
    assert!(
        w.db.delete(a, w.items, &Key::Int(1), |_| true)
            .unwrap()
            .done()
            .unwrap()
    );
    assert_eq!(w.set(b, 1, 5), BLOCKED);
    w.db.commit(a).unwrap();
    assert_eq!(w.set(b, 1, 5), NO_ROW);
}

#[test]
fn waiters_take_turns_in_the_order_of_arrival() {
    let mut w = world();
    w.put(1, 0);
    let sessions = [w.begin(), w.begin(), w.begin(), w.begin()];
    assert_eq!(w.set(sessions[0], 1, 0), DONE);
    for (number, session) in (1..).zip(&sessions[1..]) {
        assert_eq!(w.set(*session, 1, number), BLOCKED);
    }
    for turn in 1..4 {
        w.db.commit(sessions[turn - 1]).unwrap();
        assert_eq!(w.woken(), [sessions[turn]]);
        assert_eq!(w.set(sessions[turn], 1, 9), DONE);
    }
    assert_eq!(w.db.stats().waits, 3);
}

#[test]
fn a_waiter_that_lost_its_turn_keeps_its_place() {
    let mut w = world();
    w.put(1, 0);
    let (a, b, c, thief) = (w.begin(), w.begin(), w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 1), DONE);
    assert_eq!(w.set(b, 1, 2), BLOCKED);
    assert_eq!(w.set(c, 1, 3), BLOCKED);
    w.db.commit(a).unwrap();
    assert_eq!(w.woken(), [b]);
    assert_eq!(
        w.set(thief, 1, 4),
        DONE,
        "the row is free until somebody takes it"
    );
    assert_eq!(w.set(b, 1, 2), BLOCKED);
    w.db.commit(thief).unwrap();
    assert_eq!(w.woken(), [b]);
    assert_eq!(w.set(b, 1, 2), DONE);
    w.db.commit(b).unwrap();
    assert_eq!(w.woken(), [c]);
}

#[test]
fn a_turn_not_taken_passes_on() {
    let mut w = world();
    w.put(1, 0);
    let (a, b, c) = (w.begin(), w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 1), DONE);
    assert_eq!(w.set(b, 1, 2), BLOCKED);
    assert_eq!(w.set(c, 1, 3), BLOCKED);
    w.db.commit(a).unwrap();
    assert_eq!(w.woken(), [b]);
    w.db.disconnect(b);
    assert_eq!(w.woken(), [c]);
    assert_eq!(w.set(c, 1, 3), DONE);
}

#[test]
fn the_session_that_closes_a_cycle_is_the_victim_of_the_deadlock() {
    let mut w = world();
    for id in 1..=3 {
        w.put(id, 0);
    }
    let (a, b, c) = (w.begin(), w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 1), DONE);
    assert_eq!(w.set(b, 2, 2), DONE);
    assert_eq!(w.set(c, 3, 3), DONE);
    assert_eq!(w.set(a, 2, 1), BLOCKED);
    assert_eq!(w.set(b, 3, 2), BLOCKED);
    let error = w.set(c, 1, 3).unwrap_err();
    assert_eq!(error.code, SqlError::DEADLOCK_DETECTED);
    assert!(error.is_transient());
    assert_eq!(w.woken(), [b], "the victim has lost its locks");
    assert_eq!(w.set(b, 3, 2), DONE);
    w.db.commit(b).unwrap();
    assert_eq!(w.set(a, 2, 1), DONE);
    w.db.commit(a).unwrap();
    assert_eq!(w.committed(), [(1, 1), (2, 1), (3, 2)]);
}

#[test]
fn a_deadlock_that_is_left_is_found_by_all_in_its_cycle() {
    let mut w = world();
    w.db.leave_deadlocks();
    w.put(1, 0);
    w.put(2, 0);
    let (a, b, c, d) = (w.begin(), w.begin(), w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 1), DONE);
    assert_eq!(w.set(b, 2, 2), DONE);
    for (session, row) in [(c, 1), (b, 1), (d, 2)] {
        assert_eq!(w.set(session, row, 3), BLOCKED);
        assert!(!w.db.is_deadlocked(session));
    }
    assert_eq!(w.set(a, 2, 1), BLOCKED);
    let found = [a, b, c, d].map(|session| w.db.is_deadlocked(session));
    assert_eq!(found, [true; 4], "c and d are ahead of b and a");
    assert!(w.db.cancel_wait(d).is_some());
    assert!(w.db.is_deadlocked(a), "they wait for each other still");
    assert!(w.db.cancel_wait(b).is_some());
    assert_eq!(w.woken(), [a]);
    assert_eq!(w.set(a, 2, 1), DONE);
    assert!(!w.db.is_deadlocked(c));
    w.db.check_invariants();
}

#[test]
fn two_scans_outside_a_transaction_can_deadlock_with_an_update() {
    let mut w = world();
    w.put(1, 1);
    w.put(2, 2);
    let (a, b) = (w.begin(), w.db.connect());
    assert_eq!(w.set(a, 2, 2), DONE);
    assert_eq!(lock_batch(&mut w, b, 2, LockWait::Block), Step::Blocked);
    assert_eq!(code(w.set(a, 1, 1)), SqlError::DEADLOCK_DETECTED);
    w.db.rollback(a).unwrap();
    assert_eq!(w.woken(), [b]);
    assert_eq!(
        lock_batch(&mut w, b, 2, LockWait::Block),
        Step::Done(vec![1, 2])
    );
    assert_eq!(
        (w.db.held_locks(), w.db.open_transactions()),
        (0, 0),
        "it was its own commit"
    );
}

#[test]
fn advisory_locks_queue_nest_and_end_with_the_transaction() {
    let mut w = world();
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(w.db.advisory_xact_lock(a, 7), Ok(Step::Done(())));
    assert_eq!(
        w.db.advisory_xact_lock(a, 7),
        Ok(Step::Done(())),
        "again, by its holder"
    );
    assert_eq!(w.db.try_advisory_xact_lock(b, 7), Ok(false));
    assert_eq!(w.db.advisory_xact_lock(b, 8), Ok(Step::Done(())));
    assert_eq!(w.db.advisory_xact_lock(b, 7), Ok(Step::Blocked));
    assert_eq!(code(w.db.advisory_xact_lock(a, 8)), "40P01");
    w.db.rollback(a).unwrap();
    assert_eq!(w.woken(), [b]);
    assert_eq!(w.db.advisory_xact_lock(b, 7), Ok(Step::Done(())));
    w.db.commit(b).unwrap();
    assert_eq!(w.db.held_locks(), 0);
}
