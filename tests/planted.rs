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
    an_early_message_kept_nowhere = "early-unkept",
    a_kept_message_forgotten_when_taken_on = "forgotten-at-take",
    a_successor_whose_worker_died = "stranded-successor",
    a_crash_after_an_early_ack = "ack-before-commit",
    a_dead_letter_published_after_its_ack = "ack-before-letter",
    a_retry_published_after_its_ack = "ack-before-retry",
    an_ack_that_takes_others_along = "ack-multiple",
    a_buffer_acked_on_shutdown = "acks-on-shutdown",
    a_retry_that_forgets_its_number = "attempt-not-carried",
    poison_whose_attempts_are_counted_in_memory = "attempts-in-memory",
    a_wait_without_ceiling = "backoff-without-ceiling",
    two_copies_that_both_find_an_empty_inbox = "check-then-set",
    a_claim_taken_for_an_end = "claim-taken-for-done",
    rows_of_a_key_published_at_once = "concurrent-publish",
    failures_counted_by_each_process = "counts-per-process",
    two_keys_cut_to_one = "cut-dedup-key",
    a_relay_that_never_reconnects = "dead-connection-kept",
    a_key_noted_before_its_effect = "done-before-effect",
    an_effect_noted_in_a_second_transaction = "done-in-second-tx",
    a_subscription_recovered_twice = "double-subscription",
    a_commit_in_doubt_taken_for_done = "doubt-taken-for-commit",
    a_publish_in_doubt_taken_for_confirmed = "doubt-taken-for-confirm",
    a_publish_lost_after_its_commit = "dual-write",
    rows_of_a_dead_relay = "endless-relay-lease",
    a_worker_that_its_first_error_ends = "error-ends-worker",
    a_last_retry_without_dead_letter = "exhausted-dropped",
    a_follower_that_passes_its_failed_head = "failed-head-passes",
    a_message_returned_to_nobody = "forgotten-mandatory",
    a_dead_letter_with_attempts_left = "give-up-at-once",
    a_claim_that_outlives_its_message = "kept-claim",
    a_new_service_key_for_each_call = "key-per-call",
    a_lease_judged_by_a_fast_clock = "lease-by-own-clock",
    a_lease_shorter_than_its_call = "lease-shorter-than-call",
    two_dead_letters_with_two_stories = "letter-twice",
    a_write_over_another = "lost-update",
    bytes_put_back_for_ever = "malformed-requeued",
    a_row_marked_before_its_confirm = "mark-before-confirm",
    marks_that_match_no_row = "mark-matches-nothing",
    a_second_publish_under_a_new_id = "new-id-per-publish",
    a_confirm_lost_before_a_consumer_without_inbox = "no-dedup",
    a_zombie_that_writes_over_its_heir = "no-fence",
    a_consumer_that_does_not_subscribe_again = "no-resubscribe",
    a_notification_that_does_not_come = "notifications-only",
    an_order_by_two_clocks = "order-by-timestamp",
    a_retry_that_its_follower_overtakes = "order-ignored",
    a_dead_letter_with_a_false_address = "origin-lost",
    an_outbox_in_a_second_transaction = "outbox-after-commit",
    waiting_counted_as_trying = "parked-counted",
    a_failure_for_good_tried_again = "poison-retried",
    a_row_committed_below_the_cursor = "poll-by-last-id",
    an_event_of_a_transaction_that_died = "publish-before-commit",
    a_handler_that_runs_on_after_its_time = "race-without-cancel",
    a_row_that_the_relay_writes_off = "relay-gives-up",
    a_route_that_nobody_is_bound_to = "renamed-route",
    poison_that_is_requeued_for_ever = "requeue",
    a_live_claim_rescued_for_its_age = "rescue-by-age",
    retries_without_a_wait = "retry-at-once",
    poison_that_holds_up_its_queue = "retry-in-place",
    a_fact_that_only_one_consumer_hears = "shared-dedup-key",
    a_copy_that_comes_after_the_dedup_window = "short-dedup-window",
    a_stack_trace_in_a_header = "stack-trace-in-header",
    a_renewal_that_gets_no_turn = "starved-renewal",
    a_claim_that_nobody_may_take_over = "stranded-claim",
    a_failure_that_is_acked = "swallow",
    retries_beyond_their_time = "time-limit-ignored",
    a_retry_that_waits_in_memory = "timer-in-memory",
    retries_beyond_their_number = "tries-ignored",
    a_copy_that_is_not_persistent = "transient-copy",
    a_delay_queue_that_expires = "expiring-delay-queue",
    a_copy_that_is_not_flagged = "trusts-redelivered",
    more_work_in_hand_than_workers = "unbounded-prefetch",
    rows_that_two_relays_send = "unclaimed-rows",
    a_dead_letter_lost_on_its_way = "unconfirmed-letter",
    a_retry_lost_on_its_way = "unconfirmed-retry",
    a_version_nobody_knows_yet = "unknown-version-dropped",
    a_batch_marked_for_its_best_row = "whole-batch-marked",
    a_prefetch_that_stays_low = "prefetch-lowered",
    a_prefetch_that_a_new_channel_does_not_know = "prefetch-forgotten",
    a_worker_that_its_first_failure_ends = "worker-idles",
    a_new_channel_without_confirms = "unconfirmed-after-reconnect",
    a_duplicate_that_sends_again = "duplicate-resends",
    a_message_discarded_before_its_fallback = "discard-then-fallback",
    a_key_that_the_service_has_forgotten = "expired-keys",
    attempts_that_nobody_made = "attempts-skipped",
    a_second_taken_for_a_minute = "elapsed-in-another-unit",
    a_letter_that_tells_nothing = "letter-without-story",
    a_token_that_stays = "token-not-raised",
    a_token_that_is_left_out = "token-left-out",
    a_correlation_that_ends_at_the_first_consumer = "correlation-lost",
    a_nack_taken_for_a_confirm = "nack-taken-for-confirm",
    a_letter_without_the_bytes_of_its_message = "letter-without-bytes",
    a_letter_that_nobody_noted = "letter-never-noted",
    a_failure_given_to_a_whole_batch = "batch-buried",
    a_batch_acked_but_for_its_last_message = "batch-half-lost",
}

