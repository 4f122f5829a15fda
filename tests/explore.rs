//! Strategies: what they try, that they try the same again, and that they find what is planted.

use redeliver::harness::explore::{
    Extent, Portfolio, Priority, Random, Strategy, Systematic, Trial, hunt, moments, needed, pin,
    settled, shrink,
};
use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::harness::verdict::Verdict;
use redeliver::harness::words::grouped;
use redeliver::planted::{self, Plant};
use redeliver::workloads::Orders;
use redeliver_sim::fault::{Kind, Rule};

const SMALL: Extent = Extent {
    messages: 1,
    bases: 1,
    pairs: 40,
};

fn plant(name: &str) -> &'static Plant {
    let found = planted::ALL.iter().find(|plant| plant.name == name);
    found.expect("a planted bug of this name")
}

/// Makes all trials of a strategy with the shipped pipeline.
fn play(strategy: &mut dyn Strategy, batch: usize) -> Vec<(Trial, RunResult)> {
    let mut all = Vec::new();
    loop {
        let trials = strategy.next(batch);
        if trials.is_empty() {
            return all;
        }
        for trial in trials {
            let run = simulate(&Orders, &trial.scenario, trial.seed, trial.recorded);
            strategy.learn(&trial, &run);
            all.push((trial, run));
        }
    }
}

fn placed(trial: &Trial) -> usize {
    trial.scenario.rules.len() + trial.scenario.events.len()
}

fn calm() -> Scenario {
    Scenario {
        messages: 3,
        ..Scenario::new("calm", "orders")
    }
}

/// Each single fault at each place of one request, and some pairs.
#[test]
fn no_fault_at_any_place_breaks_the_shipped_pipeline() {
    let mut systematic = Systematic::new(&calm(), 1, SMALL);
    let all = play(&mut systematic, 64);
    for (trial, run) in &all {
        let (rules, events) = (&trial.scenario.rules, &trial.scenario.events);
        let seen = &run.anomalies;
        assert_eq!(
            run.verdict,
            Verdict::Valid,
            "{rules:#?} {events:#?} {seen:#?}"
        );
        // Every fault that was placed has struck, unless the first has kept the second away.
        let struck: u64 = run.faults.iter().map(|(_, n)| n).sum();
        assert!(
            struck >= placed(trial).min(1) as u64,
            "{rules:#?} {events:#?}"
        );
    }
    let counted = |faults| {
        all.iter()
            .filter(|(trial, _)| placed(trial) == faults)
            .count()
    };
    let (singles, pairs) = (counted(1), counted(2));
    assert!(singles > 300, "{singles}");
    // Calls are struck, and servers at moments; pairs have both.
    let single = all.iter().filter(|(trial, _)| placed(trial) == 1);
    let timed = single.filter(|(trial, _)| !trial.scenario.events.is_empty());
    let timed = timed.count();
    assert!(timed > 300 && timed + 300 < singles, "{timed} of {singles}");
    assert_eq!(pairs as u64, SMALL.pairs);
    let said = systematic.statements();
    let no = format!(
        "no single fault of {} breaks this scenario",
        grouped(singles as u64)
    );
    assert!(said[0].starts_with(&no), "{said:?}");
}

#[test]
fn slow_processes_do_not_break_the_shipped_pipeline() {
    let mut priority = Priority::new(&calm(), 1, 2, 60);
    let all = play(&mut priority, 16);
    assert_eq!(
        all.len(),
        61,
        "one without delays, and as many as asked for"
    );
    for (trial, run) in &all {
        let (rules, seen) = (&trial.scenario.rules, &run.anomalies);
        assert_eq!(run.verdict, Verdict::Valid, "{rules:#?} {seen:#?}");
    }
}

