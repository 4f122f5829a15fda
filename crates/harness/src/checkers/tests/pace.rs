//! Messages that wait or come again for nothing, claims and their tokens, rows beside a transaction.

use std::sync::Arc;
use std::time::Duration;

use crate::checkers::testkit::{CHARGE, Hand, Kit, MS, transient};
use crate::verdict::AnomalyKind::{Duplicated, Invariant, OverRetried, Stuck};
use crate::watch::history::{Effects, Ended, Seen, Settled, What};
use redeliver_core::event::Event;
use redeliver_core::ports::Receipt;
use redeliver_sim::Beside;

const SECOND: u64 = 1_000 * MS;

/// Delivered and run without a word, for so long.
fn works_for(kit: &mut Kit, event: &Arc<Event>, nanos: u64) {
    let hand = kit.deliver(event, "worker-1");
    let run = kit.start(&hand);
    kit.wait(nanos);
    kit.end(&hand, run, Ended::Ok);
    kit.handled(&hand, Kit::effects(&hand), Seen::Ok);
    kit.settle(&hand, Settled::Done);
    kit.inbox(&hand, Kit::done());
}

/// A message that waits for a minute while one other is handled for `busy`, by one worker.
fn behind(busy: u64) -> Kit {
    let mut kit = Kit::new();
    (kit.policy.consumer.workers, kit.policy.consumer.prefetch) = (1, 1);
    let (first, second) = (kit.accepted("order-1"), kit.accepted("order-2"));
    works_for(&mut kit, &first, busy);
    kit.wait(60 * SECOND - busy);
    works_for(&mut kit, &second, SECOND);
    kit
}

#[test]
fn a_message_may_wait_for_a_busy_worker() {
    behind(59 * SECOND).silent();
}

#[test]
fn a_message_does_not_wait_for_a_worker_that_idles() {
    behind(2 * SECOND).only(
        "starved",
        Stuck,
        "order-2 waited 60.008 s from its commit to the first attempt of charge; for 2.001 s of that all \
         workers of worker-1 were busy, and 17 s is what its way takes",
    );
}

#[test]
fn what_a_fault_touched_or_what_waits_in_order_may_take_longer() {
    let mut kit = behind(2 * SECOND);
    kit.disturbed.push((30 * SECOND, 31 * SECOND));
    kit.silent();
    let mut early = behind(2 * SECOND);
    early.disturbed.push((0, 0));
    early.silent();

    let mut kit = Kit::new();
    let (first, second) = (kit.ordered("order-1", 1), kit.ordered("order-2", 2));
    kit.accept(&first);
    kit.accept(&second);
    works_for(&mut kit, &first, SECOND);
    kit.wait(60 * SECOND);
    works_for(&mut kit, &second, SECOND);
    let found = kit.check();
    assert!(found.iter().all(|it| it.checker != "starved"), "{found:#?}");
}

/// It holds the message while it sleeps, and does nothing with it.
#[test]
fn a_handler_that_sleeps_out_its_backoff_is_not_busy() {
    let mut kit = Kit::new();
    kit.policy.consumer.handler_limit = Duration::from_secs(300);
    (kit.policy.consumer.workers, kit.policy.consumer.prefetch) = (1, 1);
    let (first, second) = (kit.accepted("order-1"), kit.accepted("order-2"));
    let hand = kit.deliver(&first, "worker-1");
    let run = kit.start(&hand);
    kit.wait(60 * SECOND);
    kit.end(&hand, run, transient());
    works_for(&mut kit, &second, SECOND);
    kit.red(
        "starved",
        Stuck,
        "for 1.001 s of that all workers of worker-1 were busy",
    );
}

/// Its first message is held for a minute by a handler that calls a service and fails; the answer
/// comes after so long, if at all.
fn behind_a_call(answer: Option<u64>) -> Kit {
    let mut kit = Kit::new();
    kit.policy.consumer.handler_limit = Duration::from_secs(300);
    (kit.policy.consumer.workers, kit.policy.consumer.prefetch) = (1, 1);
    let (first, second) = (kit.accepted("order-1"), kit.accepted("order-2"));
    let hand = kit.deliver(&first, "worker-1");
    let run = kit.start(&hand);
    let call = |seen| What::Call {
        service: "payments",
        operation: "charge",
        key: Arc::from("order-1"),
        token: 1,
        seen,
    };
    kit.add("worker-1", call(None));
    kit.wait(answer.unwrap_or(0));
    if answer.is_some() {
        let away = Seen::Failed("payments is unavailable: 503".to_owned());
        kit.add("worker-1", call(Some(away)));
    }
    kit.wait(60 * SECOND - answer.unwrap_or(0));
    kit.end(&hand, run, transient());
    works_for(&mut kit, &second, SECOND);
    kit
}

