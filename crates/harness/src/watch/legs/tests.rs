use super::*;
use crate::checkers::testkit::{CHARGE, Kit, MAIL, MS};
use crate::watch::history::{Ended, Settled};
use redeliver_core::dead_letter::Reason;

/// The times of a history whose requests were due at these times, and what was counted.
fn follow(kit: &Kit, due: &[(&str, u64)]) -> (Vec<(Leg, u64)>, Counts, u64) {
    let mut legs = Legs::new(&kit.topology);
    for (key, at) in due {
        legs.due.insert(Arc::from(*key), *at);
    }
    let mut times = Vec::new();
    for entry in &kit.history.entries {
        legs.add(entry, &mut |sample| times.push((sample.leg, sample.took)));
    }
    (times, legs.counts(), legs.open_workflows())
}

fn of(times: &[(Leg, u64)], leg: Leg) -> Vec<u64> {
    let of_leg = times.iter().filter(|(known, _)| *known == leg);
    of_leg.map(|(_, took)| took / MS).collect()
}

#[test]
fn a_message_that_goes_through_has_each_time_once() {
    // A millisecond each: commit, publish, delivery, start, end, commit, ack.
    let mut kit = Kit::new();
    kit.wait(100 * MS);
    kit.flow("a", "charge-1");
    let (times, counts, open) = follow(&kit, &[("a", 60 * MS)]);
    for (leg, took) in [
        (Leg::Request, 41),
        (Leg::CommitToPublished, 0),
        (Leg::PublishedToConfirmed, 1),
        (Leg::PublishedToDelivered, 2),
        (Leg::Handler, 1),
        (Leg::CommitToEffect, 5),
        (Leg::Ack, 1),
        (Leg::EndToEnd, 46),
    ] {
        assert_eq!(of(&times, leg), [took], "{leg:?}");
    }
    assert_eq!(times.len(), 8, "{times:?}");
    assert_eq!((counts.done, counts.workflows, open), (1, 1, 0));
}

#[test]
fn the_end_is_that_of_the_last_consumer() {
    let mut kit = Kit::with(&[CHARGE, MAIL]);
    let event = kit.accepted("a");
    let charge = kit.deliver(&event, "charge-1");
    kit.succeed(&charge);
    let (times, counts, open) = follow(&kit, &[("a", 0)]);
    assert_eq!(of(&times, Leg::EndToEnd), [0; 0]);
    assert_eq!((counts.workflows, open), (0, 1));
    kit.wait(50 * MS);
    let mail = kit.deliver_as(&event, "mail-1", MAIL, (1, false));
    kit.succeed(&mail);
    let (times, counts, open) = follow(&kit, &[("a", 0)]);
    assert_eq!(of(&times, Leg::EndToEnd), [61]);
    assert_eq!(
        of(&times, Leg::PublishedToDelivered),
        [2],
        "the first delivery"
    );
    assert_eq!((counts.done, counts.workflows, open), (2, 1, 0));
}

#[test]
fn an_event_that_follows_belongs_to_the_same_request() {
    let mut kit = Kit::new();
    let event = kit.accepted("a");
    let hand = kit.deliver(&event, "charge-1");
    kit.run(&hand, Ended::Ok);
    let mut next = (*kit.event("b")).clone();
    next.correlation = event.correlation;
    let next = Arc::new(next);
    let mut effects = Kit::effects(&hand);
    effects.emitted.push(next.clone());
    kit.handled(&hand, effects, Seen::Ok);
    let (_, counts, open) = follow(&kit, &[("a", 0)]);
    assert_eq!(
        (counts.committed, counts.events, counts.workflows, open),
        (1, 2, 0, 1)
    );
    let hand = kit.deliver(&next, "charge-1");
    kit.succeed(&hand);
    let (times, counts, open) = follow(&kit, &[("a", 0)]);
    assert_eq!((counts.workflows, open), (1, 0));
    assert_eq!(of(&times, Leg::EndToEnd).len(), 1);
    assert_eq!(
        of(&times, Leg::Request),
        [1],
        "the second event has no request of its own"
    );
}

#[test]
fn what_was_tried_again_or_given_up_is_kept_apart() {
    let mut kit = Kit::new();
    let event = kit.accepted("a");
    let hand = kit.deliver(&event, "charge-1");
    kit.fail(&hand);
    let again = kit.deliver_as(&event, "charge-1", CHARGE, (2, false));
    kit.succeed(&again);
    let dead = kit.accepted("b");
    let hand = kit.deliver(&dead, "charge-1");
    kit.bury(&hand, Kit::story(&hand, Reason::Poison));
    let (times, counts, open) = follow(&kit, &[("a", 0), ("b", 0)]);
    assert_eq!(of(&times, Leg::EndToEndRetried).len(), 1);
    assert_eq!(of(&times, Leg::CommitToEffectRetried).len(), 1);
    assert_eq!(of(&times, Leg::DeadLetter).len(), 1);
    assert!(of(&times, Leg::EndToEnd).is_empty() && of(&times, Leg::CommitToEffect).is_empty());
    assert_eq!((counts.retried, counts.dead, counts.done), (1, 1, 1));
    assert_eq!((counts.workflows, open), (2, 0));
}

#[test]
fn copies_of_a_message_are_counted_and_not_timed_again() {
    let mut kit = Kit::new();
    let hand = kit.flow("a", "charge-1");
    kit.publish(&hand.event, PublishOutcome::Confirmed);
    let copy = kit.deliver_as(&hand.event, "charge-2", CHARGE, (1, true));
    kit.settle(&copy, Settled::Done);
    let (times, counts, open) = follow(&kit, &[("a", 0)]);
    assert_eq!(times.len(), 8, "{times:?}");
    assert_eq!(
        (counts.deliveries, counts.redeliveries, counts.confirmed),
        (2, 1, 2)
    );
    assert_eq!((counts.done, counts.workflows, open), (1, 1, 0));
}

