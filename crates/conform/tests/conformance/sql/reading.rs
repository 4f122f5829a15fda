//! READ COMMITTED: what a statement sees, and looks at again after a wait.

use redeliver_conform::sql::Wait;

use super::*;

crate::cases!(sql "READ COMMITTED":
    each_statement_sees_what_is_committed_by_then,
    own_writes_are_seen_at_once,
    an_update_looks_again_after_a_wait,
    an_update_goes_on_where_the_other_rolled_back,
    an_update_builds_on_what_the_other_left,
    an_update_whose_condition_is_false_now_does_not_wait,
    an_update_finds_no_row_that_is_not_committed,
    a_deleted_row_is_not_there_after_the_wait,
    a_row_deleted_and_inserted_again_is_another_one,
    a_row_that_no_longer_fits_stays_locked,
    a_scan_that_waited_sees_no_newer_rows,
    a_scan_that_waited_gives_new_versions_in_the_old_order,
    a_scan_that_waited_fills_its_limit_from_what_it_saw,
);

fn each_statement_sees_what_is_committed_by_then() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, read(1), "rows [(1, 0, None)]"),
            (1, BEGIN, "done"),
            (1, add(1), "rows [(1, 1, None)]"),
            (0, read(1), "rows [(1, 0, None)]"),
            (1, COMMIT, "done"),
            (0, read(1), "rows [(1, 1, None)]"),
        ],
    )
}

fn own_writes_are_seen_at_once() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, delete(1), "1 written"),
            (0, read(1), "rows []"),
            (0, insert(1, Some(5)), "1 written"),
            (0, read(1), "rows [(1, 0, Some(5))]"),
            (1, read(1), "rows [(1, 0, None)]"),
        ],
    )
}

fn an_update_looks_again_after_a_wait() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, add(1), "rows [(1, 1, None)]"),
            (1, add_below(1, 1), "blocked"),
            (0, COMMIT, "done; session 1 goes on: rows []"),
            (1, read(1), "rows [(1, 1, None)]"),
        ],
    )
}

fn an_update_goes_on_where_the_other_rolled_back() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, add(1), "rows [(1, 1, None)]"),
            (1, add_below(1, 1), "blocked"),
            (0, ROLLBACK, "done; session 1 goes on: rows [(1, 1, None)]"),
        ],
    )
}

fn an_update_builds_on_what_the_other_left() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, add(1), "rows [(1, 1, None)]"),
            (1, add(1), "blocked"),
            (0, COMMIT, "done; session 1 goes on: rows [(1, 2, None)]"),
        ],
    )
}

fn an_update_whose_condition_is_false_now_does_not_wait() -> Script {
    script(
        &[(1, 3, false)],
        &[
            (0, BEGIN, "done"),
            (0, add(1), "rows [(1, 4, None)]"),
            (1, add_below(1, 2), "rows []"),
        ],
    )
}

fn an_update_finds_no_row_that_is_not_committed() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, insert(1, None), "1 written"),
            (1, add(1), "rows []"),
            (1, lock(1), "rows []"),
            (1, delete(1), "0 written"),
        ],
    )
}

fn a_deleted_row_is_not_there_after_the_wait() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, delete(1), "1 written"),
            (1, add(1), "blocked"),
            (2, lock(1), "blocked"),
            (
                0,
                COMMIT,
                "done; session 1 goes on: rows []; session 2 goes on: rows []",
            ),
        ],
    )
}

fn a_row_deleted_and_inserted_again_is_another_one() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, delete(1), "1 written"),
            (0, insert(1, None), "1 written"),
            (1, add(1), "blocked"),
            (2, lock_some(1, Wait::Block), "blocked"),
            (
                0,
                COMMIT,
                "done; session 1 goes on: rows []; session 2 goes on: rows []",
            ),
            (1, read(1), "rows [(1, 0, None)]"),
        ],
    )
}

fn a_row_that_no_longer_fits_stays_locked() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (1, BEGIN, "done"),
            (0, add(1), "rows [(1, 1, None)]"),
            (1, add_below(1, 1), "blocked"),
            (0, COMMIT, "done; session 1 goes on: rows []"),
            (2, lock_some(1, Wait::Skip), "rows []"),
            (1, COMMIT, "done"),
            (2, lock_some(1, Wait::Skip), "rows [(1, 1, None)]"),
        ],
    )
}

fn a_scan_that_waited_sees_no_newer_rows() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, lock(1), "rows [(1, 0, None)]"),
            (1, lock_some(3, Wait::Block), "blocked"),
            (0, insert(2, None), "1 written"),
            (0, COMMIT, "done; session 1 goes on: rows [(1, 0, None)]"),
            (
                1,
                lock_some(3, Wait::Block),
                "rows [(1, 0, None), (2, 0, None)]",
            ),
        ],
    )
}

fn a_scan_that_waited_gives_new_versions_in_the_old_order() -> Script {
    script(
        &[(1, 1, false), (2, 2, false)],
        &[
            (0, BEGIN, "done"),
            (0, add(1), "rows [(1, 2, None)]"),
            (0, add(1), "rows [(1, 3, None)]"),
            (1, lock_by_v(2), "blocked"),
            (
                0,
                COMMIT,
                "done; session 1 goes on: rows [(1, 3, None), (2, 2, None)]",
            ),
        ],
    )
}

fn a_scan_that_waited_fills_its_limit_from_what_it_saw() -> Script {
    script(
        &[(1, 1, false), (2, 1, false), (3, 1, false)],
        &[
            (0, BEGIN, "done"),
            (0, add(1), "rows [(1, 2, None)]"),
            (1, lock_some(2, Wait::Block), "blocked"),
            (
                0,
                COMMIT,
                "done; session 1 goes on: rows [(2, 1, None), (3, 1, None)]",
            ),
        ],
    )
}