/// No run ends well, so that nobody knows how long one takes.
#[test]
fn a_handler_that_waits_for_a_service_is_busy() {
    let silent = |kit: Kit| {
        let found = kit.check();
        assert!(found.iter().all(|it| it.checker != "starved"), "{found:#?}");
    };
    silent(behind_a_call(None));
    silent(behind_a_call(Some(59 * SECOND)));
    behind_a_call(Some(4 * SECOND)).red(
        "starved",
        Stuck,
        "for 4.002 s of that all workers of worker-1 were busy",
    );
}

fn put_back(times: usize, delay: u64) -> Kit {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    for _ in 0..times {
        let hand = kit.deliver(&event, "worker-1");
        kit.settle(&hand, Settled::Park { delay });
        kit.wait(delay);
    }
    let hand = kit.deliver(&event, "worker-1");
    kit.succeed(&hand);
    kit
}

#[test]
fn a_message_may_be_put_aside_for_a_while_as_often_as_need_be() {
    put_back(100, SECOND / 10).silent();
    put_back(5, 0).silent();
}

#[test]
fn a_message_that_is_put_back_at_once_comes_round_and_round() {
    put_back(6, 0).only(
        "deliveries",
        OverRetried,
        "charge put order-1 back 6 times without a wait, and it came again each time (1 attempt in \
         all)",
    );
}

/// Delivered that often over channels that each bring it so often, and never settled.
fn unsettled(channels: u64, each: u64) -> Kit {
    let mut kit = Kit::new();
    kit.policy.consumer.prefetch = 100;
    let event = kit.accepted("order-1");
    for channel in 0..channels {
        kit.channel = 100 + channel;
        for _ in 0..each {
            kit.deliver_as(&event, "worker-1", CHARGE, (1, true));
        }
    }
    let hand = kit.deliver(&event, "worker-1");
    kit.succeed(&hand);
    kit
}

#[test]
fn each_lost_channel_brings_a_message_back_once() {
    unsettled(50, 1).silent();
}

#[test]
fn a_message_that_goes_back_beside_the_port_is_counted_over_its_channel() {
    let found = unsettled(1, 7).red(
        "deliveries",
        OverRetried,
        "order-1 came 7 times to charge over one channel between",
    );
    assert!(found[0].seen.ends_with("neither acked nor put aside"));
}

fn unreadable(times: usize) -> Kit {
    let mut kit = Kit::new();
    kit.malformed = 1;
    for tag in 0..times as u64 {
        let receipt = Receipt {
            channel: 1,
            tag: 1_000 + tag,
        };
        let (consumer, id, key) = (Arc::from(CHARGE), None, None);
        let (attempt, redelivered) = (1, tag > 0);
        kit.add(
            "worker-1",
            What::Delivered {
                consumer,
                key,
                id,
                receipt,
                attempt,
                redelivered,
                kept: false,
            },
        );
        kit.add(
            "worker-1",
            What::Settled {
                consumer: Arc::from(CHARGE),
                key: None,
                receipt,
                how: Settled::Park { delay: SECOND },
                letter: None,
                seen: Seen::Ok,
            },
        );
    }
    kit
}

#[test]
fn bytes_that_nobody_can_read_are_not_put_back() {
    let speaks = |kit: &Kit| {
        let found = kit.check();
        found.into_iter().find(|it| it.checker == "deliveries")
    };
    assert!(speaks(&unreadable(2)).is_none());
    let found = speaks(&unreadable(9)).expect("nine times is too often");
    assert_eq!(
        found.seen,
        "bytes that are no event came to charge 9 times, and were put back 9 times; the scenario \
         sent 1 such message"
    );
}

/// Two claims of one work with these tokens. The second is sent once the first is known, or before.
fn claims(first: u64, second: u64, together: bool) -> Kit {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    let again = kit.deliver_as(&event, "worker-2", CHARGE, (1, true));
    let claim = |hand: &Hand, token| {
        let mut saved = Kit::saved(hand, "claimed");
        saved.token = token;
        Effects {
            inbox: vec![saved],
            ..Effects::default()
        }
    };
    let one = claim(&hand, first);
    kit.handled(&hand, one, Seen::Ok);
    let two = claim(&again, second);
    kit.handled(&again, two, Seen::Ok);
    if together
        && let What::Commit { since, .. } = &mut kit.history.entries.last_mut().unwrap().what
    {
        *since = 0;
    }
    kit.succeed(&again);
    kit
}

