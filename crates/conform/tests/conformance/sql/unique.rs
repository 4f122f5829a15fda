//! Unique keys: who waits for them, and with what end.

use redeliver_conform::sql::{Change, Table, Wait};

use super::*;

crate::cases!(sql "Unique keys":
    an_insert_waits_for_its_key_and_then_fails,
    an_insert_waits_for_its_key_and_then_succeeds,
    a_second_unique_index_is_waited_for_as_well,
    do_nothing_waits_and_then_does_nothing,
    do_nothing_waits_and_then_inserts,
    do_update_waits_and_builds_on_what_is_there,
    do_update_waits_for_a_row_that_is_only_locked,
    a_row_that_is_only_locked_is_in_the_way_at_once,
    an_update_that_keeps_the_key_is_waited_for,
    a_key_given_up_in_the_same_transaction_is_free,
    a_key_given_up_is_waited_for_by_others,
    a_row_outside_a_partial_index_is_in_nobodys_way,
    a_row_that_comes_into_a_partial_index_may_clash,
    do_nothing_looks_at_each_key_once,
    an_insert_that_waits_holds_its_primary_key,
    an_update_that_waits_for_a_key_is_in_the_way_of_its_row,
    an_insert_that_waits_may_close_a_cycle,
);

fn an_insert_waits_for_its_key_and_then_fails() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, insert(1, None), "1 written"),
            (1, insert(1, None), "blocked"),
            (0, COMMIT, "done; session 1 goes on: 23505 by a_pkey"),
        ],
    )
}

fn an_insert_waits_for_its_key_and_then_succeeds() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, insert(1, None), "1 written"),
            (1, insert(1, None), "blocked"),
            (0, ROLLBACK, "done; session 1 goes on: 1 written"),
        ],
    )
}

fn a_second_unique_index_is_waited_for_as_well() -> Script {
    script(
        &[(1, 0, true)],
        &[
            (0, BEGIN, "done"),
            (0, rename(1, Some(2)), "rows [(1, 0, Some(2))]"),
            (1, insert(2, Some(1)), "blocked"),
            (2, insert(3, Some(2)), "blocked"),
            (
                0,
                COMMIT,
                "done; session 1 goes on: 1 written; session 2 goes on: 23505 by a_u",
            ),
        ],
    )
}

fn do_nothing_waits_and_then_does_nothing() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, insert(1, None), "1 written"),
            (1, insert_or_nothing(1, None), "blocked"),
            (0, COMMIT, "done; session 1 goes on: 0 written"),
        ],
    )
}

fn do_nothing_waits_and_then_inserts() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, insert(1, Some(1)), "1 written"),
            (1, insert_or_nothing(2, Some(1)), "blocked"),
            (0, ROLLBACK, "done; session 1 goes on: 1 written"),
        ],
    )
}

fn do_update_waits_and_builds_on_what_is_there() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, upsert(1), "rows [(1, 0, None)]"),
            (1, upsert(1), "blocked"),
            (0, COMMIT, "done; session 1 goes on: rows [(1, 1, None)]"),
        ],
    )
}

fn do_update_waits_for_a_row_that_is_only_locked() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, lock(1), "rows [(1, 0, None)]"),
            (1, upsert(1), "blocked"),
            (0, delete(1), "1 written"),
            (0, COMMIT, "done; session 1 goes on: rows [(1, 0, None)]"),
        ],
    )
}

fn a_row_that_is_only_locked_is_in_the_way_at_once() -> Script {
    script(
        &[(1, 0, true)],
        &[
            (0, BEGIN, "done"),
            (0, lock(1), "rows [(1, 0, Some(1))]"),
            (1, insert_or_nothing(1, None), "0 written"),
            (1, insert(2, Some(1)), "23505 by a_u"),
        ],
    )
}

fn an_update_that_keeps_the_key_is_waited_for() -> Script {
    script(
        &[(1, 0, true)],
        &[
            (0, BEGIN, "done"),
            (0, add(1), "rows [(1, 1, Some(1))]"),
            (1, insert_or_nothing(1, None), "blocked"),
            (2, insert(2, Some(1)), "blocked"),
            (
                0,
                ROLLBACK,
                "done; session 1 goes on: 0 written; session 2 goes on: 23505 by a_u",
            ),
        ],
    )
}

