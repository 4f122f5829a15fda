//! Lost, duplicated, without an event; the balance and what does not end.

use std::sync::Arc;

use crate::checkers::testkit::{CHARGE, Kit, MAIL, MS, failed, in_doubt, poison, transient};
use crate::verdict::AnomalyKind::{Duplicated, EffectWithoutEvent, Invariant, Lost, Stuck};
use crate::watch::history::{Effects, Ended, Seen, Settled, What};
use redeliver_core::dead_letter::Reason;
use redeliver_core::inbox::InboxState;
use redeliver_core::ports::PublishOutcome::{Confirmed, InDoubt};

#[test]
fn a_message_that_is_done_is_nothing_to_speak_of() {
    let mut kit = Kit::new();
    kit.flow("order-1", "worker-1");
    kit.silent();
}

#[test]
fn an_empty_run_is_silent() {
    Kit::new().silent();
}

#[test]
fn a_committed_event_that_nobody_handles_is_lost() {
    let mut kit = Kit::new();
    kit.flow("order-1", "worker-1");
    kit.accepted("order-2");
    kit.red("lost", Lost, "order-2 was committed");
    kit.red(
        "balance",
        Lost,
        "2 committed for charge, 1 done, 0 dead: 1 missing",
    );
}

#[test]
fn an_event_seen_only_in_the_final_outbox_counts_as_committed() {
    let mut kit = Kit::new();
    let event = kit.event("order-1");
    kit.outbox(&event, true);
    kit.red("lost", Lost, "order-1");
}

#[test]
fn a_commit_in_doubt_that_left_no_row_owes_nothing() {
    let mut kit = Kit::new();
    let event = kit.event("order-1");
    kit.emit(&event, in_doubt());
    kit.flow("order-2", "worker-1");
    kit.silent();
}

#[test]
fn one_of_two_consumers_may_not_be_left_out() {
    let mut kit = Kit::with(&[CHARGE, MAIL]);
    kit.flow("order-1", "worker-1");
    let found = kit.red("lost", Lost, "for mail");
    assert!(found.iter().all(|a| &*a.consumer == MAIL), "{found:#?}");
}

#[test]
fn before_a_run_has_settled_only_what_was_acked_is_lost() {
    let mut kit = Kit::new();
    kit.settled = false;
    kit.add(
        "",
        What::Fault {
            kind: "crash",
            at: String::new(),
        },
    );
    let event = kit.accepted("order-1");
    kit.silent();
    let hand = kit.deliver(&event, "worker-1");
    kit.run(&hand, transient());
    kit.silent();
    kit.settle(&hand, Settled::Done);
    kit.only("lost", Lost, "acked it as done");
    kit.queued("delay.1000", &event);
    kit.silent();
}

#[test]
fn what_is_given_up_without_a_letter_is_lost() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    kit.run(&hand, poison());
    kit.bury(&hand, Kit::story(&hand, Reason::Poison));
    kit.silent();
    kit.reading.letters.clear();
    kit.red("lost", Lost, "not in its dead letters");
}

#[test]
fn a_row_marked_done_without_a_good_run_is_lost() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    kit.noted(&hand, "done");
    kit.run(&hand, Ended::Dropped);
    kit.inbox(&hand, Kit::done());
    kit.only("lost", Lost, "no run of its handler");
}

#[test]
fn without_an_inbox_effects_are_the_end() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    kit.settle(&hand, Settled::Done);
    kit.run(&hand, Ended::Ok);
    kit.red("lost", Lost, "order-1");
    kit.handled(&hand, Kit::naive(&hand), Seen::Ok);
    kit.silent();
}

#[test]
fn an_old_inbox_row_may_have_been_removed() {
    let mut kit = Kit::new();
    kit.flow("order-1", "worker-1");
    kit.reading.store.inbox.clear();
    kit.silent();
}

#[test]
fn redelivered_and_republished_messages_are_legal() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    kit.publish(&event, Confirmed);
    let hand = kit.deliver(&event, "worker-1");
    kit.run(&hand, Ended::Ok);
    kit.handled(&hand, Kit::effects(&hand), failed());
    let again = kit.deliver_as(&event, "worker-2", CHARGE, (1, true));
    kit.succeed(&again);
    let third = kit.deliver(&event, "worker-1");
    kit.settle(&third, Settled::Done);
    kit.charged("order-1", 1, 5 * MS);
    kit.silent();
}

#[test]
fn effects_of_two_runs_are_a_duplicate() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let first = kit.deliver(&event, "worker-1");
    let second = kit.deliver(&event, "worker-2");
    let (a, b) = (kit.start(&first), kit.start(&second));
    kit.end(&first, a, Ended::Ok);
    kit.handled(&first, Kit::effects(&first), Seen::Ok);
    kit.settle(&first, Settled::Done);
    kit.wait(30_000 * MS);
    kit.end(&second, b, Ended::Ok);
    kit.handled(&second, Kit::effects(&second), Seen::Ok);
    kit.settle(&second, Settled::Done);
    kit.inbox(&second, Kit::done());
    let told = "order-1 took effect 2 times in charge: run 1 by worker-1 committed at 0.008 s and \
                run 2 by worker-2 committed at 30.011 s";
    kit.only("duplicated", Duplicated, told);
}

