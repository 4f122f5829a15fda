//! Retries, work in hand, what is left behind.

use std::sync::Arc;
use std::time::Duration;

use crate::checkers::testkit::{CHARGE, Hand, Kit, MS, failed, poison, transient};
use crate::verdict::AnomalyKind::{Invariant, Leaked, OverRetried};
use crate::watch::history::{Ended, Seen, Settled, What};
use redeliver_core::dead_letter::Reason;
use redeliver_core::inbox::InboxState;
use redeliver_core::ports::Timestamp;

/// Another attempt at the same message, in the same or another process.
fn next(kit: &mut Kit, hand: &Hand, process: &str) -> Hand {
    kit.deliver_as(&hand.event, process, CHARGE, (hand.attempt + 1, false))
}

/// The same attempt again, after its connection or process was lost.
fn again(kit: &mut Kit, hand: &Hand) -> Hand {
    kit.deliver_as(&hand.event, "worker-1", CHARGE, (hand.attempt, true))
}

#[test]
fn retries_within_their_bounds_are_legal() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let first = kit.deliver(&event, "worker-1");
    kit.fail(&first);
    let second = next(&mut kit, &first, "worker-2");
    kit.fail(&second);
    let third = next(&mut kit, &second, "worker-1");
    kit.run(&third, transient());
    kit.bury(&third, Kit::story(&third, Reason::AttemptsExhausted));
    kit.silent();
}

#[test]
fn an_attempt_above_the_cap_is_one_too_many() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver_as(&event, "worker-1", CHARGE, (4, false));
    kit.succeed(&hand);
    kit.only("over_retried", OverRetried, "attempt 4 of charge");
}

#[test]
fn an_attempt_that_does_not_wait_is_too_early() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let first = kit.deliver(&event, "worker-1");
    kit.fail(&first);
    kit.now -= 900 * MS;
    let second = next(&mut kit, &first, "worker-2");
    kit.succeed(&second);
    kit.only(
        "over_retried",
        OverRetried,
        "after the failure of attempt 1 none begins before",
    );
}

/// Its process stood still with the row in its hands; the database gave the row to another.
#[test]
fn a_run_goes_by_what_was_on_record_when_it_read() {
    let stale = |asleep: bool| {
        let mut kit = Kit::new();
        let event = kit.accepted("order-1");
        let zombie = kit.deliver(&event, "worker-1");
        let mut read = kit.history.entries.len();
        let first = kit.deliver_as(&event, "worker-2", CHARGE, (1, true));
        kit.fail(&first);
        let second = next(&mut kit, &first, "worker-2");
        kit.succeed(&second);
        if !asleep {
            read = kit.history.entries.len();
        }
        let run = kit.start_after(&zombie, read);
        kit.end(&zombie, run, transient());
        kit
    };
    let over_retried = |kit: &Kit| {
        let found = kit.check();
        found.iter().any(|found| found.kind == OverRetried)
    };
    assert!(!over_retried(&stale(true)));
    assert!(over_retried(&stale(false)));
}

#[test]
fn a_wait_shorter_than_the_jitter_allows_is_too_short() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let first = kit.deliver(&event, "worker-1");
    kit.run(&first, transient());
    kit.noted(&first, "open");
    kit.settle(
        &first,
        Settled::Retry {
            attempt: 2,
            delay: 400 * MS,
        },
    );
    kit.wait(1_000 * MS);
    let second = next(&mut kit, &first, "worker-2");
    kit.succeed(&second);
    kit.only(
        "over_retried",
        OverRetried,
        "after 0.4 s; 1 s is the shortest wait",
    );
    kit.policy.retry.jitter = true;
    kit.red("over_retried", OverRetried, "0.5 s is the shortest wait");
}

#[test]
fn a_failure_on_record_is_not_repeated_under_its_number() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let first = kit.deliver(&event, "worker-1");
    kit.fail(&first);
    let copy = kit.deliver(&event, "worker-2");
    kit.succeed(&copy);
    kit.only(
        "over_retried",
        OverRetried,
        "though the failure of attempt 1 was on record",
    );
}

