use std::time::Duration;

use super::*;
use crate::case::{OutageKind, Shape, Targets};
use crate::latency::Latency;
use crate::model::{Backoff, Delays, Dependency, Settles};
use redeliver_core::policy::Policy;

const S: u64 = 1_000_000_000;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Handlers of 1 to 19 s, and outages of 5 minutes.
fn case() -> Case {
    Case {
        rate: 1.0,
        arrivals: Shape::Poisson,
        handler: Latency::uniform(1.0, 19.0).unwrap(),
        fails: 0.001,
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

/// Settings that agree with each other and with the case.
fn agreed(queue: Queue) -> Setting {
    let mut policy = Policy::default();
    policy.consumer.handler_limit = secs(20);
    policy.consumer.lease = secs(60);
    policy.consumer.drain = secs(25);
    policy.consumer.workers = 4;
    policy.consumer.prefetch = 4;
    policy.consumer_timeout = Some(secs(1_800));
    policy.retry.attempts = 14;
    policy.retry.first = secs(5);
    policy.retry.cap = secs(60);
    Setting {
        processes: 2,
        policy,
        queue,
        backoff: Backoff::Ladder,
        budget: None,
    }
}

const RABBITMQ: Queue = Queue::RabbitMq { tick: 60 * S };

const MANAGED: Queue = Queue::Managed {
    visibility: 60 * S,
    extend_every: None,
    receives: 20,
    retention: Some(4 * 86_400 * S),
};

const DELAYED: Queue = Queue::DelayedRetry {
    delays: Delays::Failed,
    settles: Settles::Reject,
    ttl: None,
    dead_letters: true,
};

fn found(
    case: &Case,
    setting: &Setting,
    broken: &[Target],
    lifetime: Option<f64>,
) -> Vec<Conflict> {
    let found = conflicts(case, setting, broken, lifetime);
    for shown in &found {
        assert!(!shown.steps.is_empty(), "{shown:?}");
    }
    found.into_iter().map(|it| it.conflict).collect()
}

#[test]
fn settings_that_agree_show_nothing_even_where_every_target_is_missed() {
    for queue in [RABBITMQ, MANAGED, DELAYED] {
        let shown = found(&case(), &agreed(queue), &Target::ALL, Some(1e9));
        assert_eq!(shown, [], "{queue:?}");
    }
}

/// One change to settings that agree, and the conflict that comes of it.
type Change = (Queue, fn(&mut Case, &mut Setting), Conflict);

fn managed(setting: &mut Setting, change: impl FnOnce(&mut u64, &mut u32, &mut Option<u64>)) {
    if let Queue::Managed {
        visibility,
        receives,
        retention,
        ..
    } = &mut setting.queue
    {
        change(visibility, receives, retention);
    }
}

const CHANGES: [Change; 22] = [
    (
        RABBITMQ,
        |_, it| it.policy.consumer.lease = secs(5),
        Conflict::LeaseShorterThanHandler,
    ),
    (
        RABBITMQ,
        |_, it| it.policy.consumer_timeout = Some(secs(10)),
        Conflict::ConsumerTimeoutShorterThanHandler,
    ),
    (
        DELAYED,
        |_, it| it.policy.consumer_timeout = Some(secs(10)),
        Conflict::ConsumerTimeoutShorterThanHandler,
    ),
    (
        RABBITMQ,
        |_, it| {
            it.policy.consumer.prefetch = 64;
            it.policy.consumer_timeout = Some(secs(60));
        },
        Conflict::ConsumerTimeoutShorterThanPrefetch,
    ),
    (
        MANAGED,
        |_, it| managed(it, |visibility, _, _| *visibility = 10 * S),
        Conflict::VisibilityShorterThanHandler,
    ),
    (
        MANAGED,
        |_, it| it.policy.consumer.prefetch = 64,
        Conflict::VisibilityShorterThanPrefetch,
    ),
    (
        RABBITMQ,
        |_, it| it.policy.consumer.drain = secs(10),
        Conflict::DrainShorterThanHandler,
    ),
    (
        DELAYED,
        |_, it| it.policy.consumer.drain = secs(10),
        Conflict::DrainShorterThanHandler,
    ),
    (
        RABBITMQ,
        |_, it| it.policy.consumer.handler_limit = secs(15),
        Conflict::HandlerLimitShorterThanHandler,
    ),
    (
        RABBITMQ,
        |_, it| it.policy.consumer.lease = secs(400),
        Conflict::TakeoverLaterThanRecovery,
    ),
    (
        MANAGED,
        |_, it| managed(it, |visibility, _, _| *visibility = 400 * S),
        Conflict::TakeoverLaterThanRecovery,
    ),
    (
        RABBITMQ,
        |_, it| it.policy.retry.attempts = 5,
        Conflict::RetriesShorterThanOutage,
    ),
    (
        DELAYED,
        |_, it| it.policy.retry.attempts = 5,
        Conflict::RetriesShorterThanOutage,
    ),
    (
        RABBITMQ,
        |_, it| it.policy.retry.total = secs(400),
        Conflict::TotalEndsBeforeAttempts,
    ),
    (
        MANAGED,
        |_, it| managed(it, |_, receives, _| *receives = 12),
        Conflict::DeliveryLimitBelowAttempts,
    ),
    (
        DELAYED,
        |_, it| {
            it.policy.consumer.prefetch = 64;
            it.policy.retry.attempts = 3;
        },
        Conflict::CrashesCountForPrefetched,
    ),
    (
        DELAYED,
        |_, it| {
            if let Queue::DelayedRetry {
                settles, delays, ..
            } = &mut it.queue
            {
                (*settles, *delays) = (Settles::Nack, Delays::All);
            }
        },
        Conflict::NackIsNotCounted,
    ),
    (
        DELAYED,
        |_, it| {
            if let Queue::DelayedRetry { delays, .. } = &mut it.queue {
                *delays = Delays::Returned;
            }
        },
        Conflict::FailuresAreNotDelayed,
    ),
    (
        DELAYED,
        |_, it| {
            if let Queue::DelayedRetry { dead_letters, .. } = &mut it.queue {
                *dead_letters = false;
            }
        },
        Conflict::NoDeadLetterExchange,
    ),
    (
        RABBITMQ,
        |_, it| it.policy.consumer.dedup_window = secs(3_600),
        Conflict::DedupWindowShorterThanRedrive,
    ),
    (
        MANAGED,
        |_, it| managed(it, |_, _, retention| *retention = Some(300 * S)),
        Conflict::RetentionShorterThanRetries,
    ),
    (
        DELAYED,
        |_, it| {
            if let Queue::DelayedRetry { ttl, .. } = &mut it.queue {
                *ttl = Some(300 * S);
            }
        },
        Conflict::RetentionShorterThanRetries,
    ),
];

#[test]
fn each_contradiction_is_shown_by_a_run_of_its_own() {
    for (queue, change, conflict) in CHANGES {
        let (mut case, mut setting) = (case(), agreed(queue));
        change(&mut case, &mut setting);
        let broken: Vec<Target> = conflict.target().into_iter().collect();
        let shown = found(&case, &setting, &broken, None);
        assert!(
            shown.contains(&conflict),
            "{queue:?}: {conflict:?} {shown:?}"
        );
    }
    let key = Conflict::KeyLifetimeShorterThanRetries;
    for queue in [RABBITMQ, MANAGED, DELAYED] {
        let shown = found(&case(), &agreed(queue), &[], Some(86_400.0));
        assert_eq!(shown, [key], "{queue:?}");
    }
    let untried: Vec<Conflict> = Conflict::ALL
        .into_iter()
        .filter(|it| *it != key && !CHANGES.iter().any(|change| change.2 == *it))
        .collect();
    assert_eq!(untried, []);
}

#[test]
fn a_short_lease_is_no_contradiction_if_no_handler_takes_so_long() {
    let mut case = case();
    let mut setting = agreed(RABBITMQ);
    setting.policy.consumer.lease = secs(10);
    assert!(!setting.policy.contradictions().is_empty(), "by the rule");
    let lease = [Conflict::LeaseShorterThanHandler];
    assert_eq!(found(&case, &setting, &[], None), lease);
    case.handler = Latency::uniform(1.0, 4.0).unwrap();
    assert_eq!(found(&case, &setting, &[], None), []);
}

#[test]
fn a_lease_that_is_renewed_may_be_shorter_than_the_handler() {
    let mut setting = agreed(RABBITMQ);
    setting.policy.consumer.lease = secs(10);
    setting.policy.consumer.renew_every = Some(secs(3));
    assert_eq!(found(&case(), &setting, &[], None), []);
}

#[test]
fn the_story_of_a_short_visibility_has_both_runs() {
    let mut setting = agreed(MANAGED);
    managed(&mut setting, |visibility, _, _| *visibility = 10 * S);
    let shown = conflicts(&case(), &setting, &[], None);
    let story = &shown[0].steps;
    let began: Vec<_> = story
        .iter()
        .filter_map(|(at, step)| match step {
            Step::Began { beside, .. } => Some((at / S, *beside)),
            _ => None,
        })
        .collect();
    assert_eq!(began[..2], [(0, false), (10, true)], "{story:?}");
    let taken = |it: &(u64, Step)| matches!(it.1, Step::TakenBack { running: true, .. });
    assert!(story.iter().any(taken), "{story:?}");
}

#[test]
fn a_takeover_is_not_blamed_for_what_else_takes_long() {
    let takeover = Conflict::TakeoverLaterThanRecovery;
    let broken = [Target::Recovery];
    // The only process is away for longer than the target.
    let mut case = case();
    case.restart_after = 3_600.0;
    let mut setting = agreed(RABBITMQ);
    setting.processes = 1;
    assert!(!found(&case, &setting, &broken, None).contains(&takeover));
    // The handler alone takes longer.
    case.restart_after = 5.0;
    case.targets.recovery = 10.0;
    for queue in [RABBITMQ, MANAGED, DELAYED] {
        let shown = found(&case, &agreed(queue), &broken, None);
        assert!(!shown.contains(&takeover), "{queue:?}");
    }
}

#[test]
fn interruptions_strike_while_the_handler_runs_however_long_a_hop_takes() {
    let mut case = case();
    case.hop = 5.0;
    let mut setting = agreed(RABBITMQ);
    setting.policy.consumer.lease = secs(5);
    setting.policy.consumer.drain = secs(10);
    let shown = found(&case, &setting, &[], None);
    for conflict in [
        Conflict::LeaseShorterThanHandler,
        Conflict::DrainShorterThanHandler,
    ] {
        assert!(shown.contains(&conflict), "{conflict:?}: {shown:?}");
    }
}
