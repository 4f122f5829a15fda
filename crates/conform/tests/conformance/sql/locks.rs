//! Row locks and advisory locks: queues, time-outs, deadlocks.

use redeliver_conform::sql::Wait;

use super::*;

crate::cases!(sql "Locks":
    skip_locked_leaves_locked_rows_out,
    skip_locked_looks_at_the_condition_it_can_see,
    nowait_fails_at_once,
    who_waits_for_a_row_comes_in_turn,
    a_lock_timeout_fails_the_statement,
    a_cancelled_wait_fails_the_statement,
    a_cancelled_wait_lets_the_next_have_its_turn,
    a_deadlock_ends_who_closed_the_cycle,
    a_scan_keeps_what_it_locked_while_it_waits,
    a_failed_statement_lets_all_locks_go,
    advisory_locks_queue_and_end_with_the_transaction,
    an_advisory_lock_is_had_twice_by_its_holder,
    advisory_locks_and_rows_close_a_cycle,
);

fn skip_locked_leaves_locked_rows_out() -> Script {
    script(
        &[(1, 0, false), (2, 0, false), (3, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, lock(1), "rows [(1, 0, None)]"),
            (1, BEGIN, "done"),
            (1, lock_some(1, Wait::Skip), "rows [(2, 0, None)]"),
            (2, lock_some(3, Wait::Skip), "rows [(3, 0, None)]"),
            (0, COMMIT, "done"),
            (
                2,
                lock_some(3, Wait::Skip),
                "rows [(1, 0, None), (3, 0, None)]",
            ),
        ],
    )
}

fn skip_locked_looks_at_the_condition_it_can_see() -> Script {
    script(
        &[(1, 1, false), (2, 1, false)],
        &[
            (0, BEGIN, "done"),
            (0, add(1), "rows [(1, 2, None)]"),
            (1, lock_some(3, Wait::Skip), "rows [(2, 1, None)]"),
            (0, COMMIT, "done"),
            (1, lock_some(3, Wait::Skip), "rows [(2, 1, None)]"),
        ],
    )
}

fn nowait_fails_at_once() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (1, BEGIN, "done"),
            (0, lock(1), "rows [(1, 0, None)]"),
            (1, lock_some(1, Wait::Fail), "55P03"),
            (1, read(1), "25P02"),
        ],
    )
}

fn who_waits_for_a_row_comes_in_turn() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (1, BEGIN, "done"),
            (2, BEGIN, "done"),
            (0, lock(1), "rows [(1, 0, None)]"),
            (2, add(1), "blocked"),
            (1, add(1), "blocked"),
            (0, COMMIT, "done; session 2 goes on: rows [(1, 1, None)]"),
            (2, COMMIT, "done; session 1 goes on: rows [(1, 2, None)]"),
        ],
    )
}

fn a_lock_timeout_fails_the_statement() -> Script {
    let steps = [
        (0, BEGIN, "done"),
        (1, BEGIN, "done"),
        (0, lock(1), "rows [(1, 0, None)]"),
        (1, add(1), "55P03"),
        (1, add(1), "25P02"),
        (1, COMMIT, "done"),
    ];
    Script {
        impatient: Some(1),
        ..script(&[(1, 0, false)], &steps)
    }
}

fn a_cancelled_wait_fails_the_statement() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (1, BEGIN, "done"),
            (0, lock(1), "rows [(1, 0, None)]"),
            (1, add(1), "blocked"),
            (1, Op::Cancel, "done; session 1 goes on: 57014"),
            (1, read(1), "25P02"),
            (1, ROLLBACK, "done"),
            (1, read(1), "rows [(1, 0, None)]"),
        ],
    )
}

fn a_cancelled_wait_lets_the_next_have_its_turn() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, lock(1), "rows [(1, 0, None)]"),
            (1, add(1), "blocked"),
            (2, add(1), "blocked"),
            (1, Op::Cancel, "done; session 1 goes on: 57014"),
            (0, COMMIT, "done; session 2 goes on: rows [(1, 1, None)]"),
        ],
    )
}

fn a_deadlock_ends_who_closed_the_cycle() -> Script {
    script(
        &[(1, 0, false), (2, 0, false)],
        &[
            (0, BEGIN, "done"),
            (1, BEGIN, "done"),
            (0, add(1), "rows [(1, 1, None)]"),
            (1, add(2), "rows [(2, 1, None)]"),
            (0, add(2), "blocked"),
            (1, add(1), "40P01; session 0 goes on: rows [(2, 1, None)]"),
            (1, COMMIT, "done"),
            (0, COMMIT, "done"),
            (1, READ_ALL, "rows [(1, 1, None), (2, 1, None)]"),
        ],
    )
}

fn a_scan_keeps_what_it_locked_while_it_waits() -> Script {
    script(
        &[(1, 0, false), (2, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, lock(2), "rows [(2, 0, None)]"),
            (1, lock_some(2, Wait::Block), "blocked"),
            (
                0,
                lock(1),
                "40P01; session 1 goes on: rows [(1, 0, None), (2, 0, None)]",
            ),
        ],
    )
}

fn a_failed_statement_lets_all_locks_go() -> Script {
    script(
        &[(1, 0, false), (2, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, add(1), "rows [(1, 1, None)]"),
            (0, Op::Advisory(1), "done"),
            (1, add(1), "blocked"),
            (2, Op::Advisory(1), "blocked"),
            (
                0,
                insert(2, None),
                "23505 by a_pkey; session 1 goes on: rows [(1, 1, None)]; \
                 session 2 goes on: done",
            ),
            (0, read(1), "25P02"),
            (0, COMMIT, "done"),
            (0, read(1), "rows [(1, 1, None)]"),
        ],
    )
}

fn advisory_locks_queue_and_end_with_the_transaction() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, Op::Advisory(1), "done"),
            (1, Op::TryAdvisory(1), "false"),
            (1, Op::TryAdvisory(2), "true"),
            (1, BEGIN, "done"),
            (1, Op::Advisory(1), "blocked"),
            (2, Op::Advisory(1), "blocked"),
            (0, COMMIT, "done; session 1 goes on: done"),
            (1, ROLLBACK, "done; session 2 goes on: done"),
        ],
    )
}

fn an_advisory_lock_is_had_twice_by_its_holder() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, Op::Advisory(1), "done"),
            (0, Op::Advisory(1), "done"),
            (0, Op::TryAdvisory(1), "true"),
            (0, COMMIT, "done"),
            (1, Op::TryAdvisory(1), "true"),
        ],
    )
}

fn advisory_locks_and_rows_close_a_cycle() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (1, BEGIN, "done"),
            (0, Op::Advisory(1), "done"),
            (1, lock(1), "rows [(1, 0, None)]"),
            (0, add(1), "blocked"),
            (
                1,
                Op::Advisory(1),
                "40P01; session 0 goes on: rows [(1, 1, None)]",
            ),
        ],
    )
}
