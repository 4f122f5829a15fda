use proptest::prelude::*;
use serde_json::json;

use super::Onboarding;
use super::machine::{Fact, Finding, Heard, Outcome, State, TRANSITIONS};
use super::messages::{SignedUp, Tells, VerificationFailed, VerificationRequested};
use crate::testing::{Run, assert_transitions, drop_row, row, run, tampered};
use redeliver_harness::team::workload::Workload;
use redeliver_harness::verdict::AnomalyKind::{
    self, Duplicated, EffectWithoutEvent, Invariant, Lost, Reordered,
};
use redeliver_harness::watch::reading::FinalReading;

/// All facts that one onboarding can produce, in the order in which they happen: rounds that
/// are unclear, then one that decides.
fn story() -> impl Strategy<Value = Vec<Fact>> {
    (0u32..4, prop::bool::ANY, prop::bool::ANY).prop_map(|(unclear, passes, complete)| {
        let found = |round, outcome| Fact::Found(Finding { round, outcome });
        let mut facts = vec![Fact::SignedUp];
        facts.extend((1..=unclear).map(|round| found(round, Outcome::Unclear)));
        let last = if passes {
            Outcome::Passed
        } else {
            Outcome::Failed
        };
        facts.push(found(unclear + 1, last));
        if complete {
            facts.push(Fact::Documents);
            facts.push(Fact::Shipped);
        }
        facts
    })
}

/// The story as it was heard: shuffled, with duplicates.
fn heard() -> impl Strategy<Value = (Vec<Fact>, Vec<Fact>)> {
    story().prop_flat_map(|story| {
        let again = prop::sample::subsequence(story.clone(), 0..=story.len());
        let all = story.clone();
        let mixed = again.prop_map(move |again| [all.clone(), again].concat());
        (Just(story), mixed.prop_shuffle())
    })
}

/// Hears facts one by one and takes every step, each of which must be legal.
fn end(facts: &[Fact]) -> State {
    let mut state = State::Applied;
    let mut heard = Heard::default();
    for fact in facts {
        heard = heard.and(*fact);
        for next in state.path(&heard) {
            assert!(TRANSITIONS.contains(&(state.as_str(), next.as_str())));
            state = next;
        }
    }
    state
}

proptest! {
    #[test]
    fn any_order_of_the_same_facts_ends_in_the_same_state((story, mixed) in heard()) {
        prop_assert_eq!(end(&mixed), end(&story));
    }
}

#[test]
fn an_earlier_round_never_replaces_a_later_one() {
    let found = |round, outcome| Fact::Found(Finding { round, outcome });
    let heard = Heard::default().and(found(2, Outcome::Passed));
    assert_eq!(heard.and(found(1, Outcome::Unclear)), heard);
}

#[test]
fn every_state_is_parsed_back() {
    let names = TRANSITIONS.iter().flat_map(|step| [step.0, step.1]);
    for name in names.filter(|name| !name.is_empty()) {
        assert_eq!(State::parse(name).map(State::as_str), Some(name));
    }
    assert_eq!(State::parse(""), None);
}

#[test]
fn payloads_round_trip() {
    let customer = "customer-1".to_owned();
    let (doubt, round, again) = (80, 1, true);
    let signed_up = SignedUp {
        customer: customer.clone(),
        doubt,
    };
    let requested = VerificationRequested {
        customer: customer.clone(),
        doubt,
        round,
    };
    let failed = VerificationFailed {
        customer,
        round,
        again,
    };
    fn again_from_json<M: redeliver_core::event::Message>(message: &M) -> M {
        serde_json::from_slice(&serde_json::to_vec(message).unwrap()).unwrap()
    }
    assert_eq!(again_from_json(&signed_up), signed_up);
    assert_eq!(again_from_json(&requested), requested);
    assert_eq!(again_from_json(&failed), failed);
    let outcome = Outcome::Unclear;
    assert_eq!(failed.fact(), Fact::Found(Finding { round, outcome }));
}

#[test]
fn right_books_pass_in_any_order() {
    let mut ends = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let (accepted, reading) = run(
            &Onboarding,
            Run {
                messages: 8,
                seed,
                ..Run::default()
            },
        );
        assert_transitions(&Onboarding, &reading);
        assert_eq!(Onboarding.check(&accepted, &reading), []);
        let heads = &reading.store.workflows;
        ends.extend(
            heads
                .iter()
                .map(|head| (head.sequence, head.state.to_string())),
        );
    }
    // Rejected with and without documents before it; active in four steps.
    let ends: Vec<_> = ends
        .iter()
        .map(|(steps, state)| (*steps, &**state))
        .collect();
    assert_eq!(ends, [(2, "rejected"), (3, "rejected"), (4, "active")]);
}

#[test]
fn handlers_that_run_twice_show() {
    let settings = Run {
        messages: 6,
        twice: true,
        ..Run::default()
    };
    let (accepted, reading) = run(&Onboarding, settings);
    let found = Onboarding.check(&accepted, &reading);
    assert!(!found.is_empty());
    assert!(
        found.iter().all(|anomaly| anomaly.kind == Duplicated),
        "{found:?}"
    );
}

fn tamper(change: impl FnOnce(&mut FinalReading)) -> Vec<AnomalyKind> {
    tampered(&Onboarding, 20, change)
}

fn state_of<'a>(reading: &'a mut FinalReading, state: &str) -> &'a mut std::sync::Arc<str> {
    let mut heads = reading.store.workflows.iter_mut();
    &mut heads.find(|head| &*head.state == state).unwrap().state
}

#[test]
fn a_wrong_end_shows() {
    assert_eq!(
        tamper(|r| *state_of(r, "active") = "rejected".into()),
        [Invariant]
    );
    assert_eq!(
        tamper(|r| *state_of(r, "rejected") = "active".into()),
        [Invariant]
    );
    assert_eq!(
        tamper(|r| *state_of(r, "active") = "cleared".into()),
        [Lost]
    );
    assert_eq!(tamper(|r| r.store.workflows.clear()), [Lost]);
}

#[test]
fn a_stale_finding_shows() {
    let stale =
        |r: &mut FinalReading| row(r, "progress", 0)["heard"]["finding"]["round"] = json!(9);
    assert_eq!(tamper(stale), [Reordered]);
    assert_eq!(tamper(|r| drop_row(r, "progress")), [Invariant]);
}

#[test]
fn wrong_parcels_show() {
    assert_eq!(
        tamper(|r| row(r, "shipments", 0)["parcels"] = json!(2)),
        [Duplicated]
    );
    assert_eq!(tamper(|r| drop_row(r, "shipments")), [Lost]);
    let none = |r: &mut FinalReading| {
        let rejected = r
            .store
            .workflows
            .iter()
            .find(|head| &*head.state == "rejected");
        let customer = rejected.unwrap().workflow.clone();
        let parcel = json!({ "customer": &*customer, "parcels": 1 });
        r.store.rows.push(("shipments".into(), customer, 1, parcel));
    };
    assert_eq!(tamper(none), [Invariant]);
}

#[test]
fn strangers_show() {
    let (accepted, reading) = run(
        &Onboarding,
        Run {
            messages: 4,
            ..Run::default()
        },
    );
    let found = Onboarding.check(&accepted[1..], &reading);
    assert!(!found.is_empty());
    assert!(
        found
            .iter()
            .all(|anomaly| anomaly.kind == EffectWithoutEvent)
    );
}
