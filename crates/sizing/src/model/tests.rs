//! The model and the formulas say the same.

use std::time::Duration;

use super::*;
use crate::closed;
use crate::closed::Retries;
use crate::interval::Estimate;

const S: u64 = 1_000_000_000;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A calm scene: `messages` that arrive at random.
fn scene(arrivals: f64, messages: u32, handler: Latency) -> Scene {
    Scene {
        arrivals: Arrivals::Poisson(arrivals),
        messages,
        warm_up: messages / 10,
        handler,
        fails: 0.0,
        outages: Vec::new(),
        crashes: Vec::new(),
        restart_after: 2 * S,
        dependency: Dependency::Unlimited,
    }
}

/// One process with this many workers. Its limits are too long to matter.
fn setting(workers: u16) -> Setting {
    let mut policy = Policy::default();
    policy.consumer.workers = workers;
    policy.consumer.prefetch = workers;
    policy.consumer.handler_limit = secs(1_000_000);
    policy.consumer.lease = secs(2_000_000);
    policy.consumer_timeout = None;
    Setting {
        processes: 1,
        policy,
        queue: Queue::RabbitMq { tick: 60 * S },
        backoff: Backoff::Ladder,
    }
}

fn never(_: &Outcome) -> bool {
    false
}

/// Independent runs.
fn runs(scene: &Scene, setting: &Setting, seeds: std::ops::Range<u64>) -> Vec<Outcome> {
    let made = seeds.map(|seed| run(scene, setting, &Draws::new(scene, seed), never));
    made.collect()
}

