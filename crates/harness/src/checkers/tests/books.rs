//! The books of the dead.

use std::sync::Arc;

use crate::checkers::testkit::{CHARGE, Hand, Kit, MS, poison, transient};
use crate::verdict::AnomalyKind::Misfiled;
use crate::watch::history::{Ended, Seen, Settled};
use crate::watch::reading::Letter;
use redeliver_core::dead_letter::{DeadLetter, Reason};
use redeliver_core::inbox::InboxState;
use redeliver_core::ports::Timestamp;

/// One message that is given up after a first attempt that failed for good, with this story.
fn buried(change: impl FnOnce(&mut DeadLetter)) -> (Kit, Hand) {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    kit.run(&hand, poison());
    let mut story = Kit::story(&hand, Reason::Poison);
    change(&mut story);
    kit.bury(&hand, story);
    (kit, hand)
}

#[test]
fn a_true_story_is_silent_and_so_are_its_copies() {
    let (mut kit, hand) = buried(|_| {});
    kit.silent();
    kit.letter(&hand, Kit::story(&hand, Reason::Poison));
    kit.poison = vec![Arc::from("order-1")];
    kit.silent();
    assert_eq!((kit.reading.letters.len(), kit.reading.dead()), (2, 1));
}

#[test]
fn untrue_stories_are_found() {
    let red = |change: fn(&mut DeadLetter), text: &str| {
        let (kit, _) = buried(change);
        kit.only("misfiled", Misfiled, text);
    };
    red(
        |s| s.reason = Reason::AttemptsExhausted,
        "that takes 3 attempts",
    );
    red(|s| s.reason = Reason::KilledWorker, "that takes 3 attempts");
    red(
        |s| s.reason = Reason::TimeExhausted,
        "0 s had passed of a total of 600 s",
    );
    red(|s| s.attempts = 2, "no run of that attempt failed for good");
    red(|s| s.attempts = 9, "3 are the most");
    red(
        |s| s.first_failure = Timestamp(9),
        "failed last before it failed first",
    );
    red(|s| s.error = "x".repeat(1_025), "an error of 1025 bytes");
    red(
        |s| s.consumer = Arc::from("mail"),
        "names the consumer \"mail\"; it is \"charge\"",
    );
    red(|s| s.queue = Arc::from("delay.5"), "names the queue");
    red(|s| s.routing_key = Arc::from("x"), "names the routing key");
    red(|s| s.exchange = Arc::from("x"), "names the exchange");
}

#[test]
fn exhausted_attempts_need_a_run_of_the_last() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver_as(&event, "worker-1", CHARGE, (3, false));
    let mut story = Kit::story(&hand, Reason::AttemptsExhausted);
    story.class = Arc::from("store"); // the database failed before the handler could run
    kit.bury(&hand, story);
    kit.silent();
    kit.reading.letters[0]
        .story
        .as_mut()
        .expect("it has one")
        .class = Arc::from("refused");
    kit.only("misfiled", Misfiled, "only 0 runs of its handler began");
}

/// Given up at its second attempt, so long after the first, for want of time.
fn exhausted_after(nanos: u64) -> Kit {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let first = kit.deliver(&event, "worker-1");
    kit.fail(&first);
    kit.wait(nanos);
    let second = kit.deliver_as(&event, "worker-1", CHARGE, (2, false));
    kit.run(&second, transient());
    let mut story = Kit::story(&second, Reason::TimeExhausted);
    story.last_failure = Timestamp(599_500_000_000);
    kit.bury(&second, story);
    kit
}

/// A copy was delivered again, counted as the second attempt, and parked behind the first.
#[test]
fn an_attempt_that_gave_way_to_another_copy_never_began() {
    let exhausted = |redelivered| {
        let mut kit = Kit::new();
        let event = kit.accepted("order-1");
        let first = kit.deliver_as(&event, "worker-1", CHARGE, (1, true));
        let copy = kit.deliver_as(&event, "worker-1", CHARGE, (1, redelivered));
        kit.fail(&first);
        kit.settle(&copy, Settled::Park { delay: MS });
        kit.wait(60_000 * MS);
        let last = kit.deliver_as(&event, "worker-1", CHARGE, (3, false));
        kit.run(&last, transient());
        kit.bury(&last, Kit::story(&last, Reason::AttemptsExhausted));
        kit
    };
    exhausted(true).silent();
    exhausted(false).only("misfiled", Misfiled, "only 2 attempts began");
}

#[test]
fn time_is_exhausted_when_the_next_attempt_would_be_too_late() {
    exhausted_after(599_500 * MS).silent();
    exhausted_after(30_000 * MS).only("misfiled", Misfiled, "its attempts failed within 31");
    // What a fault was at work on may have failed where nobody sees it.
    let mut kit = exhausted_after(30_000 * MS);
    kit.disturbed.push((0, 5 * MS));
    kit.silent();
}

