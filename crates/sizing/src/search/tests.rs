use super::*;
use crate::case::{OutageKind, Shape, Targets};
use crate::latency::Latency;
use crate::layers::conflicts;
use crate::model::{Backoff, Dependency};
use redeliver_core::policy::Policy;

/// A charge with cold starts of 45 s.
fn case() -> Case {
    let warm = [(0.0, 0.2), (0.5, 2.0), (0.95, 12.0), (1.0, 19.0)];
    let warm = Latency::quantiles(&warm).unwrap();
    let cold = Latency::fixed(45.0).unwrap();
    Case {
        rate: 1.0,
        handler: Latency::mixture(vec![(0.02, cold), (0.98, warm)]).unwrap(),
        fails: 0.001,
        arrivals: Shape::Poisson,
        outages: vec![OutageKind::single(300.0, 0.1)],
        fails_after: Some(0.05),
        crashes_per_day: 1.0,
        deploys_per_day: 1.0,
        restart_after: 5.0,
        dependency: Dependency::Unlimited,
        hop: 0.005,
        calls: 1,
        targets: Targets {
            duplicates: 0.001,
            dead_letters: 0.0001,
            recovery: 300.0,
            amplification: 10.0,
            quantile: 0.95,
            within: 30.0,
        },
    }
}

/// With retries that outlast the outage.
fn present(queue: Queue) -> Setting {
    let mut policy = Policy::default();
    policy.retry.attempts = 12;
    policy.retry.first = Duration::from_secs(5);
    Setting {
        processes: 2,
        policy,
        queue,
        backoff: Backoff::Ladder,
        budget: None,
    }
}

const RABBITMQ: Queue = Queue::RabbitMq {
    tick: 60_000_000_000,
};

const MANAGED: Queue = Queue::Managed {
    visibility: 30_000_000_000,
    extend_every: None,
    receives: 8,
    retention: None,
};

const DELAYED: Queue = Queue::DelayedRetry {
    delays: crate::model::Delays::Failed,
    settles: crate::model::Settles::Reject,
    ttl: None,
    dead_letters: true,
};

/// Numbers that need not be chosen to see the others.
const RETRIES: [Number; 4] = [Number::Attempts, Number::First, Number::Cap, Number::Total];

fn find(case: &Case, present: &Setting, fixed: &[Number]) -> Found {
    let chances = Chances::new(case, present.processes, 10_000, 1);
    let search = Search::new(case, &chances, Weights::default(), fixed);
    search.find(present).expect("nothing contradicts")
}

#[test]
fn what_is_recommended_meets_the_targets_and_its_bounds_do_not() {
    let case = case();
    for queue in [RABBITMQ, MANAGED, DELAYED] {
        let found = find(&case, &present(queue), &[]);
        assert_eq!(found.impossible, []);
        assert_eq!(found.expected.broken(&case), []);
        assert!(
            !found.present.broken(&case).is_empty(),
            "20 s, or 30 s, cut cold starts off"
        );
        let chances = Chances::new(&case, 2, 10_000, 1);
        let search = Search::new(&case, &chances, Weights::default(), &[]);
        assert_eq!(search.contradiction(&found.recommended), None);
        let left = conflicts(&case, &found.recommended, &[], None);
        assert_eq!(left, [], "{queue:?}");
        let mut outside = 0;
        for sized in &found.numbers {
            let order = |value: Value| value.unwrap_or(f64::INFINITY);
            let (low, high) = (order(sized.lowest), order(sized.highest));
            assert!(
                (low..=high).contains(&order(sized.recommended)),
                "{sized:?}"
            );
            for (value, bound) in sized.below.into_iter().chain(sized.above) {
                let changed = varied(&found.recommended, sized.number, value);
                outside += 1;
                match bound {
                    Bound::Target(target) => {
                        let broken = search.expected(&changed).broken(&case);
                        assert!(broken.contains(&target), "{:?}: {broken:?}", sized.number);
                    }
                    other => assert_eq!(search.contradiction(&changed), Some(other)),
                }
            }
        }
        assert!(outside > 5, "{outside}");
    }
}

#[test]
fn a_timeout_below_the_cold_starts_is_named_with_its_bound() {
    let found = find(&case(), &present(MANAGED), &RETRIES);
    let of = |number: Number| found.numbers.iter().find(|it| it.number == number).unwrap();
    let limit = of(Number::HandlerLimit);
    assert!(limit.recommended >= Some(45.0), "{limit:?}");
    assert_eq!(
        limit.below.map(|it| it.1),
        Some(Bound::Target(Target::Duplicates))
    );
    let visibility = of(Number::Visibility);
    assert!(visibility.recommended > limit.recommended, "{visibility:?}");
    assert_eq!(
        visibility.above.map(|it| it.1),
        Some(Bound::Target(Target::Recovery))
    );
}

#[test]
fn impossible_targets_are_named_with_the_nearest() {
    let mut case = case();
    case.targets.within = 5.0;
    let found = find(&case, &present(RABBITMQ), &RETRIES);
    let [(Target::Latency, nearest)] = found.impossible[..] else {
        panic!("{:?}", found.impossible);
    };
    // The handler alone takes 15 s at that quantile.
    assert!((12.0..20.0).contains(&nearest), "{nearest}");
}

#[test]
fn fixed_numbers_stay() {
    let fixed = [Number::HandlerLimit, Number::Attempts, Number::Workers];
    let (case, present) = (case(), present(RABBITMQ));
    let chances = Chances::new(&case, present.processes, 10_000, 1);
    let search = Search::new(&case, &chances, Weights::default(), &fixed);
    let found = search.find(&present).expect("nothing contradicts");
    // A few runs have left some values out.
    let full = lock(&search.known).len();
    assert!(full < found.settings, "{full} of {}", found.settings);
    for number in fixed {
        assert_eq!(number.get(&found.recommended), number.get(&present));
    }
    let missed: Vec<_> = found.impossible.iter().map(|it| it.0).collect();
    assert_eq!(
        missed,
        [Target::Duplicates],
        "a limit of 20 s cuts cold starts off"
    );
}

#[test]
fn the_same_seed_recommends_the_same() {
    let twice = [0, 1].map(|_| find(&case(), &present(RABBITMQ), &RETRIES));
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn present_contradictions_are_not_recommended() {
    let mut present = present(RABBITMQ);
    present.policy.consumer.handler_limit = Duration::from_secs(60);
    present.policy.consumer.lease = Duration::from_secs(30);
    present.policy.consumer_timeout = Some(Duration::from_secs(30));
    assert!(present.policy.contradictions().len() > 1);
    let found = find(&case(), &present, &RETRIES);
    assert_eq!(found.recommended.policy.contradictions(), []);
    // Where both are fixed nothing can be done.
    let (case, fixed) = (case(), [Number::HandlerLimit, Number::Lease]);
    let chances = Chances::new(&case, 2, 10_000, 1);
    let search = Search::new(&case, &chances, Weights::default(), &fixed);
    let refused = search.find(&present).map(|_| ());
    assert_eq!(refused, Err(Bound::Check(Check::LeaseShorterThanHandler)));
}