/// An estimate over independent runs.
fn estimate(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> Estimate {
    let values: Vec<f64> = outcomes.iter().map(of).collect();
    Estimate::of(&values)
}

/// Of 200 repetitions, each of ten independent runs, the intervals that contain a value.
fn contained(
    scene: &Scene,
    setting: &Setting,
    value: f64,
    of: impl Fn(&Outcome) -> f64 + Sync,
) -> usize {
    use rayon::prelude::*;
    let repetitions = (0..200u64).into_par_iter();
    let contains = repetitions.filter(|repetition| {
        let seeds = repetition * 10..repetition * 10 + 10;
        estimate(&runs(scene, setting, seeds), &of).contains(value)
    });
    contains.count()
}

/// What 200 intervals of 95 % contain with all but 1 chance in 1,000.
const HONEST: std::ops::RangeInclusive<usize> = 181..=199;

#[test]
fn a_wait_for_one_worker_is_that_of_mm1_and_the_intervals_are_honest() {
    let handler = Latency::exponential(0.5).unwrap();
    let scene = scene(1.2, 4_000, handler);
    let wait = closed::mmc_wait(1.2, 0.5, 1);
    let contained = contained(&scene, &setting(1), wait, Outcome::mean_wait);
    assert!(HONEST.contains(&contained), "{contained} of 200");
}

#[test]
fn a_wait_for_several_workers_is_that_of_erlang() {
    let handler = Latency::exponential(2.0).unwrap();
    let scene = scene(2.8, 4_000, handler);
    let wait = closed::mmc_wait(2.8, 2.0, 8);
    let contained = contained(&scene, &setting(8), wait, Outcome::mean_wait);
    assert!(HONEST.contains(&contained), "{contained} of 200");
}

#[test]
fn a_wait_with_any_handler_is_that_of_pollaczek_and_khinchine() {
    let handler = Latency::quantiles(&[(0.0, 0.1), (0.5, 0.3), (0.95, 1.0), (1.0, 2.0)]).unwrap();
    let scene = scene(1.4, 4_000, handler.clone());
    let wait = closed::mg1_wait(1.4, &handler);
    let contained = contained(&scene, &setting(1), wait, Outcome::mean_wait);
    assert!(HONEST.contains(&contained), "{contained} of 200");
}

#[test]
fn messages_that_find_a_worker_busy_and_try_again_are_a_retrial_queue() {
    let scene = Scene {
        dependency: Dependency::Slots(1),
        ..scene(1.0, 20_000, Latency::exponential(0.5).unwrap())
    };
    let setting = Setting {
        backoff: Backoff::Memoryless(3 * S),
        ..setting(u16::MAX)
    };
    let mut setting = setting;
    setting.policy.retry.attempts = 1_000;
    // Little's law: those that wait are arrivals a second times the mean wait.
    let expected = closed::retrial_waiting(1.0, 0.5, 3.0);
    let waits = |outcome: &Outcome| {
        let times: u64 = outcome.times.iter().sum();
        times as f64 / 1e9 / outcome.done as f64 - 0.5
    };
    let found = estimate(&runs(&scene, &setting, 0..40), waits);
    assert!(found.contains(expected), "{found:?} {expected}");
    assert!(found.half < 0.05 * expected, "{found:?}");
}

/// A handler that takes 45 s in 2 of 100 calls.
fn cold() -> Latency {
    let warm = Latency::quantiles(&[(0.0, 0.2), (0.5, 2.0), (0.95, 12.0), (1.0, 19.0)]).unwrap();
    Latency::mixture(vec![(0.02, Latency::fixed(45.0).unwrap()), (0.98, warm)]).unwrap()
}

#[test]
fn a_managed_queue_hands_out_again_what_takes_longer_than_its_timeout() {
    let scene = scene(1.0, 4_000, cold());
    let managed = Setting {
        queue: Queue::Managed {
            visibility: 30 * S,
            extend_every: None,
            receives: 1_000,
        },
        ..setting(40)
    };
    // The first handler ends before the second could have been too slow as well: no more than once.
    let expected = closed::visibility_redelivery(&cold(), 30.0);
    let contained = contained(&scene, &managed, expected, |it| it.share(it.taken_back));
    assert!(HONEST.contains(&contained), "{contained} of 200");
    let extended = Setting {
        queue: Queue::Managed {
            visibility: 30 * S,
            extend_every: Some(10 * S),
            receives: 1_000,
        },
        ..managed
    };
    let outcome = &runs(&scene, &extended, 0..1)[0];
    assert_eq!((outcome.taken_back, outcome.pickups.all()), (0, 0));
}

#[test]
fn consumer_timeout_strikes_on_ticks() {
    // Each process has one worker and nothing in hand beside it, and there is always one that is idle.
    let scene = scene(0.2, 3_000, cold());
    let mut setting = setting(1);
    setting.processes = 16;
    setting.policy.consumer_timeout = Some(secs(15));
    for tick in [20, 60] {
        setting.queue = Queue::RabbitMq { tick: tick * S };
        let expected = closed::consumer_timeout_redelivery(&cold(), 15.0, tick as f64);
        let contained = contained(&scene, &setting, expected, |it| it.share(it.taken_back));
        assert!(
            HONEST.contains(&contained),
            "{contained} of 200, tick {tick}"
        );
    }
}

#[test]
fn what_the_broker_takes_back_is_done_once_under_a_claim() {
    let scene = scene(0.5, 5_000, cold());
    let mut setting = setting(4);
    setting.processes = 4;
    setting.policy.consumer_timeout = Some(secs(15));
    setting.policy.consumer.lease = secs(60);
    let outcome = &runs(&scene, &setting, 0..1)[0];
    assert!(outcome.taken_back > 0, "{outcome:?}");
    assert_eq!(outcome.pickups.all(), 0);
    assert_eq!(outcome.done, outcome.messages);
    // A lease that ends before the handler: the copy comes back, and is handled beside it.
    setting.policy.consumer.lease = secs(20);
    let outcome = &runs(&scene, &setting, 0..1)[0];
    assert!(outcome.pickups.lease_over > 0, "{:?}", outcome.pickups);
}

fn retry(attempts: u32, first: u64, cap: u64, total: u64) -> redeliver_core::retry::RetryPolicy {
    redeliver_core::retry::RetryPolicy {
        attempts,
        first: secs(first),
        cap: secs(cap),
        total: secs(total),
        jitter: true,
    }
}

#[test]
fn an_outage_ends_the_messages_whose_tries_all_fall_into_it() {
    let outage = Outage {
        at: 100 * S,
        lasts: 300 * S,
        fails_after: Some(0),
    };
    let scene = Scene {
        outages: vec![outage],
        warm_up: 0,
        ..scene(20.0, 20_000, Latency::fixed(0.0).unwrap())
    };
    let mut setting = setting(1_000);
    for policy in [
        retry(5, 2, 60, 3_600),
        retry(20, 2, 30, 120),
        retry(8, 4, 600, 3_600),
    ] {
        setting.policy.retry = policy.clone();
        let retries = Retries::new(&policy, setting.policy.consumer.park);
        let outcomes = runs(&scene, &setting, 0..10);
        let of_those = |outcome: &Outcome| outcome.dead as f64 / outcome.arrivals_in_outages as f64;
        let found = estimate(&outcomes, of_those);
        let expected = retries.lost_to_outage(300.0);
        assert!(
            (found.mean - expected).abs() <= found.half + 1e-3,
            "{found:?} {expected}"
        );
        // Just before its end so many tries are made for each message that arrives.
        let tries = estimate(&outcomes, |it| {
            it.tries_in_outages as f64 / it.arrivals_in_outages as f64
        });
        let mean = (1..=300)
            .map(|t| retries.tries_within(t as f64 - 0.5))
            .sum::<f64>()
            / 300.0;
        assert!(
            (tries.mean - mean).abs() <= tries.half + 0.02,
            "{tries:?} {mean}"
        );
    }
}

#[test]
fn tries_that_fail_by_chance_are_as_many_as_calculated() {
    let scene = Scene {
        fails: 0.3,
        ..scene(5.0, 20_000, Latency::fixed(0.1).unwrap())
    };
    let mut setting = setting(50);
    setting.policy.retry = retry(4, 1, 60, 3_600);
    let outcomes = runs(&scene, &setting, 0..20);
    let tries = estimate(&outcomes, |it| it.share(it.tries));
    assert!(tries.contains(closed::expected_tries(0.3, 4)), "{tries:?}");
    let dead = estimate(&outcomes, |it| it.share(it.dead));
    assert!(dead.contains(0.3f64.powi(4)), "{dead:?}");
}

#[test]
fn a_crash_is_recovered_from_when_the_lease_is_over() {
    let crashes = (1..100).map(|n| Crash {
        at: n * 600 * S,
        process: n as u32,
        polite: false,
    });
    let scene = Scene {
        crashes: crashes.collect(),
        warm_up: 0,
        ..scene(0.5, 30_000, Latency::uniform(1.0, 5.0).unwrap())
    };
    let mut setting = setting(4);
    setting.processes = 2;
    setting.policy.consumer.handler_limit = secs(20);
    setting.policy.consumer.lease = secs(60);
    let outcome = &runs(&scene, &setting, 0..1)[0];
    assert!(outcome.recovered.len() > 50, "{}", outcome.recovered.len());
    assert_eq!(outcome.pickups.crash, outcome.recovered.len() as u64);
    let (least, most) = (
        outcome.recovered.iter().min(),
        outcome.recovered.iter().max(),
    );
    // What is left of the lease (55 s at least, if it was claimed 5 s before), up to another one more,
    // a rung of the ladder, and the handler.
    let bounds = (55 * S, (120 + 40 + 5) * S);
    assert!(
        least >= Some(&bounds.0) && most <= Some(&bounds.1),
        "{least:?} {most:?}"
    );
    // A deploy interrupts nothing that ends within the drain.
    let polite = scene.crashes.iter().map(|crash| Crash {
        polite: true,
        ..*crash
    });
    let deploys = Scene {
        crashes: polite.collect(),
        ..scene.clone()
    };
    let outcome = &runs(&deploys, &setting, 0..1)[0];
    assert!(outcome.recovered.is_empty(), "{:?}", outcome.recovered);
    assert_eq!(outcome.done, outcome.messages);
}

#[test]
fn an_outage_drains_as_fast_as_there_are_workers_to_spare() {
    // Calls hang: workers are taken, and 60 messages a minute pile up. Two workers of four are spare.
    let outage = Outage {
        at: 1_000 * S,
        lasts: 600 * S,
        fails_after: None,
    };
    let scene = Scene {
        outages: vec![outage],
        arrivals: Arrivals::Constant(1.0),
        ..scene(1.0, 5_000, Latency::fixed(2.0).unwrap())
    };
    let mut setting = setting(4);
    setting.policy.consumer.handler_limit = secs(10);
    setting.policy.retry = retry(1_000, 1, 4, 100_000);
    let outcome = &runs(&scene, &setting, 0..1)[0];
    let drained = outcome.drained[0].expect("it drains") as f64 / 1e9;
    // 600 messages and the next ones, at two a second with one a second coming in.
    assert!((580.0..680.0).contains(&drained), "{drained}");
    assert_eq!(outcome.done, outcome.messages);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let scene = Scene {
        fails: 0.1,
        ..scene(2.0, 3_000, cold())
    };
    let setting = setting(20);
    let twice = [0, 1].map(|_| run(&scene, &setting, &Draws::new(&scene, 7), never));
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn what_is_hopeless_is_given_up() {
    let scene = Scene {
        fails: 1.0,
        ..scene(2.0, 30_000, Latency::fixed(1.0).unwrap())
    };
    let outcome = run(&scene, &setting(20), &Draws::new(&scene, 7), |so_far| {
        so_far.dead > 500
    });
    assert!(outcome.given_up && outcome.dead < 6_000, "{}", outcome.dead);
}

#[test]
fn draws_have_the_shares_of_their_distribution() {
    let scene = scene(1.0, 10_000, cold());
    let mut slow = 0u64;
    for seed in 0..300 {
        let draws = Draws::new(&scene, seed);
        slow += (0..10_000)
            .filter(|message| draws.of(*message, 1).0 > 30 * S)
            .count() as u64;
    }
    // Of three million draws, 2 in 100; a deviation is 242.
    assert!(slow.abs_diff(60_000) < 4 * 242, "{slow}");
}