#[test]
fn a_retry_beyond_the_total_time_is_too_late() {
    let mut kit = Kit::new();
    kit.policy.retry.total = Duration::from_millis(2_500);
    let event = kit.accepted("order-1");
    let first = kit.deliver(&event, "worker-1");
    kit.fail(&first);
    let second = next(&mut kit, &first, "worker-2");
    kit.fail(&second);
    let third = next(&mut kit, &second, "worker-2");
    kit.succeed(&third);
    kit.only(
        "over_retried",
        OverRetried,
        "2.5 s is the total for retries",
    );
}

#[test]
fn poison_is_not_retried() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let first = kit.deliver(&event, "worker-1");
    kit.run(&first, poison());
    kit.settle(
        &first,
        Settled::Retry {
            attempt: 2,
            delay: 1_000 * MS,
        },
    );
    kit.wait(1_000 * MS);
    let second = next(&mut kit, &first, "worker-2");
    kit.succeed(&second);
    kit.only("over_retried", OverRetried, "it had failed for good");
}

#[test]
fn a_hot_loop_without_any_count_is_found() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let mut hand = kit.deliver(&event, "worker-1");
    for _ in 0..4 {
        kit.run(&hand, transient());
        kit.settle(&hand, Settled::Park { delay: 0 });
        hand = kit.deliver(&event, "worker-1");
    }
    kit.run(&hand, Ended::Ok);
    kit.handled(&hand, Kit::naive(&hand), Seen::Ok);
    kit.settle(&hand, Settled::Done);
    kit.only("over_retried", OverRetried, "its handler failed 4 times");
}

#[test]
fn a_message_that_kills_its_process_for_ever_is_found() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let mut hand = kit.deliver(&event, "worker-1");
    let mut killed = |kit: &mut Kit, times: u32| {
        for _ in 0..times {
            kit.run(&hand, Ended::Dropped);
            kit.add("worker-1", What::Process { what: "crashed" });
            hand = again(kit, &hand);
        }
    };
    // The first is on a fresh delivery, which nobody can count.
    killed(&mut kit, 4);
    let found = kit.check();
    assert!(
        found.iter().all(|a| a.checker != "over_retried"),
        "{found:#?}"
    );
    killed(&mut kit, 1);
    kit.red("over_retried", OverRetried, "its handler failed 4 times");
}

/// A copy of it is in hand too, flagged as redelivered: nobody can say which of the two the handler
/// ran for, and only a death on the flagged one must have been counted.
#[test]
fn a_death_with_a_fresh_copy_in_hand_is_not_surely_counted() {
    let deaths = |fresh: bool| {
        let mut kit = Kit::new();
        let event = kit.accepted("order-1");
        let crash = |kit: &mut Kit| kit.add("worker-1", What::Process { what: "crashed" });
        let first = kit.deliver(&event, "worker-1");
        crash(&mut kit);
        for _ in 0..4 {
            let hand = again(&mut kit, &first);
            if fresh {
                kit.deliver(&event, "worker-1");
            }
            kit.run(&hand, Ended::Dropped);
            crash(&mut kit);
        }
        kit.check().iter().any(|found| found.kind == OverRetried)
    };
    assert!(!deaths(true));
    assert!(deaths(false));
}

#[test]
fn each_fresh_copy_may_die_once_uncounted() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    for attempt in 1..=3 {
        let fresh = kit.deliver_as(&event, "worker-1", CHARGE, (attempt, false));
        kit.run(&fresh, Ended::Dropped);
        let second = again(&mut kit, &fresh);
        if attempt < 3 {
            kit.fail(&second);
        } else {
            kit.run(&second, transient());
            kit.bury(&second, Kit::story(&second, Reason::AttemptsExhausted));
        }
    }
    kit.silent();
}

#[test]
fn runs_that_the_database_did_not_record_are_excused() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    for _ in 0..10 {
        let hand = kit.deliver(&event, "worker-1");
        kit.run(&hand, transient());
        kit.settle(&hand, Settled::Park { delay: 1_000 * MS });
    }
    let hand = kit.deliver(&event, "worker-1");
    kit.run(&hand, Ended::Ok);
    kit.handled(&hand, Kit::effects(&hand), failed());
    kit.settle(&hand, Settled::Park { delay: 1_000 * MS });
    let hand = kit.deliver(&event, "worker-1");
    kit.succeed(&hand);
    kit.silent();
}

