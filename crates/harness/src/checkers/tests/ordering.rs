//! Order of events and steps of workflows.

use std::sync::Arc;

use uuid::Uuid;

use crate::checkers::testkit::{CHARGE, Kit, MAIL, MS, failed, in_doubt, poison};
use crate::verdict::AnomalyKind::{Invariant, Reordered, Stuck};
use crate::watch::history::{Effects, Ended, OnBehalf, Seen, Settled};
use redeliver_core::audit::{AuditEntry, WorkflowHead};
use redeliver_core::dead_letter::Reason;
use redeliver_core::ports::PublishOutcome::{Confirmed, InDoubt};
use redeliver_core::ports::Timestamp;

fn ordered(kit: &mut Kit, n: u64) -> Vec<Arc<redeliver_core::event::Event>> {
    let events: Vec<_> = (1..=n).map(|i| kit.ordered(&format!("a-{i}"), i)).collect();
    events.iter().for_each(|event| kit.accept(event));
    events
}

#[test]
fn order_kept_is_silent_even_if_messages_overtake() {
    let mut kit = Kit::new();
    let events = ordered(&mut kit, 3);
    let early = kit.deliver(&events[1], "worker-2");
    kit.settle(&early, Settled::Park { delay: 1_000 * MS });
    for event in &events {
        let hand = kit.deliver(event, "worker-1");
        kit.succeed(&hand);
    }
    kit.silent();
}

#[test]
fn a_commit_seen_late_is_no_disorder() {
    let mut kit = Kit::new();
    let events = ordered(&mut kit, 2);
    let first = kit.deliver(&events[0], "worker-1");
    kit.run(&first, Ended::Ok);
    let second = kit.deliver(&events[1], "worker-2");
    kit.succeed(&second);
    kit.handled(&first, Kit::effects(&first), Seen::Ok);
    kit.settle(&first, Settled::Done);
    kit.inbox(&first, Kit::done());
    kit.silent();
}

#[test]
fn the_second_before_the_first_is_disorder() {
    let mut kit = Kit::new();
    let events = ordered(&mut kit, 2);
    for event in events.iter().rev() {
        let hand = kit.deliver(event, "worker-1");
        kit.succeed(&hand);
    }
    kit.only(
        "reordered",
        Reordered,
        "a-2 (number 2) took effect in charge by run 1",
    );
}

#[test]
fn a_later_run_that_leaves_no_effect_is_legal() {
    let mut kit = Kit::new();
    let events = ordered(&mut kit, 2);
    let early = kit.deliver(&events[1], "worker-2");
    kit.run(&early, Ended::Ok);
    kit.handled(&early, Kit::effects(&early), failed());
    for event in &events {
        let hand = kit.deliver(event, "worker-1");
        kit.succeed(&hand);
    }
    kit.silent();
}

#[test]
fn runs_of_one_key_that_overlap_are_disorder() {
    let mut kit = Kit::new();
    let events = ordered(&mut kit, 2);
    let first = kit.deliver(&events[0], "worker-1");
    let run = kit.start(&first);
    let second = kit.deliver(&events[1], "worker-2");
    kit.succeed(&second);
    kit.end(&first, run, Ended::Ok);
    kit.handled(&first, Kit::effects(&first), Seen::Ok);
    kit.settle(&first, Settled::Done);
    kit.inbox(&first, Kit::done());
    kit.only(
        "reordered",
        Reordered,
        "while run 1 of number 1 went on until",
    );
}

#[test]
fn a_gap_is_legal_only_where_something_was_given_up() {
    let gap = |dead: bool| {
        let mut kit = Kit::new();
        let events = ordered(&mut kit, 3);
        let hand = kit.deliver(&events[0], "worker-1");
        kit.succeed(&hand);
        let hand = kit.deliver(&events[1], "worker-1");
        if dead {
            kit.run(&hand, poison());
            kit.bury(&hand, Kit::story(&hand, Reason::Poison));
        }
        let hand = kit.deliver(&events[2], "worker-1");
        kit.succeed(&hand);
        kit
    };
    gap(true).silent();
    gap(false).red(
        "reordered",
        Reordered,
        "though number 2 before it has not ended",
    );
}

