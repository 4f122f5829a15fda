//! The model and the formulas say the same.

use std::time::Duration;

use super::*;
use crate::closed;
use crate::closed::Retries;
use crate::interval::Estimate;
use redeliver_core::retry::RetryPolicy;

const S: u64 = 1_000_000_000;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A calm scene: `messages` that arrive at random.
fn scene(arrivals: f64, messages: u32, handler: Latency) -> Scene {
    Scene {
        warm_up: messages / 10,
        restart_after: 2 * S,
        ..Scene::calm(Arrivals::Poisson(arrivals), messages, handler)
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
        budget: None,
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
            retention: None,
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
            retention: None,
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

fn retry(attempts: u32, first: u64, cap: u64, total: u64) -> RetryPolicy {
    RetryPolicy {
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
    let crashes = (1..100).map(|n| Interruption {
        at: n * 600 * S,
        process: n as u32,
        how: Interrupt::Crash,
    });
    let scene = Scene {
        interruptions: crashes.collect(),
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
    let polite = scene.interruptions.iter().map(|crash| Interruption {
        how: Interrupt::Deploy,
        ..*crash
    });
    let deploys = Scene {
        interruptions: polite.collect(),
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

/// When each second try begins, in a run in which all first tries of many messages fail at once.
fn second_tries(setting: &Setting) -> Vec<u64> {
    let outage = Outage {
        at: 0,
        lasts: 1_000 * S,
        fails_after: Some(0),
    };
    let at = vec![S; 4_000];
    let scene = Scene {
        outages: vec![outage],
        ..Scene::calm(Arrivals::At(at), 4_000, Latency::fixed(0.1).unwrap())
    };
    let (_, steps) = run_with_steps(&scene, setting, &Draws::new(&scene, 1), never);
    let second = steps.into_iter().filter_map(|(at, step)| match step {
        Step::Began { attempt: 2, .. } => Some(at),
        _ => None,
    });
    second.collect()
}

#[test]
fn the_peak_of_retries_is_what_the_formula_says_with_and_without_jitter() {
    for jitter in [false, true] {
        let mut setting = setting(u16::MAX);
        setting.policy.retry = RetryPolicy {
            jitter,
            ..retry(3, 4, 60, 3_600)
        };
        let mut tries = second_tries(&setting);
        tries.sort_unstable();
        let peak = tries.chunk_by(|a, b| a == b).map(<[u64]>::len).max();
        let share = peak.unwrap_or(0) as f64 / 4_000.0;
        let together = Retries::of(&setting).together(1);
        // Four standard deviations of a share of 4,000.
        let most = 4.0 * (together * (1.0 - together) / 4_000.0).sqrt() + 1e-9;
        assert!(
            (share - together).abs() <= most,
            "{jitter}: {share} {together}"
        );
    }
}

/// A queue of RabbitMQ 4.3 that delays retries.
fn delayed(delays: Delays, settles: Settles) -> Setting {
    let mut setting = setting(200);
    setting.queue = Queue::DelayedRetry {
        delays,
        settles,
        ttl: None,
        dead_letters: true,
    };
    setting.policy.retry = retry(6, 10, 30, 3_600);
    setting
}

#[test]
fn a_broker_that_delays_retries_makes_its_waits_longer_step_by_step() {
    let setting = delayed(Delays::Failed, Settles::Reject);
    // 10, 20, 30, 30, 30 s: the fifth failure after the first ends it.
    assert!((setting.longest_wait() - 120.0).abs() < 1e-9);
    assert_eq!(Retries::of(&setting).ends(), [(120.0, 1.0)]);
    let outage = Outage {
        at: 100 * S,
        lasts: 300 * S,
        fails_after: Some(0),
    };
    let scene = Scene {
        outages: vec![outage],
        ..scene(5.0, 4_000, Latency::fixed(0.1).unwrap())
    };
    let lost = Retries::of(&setting).lost_to_outage(300.0);
    let outcomes = runs(&scene, &setting, 0..10);
    let dead = estimate(&outcomes, |it| {
        it.dead as f64 / it.arrivals_in_outages as f64
    });
    assert!(dead.contains(lost), "{dead:?} {lost}");
}

#[test]
fn what_is_not_delayed_comes_back_at_once() {
    let tries = |delays, settles| {
        let setting = delayed(delays, settles);
        let scene = Scene {
            fails: 1.0,
            ..Scene::calm(Arrivals::At(vec![0]), 1, Latency::fixed(1.0).unwrap())
        };
        let outcome = run(&scene, &setting, &Draws::new(&scene, 1), |it| {
            it.begun > 100
        });
        (outcome.begun.min(100), outcome.lasted.round())
    };
    // Six tries of a second each, with all waits or none.
    assert_eq!(tries(Delays::Failed, Settles::Reject), (6, 126.0));
    assert_eq!(tries(Delays::Returned, Settles::Reject), (6, 6.0));
    // nack is not counted: it never ends, and its delay stays the shortest.
    assert_eq!(tries(Delays::Failed, Settles::Nack).0, 100);
}

#[test]
fn a_renewed_claim_holds_for_as_long_as_its_handler() {
    let scene = Scene {
        interruptions: vec![Interruption {
            at: S,
            process: 0,
            how: Interrupt::Disconnect,
        }],
        ..Scene::calm(Arrivals::At(vec![0]), 1, Latency::fixed(50.0).unwrap())
    };
    let mut setting = setting(4);
    setting.processes = 2;
    setting.policy.consumer.lease = secs(10);
    let beside = |setting: &Setting| {
        let outcomes = runs(&scene, setting, 0..20);
        outcomes.iter().map(|it| it.pickups.lease_over).sum::<u64>()
    };
    assert!(beside(&setting) >= 20);
    setting.policy.consumer.renew_every = Some(secs(3));
    assert_eq!(beside(&setting), 0);
}

#[test]
fn a_hop_keeps_workers_waiting_unless_there_is_more_in_hand() {
    // A handler of 5 ms and a hop of 10 ms: one in hand makes 67 a second, and four 200.
    let scene = |messages| Scene {
        hop: S / 100,
        ..Scene::calm(
            Arrivals::At(vec![0; messages as usize]),
            messages,
            Latency::fixed(0.005).unwrap(),
        )
    };
    for (prefetch, rate) in [(1, 1.0 / 0.015), (2, 2.0 / 0.015), (4, 200.0)] {
        let mut setting = setting(1);
        setting.policy.consumer.prefetch = prefetch;
        let outcome = &runs(&scene(2_000), &setting, 0..1)[0];
        let made = 2_000.0 / outcome.lasted;
        assert!(
            (made / rate - 1.0).abs() < 0.02,
            "{prefetch}: {made} {rate}"
        );
    }
}

#[test]
fn a_retry_budget_bounds_the_calls_of_an_outage() {
    let outage = Outage {
        at: 100 * S,
        lasts: 300 * S,
        fails_after: Some(0),
    };
    let scene = Scene {
        outages: vec![outage],
        ..scene(10.0, 8_000, Latency::fixed(0.5).unwrap())
    };
    let mut setting = setting(50);
    setting.policy.retry = retry(30, 1, 20, 3_600);
    let calls = |setting: &Setting| {
        let outcomes = runs(&scene, setting, 0..5);
        assert!(outcomes.iter().all(|it| it.dead == 0), "nothing is lost");
        estimate(&outcomes, |it| {
            it.calls_in_outages as f64 / it.arrivals_in_outages as f64
        })
    };
    assert!(calls(&setting).mean > 8.0);
    setting.budget = Some(RetryBudget {
        ratio: 100,
        burst: 10,
    });
    // Nothing ends well in the outage, so that only the burst is made again.
    let limited = calls(&setting);
    assert!((1.0..1.01).contains(&limited.mean), "{limited:?}");
}

#[test]
fn a_client_library_multiplies_the_calls_and_divides_the_failures() {
    let outage = Outage {
        at: 100 * S,
        lasts: 100 * S,
        fails_after: Some(S / 20),
    };
    let calm = scene(5.0, 20_000, Latency::fixed(0.1).unwrap());
    let scene = |calls: u32, outages: Vec<Outage>| Scene {
        calls,
        outages,
        fails: 0.3,
        ..calm.clone()
    };
    let setting = setting(50);
    let failed = estimate(&runs(&scene(2, Vec::new()), &setting, 0..10), |it| {
        it.share(it.tries) - 1.0
    });
    // 0.09 of tries fail, and each of them is tried again.
    assert!(failed.contains(0.09 / 0.91), "{failed:?}");
    let out = &runs(&scene(3, vec![outage]), &setting, 0..1)[0];
    assert_eq!(out.calls_in_outages, 3 * out.tries_in_outages);
}

#[test]
fn arrivals_of_a_cycle_come_in_its_parts() {
    let parts = vec![(60.0, 0.0), (60.0, 2.0)];
    let scene = Scene::calm(
        Arrivals::Cycle(3.0, parts),
        30_000,
        Latency::fixed(0.0).unwrap(),
    );
    let draws = Draws::new(&scene, 5);
    let last = *draws.arrivals.last().unwrap() as f64 / 1e9;
    assert!((30_000.0 / last / 3.0 - 1.0).abs() < 0.03, "{last}");
    // Wherever it begins, no gap within a part is longer than a few seconds, and each cycle has one of 60.
    let gaps = draws
        .arrivals
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as f64 / 1e9);
    let long = gaps.filter(|gap| *gap >= 60.0).count() as f64;
    assert!((long - last / 120.0).abs() <= 1.0, "{long} {last}");
    // Also where a gap is longer than a part.
    let parts = vec![(0.5, 0.0), (0.5, 2.0)];
    let scene = Scene {
        arrivals: Arrivals::Cycle(1.0, parts),
        ..scene
    };
    let last = *Draws::new(&scene, 5).arrivals.last().unwrap() as f64 / 1e9;
    assert!((30_000.0 / last - 1.0).abs() < 0.03, "{last}");
}