/// What is left of a planted bug once everything is gone that it does not need.
#[test]
fn a_caught_bug_becomes_small() {
    for (name, faults, messages) in [
        ("dual-write", 1, 1),
        ("no-dedup", 1, 1),
        ("no-fence", 2, 1),
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
const NOT_SHOWN: &[(&str, &str)] = &[(
    "beside",
    "it needs a private PostgreSQL; tests/seeded_postgres has its bugs",
)];

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

/// Bugs on a workload that they were not written for.
mod elsewhere {
    use redeliver::harness::registry::Registered;
    use redeliver::harness::scenario::Scenario;
    use redeliver::harness::verdict::AnomalyKind;
    use redeliver::planted::{self, Limits, Need, Outcome, Shown, Survey};
    use redeliver::workloads::{Deposits, Onboarding, Orders};

    const LIMITS: Limits = Limits {
        first: 1,
        seeds: 60,
        shrink_runs: 60,
    };

    fn registered(name: &str) -> Registered {
        let all = redeliver::workloads![Orders, Onboarding, Deposits];
        *redeliver::harness::registry::find(&all, name).expect("a workload")
    }

    fn calm(workload: &str) -> Scenario {
        let mut scenario = Scenario::new("calm", workload);
        scenario.messages = 12;
        scenario
    }

    fn look(name: &str, workload: &Registered, scenario: &Scenario) -> Outcome {
        let plant = planted::ALL.iter().find(|plant| plant.name == name);
        let plant = plant.expect("a planted bug of this name");
        let scenario = planted::bounded(workload, scenario, LIMITS.first);
        let survey = Survey::of(workload, &scenario, LIMITS.first, 3);
        planted::look(plant, workload, &scenario, &survey, LIMITS)
    }

    #[test]
    fn bugs_of_orders_are_caught_on_deposits() {
        let deposits = registered("deposits");
        for name in [
            "dual-write",
            "no-dedup",
            "swallow",
            "doubt-taken-for-confirm",
            "letter-twice",
        ] {
            let outcome = look(name, &deposits, &calm("deposits"));
            let caught = matches!(outcome.shown, Shown::ByItsFaults(_) | Shown::AsItIs(_));
            assert!(caught, "{name}: not in {} seeds", outcome.seeds);
        }
    }

    /// Its scenario says nothing of these faults, so a bug that needs some is not noticed; one that
    /// needs none is, and so is one whose fault the scenario has.
    #[test]
    fn a_scenario_notices_what_its_faults_show() {
        use redeliver_sim::fault::{Kind, Rule};
        let deposits = registered("deposits");
        let mut scenario = calm("deposits");
        scenario.rules = vec![Rule::new(Kind::LostConfirm, 200_000)];
        for name in ["no-dedup", "renamed-route"] {
            let outcome = look(name, &deposits, &scenario);
            let noticed = matches!(outcome.shown, Shown::AsItIs(_));
            assert!(noticed, "{name}: not in {} seeds", outcome.seeds);
        }
    }

    #[test]
    fn what_a_workload_cannot_show_is_named_with_its_reason() {
        for (workload, name, need) in [
            ("deposits", "no-fence", Need::Claim),
            ("deposits", "kept-claim", Need::Claim),
            ("deposits", "key-per-call", Need::Service),
            ("deposits", "shared-dedup-key", Need::SharedFact),
            ("orders", "order-ignored", Need::Order),
        ] {
            let outcome = look(name, &registered(workload), &calm(workload));
            match outcome.shown {
                Shown::Cannot(needs) => assert!(needs.contains(&need), "{name}: {needs:?}"),
                other => panic!("{name} on {workload}: {other:?}"),
            }
        }
    }

    /// What a bug needs, the workload does for which it was written.
    #[test]
    fn no_bug_needs_what_its_own_workload_does_not_do() {
        for home in ["orders", "onboarding", "deposits"] {
            let workload = registered(home);
            for plant in planted::ALL {
                let scenario = (plant.scenario)();
                if plant.needs.is_empty() || scenario.workload != home {
                    continue;
                }
                let survey = Survey::of(&workload, &scenario, 1, 3);
                for need in plant.needs {
                    assert!(survey.meets(*need), "{}: {need}", plant.name);
                }
            }
        }
    }

    /// A workload that is broken by itself: nothing that it shows is a bug's doing.
    #[test]
    fn the_shipped_pipeline_is_never_blamed_on_a_bug() {
        let mut broken = registered("deposits");
        broken.simulate = |scenario, seed, record| {
            let plant = planted::ALL.iter().find(|plant| plant.name == "swallow");
            let build = (plant.expect("a planted bug").build)();
            (registered("deposits").altered)(&build, scenario, seed, record)
        };
        match look("swallow", &broken, &calm("deposits")).shown {
            Shown::ShippedToo(target, _) => assert_eq!(target.kind, AnomalyKind::Lost),
            other => panic!("{other:?}"),
        }
    }
}