#[test]
fn two_transactions_of_one_run_are_one_effect() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    let run = kit.start(&hand);
    kit.handled(&hand, Kit::naive(&hand), Seen::Ok);
    kit.handled(&hand, Kit::naive(&hand), Seen::Ok);
    kit.end(&hand, run, Ended::Ok);
    kit.settle(&hand, Settled::Done);
    kit.silent();
}

#[test]
fn two_runs_in_one_process_are_told_apart() {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let (first, second) = (
        kit.deliver(&event, "worker-1"),
        kit.deliver(&event, "worker-1"),
    );
    let (a, b) = (kit.start(&first), kit.start(&second));
    kit.end(&first, a, Ended::Ok);
    kit.end(&second, b, Ended::Ok);
    kit.handled(&first, Kit::naive(&first), Seen::Ok);
    kit.handled(&second, Kit::naive(&second), Seen::Ok);
    kit.settle(&first, Settled::Done);
    kit.settle(&second, Settled::Done);
    kit.only("duplicated", Duplicated, "run 2 by worker-1");
}

/// A run whose commit is in doubt, with an event of its own, and then a run that commits.
fn in_doubt_then_ok(first_happened: bool) -> Kit {
    let mut kit = Kit::new();
    let event = kit.accepted("order-1");
    let (shipped, again) = (kit.event("shipped-1"), kit.event("shipped-1b"));
    let cause = event.clone();
    let retype = |event: &Arc<redeliver_core::event::Event>| {
        let mut shipped = (**event).clone();
        shipped.event_type = Arc::from("order.shipped");
        (shipped.causation, shipped.correlation) = (Some(cause.id), cause.correlation);
        Arc::new(shipped)
    };
    let (shipped, again) = (retype(&shipped), retype(&again));
    for (emitted, seen) in [(&shipped, in_doubt()), (&again, Seen::Ok)] {
        let hand = kit.deliver(&event, "worker-1");
        kit.run(&hand, Ended::Ok);
        let effects = Effects {
            emitted: vec![emitted.clone()],
            ..Kit::naive(&hand)
        };
        kit.handled(&hand, effects, seen);
        kit.settle(&hand, Settled::Done);
    }
    kit.outbox(&again, true);
    if first_happened {
        kit.outbox(&shipped, true);
    }
    kit
}

/// A handler's event that its author made so, with this cause.
fn emitted(change: impl Fn(&mut redeliver_core::event::Event)) -> Kit {
    let mut kit = Kit::new();
    let cause = kit.accepted("order-1");
    let mut event = (*kit.event("order-1>shipped")).clone();
    event.event_type = Arc::from("order.shipped");
    (event.causation, event.correlation) = (Some(cause.id), cause.correlation);
    change(&mut event);
    let event = Arc::new(event);
    let hand = kit.deliver(&cause, "worker-1");
    kit.run(&hand, Ended::Ok);
    let effects = Effects {
        emitted: vec![event.clone()],
        ..Kit::effects(&hand)
    };
    kit.handled(&hand, effects, Seen::Ok);
    kit.settle(&hand, Settled::Done);
    kit.inbox(&hand, Kit::done());
    kit.outbox(&event, true);
    kit
}

#[test]
fn an_event_says_where_it_comes_from() {
    emitted(|_| {}).silent();
    let lineage = |kit: Kit| {
        let found = kit.check();
        let [found] = &found[..] else {
            panic!("one anomaly: {found:#?}");
        };
        assert_eq!((found.checker, found.kind), ("lineage", Invariant));
        found.seen.clone()
    };
    let seen = lineage(emitted(|event| event.causation = None));
    assert!(
        seen.starts_with(
            "order-1>shipped was emitted by charge for order-1 with the causation none,"
        ),
        "{seen}"
    );
    let seen = lineage(emitted(|event| event.correlation = event.id));
    assert!(seen.contains("with the correlation 0"), "{seen}");
    let seen = lineage(emitted(|event| event.trace = Some("00-1-1-01".into())));
    assert!(
        seen.ends_with("with the trace context 00-1-1-01, not none"),
        "{seen}"
    );
}

#[test]
fn a_commit_in_doubt_is_resolved_by_what_it_left() {
    in_doubt_then_ok(false).silent();
    in_doubt_then_ok(true).only("duplicated", Duplicated, "unseen by its client");
}

