//! Every planted bug is found, in the way that it should be, and by the checker that is there for
//! it; and under the same faults the shipped pipeline holds.

use std::collections::BTreeSet;

use rayon::prelude::*;
use redeliver::harness::checkers;
use redeliver::harness::explore::{pin, shrink};
use redeliver::harness::run::RunResult;
use redeliver::harness::verdict::Verdict;
use redeliver::planted::{self, Plant};

/// Seeds within which a planted bug has to show.
const SEEDS: u64 = 200;

/// Seeds beyond the one that shows it on which the shipped pipeline is run as well.
const BEYOND: u64 = 5;

/// The first run that shows a planted bug.
fn caught(plant: &Plant) -> RunResult {
    let scenario = (plant.scenario)();
    let seen =
        |seed| Some((plant.planted)(&scenario, seed, false)).filter(|run| plant.is_shown_by(run));
    let found = (0..SEEDS).find_map(seen);
    found.unwrap_or_else(|| {
        let last = (plant.planted)(&scenario, 0, false);
        panic!(
            "{}: not found within {SEEDS} seeds; seed 0 is {}: {:#?}",
            plant.name, last.verdict, last.anomalies
        )
    })
}

fn is_found_and_the_shipped_pipeline_holds(name: &str) {
    let plant = planted::ALL.iter().find(|plant| plant.name == name);
    let plant = plant.expect("a planted bug of this name");
    let run = caught(plant);
    let scenario = (plant.scenario)();
    println!("{name}: seed {}: {:?}", run.seed, tally(&run));
    for seed in 0..=run.seed + BEYOND {
        let run = (plant.shipped)(&scenario, seed, false);
        assert!(
            run.verdict == Verdict::Valid,
            "{name}: the shipped pipeline is {} on seed {seed}: {:?} {:#?}",
            run.verdict,
            run.inconclusive,
            run.anomalies
        );
    }
}

fn tally(run: &RunResult) -> BTreeSet<(&'static str, &'static str)> {
    let found = run.anomalies.iter();
    found
        .map(|found| (found.checker, found.kind.as_str()))
        .collect()
}

macro_rules! plants {
    ($($test:ident = $name:literal,)*) => {
        $(#[test]
        fn $test() {
            is_found_and_the_shipped_pipeline_holds($name);
        })*

        #[test]
        fn no_planted_bug_is_left_out() {
            let tested = BTreeSet::from([$($name),*]);
            let all: BTreeSet<_> = planted::ALL.iter().map(|plant| plant.name).collect();
            assert_eq!(tested, all);
        }
    };
}

plants! {
    a_crash_after_an_early_ack = "ack-before-commit",
    poison_whose_attempts_are_counted_in_memory = "attempts-in-memory",
    two_copies_that_both_find_an_empty_inbox = "check-then-set",
    a_row_committed_below_the_cursor = "poll-by-last-id",
    a_publish_lost_after_its_commit = "dual-write",
    a_follower_that_passes_its_failed_head = "failed-head-passes",
    a_message_returned_to_nobody = "forgotten-mandatory",
    a_dead_letter_with_attempts_left = "give-up-at-once",
    a_claim_that_outlives_its_message = "kept-claim",
    a_row_marked_before_its_confirm = "mark-before-confirm",
    a_confirm_lost_before_a_consumer_without_inbox = "no-dedup",
    a_zombie_that_writes_over_its_heir = "no-fence",
    a_retry_that_its_follower_overtakes = "order-ignored",
    an_event_of_a_transaction_that_died = "publish-before-commit",
    poison_that_is_requeued_for_ever = "requeue",
    retries_without_a_wait = "retry-at-once",
    a_copy_that_comes_after_the_dedup_window = "short-dedup-window",
    a_claim_that_nobody_may_take_over = "stranded-claim",
    a_failure_that_is_acked = "swallow",
    more_work_in_hand_than_workers = "unbounded-prefetch",
    a_dead_letter_lost_on_its_way = "unconfirmed-letter",
}

/// What is left of a planted bug once everything is gone that it does not need.
#[test]
fn a_caught_bug_becomes_small() {
    for (name, faults, messages) in [
        ("dual-write", 1, 1),
        ("no-dedup", 1, 1),
        ("no-fence", 2, 3),
        ("kept-claim", 0, 1),
    ] {
        let plant = planted::ALL.iter().find(|plant| plant.name == name);
        let plant = plant.expect("a planted bug of this name");
        let scenario = (plant.scenario)();
        let run = (plant.planted)(&scenario, caught(plant).seed, true);
        let target = plant.target(&run).expect("it is shown again");
        let shrunk = shrink(&plant.planted, pin(&scenario, &run), run, target, 400);
        let left = (shrunk.faults(), shrunk.messages());
        assert_eq!(left, (faults, messages), "{name}: {:#?}", shrunk.scenario);
        let seed = shrunk.run.seed;
        let again = (plant.planted)(&shrunk.scenario, seed, false);
        assert_eq!(again.hash, shrunk.run.hash, "{name}");
        let shipped = (plant.shipped)(&shrunk.scenario, seed, false);
        assert_eq!(shipped.verdict, Verdict::Valid, "{name}: {shipped:#?}");
    }
}

/// Checkers that no planted bug turns red, and why.
const NOT_SHOWN: &[(&str, &str)] = &[];

#[test]
fn every_checker_is_red_for_some_planted_bug() {
    let shown: BTreeSet<_> = planted::ALL
        .par_iter()
        .map(caught)
        .flat_map_iter(|run| tally(&run).into_iter().map(|(checker, _)| checker))
        .collect();
    let unproven: Vec<_> = checkers::all()
        .iter()
        .map(|checker| checker.name())
        .filter(|name| !shown.contains(name))
        .collect();
    let excused: Vec<_> = NOT_SHOWN.iter().map(|(name, _)| *name).collect();
    assert_eq!(unproven, excused);
}