fn a_key_given_up_in_the_same_transaction_is_free() -> Script {
    script(
        &[(1, 0, true)],
        &[
            (0, BEGIN, "done"),
            (0, delete(1), "1 written"),
            (0, insert(2, Some(1)), "1 written"),
            (0, COMMIT, "done"),
            (0, READ_ALL, "rows [(2, 0, Some(1))]"),
        ],
    )
}

const B: Table = Table::B;

fn in_b(id: i64, u: i64) -> Op {
    Op::Insert {
        table: B,
        id,
        u: Some(u),
        or_nothing: false,
    }
}

fn change_in_b(id: i64, change: Change) -> Op {
    Op::Update {
        table: B,
        id,
        change,
        below: 99,
    }
}

fn a_row_outside_a_partial_index_is_in_nobodys_way() -> Script {
    script(
        &[],
        &[
            (0, in_b(1, 7), "1 written"),
            (0, change_in_b(1, Change::Add), "rows [(1, 1, Some(7))]"),
            (0, in_b(2, 7), "23505 by b_u"),
            (0, change_in_b(1, Change::Add), "rows [(1, 2, Some(7))]"),
            (0, in_b(2, 7), "1 written"),
        ],
    )
}

fn a_row_that_comes_into_a_partial_index_may_clash() -> Script {
    script(
        &[],
        &[
            (0, in_b(1, 7), "1 written"),
            (0, change_in_b(1, Change::Add), "rows [(1, 1, Some(7))]"),
            (0, change_in_b(1, Change::Add), "rows [(1, 2, Some(7))]"),
            (1, BEGIN, "done"),
            (1, in_b(2, 7), "1 written"),
            (0, change_in_b(1, Change::Zero), "blocked"),
            (1, COMMIT, "done; session 0 goes on: 23505 by b_u"),
        ],
    )
}

fn a_key_given_up_is_waited_for_by_others() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, insert(3, Some(2)), "1 written"),
            (0, rename(3, None), "rows [(3, 0, None)]"),
            (1, rename(1, Some(2)), "blocked"),
            (0, COMMIT, "done; session 1 goes on: rows [(1, 0, Some(2))]"),
        ],
    )
}

fn do_nothing_looks_at_each_key_once() -> Script {
    script(
        &[(2, 0, true)],
        &[
            (0, BEGIN, "done"),
            (0, rename(2, Some(7)), "rows [(2, 0, Some(7))]"),
            (1, insert_or_nothing(1, Some(2)), "blocked"),
            (2, BEGIN, "done"),
            (2, insert(1, None), "1 written"),
            (0, ROLLBACK, "done; session 1 goes on: 0 written"),
        ],
    )
}

fn an_insert_that_waits_holds_its_primary_key() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (1, BEGIN, "done"),
            (0, insert(1, Some(7)), "1 written"),
            (1, insert(2, Some(7)), "blocked"),
            (2, insert_or_nothing(2, None), "blocked"),
            (0, ROLLBACK, "done; session 1 goes on: 1 written"),
            (1, ROLLBACK, "done; session 2 goes on: 1 written"),
        ],
    )
}

fn an_update_that_waits_for_a_key_is_in_the_way_of_its_row() -> Script {
    script(
        &[(2, 0, true)],
        &[
            (0, BEGIN, "done"),
            (0, insert(1, Some(7)), "1 written"),
            (1, rename(2, Some(7)), "blocked"),
            (2, insert_or_nothing(2, None), "blocked"),
            (3, lock_some(3, Wait::Skip), "rows []"),
            (
                0,
                COMMIT,
                "done; session 1 goes on: 23505 by a_u; session 2 goes on: 0 written",
            ),
        ],
    )
}

fn an_insert_that_waits_may_close_a_cycle() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, insert(1, Some(7)), "1 written"),
            (1, insert(2, Some(7)), "blocked"),
            (0, insert(2, None), "40P01; session 1 goes on: 1 written"),
        ],
    )
}
