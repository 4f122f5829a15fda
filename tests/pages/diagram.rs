//! The diagram of a run, and how a terminal shows it.

use std::path::Path;

use redeliver::harness::report::diagram::{Diagram, Kind, Step, build, render};
use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::harness::story;
use redeliver::workloads::{Deposits, Onboarding, Orders};

use super::caught;

#[test]
fn a_terminal_shows_a_column_for_each_lane() {
    let found = caught("no-dedup");
    let drawn = build(&found.small.run);
    let message = &found.small.run.anomalies[0].message;
    insta::assert_snapshot!(render(&drawn, &[message], false));
}

#[test]
fn what_a_crash_interrupts_ends_there() {
    let found = caught("ack-before-commit");
    let drawn = build(&found.small.run);
    insta::assert_snapshot!(render(&drawn, &[], true));
}

fn whole(name: &str, seed: u64) -> RunResult {
    let path = format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let known = ["orders", "onboarding", "deposits"];
    let scenario = Scenario::load(Path::new(&path), &known).expect("a scenario");
    match scenario.workload.as_str() {
        "orders" => simulate(&Orders, &scenario, seed, true),
        "onboarding" => simulate(&Onboarding, &scenario, seed, true),
        _ => simulate(&Deposits, &scenario, seed, true),
    }
}

/// What has to hold of every diagram.
fn check(run: &RunResult, drawn: &Diagram) {
    let steps = &drawn.steps;
    assert!(steps.is_sorted_by_key(|step| step.at));
    assert!(drawn.arrows.is_sorted_by_key(|arrow| arrow.to.1));
    for step in steps {
        assert!(step.lane < drawn.lanes.len());
        assert!(step.message.is_none_or(|of| of < drawn.messages.len()));
    }
    for arrow in &drawn.arrows {
        assert!(arrow.from.1 <= arrow.to.1, "nothing goes back in time");
        assert_ne!(arrow.from.0, arrow.to.0);
    }
    for span in &drawn.spans {
        assert!(span.to.is_none_or(|to| span.from <= to));
    }
    // Nothing that was seen is left out.
    let count = |kind: Kind| steps.iter().filter(|step| step.kind == kind).count() as u64;
    let kept = |step: &&Step| step.kind == Kind::Deliver && step.label.starts_with("its turn");
    let kept = steps.iter().filter(kept).count() as u64;
    assert_eq!(count(Kind::Deliver), run.deliveries + kept);
    let faults = run.trace.iter().filter(|line| line.what == "fault").count();
    assert_eq!(count(Kind::Fault), faults as u64);
    let lines = run.trace.iter().filter(|line| !story::is_routine(line));
    let lines = lines.count();
    assert!(steps.len() >= lines, "{} < {lines}", steps.len());
    // A delivery comes from the broker, and from what put its message there.
    let broker = drawn.lanes.iter().position(|lane| &*lane.name == "broker");
    let mut from_elsewhere = 0;
    for (at, step) in steps.iter().enumerate() {
        if step.kind != Kind::Deliver {
            continue;
        }
        let into = drawn
            .arrows
            .iter()
            .find(|arrow| arrow.to == (step.lane, at));
        let into = into.expect("a delivery has its arrow");
        assert_eq!(Some(into.from.0), broker);
        let cause = &steps[into.from.1];
        let same = cause.message == step.message;
        assert!(same, "{} comes from {}", step.label, cause.label);
        from_elsewhere += u64::from(into.from.1 != at);
    }
    assert!(
        from_elsewhere * 10 >= count(Kind::Deliver) * 9,
        "causes are known"
    );
}

#[test]
fn every_run_can_be_drawn() {
    for name in [
        "everything",
        "everything-onboarding",
        "everything-deposits",
        "strangers",
    ] {
        for seed in 1..4 {
            let run = whole(name, seed);
            check(&run, &build(&run));
        }
    }
}

#[test]
fn a_run_that_was_not_recorded_has_no_diagram() {
    let mut scenario = Scenario::new("small", "orders");
    scenario.messages = 2;
    let run = simulate(&Orders, &scenario, 1, false);
    assert_eq!(build(&run), Diagram::default());
}