#[test]
fn what_failed_for_good_and_was_not_put_on_record_may_fail_otherwise() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    kit.run(&hand, poison());
    // The database did not take the record, nor let the next attempt come to its handler.
    kit.settle(&hand, Settled::Park { delay: 1_000 * MS });
    kit.wait(1_000 * MS);
    let hand = kit.deliver(&event, "worker-1");
    let (attempt, delay) = (2, 1_000 * MS);
    kit.settle(&hand, Settled::Retry { attempt, delay });
    kit.wait(1_000 * MS);
    let hand = kit.deliver_as(&event, "worker-1", CHARGE, (2, false));
    kit.succeed(&hand);
    kit.silent();
}

#[test]
fn of_two_copies_one_may_fail_for_good_and_one_for_now() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let (first, copy) = (
        kit.deliver(&event, "worker-1"),
        kit.deliver(&event, "worker-1"),
    );
    // Nobody can say which of the two this run is about.
    kit.run(&first, poison());
    kit.settle(&first, Settled::Park { delay: 1_000 * MS });
    let (attempt, delay) = (2, 1_000 * MS);
    kit.settle(&copy, Settled::Retry { attempt, delay });
    kit.wait(1_000 * MS);
    let hand = kit.deliver_as(&event, "worker-1", CHARGE, (2, false));
    kit.succeed(&hand);
    kit.silent();
}

#[test]
fn two_copies_may_fail_at_the_same_time() {
    let mut kit = Kit::new();
    kit.policy.retry.attempts = 1;
    let event = kit.accepted("order-1");
    let (first, copy) = (
        kit.deliver(&event, "worker-1"),
        kit.deliver(&event, "worker-2"),
    );
    kit.run(&first, transient());
    kit.run(&copy, transient());
    kit.settle(&copy, Settled::Park { delay: 1_000 * MS });
    kit.bury(&first, Kit::story(&first, Reason::AttemptsExhausted));
    kit.silent();
}

#[test]
fn more_deliveries_than_the_prefetch_are_too_many() {
    let mut kit = Kit::new();
    kit.policy.consumer.prefetch = 4;
    let hold = |kit: &mut Kit, n: usize| -> Vec<Hand> {
        let of = |i| format!("order-{i}");
        let events: Vec<_> = (0..n).map(|i| kit.accepted(&of(i))).collect();
        events
            .iter()
            .map(|event| kit.deliver(event, "worker-1"))
            .collect()
    };
    let held = hold(&mut kit, 4);
    held.iter().for_each(|hand| kit.succeed(hand));
    kit.silent();
    let mut kit = Kit::new();
    kit.policy.consumer.prefetch = 4;
    let held = hold(&mut kit, 5);
    held.iter().for_each(|hand| kit.succeed(hand));
    kit.only("in_flight", Invariant, "5 unsettled deliveries of charge");
}

#[test]
fn more_handlers_than_workers_are_too_many() {
    let crowd = |crash: bool| {
        let mut kit = Kit::new();
        kit.policy.consumer.workers = 2;
        let events: Vec<_> = (0..3)
            .map(|i| kit.accepted(&format!("order-{i}")))
            .collect();
        let mut runs = Vec::new();
        for event in &events {
            let hand = kit.deliver(event, "worker-1");
            runs.push((kit.start(&hand), hand));
            if crash && runs.len() == 2 {
                kit.add("worker-1", What::Process { what: "crashed" });
                for (_, hand) in std::mem::take(&mut runs) {
                    let hand = kit.deliver_as(&hand.event, "worker-2", CHARGE, (1, true));
                    kit.succeed(&hand);
                }
            }
        }
        for (run, hand) in runs {
            kit.end(&hand, run, Ended::Ok);
            kit.handled(&hand, Kit::effects(&hand), Seen::Ok);
            kit.settle(&hand, Settled::Done);
            kit.inbox(&hand, Kit::done());
        }
        kit
    };
    crowd(true).silent();
    crowd(false).only("in_flight", Invariant, "ran 3 handlers of charge");
}

