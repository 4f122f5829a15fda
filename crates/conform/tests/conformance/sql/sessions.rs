//! Failed transactions, sequences, notifications, sessions that are cut.

use redeliver_conform::sql::Wait;

use super::*;

crate::cases!(sql "Sessions, sequences and notifications":
    a_failed_transaction_refuses_everything_until_it_ends,
    the_commit_of_a_failed_transaction_rolls_back,
    a_failed_statement_outside_a_transaction_spoils_nothing,
    a_number_drawn_is_gone_after_a_rollback,
    ids_become_visible_out_of_their_order,
    a_notification_leaves_at_commit,
    a_rollback_notifies_nobody,
    a_channel_is_notified_once_by_a_transaction,
    a_listener_inside_a_transaction_hears_when_that_ends,
    listening_begins_and_ends_at_commit,
    a_listener_hears_what_it_was_not_listening_to_when_its_transaction_began,
    a_failed_transaction_notifies_nobody,
    a_session_cut_before_its_commit_has_done_nothing,
    a_session_cut_after_its_commit_has_done_it,
    a_session_cut_while_it_waits_leaves_the_queue,
    a_session_that_was_cut_hears_nothing,
);

fn a_failed_transaction_refuses_everything_until_it_ends() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, insert(1, None), "23505 by a_pkey"),
            (0, read(1), "25P02"),
            (0, BEGIN, "25P02"),
            (0, Op::Next, "25P02"),
            (0, Op::Notify(0), "25P02"),
            (0, Op::TryAdvisory(1), "25P02"),
            (0, lock_some(1, Wait::Skip), "25P02"),
            (0, ROLLBACK, "done"),
            (0, Op::Next, "1"),
        ],
    )
}

fn the_commit_of_a_failed_transaction_rolls_back() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, insert(2, None), "1 written"),
            (0, insert(1, None), "23505 by a_pkey"),
            (0, COMMIT, "done"),
            (0, READ_ALL, "rows [(1, 0, None)]"),
        ],
    )
}

fn a_failed_statement_outside_a_transaction_spoils_nothing() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, insert(1, None), "23505 by a_pkey"),
            (0, insert(2, None), "1 written"),
        ],
    )
}

fn a_number_drawn_is_gone_after_a_rollback() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, Op::Next, "1"),
            (1, Op::Next, "2"),
            (0, ROLLBACK, "done"),
            (1, Op::Next, "3"),
        ],
    )
}

fn ids_become_visible_out_of_their_order() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, Op::Next, "1"),
            (0, insert(1, None), "1 written"),
            (1, BEGIN, "done"),
            (1, Op::Next, "2"),
            (1, insert(2, None), "1 written"),
            (1, COMMIT, "done"),
            (2, READ_ALL, "rows [(2, 0, None)]"),
            (0, COMMIT, "done"),
            (2, READ_ALL, "rows [(1, 0, None), (2, 0, None)]"),
        ],
    )
}

fn a_notification_leaves_at_commit() -> Script {
    script(
        &[],
        &[
            (0, Op::Listen(0), "done"),
            (1, BEGIN, "done"),
            (1, Op::Notify(0), "done"),
            (0, Op::Hear, "heard []"),
            (1, COMMIT, "done"),
            (0, Op::Hear, "heard [0]"),
            (0, Op::Hear, "heard []"),
        ],
    )
}

fn a_rollback_notifies_nobody() -> Script {
    script(
        &[],
        &[
            (0, Op::Listen(0), "done"),
            (1, BEGIN, "done"),
            (1, Op::Notify(0), "done"),
            (1, ROLLBACK, "done"),
            (0, Op::Hear, "heard []"),
        ],
    )
}

fn a_channel_is_notified_once_by_a_transaction() -> Script {
    script(
        &[],
        &[
            (0, Op::Listen(0), "done"),
            (0, Op::Listen(1), "done"),
            (1, BEGIN, "done"),
            (1, Op::Notify(1), "done"),
            (1, Op::Notify(0), "done"),
            (1, Op::Notify(1), "done"),
            (1, COMMIT, "done"),
            (1, Op::Notify(1), "done"),
            (0, Op::Hear, "heard [1, 0, 1]"),
        ],
    )
}

fn a_listener_inside_a_transaction_hears_when_that_ends() -> Script {
    script(
        &[],
        &[
            (0, Op::Listen(0), "done"),
            (0, BEGIN, "done"),
            (1, Op::Notify(0), "done"),
            (0, Op::Hear, "heard []"),
            (0, ROLLBACK, "done"),
            (0, Op::Hear, "heard [0]"),
        ],
    )
}

/// Its place in the queue is that of its last look, before the transaction, and whether it listens
/// to a channel is asked when it looks. Who listened to nothing has no place there.
fn a_listener_hears_what_it_was_not_listening_to_when_its_transaction_began() -> Script {
    script(
        &[],
        &[
            (0, Op::Listen(0), "done"),
            (0, BEGIN, "done"),
            (0, Op::Listen(1), "done"),
            (1, BEGIN, "done"),
            (1, Op::Listen(1), "done"),
            (2, Op::Notify(1), "done"),
            (0, COMMIT, "done"),
            (1, COMMIT, "done"),
            (0, Op::Hear, "heard [1]"),
            (1, Op::Hear, "heard []"),
        ],
    )
}

fn listening_begins_and_ends_at_commit() -> Script {
    script(
        &[],
        &[
            (0, BEGIN, "done"),
            (0, Op::Listen(0), "done"),
            (1, Op::Notify(0), "done"),
            (0, COMMIT, "done"),
            (0, Op::Hear, "heard []"),
            (0, BEGIN, "done"),
            (0, Op::Unlisten(0), "done"),
            (1, Op::Notify(0), "done"),
            (0, ROLLBACK, "done"),
            (0, Op::Hear, "heard [0]"),
        ],
    )
}

fn a_failed_transaction_notifies_nobody() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, Op::Listen(0), "done"),
            (1, BEGIN, "done"),
            (1, Op::Notify(0), "done"),
            (1, insert(1, None), "23505 by a_pkey"),
            (1, COMMIT, "done"),
            (0, Op::Hear, "heard []"),
        ],
    )
}

fn a_session_cut_before_its_commit_has_done_nothing() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, add(1), "rows [(1, 1, None)]"),
            (1, add(1), "blocked"),
            (0, Op::Cut, "done; session 1 goes on: rows [(1, 1, None)]"),
            (0, read(1), "rows [(1, 1, None)]"),
        ],
    )
}

fn a_session_cut_after_its_commit_has_done_it() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, add(1), "rows [(1, 1, None)]"),
            (0, COMMIT, "done"),
            (0, Op::Cut, "done"),
            (0, read(1), "rows [(1, 1, None)]"),
        ],
    )
}

fn a_session_cut_while_it_waits_leaves_the_queue() -> Script {
    script(
        &[(1, 0, false)],
        &[
            (0, BEGIN, "done"),
            (0, lock(1), "rows [(1, 0, None)]"),
            (1, add(1), "blocked"),
            (2, add(1), "blocked"),
            (1, Op::Cut, "done"),
            (0, COMMIT, "done; session 2 goes on: rows [(1, 1, None)]"),
        ],
    )
}

fn a_session_that_was_cut_hears_nothing() -> Script {
    script(
        &[],
        &[
            (0, Op::Listen(0), "done"),
            (0, Op::Cut, "done"),
            (1, Op::Notify(0), "done"),
            (0, Op::Hear, "heard []"),
        ],
    )
}