fn fencing(kit: &Kit) -> Option<String> {
    let mut found = kit.check().into_iter();
    let found = found.find(|it| it.checker == "fencing")?;
    assert_eq!(found.kind, Invariant);
    Some(found.seen)
}

#[test]
fn tokens_rise_from_claim_to_claim() {
    assert_eq!(fencing(&claims(1, 2, false)), None);
    assert_eq!(fencing(&claims(1, 7, false)), None);
    let same = fencing(&claims(1, 1, false)).expect("the same token twice");
    assert!(
        same.contains("with the token 1, after a claim by worker-1 with 1"),
        "{same}"
    );
    assert!(fencing(&claims(3, 2, false)).is_some());
}

/// A claim by worker-1, another by worker-2, and then worker-1 saves the row so, with this token.
fn late(state: &'static str, token: u64) -> Kit {
    let mut kit = claims(1, 2, false);
    let event = kit.reading.store.outbox[0].outgoing.event.clone();
    let zombie = kit.deliver_as(&event, "worker-1", CHARGE, (1, false));
    let mut saved = Kit::saved(&zombie, state);
    saved.token = token;
    let effects = Effects {
        inbox: vec![saved],
        ..Effects::default()
    };
    kit.handled(&zombie, effects, Seen::Ok);
    kit
}

#[test]
fn a_claim_is_ended_by_its_holder() {
    let failed = fencing(&late("open", 2)).expect("a failure over another's claim");
    assert!(
        failed.contains("while the claim of worker-2 with the token 2 stood"),
        "{failed}"
    );
    assert!(fencing(&late("done", 2)).is_some());
    // Of its own claim, of no claim, and to give up work that nobody ends.
    assert_eq!(fencing(&late("open", 1)), None);
    assert_eq!(fencing(&late("open", 0)), None);
    assert_eq!(fencing(&late("dead", 2)), None);
}

#[test]
fn a_call_carries_the_token_of_its_claim() {
    let called = |token| {
        let mut kit = claims(1, 2, false);
        let event = kit.reading.store.outbox[0].outgoing.event.clone();
        let hand = kit.deliver_as(&event, "worker-2", CHARGE, (1, false));
        let run = kit.start(&hand);
        let call = What::Call {
            service: "payments",
            operation: "charge",
            key: event.idempotency_key.clone(),
            token,
            seen: None,
        };
        kit.add("worker-2", call);
        kit.end(&hand, run, Ended::Ok);
        fencing(&kit)
    };
    assert_eq!(called(1), None);
    assert_eq!(called(2), None);
    let none = called(0).expect("a token that no claim had");
    assert!(
        none.contains("worker-2 called payments for order-1 at")
            && none.ends_with("with the token 0, which none of its claims had"),
        "{none}"
    );
    let mut kit = claims(1, 2, false);
    kit.charged("order-1/fee", 2, SECOND);
    assert_eq!(fencing(&kit), None);
    kit.charged("order-1/fee", 7, SECOND);
    let lost = fencing(&kit).expect("a token that got lost on its way");
    assert!(
        lost.starts_with("payments acted for order-1 on a call with the token 7"),
        "{lost}"
    );
}

/// It was sent earlier, by a process that stood still and learnt of its commit last.
#[test]
fn a_claim_that_is_known_late_may_have_the_lower_token() {
    assert_eq!(fencing(&claims(2, 1, true)), None);
}

fn left(kit: &mut Kit, run: u64, sql: &str) {
    let sql = Arc::from(sql);
    kit.beside.push(Beside { run, sql });
}

const INSERT: &str = "insert into audit\n  (k) values ($1)";

/// Two attempts, each with rows beside its transaction by these statements.
fn two_attempts(first: &[&str], second: &[&str]) -> Kit {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    kit.fail(&hand);
    let run = kit.history.runs;
    for sql in first {
        left(&mut kit, run, sql);
    }
    let again = kit.deliver_as(&event, "worker-2", CHARGE, (2, false));
    kit.succeed(&again);
    let run = kit.history.runs;
    for sql in second {
        left(&mut kit, run, sql);
    }
    kit
}

#[test]
fn rows_that_one_run_leaves_are_no_doubles() {
    two_attempts(&[], &[INSERT]).silent();
    two_attempts(&[INSERT, INSERT], &[]).silent();
    two_attempts(&["insert into a values (1)"], &[INSERT]).silent();
}

#[test]
fn rows_that_each_attempt_leaves_once_more_are_found() {
    two_attempts(&[INSERT], &[INSERT]).only(
        "beside",
        Duplicated,
        "2 runs of charge for order-1 each left rows beside the transaction of the handler: `insert \
         into audit (k) values ($1)`",
    );
}