#[test]
fn poison_of_the_second_half_of_an_outside_handler_is_no_run() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    kit.noted(&hand, "claimed");
    kit.run(&hand, Ended::Ok);
    kit.bury(&hand, Kit::story(&hand, Reason::Poison));
    kit.silent();
}

/// Its letter is published, and a while later something else happens.
fn noted(published: bool, later: u64) -> Kit {
    let (mut kit, hand) = buried(|_| {});
    let state = InboxState::Dead {
        story: Box::new(Kit::story(&hand, Reason::Poison)),
        published,
    };
    kit.reading.store.inbox.clear();
    kit.inbox(&hand, state);
    kit.wait(later);
    kit.flow("order-2", "worker-1");
    kit
}

#[test]
fn that_a_letter_was_published_is_noted() {
    let later = 11_000 * MS;
    noted(true, later).silent();
    noted(false, later).only("misfiled", Misfiled, "and nobody noted that");
    let mut kit = noted(false, later);
    kit.disturbed.push((0, 5_000 * MS));
    kit.silent();
    // Just now.
    noted(false, 5_000 * MS).silent();
}

#[test]
fn copies_that_disagree_are_found() {
    let (mut kit, hand) = buried(|_| {});
    let mut other = Kit::story(&hand, Reason::Poison);
    other.last_failure = Timestamp(77);
    kit.letter(&hand, other);
    kit.only(
        "misfiled",
        Misfiled,
        "two dead letters of order-1 in charge tell two stories",
    );
}

#[test]
fn a_dead_row_needs_its_letter_and_a_letter_its_row() {
    let (mut kit, _) = buried(|_| {});
    kit.reading.letters.clear();
    kit.red(
        "misfiled",
        Misfiled,
        "is dead in the inbox of charge and has no dead letter",
    );
    let mut kit = Kit::new();
    let hand = kit.flow("order-1", "worker-1");
    kit.letter(
        &hand,
        DeadLetter {
            class: "store".into(),
            ..Kit::story(&hand, Reason::Malformed)
        },
    );
    kit.only("misfiled", Misfiled, "its inbox has it as done");
}

#[test]
fn without_an_inbox_a_letter_stands_for_itself() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    kit.run(&hand, transient());
    kit.settle(&hand, Settled::DeadLetter(Reason::AttemptsExhausted));
    kit.reading.letters.push(Letter {
        consumer: Arc::from(CHARGE),
        event: Some(event),
        ..Letter::default()
    });
    kit.silent();
}

#[test]
fn a_message_too_large_for_its_consumer_has_no_row() {
    let mut kit = Kit::new();
    kit.flow("order-2", "worker-1");
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    kit.history.entries.pop(); // it was delivered without a key
    for at in [Timestamp(5), Timestamp(6)] {
        let story = DeadLetter {
            class: Arc::from("too-large"),
            first_failure: at,
            last_failure: at,
            ..Kit::story(&hand, Reason::Malformed)
        };
        kit.letter(&hand, story);
    }
    kit.silent();
}

#[test]
fn malformed_messages_are_accounted_for() {
    let mut kit = Kit::new();
    kit.malformed = 2;
    kit.only(
        "misfiled",
        Misfiled,
        "2 dead letters without an event ought to be there, and 0 are",
    );
    let letter = Letter {
        consumer: Arc::from(CHARGE),
        raw: Some("not an event, number 1".into()),
        ..Letter::default()
    };
    kit.reading.letters = vec![letter; 3];
    kit.silent();
    kit.reading.letters[1].raw = Some("".into());
    kit.only(
        "misfiled",
        Misfiled,
        "a dead letter of charge without an event has not the bytes of any message that was sent: it \
         is empty",
    );
    kit.reading.letters.remove(1);
    kit.malformed = 0;
    kit.only("misfiled", Misfiled, "and 2 are");
}

#[test]
fn a_letter_of_an_event_that_never_committed_is_misfiled() {
    let mut kit = Kit::new();
    let event = kit.event("order-1");
    kit.reading.letters.push(Letter {
        consumer: Arc::from(CHARGE),
        event: Some(event),
        ..Letter::default()
    });
    kit.red("misfiled", Misfiled, "its event never committed");
}

#[test]
fn what_was_given_up_has_not_taken_effect() {
    let (mut kit, hand) = buried(|_| {});
    kit.handled(&hand, Kit::naive(&hand), Seen::Ok);
    kit.only(
        "misfiled",
        Misfiled,
        "given up by charge, but worker-1 committed its effects",
    );
}

#[test]
fn poison_that_is_done_is_misfiled() {
    let mut kit = Kit::new();
    kit.flow("order-1", "worker-1");
    kit.poison = vec![Arc::from("order-1"), Arc::from("never-sent")];
    kit.only("misfiled", Misfiled, "order-1 can never be handled");
}