/// Batches may be of any size: the trials are the same.
#[test]
fn trials_do_not_depend_on_how_many_run_at_a_time() {
    let portfolio = || {
        Portfolio::new(vec![
            Box::new(Systematic::new(&calm(), 7, SMALL)),
            Box::new(Priority::new(&calm(), 7, 1, 20)),
            Box::new(Random::new(&calm(), 7, 20)),
        ])
    };
    let made = |batch| {
        let played = play(&mut portfolio(), batch).into_iter();
        let mut made: Vec<_> = played
            .map(|(trial, run)| {
                let (rules, events) = (&trial.scenario.rules, &trial.scenario.events);
                format!("{} {rules:?} {events:?} {}", trial.seed, run.hash)
            })
            .collect();
        // Turns differ with their length.
        made.sort_unstable();
        made
    };
    assert_eq!(made(1), made(64));
}

/// Bugs that one fault shows are found by placing one, on three requests at most.
#[test]
fn planted_bugs_are_found_fault_by_fault() {
    let extent = Extent {
        messages: 3,
        bases: 1,
        pairs: 0,
    };
    for name in ["dual-write", "mark-before-confirm", "check-then-set"] {
        let plant = plant(name);
        let mut systematic = Systematic::new(&(plant.scenario)(), 0, extent);
        let shows = |run: &_| plant.is_shown_by(run);
        let found = hunt(&plant.planted, &mut systematic, 1_000, shows);
        let (_, trial, _) = found.unwrap_or_else(|runs| panic!("{name}: not in {runs} runs"));
        assert_eq!(placed(&trial), 1, "{name}");
        assert!(trial.scenario.messages <= 3, "{name}");
    }
}

/// An order of events that only slow processes bring about.
#[test]
fn planted_bugs_are_found_by_slow_processes() {
    let plant = plant("order-ignored");
    let mut priority = Priority::new(&(plant.scenario)(), 0, 3, 300);
    let shows = |run: &_| plant.is_shown_by(run);
    let found = hunt(&plant.planted, &mut priority, 301, shows);
    found.unwrap_or_else(|runs| panic!("not in {runs} runs"));
}

/// The event was committed and its publish got lost: from then on nothing could avert the loss.
#[test]
fn a_failure_is_explained_by_its_fault_and_by_its_moment() {
    let plant = plant("dual-write");
    let scenario = (plant.scenario)();
    let mut seeds = Random::new(&scenario, 0, 50);
    let shows = |run: &_| plant.is_shown_by(run);
    let (_, _, run) = hunt(&plant.planted, &mut seeds, 50, shows).expect("it is caught");
    let target = plant.target(&run).expect("it is shown again");
    let pinned = pin(&scenario, &run);
    let shrunk = shrink(&plant.planted, pinned, run.clone(), target, 400);
    let faults = needed(&plant.planted, &shrunk, target);
    assert!(faults.len() == 1 && faults[0].necessary, "{faults:?}");
    assert!(
        faults[0].fault.starts_with("lost-publish at the"),
        "{faults:?}"
    );

    let moments = moments(&plant.planted, &scenario, &run, target, 12);
    let (_, from) = settled(&moments).expect("it is settled");
    assert!(from.what.contains("fault lost-publish"), "{moments:#?}");
}

/// Nothing is drawn anew before the moment that is named.
#[test]
fn a_run_that_goes_on_by_another_seed_has_the_same_past() {
    let scenario = Scenario {
        rules: vec![Rule::new(Kind::LostConfirm, 100_000)],
        messages: 10,
        ..Scenario::new("past", "orders")
    };
    let run = simulate(&Orders, &scenario, 3, true);
    let at = run.trace[run.trace.len() / 2].at;
    let other = Scenario {
        reseed: Some((at, 99)),
        ..scenario
    };
    let other = simulate(&Orders, &other, 3, true);
    let past = |run: &RunResult| -> Vec<String> {
        let before = run.trace.iter().filter(|line| line.at < at);
        before.map(ToString::to_string).collect()
    };
    assert_eq!(past(&run), past(&other));
    assert_ne!(run.hash, other.hash);
}