/// It asked for its inbox row, stood still, and goes on when all is over: its session is gone, and
/// what it begins takes no effect.
#[test]
fn a_head_whose_worker_wakes_up_too_late_is_no_disorder() {
    let mut kit = Kit::new();
    let events = ordered(&mut kit, 2);
    let sleeper = kit.deliver(&events[0], "worker-1");
    let read = kit.history.entries.len();
    let again = kit.deliver_as(&events[0], "worker-2", CHARGE, (1, true));
    kit.succeed(&again);
    let follower = kit.deliver(&events[1], "worker-2");
    kit.succeed(&follower);
    let run = kit.start_after(&sleeper, read);
    kit.end(
        &sleeper,
        run,
        Ended::Transient("the session is gone".to_owned()),
    );
    kit.settle(&sleeper, Settled::Done);
    kit.silent();
}

#[test]
fn a_head_that_fails_while_its_follower_passes_is_disorder() {
    let mut kit = Kit::new();
    let events = ordered(&mut kit, 2);
    let head = kit.deliver(&events[0], "worker-1");
    kit.fail(&head);
    let follower = kit.deliver(&events[1], "worker-1");
    kit.succeed(&follower);
    let head = kit.deliver_as(&events[0], "worker-1", CHARGE, (2, false));
    kit.run(&head, poison());
    kit.bury(&head, Kit::story(&head, Reason::Poison));
    kit.only("reordered", Reordered, "run 3 of number 1 began after it");
}

#[test]
fn two_consumers_need_not_keep_step() {
    let mut kit = Kit::with(&[CHARGE, MAIL]);
    let events = ordered(&mut kit, 2);
    for consumer in [MAIL, CHARGE] {
        for event in &events {
            let hand = kit.deliver_as(event, "worker-1", consumer, (1, false));
            kit.succeed(&hand);
        }
    }
    kit.silent();
}

#[test]
fn two_events_of_one_idempotency_key_are_one_work() {
    let mut kit = Kit::new();
    let events = [
        kit.ordered("a-1", 1),
        kit.ordered("a-1", 2),
        kit.ordered("a-3", 3),
    ];
    events.iter().for_each(|event| kit.accept(event));
    for event in [&events[0], &events[2]] {
        let hand = kit.deliver(event, "worker-1");
        kit.succeed(&hand);
    }
    kit.silent();
}

#[test]
fn numbers_have_no_gaps_and_are_given_once() {
    let mut kit = Kit::new();
    let events = [
        kit.ordered("a-2", 2),
        kit.ordered("b-2", 2),
        kit.ordered("a-4", 4),
    ];
    for event in &events {
        kit.accept(event);
        let hand = kit.deliver(event, "worker-1");
        kit.succeed(&hand);
    }
    kit.red("reordered", Reordered, "begin with number 2");
    kit.red(
        "reordered",
        Reordered,
        "two events order.placed of a carry number 2",
    );
    kit.red("reordered", Reordered, "numbered 2 and then 4");
}

#[test]
fn a_follower_is_published_after_its_head_is_confirmed() {
    let order = |confirmed: bool| {
        let mut kit = Kit::new();
        let events = [kit.ordered("a-1", 1), kit.ordered("a-2", 2)];
        for event in &events {
            kit.emit(event, Seen::Ok);
            kit.outbox(event, true);
        }
        kit.publish(&events[0], InDoubt("lost".to_owned()));
        if confirmed {
            kit.publish(&events[0], Confirmed);
        }
        kit.publish(&events[1], Confirmed);
        kit.publish(&events[0], Confirmed); // a legal copy
        for event in &events {
            let hand = kit.deliver(event, "worker-1");
            kit.succeed(&hand);
        }
        kit
    };
    order(true).silent();
    order(false).only("reordered", Reordered, "published number 2 of a");
}