/// Relay and worker may be faster than the client, who hears of its commit last.
#[test]
fn a_commit_that_is_seen_late_changes_nothing() {
    let mut kit = Kit::new();
    kit.wait(100 * MS);
    kit.flow("a", "charge-1");
    let last = kit.history.entries.len();
    kit.history.entries[..last].rotate_left(1);
    let (times, counts, open) = follow(&kit, &[("a", 60 * MS)]);
    assert_eq!(of(&times, Leg::EndToEnd).len(), 1, "{times:?}");
    assert_eq!(of(&times, Leg::CommitToEffect), [5]);
    assert_eq!((counts.done, counts.workflows, open), (1, 1, 0));
}

#[test]
fn what_has_ended_is_forgotten() {
    let mut kit = Kit::new();
    for number in 0..50 {
        kit.flow(&format!("order-{number}"), "charge-1");
        kit.wait(2 * KNOWN);
    }
    let mut legs = Legs::new(&kit.topology);
    let mut most = 0;
    for entry in &kit.history.entries {
        legs.add(entry, &mut |_| {});
        most = most.max(legs.events.len() + legs.chains.len() + legs.runs.len());
    }
    assert!(most <= 6, "{most} are remembered at once");
}

#[test]
fn runs_of_a_dead_process_have_ended() {
    let mut kit = Kit::new();
    let event = kit.accepted("a");
    let hand = kit.deliver(&event, "charge-1");
    kit.start(&hand);
    let mut legs = Legs::new(&kit.topology);
    kit.history
        .entries
        .iter()
        .for_each(|entry| legs.add(entry, &mut |_| {}));
    assert_eq!(legs.in_handlers(), 1);
    kit.add("charge-1", What::Process { what: "crashed" });
    let last = kit.history.entries.last().expect("an entry");
    legs.add(last, &mut |_| {});
    assert_eq!(legs.in_handlers(), 0);
}

#[test]
fn names_are_read_again() {
    for leg in Leg::ALL {
        assert_eq!(Leg::parse(leg.as_str()), Some(leg));
    }
}

/// A worker that dies after its commit cannot tell of it; one that acks what is not done looks the
/// same, until the inbox is read.
#[test]
fn what_was_only_acked_has_ended_if_the_inbox_says_so() {
    for (state, done) in [(Kit::done(), 1), (InboxState::Open, 0)] {
        let mut kit = Kit::new();
        let event = kit.accepted("a");
        let hand = kit.deliver(&event, "charge-1");
        kit.settle(&hand, Settled::Done);
        kit.inbox(&hand, state);
        let mut legs = Legs::new(&kit.topology);
        kit.history
            .entries
            .iter()
            .for_each(|entry| legs.add(entry, &mut |_| {}));
        assert_eq!((legs.counts().done, legs.counts().workflows), (1, 1));
        legs.read(&kit.reading.store.inbox[0]);
        assert_eq!((legs.counts().done, legs.counts().workflows), (done, done));
        assert_eq!(legs.open_workflows(), 1 - done);
    }
}

#[test]
fn a_request_that_is_sent_twice_counts_twice_and_one_that_is_sent_again_once() {
    let mut kit = Kit::new();
    let request = |due| What::Request {
        key: Arc::from("a"),
        due,
    };
    for due in [0, 0, 5 * MS] {
        kit.add("client-1", request(due));
    }
    kit.flow("a", "charge-1");
    kit.add("client-1", request(9 * MS));
    let mut legs = Legs::new(&kit.topology);
    (kit.history.entries.iter()).for_each(|entry| legs.add(entry, &mut |_| {}));
    assert_eq!(legs.uncommitted(), 0, "the last one commits nothing");
    let (times, counts, open) = follow(&kit, &[]);
    assert_eq!((counts.sent, counts.workflows, open), (3, 1, 0));
    assert_eq!(of(&times, Leg::Lateness).len(), 3);
    assert_eq!(of(&times, Leg::Request), [4], "from the first time");
}

fn standing(kit: &Kit, now: u64) -> Vec<(String, u64, u64)> {
    let mut legs = Legs::new(&kit.topology);
    for entry in &kit.history.entries {
        legs.add(entry, &mut |_| {});
    }
    let all = legs.standing(now, 100 * MS).into_iter();
    all.map(|it| (it.place.to_string(), it.workflows, it.stuck))
        .collect()
}

#[test]
fn what_has_not_ended_stands_somewhere() {
    let mut kit = Kit::new();
    let begun = What::Request {
        key: Arc::from("z"),
        due: 0,
    };
    kit.add("client-1", begun);
    let event = kit.event("a");
    kit.emit(&event, Seen::Ok);
    let committed = kit.history.until();
    let at = |place: &str, stuck| (place.to_owned(), 1, stuck);
    let request = at("request", 0);
    assert_eq!(standing(&kit, committed), [request, at("outbox", 0)]);
    kit.publish(&event, PublishOutcome::Confirmed);
    let request = at("request", 1);
    let queue = at("queue of charge", 0);
    assert_eq!(
        standing(&kit, committed + 100 * MS),
        [request.clone(), queue]
    );
    let hand = kit.deliver(&event, "charge-1");
    let worker = at("worker of charge", 1);
    assert_eq!(
        standing(&kit, kit.history.until() + 200 * MS),
        [request.clone(), worker]
    );
    kit.succeed(&hand);
    assert_eq!(standing(&kit, kit.history.until() + 200 * MS), [request]);
}
