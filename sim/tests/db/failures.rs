//! Failed transactions, ended sessions, failover.

use redeliver_sim::db::{Ended, Key, SqlError};

use super::{BLOCKED, DONE, code, item, world};

#[test]
fn a_failed_transaction_answers_25p02_and_its_commit_rolls_back() {
    let mut w = world();
    w.put(1, 0);
    let a = w.begin();
    assert_eq!(w.set(a, 1, 1), DONE);
    assert_eq!(
        code(w.db.insert_strict(a, w.items, Key::Int(1), item(2))),
        "23505"
    );
    assert_eq!(code(w.set(a, 1, 3)), SqlError::IN_FAILED_TRANSACTION);
    assert_eq!(code(w.db.begin(a)), SqlError::IN_FAILED_TRANSACTION);
    assert_eq!(w.db.held_locks(), 0, "its locks went when it failed");
    assert_eq!(w.db.commit(a), Ok(Ended::RolledBack));
    assert_eq!(w.committed(), [(1, 0)]);
    assert_eq!(w.set(a, 1, 4), DONE);
    w.db.check_invariants();
}

#[test]
fn a_failed_statement_outside_a_transaction_poisons_nothing() {
    let mut w = world();
    w.put(1, 0);
    let a = w.db.connect();
    assert_eq!(
        code(w.db.insert_strict(a, w.items, Key::Int(1), item(2))),
        "23505"
    );
    assert_eq!(w.set(a, 1, 3), DONE);
}

#[test]
fn disconnecting_rolls_back_and_releases() {
    let mut w = world();
    w.put(1, 0);
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 1), DONE);
    assert_eq!(w.set(b, 1, 2), BLOCKED);
    w.db.disconnect(a);
    assert_eq!(w.woken(), [b]);
    assert_eq!(w.set(b, 1, 2), DONE);
    assert_eq!(code(w.set(a, 1, 9)), SqlError::CONNECTION_DOES_NOT_EXIST);
    w.db.commit(b).unwrap();
    w.db.disconnect(b);
    w.db.disconnect(b);
    assert_eq!((w.db.open_sessions(), w.db.held_locks()), (0, 0));
    assert_eq!(w.committed(), [(1, 2)]);
}

#[test]
fn a_session_id_is_not_used_again_for_the_next_session() {
    let mut w = world();
    let a = w.db.connect();
    w.db.disconnect(a);
    let b = w.db.connect();
    assert_ne!(a, b);
    assert!(!w.db.is_open(a) && w.db.is_open(b));
    w.db.disconnect(a);
    assert!(w.db.is_open(b));
}

#[test]
fn a_terminated_waiter_is_woken_to_find_out() {
    let mut w = world();
    w.put(1, 0);
    let (a, b) = (w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 1), DONE);
    assert_eq!(w.set(b, 1, 2), BLOCKED);
    w.db.terminate_session(b);
    assert_eq!(w.woken(), [b]);
    let error = w.set(b, 1, 2).unwrap_err();
    assert_eq!(error.code, SqlError::ADMIN_SHUTDOWN);
    assert!(error.is_transient() && error.ends_session());
    w.db.commit(a).unwrap();
    assert!(w.woken().is_empty());
}

#[test]
fn a_cancelled_wait_fails_the_transaction_and_leaves_the_queue() {
    let mut w = world();
    w.put(1, 0);
    let (a, b, c) = (w.begin(), w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 1), DONE);
    assert_eq!(w.set(b, 1, 2), BLOCKED);
    assert_eq!(w.set(c, 1, 3), BLOCKED);
    assert_eq!(w.db.cancel_wait(b).unwrap().code, SqlError::QUERY_CANCELED);
    assert_eq!(w.db.cancel_wait(b), None);
    assert_eq!(code(w.set(b, 1, 2)), SqlError::IN_FAILED_TRANSACTION);
    w.db.commit(a).unwrap();
    assert_eq!(w.woken(), [c]);
}

#[test]
fn an_injected_error_poisons_like_any_other() {
    let mut w = world();
    w.put(1, 0);
    let a = w.begin();
    let fault = SqlError::new(SqlError::SERIALIZATION_FAILURE, "injected");
    assert!(w.db.inject(a, fault).is_transient());
    assert_eq!(code(w.set(a, 1, 1)), SqlError::IN_FAILED_TRANSACTION);
}

#[test]
fn a_failover_ends_every_session_and_keeps_what_committed() {
    let mut w = world();
    w.put(1, 0);
    w.put(2, 0);
    let (a, b, c) = (w.begin(), w.begin(), w.begin());
    assert_eq!(w.set(a, 1, 1), DONE);
    assert_eq!(w.set(b, 2, 2), DONE);
    w.db.commit(b).unwrap();
    assert_eq!(w.set(c, 1, 3), BLOCKED);
    assert_eq!(w.db.fail_over(0), 0);
    assert_eq!(
        w.woken(),
        [c],
        "once, although its lock came free and its session ended"
    );
    for session in [a, b, c] {
        assert_eq!(code(w.db.commit(session)), SqlError::ADMIN_SHUTDOWN);
        w.db.disconnect(session);
    }
    assert_eq!(w.committed(), [(1, 0), (2, 2)]);
    assert_eq!(
        (w.db.open_sessions(), w.db.held_locks(), w.db.waiting()),
        (0, 0, 0)
    );
    w.db.check_invariants();
}

#[test]
fn a_failover_to_a_lagging_replica_takes_back_the_newest_commits() {
    let mut w = world();
    w.db.set_replica_lag(2);
    w.put(1, 1);
    w.put(2, 1);
    w.put(1, 2);
    w.put(3, 1);
    let a = w.db.connect();
    assert!(
        w.db.delete(a, w.items, &Key::Int(2), |_| true)
            .unwrap()
            .done()
            .unwrap()
    );
    assert_eq!(w.db.fail_over(9), 2, "no more than the lag");
    assert_eq!(w.committed(), [(1, 2), (2, 1)]);
    w.db.check_invariants();
    assert_eq!(w.db.fail_over(9), 0);
}

#[test]
fn a_sequence_skips_what_it_had_logged_ahead() {
    let mut w = world();
    let ids = w.db.create_sequence("ids");
    assert_eq!(w.db.nextval(ids), 1);
    w.db.fail_over(0);
    assert_eq!(w.db.nextval(ids), 34);
}