/// A workflow from start to end, with the commits that made its steps.
fn workflow(states: &[&str]) -> (Kit, Vec<AuditEntry>) {
    let mut kit = Kit::new();
    kit.transitions = &[("", "placed"), ("placed", "paid"), ("paid", "shipped")];
    kit.final_states = &["shipped"];
    let mut head = WorkflowHead::new(Arc::from("order-1"));
    let mut entries = Vec::new();
    for state in states {
        let entry = head.transition(Arc::from(*state), Uuid::nil(), Timestamp(7_000));
        head = entry.head();
        step(&mut kit, &entry, Seen::Ok);
        entries.push(entry);
    }
    kit.reading.store.audit = entries.clone();
    kit.reading.store.workflows = vec![head];
    (kit, entries)
}

fn step(kit: &mut Kit, entry: &AuditEntry, seen: Seen) {
    let on = OnBehalf {
        consumer: Arc::from("client"),
        subject: entry.workflow.clone(),
        attempt: 1,
    };
    let (from, to) = (entry.from.clone(), entry.to.clone());
    let effects = Effects {
        transitions: vec![(entry.workflow.clone(), entry.sequence, from, to)],
        ..Effects::default()
    };
    kit.commit("client-1", on, effects, seen);
}

#[test]
fn a_workflow_that_came_to_its_end_is_silent() {
    let (mut kit, entries) = workflow(&["placed", "paid", "shipped"]);
    kit.silent();
    // Of two commits in doubt that would make the same step, one did.
    step(&mut kit, &entries[2], in_doubt());
    kit.silent();
}

#[test]
fn a_step_that_is_not_legal_is_named() {
    let (kit, _) = workflow(&["placed", "shipped"]);
    kit.only(
        "transitions",
        Invariant,
        "went from placed to shipped (entry 2)",
    );
}

#[test]
fn a_broken_chain_is_named() {
    let (mut kit, _) = workflow(&["placed", "paid", "shipped"]);
    kit.reading.store.audit[1].to = Arc::from("refunded");
    kit.red(
        "transitions",
        Invariant,
        "its own hash does not fit its content",
    );
    let (mut kit, _) = workflow(&["placed", "paid", "shipped"]);
    kit.reading.store.audit.remove(1);
    kit.red("transitions", Invariant, "an entry before it is missing");
    kit.red(
        "transitions",
        Invariant,
        "step 2 of workflow order-1, from placed to paid",
    );
}

#[test]
fn a_head_that_is_elsewhere_is_named() {
    let (mut kit, entries) = workflow(&["placed", "paid", "shipped"]);
    kit.reading.store.workflows[0] = entries[1].head();
    kit.red("transitions", Invariant, "stands at paid (step 2)");
    kit.reading.store.workflows.clear();
    kit.red("transitions", Invariant, "no head");
}

#[test]
fn a_step_committed_twice_or_by_nobody_is_named() {
    let (mut kit, entries) = workflow(&["placed", "paid", "shipped"]);
    step(&mut kit, &entries[2], Seen::Ok);
    kit.only(
        "transitions",
        Invariant,
        "step 3 of workflow order-1 was committed",
    );
    let (mut kit, _) = workflow(&["placed", "paid", "shipped"]);
    kit.history.entries.pop();
    kit.silent(); // its process may have died before it saw the commit
    kit.add(
        "client-1",
        crate::watch::history::What::Process { what: "started" },
    );
    kit.only("transitions", Invariant, "nobody made it");
}

#[test]
fn a_workflow_may_stop_only_at_a_dead_letter() {
    let (mut kit, _) = workflow(&["placed", "paid"]);
    kit.only("transitions", Stuck, "order-1 is at paid");
    kit.settled = false;
    let found = kit.check();
    assert!(found.iter().all(|a| a.checker == "stuck"), "{found:#?}");
    kit.settled = true;
    let event = kit.accepted("order-1");
    let hand = kit.deliver(&event, "worker-1");
    kit.run(&hand, poison());
    kit.bury(&hand, Kit::story(&hand, Reason::Poison));
    kit.silent();
}