#[test]
fn two_entries_in_a_ledger_are_a_duplicate() {
    let mut kit = Kit::new();
    kit.flow("order-1", "worker-1");
    kit.charged("order-1", 1, 4_200 * MS);
    kit.silent();
    kit.charged("order-1", 2, 34_100 * MS);
    let told = "payments did charge 2 times for order-1: at 4.2 s (token 1) and at 34.1 s";
    kit.only("duplicated", Duplicated, told);
}

#[test]
fn a_publish_without_a_commit_is_a_phantom() {
    let mut kit = Kit::new();
    kit.flow("order-1", "worker-1");
    let event = kit.event("order-2");
    kit.emit(&event, failed());
    kit.publish(&event, InDoubt("lost".to_owned()));
    kit.only(
        "effect_without_event",
        EffectWithoutEvent,
        "relay-1 published order-2",
    );
}

#[test]
fn a_publish_of_a_commit_in_doubt_that_did_not_happen_is_a_phantom() {
    let mut kit = Kit::new();
    let event = kit.event("order-1");
    kit.emit(&event, in_doubt());
    kit.silent();
    kit.publish(&event, Confirmed);
    kit.only("effect_without_event", EffectWithoutEvent, "order-1");
}

#[test]
fn without_a_complete_outbox_a_commit_in_doubt_may_have_happened() {
    let mut kit = Kit::new();
    let event = kit.event("order-1");
    kit.emit(&event, in_doubt());
    kit.publish(&event, Confirmed);
    kit.wait(25 * 3600 * 1000 * MS); // longer than rows are kept
    let hand = kit.deliver(&event, "worker-1");
    kit.succeed(&hand);
    kit.silent();
}

#[test]
fn effects_and_deliveries_of_unknown_events_are_phantoms() {
    let mut kit = Kit::new();
    let event = kit.event("order-1");
    let hand = kit.deliver(&event, "worker-1");
    kit.succeed(&hand);
    kit.charged("order-1", 1, MS);
    kit.red(
        "effect_without_event",
        EffectWithoutEvent,
        "worker-1 got order-1",
    );
    kit.red(
        "effect_without_event",
        EffectWithoutEvent,
        "committed effects of charge",
    );
    kit.red(
        "effect_without_event",
        EffectWithoutEvent,
        "payments did charge",
    );
    kit.red("balance", EffectWithoutEvent, "1 too many");
}

#[test]
fn a_service_key_may_be_derived_from_the_key_of_an_event() {
    let mut kit = Kit::new();
    kit.flow("order-1", "worker-1");
    kit.charged("order-1/refund", 1, MS);
    kit.silent();
    kit.charged("order-9", 1, MS);
    kit.only("effect_without_event", EffectWithoutEvent, "order-9");
}

#[test]
fn a_service_key_with_a_longer_number_is_the_key_of_another_event() {
    let mut kit = Kit::new();
    kit.flow("order-1", "worker-1");
    kit.charged("order-15", 1, MS);
    kit.red("effect_without_event", EffectWithoutEvent, "order-15");
}

#[test]
fn what_does_not_end_is_named_with_its_place() {
    let mut kit = Kit::new();
    kit.settled = false;
    kit.flow("order-1", "worker-1");
    let event = kit.accepted("order-2");
    kit.queued("delay.1000", &event);
    kit.only(
        "stuck",
        Stuck,
        "order-2 came to no end in charge (0 runs so far): it waits in queue",
    );
}

#[test]
fn stuck_is_judged_only_after_the_heal() {
    let mut kit = Kit::new();
    kit.settled = false;
    kit.add(
        "",
        What::Fault {
            kind: "crash",
            at: String::new(),
        },
    );
    let event = kit.event("order-1");
    kit.emit(&event, Seen::Ok);
    kit.outbox(&event, false);
    kit.silent();
    kit.add("", What::Heal);
    kit.only("stuck", Stuck, "it is in the outbox, not published");
}

#[test]
fn a_run_that_was_stopped_did_not_wait_for_its_bound() {
    let mut kit = Kit::new();
    kit.settled = false;
    kit.stopped = true;
    kit.accepted("order-1");
    kit.silent();
    kit.stopped = false;
    kit.red("stuck", Stuck, "order-1 came to no end");
}

#[test]
fn many_stuck_messages_are_counted_and_unrest_is_told() {
    let mut kit = Kit::new();
    kit.settled = false;
    kit.red("stuck", Stuck, "did not come to rest");
    for i in 0..20 {
        let event = kit.accepted(&format!("order-{i}"));
        let hand = kit.deliver(&event, "worker-1");
        kit.settle(&hand, Settled::Park { delay: 1 });
        kit.inbox(&hand, InboxState::Open);
        kit.queued(CHARGE, &event);
    }
    let found = kit.check();
    assert_eq!(found.len(), 9, "{found:#?}");
    kit.red("stuck", Stuck, "12 more messages came to no end either");
}