#[test]
fn a_batch_is_one_piece_of_work() {
    let crowd = |together: bool| {
        let mut kit = Kit::new();
        kit.policy.consumer.workers = 1;
        let events: Vec<_> = (0..3)
            .map(|i| kit.accepted(&format!("order-{i}")))
            .collect();
        let hands: Vec<_> = events
            .iter()
            .map(|event| kit.deliver(event, "worker-1"))
            .collect();
        let first = kit.start(&hands[0]);
        let mut runs = vec![first];
        for hand in &hands[1..] {
            runs.push(match together {
                true => kit.start_in(hand, first),
                false => kit.start(hand),
            });
        }
        for (run, hand) in runs.into_iter().zip(&hands) {
            kit.end(hand, run, Ended::Ok);
            kit.handled(hand, Kit::effects(hand), Seen::Ok);
            kit.settle(hand, Settled::Done);
            kit.inbox(hand, Kit::done());
        }
        kit
    };
    crowd(true).silent();
    crowd(false).only("in_flight", Invariant, "ran 2 handlers of charge");
}

#[test]
fn what_is_left_behind_is_named() {
    let mut kit = Kit::new();
    let hand = kit.flow("order-1", "worker-1");
    kit.reading.store.outbox[0].lease_until = Some(Timestamp(9));
    kit.silent();
    kit.reading.open_transactions = 1;
    kit.silent();
    kit.reading.held_locks = 2;
    kit.only(
        "leaked",
        Leaked,
        "2 row locks still held, by 1 open transaction",
    );
    kit.reading.held_locks = 0;
    kit.queued("delay.1000", &hand.event);
    kit.only(
        "leaked",
        Leaked,
        "order-1 is still waiting in queue delay.1000",
    );
    kit.settled = false;
    let found = kit.check();
    assert!(found.iter().all(|a| a.checker == "stuck"), "{found:#?}");
}

#[test]
fn a_claim_and_an_unpublished_row_are_leaks() {
    let mut kit = Kit::new();
    kit.flow("order-1", "worker-1");
    kit.reading.store.now = Timestamp(5);
    kit.reading.store.outbox[0].published_at = None;
    kit.reading.store.inbox[0].state = InboxState::Claimed {
        lease_until: Timestamp(4),
        worker: Arc::from("worker-1#0"),
    };
    kit.red(
        "leaked",
        Leaked,
        "outbox row 1 with order-1 is not published",
    );
    kit.red(
        "leaked",
        Leaked,
        "claimed in charge by worker-1#0, whose lease is over",
    );
}

/// A process holds two copies, works on one of them, and parks both: the other for the rest of a wait,
/// that one in good order, since the record of its failure was lost.
#[test]
fn a_run_is_told_by_the_settlement_of_its_own_delivery() {
    let run = |parks: u64| {
        let mut kit = Kit::new();
        let event = kit.accepted("order-1");
        for attempt in 1..=2 {
            let hand = kit.deliver_as(&event, "worker-1", CHARGE, (attempt, false));
            kit.fail(&hand);
        }
        let other = kit.deliver_as(&event, "worker-1", CHARGE, (3, false));
        let own = kit.deliver_as(&event, "worker-1", CHARGE, (3, false));
        kit.run(&own, transient());
        kit.settle(&other, Settled::Park { delay: MS });
        kit.settle(&own, Settled::Park { delay: parks });
        kit.wait(parks);
        let last = kit.deliver_as(&event, "worker-1", CHARGE, (3, false));
        kit.run(&last, transient());
        kit.bury(&last, Kit::story(&last, Reason::AttemptsExhausted));
        kit
    };
    run(30_000 * MS).silent();
    let found = run(MS).check();
    assert!(
        found
            .iter()
            .any(|it| it.seen.contains("its handler failed 4 times")),
        "{found:#?}"
    );
}
