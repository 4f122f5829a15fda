//! Whatever the workload, the numbers of the policy, and the faults: the shipped pipeline keeps
//! its promises. `PROPTEST_CASES` says how many cases are tried.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::{Expect, Poison, Scenario};
use redeliver::harness::verdict::Verdict;
use redeliver::pipeline::policy::{ConsumerPolicy, Policy, RelayPolicy};
use redeliver::pipeline::retry::RetryPolicy;
use redeliver::pipeline::topology::QueueType;
use redeliver::workloads::{Deposits, Onboarding, Orders};
use redeliver_sim::broker::Profile;
use redeliver_sim::fault::{Event, Kind, Rule};

/// The queues of a workload, by their consumers.
#[derive(Clone, Copy, Debug)]
struct Queues {
    all: &'static [&'static str],
    /// Those that alone take their types. Of a fact that another queue takes as well, a broker
    /// does not say that one binding is missing: no publisher can notice.
    alone: &'static [&'static str],
}

const ORDERS: Queues = Queues {
    all: &["charge-card", "reserve-inventory", "send-receipt"],
    alone: &["charge-card", "reserve-inventory", "send-receipt"],
};
const ONBOARDING: Queues = Queues {
    all: &[
        "screening",
        "verifier",
        "archive",
        "onboarding",
        "warehouse",
    ],
    alone: &["verifier", "archive", "warehouse"],
};
const DEPOSITS: Queues = Queues {
    all: &["ledger"],
    alone: &["ledger"],
};

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let span = (millis(50..5_000), 1u32..40, 1u32..60);
    (1u32..9, span, any::<bool>()).prop_map(|(attempts, (first, cap, total), jitter)| {
        let cap = first * cap;
        let total = cap * total;
        RetryPolicy {
            attempts,
            first,
            cap,
            total,
            jitter,
        }
    })
}

fn relay() -> impl Strategy<Value = RelayPolicy> {
    let times = (millis(500..10_000), 2u32..5, millis(100..3_000));
    let backoff = (millis(20..2_000), 1u32..30);
    (1u32..60, times, backoff).prop_map(|(batch, (confirm, leases, poll), (backoff, cap))| {
        RelayPolicy {
            batch,
            lease: confirm * leases,
            confirm_timeout: confirm,
            poll,
            backoff,
            backoff_cap: backoff * cap,
            ..RelayPolicy::default()
        }
    })
}

fn consumer() -> impl Strategy<Value = ConsumerPolicy> {
    let bounds = (1u16..5, 0u16..8);
    // Either a claim outlasts its handler, or it is renewed in time.
    let lease = prop_oneof![
        (110u32..400).prop_map(|percent| (percent, None)),
        (20u32..200, 3u32..8).prop_map(|(percent, part)| (percent, Some(part))),
    ];
    let times = (
        millis(1_000..25_000),
        millis(100..4_000),
        millis(1_000..60_000),
    );
    (bounds, lease, times).prop_map(|((workers, more), (percent, renewed), times)| {
        let (handler_limit, park, purge_every) = times;
        let lease = handler_limit * percent / 100 + Duration::from_millis(1);
        ConsumerPolicy {
            workers,
            prefetch: workers + more,
            handler_limit,
            lease,
            renew_every: renewed.map(|part| lease / part),
            park,
            purge_every,
            ..ConsumerPolicy::default()
        }
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let timeout = prop_oneof![Just(None), (2u32..60).prop_map(Some)];
    (relay(), consumer(), retry(), timeout).prop_map(|(relay, consumer, retry, timeout)| {
        // All that is prefetched for a worker ends within it.
        let turns = u32::from(consumer.prefetch).div_ceil(u32::from(consumer.workers));
        let consumer_timeout = timeout.map(|times| consumer.handler_limit * times.max(turns));
        Policy {
            relay,
            consumer,
            retry,
            consumer_timeout,
            ..Policy::default()
        }
    })
}

/// Faults that strike calls. Those that end a process or hold it up are kept rare: each costs
/// the run much time.
fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let by_chance = Kind::ALL.iter().filter(|kind| !kind.seams().is_empty());
    let kinds: Vec<Kind> = by_chance.copied().collect();
    let some = subsequence(kinds, 0..6);
    some.prop_flat_map(|kinds| kinds.into_iter().map(rule).collect::<Vec<_>>())
}

fn rule(kind: Kind) -> impl Strategy<Value = Rule> {
    let hard = matches!(kind, Kind::Crash | Kind::Pause);
    let ppm = if hard { 500..20_000u32 } else { 1_000..200_000 };
    let seams: Vec<_> = std::iter::once(None)
        .chain(kind.seams().iter().copied().map(Some))
        .collect();
    (ppm, millis(10..90_000), select(seams)).prop_map(move |(ppm, lasts, seam)| Rule {
        seam,
        lasts: nanos(lasts),
        limit: if hard { 12 } else { u32::MAX },
        ..Rule::new(kind, ppm)
    })
}

/// Faults that happen at a time, but for the one that no consumer can mend.
fn events(queues: Queues) -> impl Strategy<Value = Vec<Event>> {
    let timed = Kind::ALL.iter().filter(|kind| kind.seams().is_empty());
    let timed = timed.copied().filter(|kind| *kind != Kind::LostConfirmed);
    let kinds: Vec<Kind> = timed.chain([Kind::Crash, Kind::Pause]).collect();
    let some = subsequence(kinds, 0..4);
    some.prop_flat_map(move |kinds| {
        let each = kinds.into_iter().map(|kind| event(kind, queues));
        each.collect::<Vec<_>>()
    })
}

fn event(kind: Kind, queues: Queues) -> impl Strategy<Value = Event> {
    let processes = [&["relay", "client"], queues.all].concat();
    let whom = match kind {
        Kind::UnboundQueue => queues.alone.to_vec(),
        Kind::LeaderChange => queues.all.to_vec(),
        _ => processes,
    };
    let database = any::<bool>();
    let skew = -90_000_000_000..90_000_000_000i64;
    let times = (millis(0..50_000), millis(100..30_000));
    (times, select(whom), database, skew).prop_map(move |((at, lasts), whom, database, skew)| {
        let target = match kind {
            Kind::Partition if database => format!("{whom}@database"),
            _ => whom.to_owned(),
        };
        let named = !matches!(kind, Kind::ServiceDown | Kind::RollingDeploy);
        Event {
            kind,
            at: nanos(at),
            lasts: nanos(lasts),
            target: named.then(|| target.into()),
            amount: match kind {
                Kind::ClockSkew | Kind::ClockJump => skew,
                _ => 0,
            },
        }
    })
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).expect("a short time")
}

fn poison() -> impl Strategy<Value = Poison> {
    let some = || 0u32..2;
    (some(), some(), some(), some(), some(), some()).prop_map(
        |(poison, killer, unknown_version, transient, panics, malformed)| Poison {
            poison,
            killer,
            unknown_version,
            transient,
            panics,
            malformed,
        },
    )
}

fn scenario(workload: &'static str, queues: Queues) -> impl Strategy<Value = Scenario> {
    let load = (1u32..10, millis(1..20_000), 1u32..4);
    let crew = (1u32..4, 1u32..3, millis(100..10_000));
    let profiles = [
        Profile::Rabbit3_10,
        Profile::Rabbit3_13,
        Profile::Rabbit4_0,
        Profile::Rabbit4_3,
    ];
    let broker = (
        select(profiles.to_vec()),
        select(vec![QueueType::Quorum, QueueType::Classic]),
    );
    let faults = (rules(), events(queues), millis(5_000..90_000), poison());
    (load, crew, broker, policy(), faults).prop_map(
        move |(load, (relays, processes, restart), broker, policy, faults)| Scenario {
            messages: load.0,
            over: load.1,
            clients: load.2,
            relays,
            worker_processes: processes,
            restart_after: restart,
            broker: broker.0,
            queue_type: broker.1,
            policy,
            rules: faults.0,
            events: faults.1,
            faults_until: faults.2,
            poison: faults.3,
            // A policy without a second attempt gives up what merely met somebody else.
            expect: Expect {
                dead_letters: Some((0, u64::MAX)),
                ..Expect::default()
            },
            ..Scenario::new("property", workload)
        },
    )
}

/// The promises hold; what a broken one says is everything that is needed to see it again.
fn holds(scenario: &Scenario, run: &RunResult) -> Result<(), TestCaseError> {
    let contradictions = scenario.policy.contradictions();
    prop_assert!(contradictions.is_empty(), "{contradictions:?}");
    let nothing_done = run.inconclusive.as_deref();
    let nothing_done = nothing_done.is_some_and(|why| why.contains("completed nothing"));
    prop_assert!(
        run.verdict == Verdict::Valid || (run.anomalies.is_empty() && nothing_done),
        "{} on seed {} ({:?}): {:#?}\nfaults: {:?}\n{scenario:#?}",
        run.verdict,
        run.seed,
        run.inconclusive,
        run.anomalies,
        run.faults,
    );
    Ok(())
}

fn config() -> ProptestConfig {
    ProptestConfig {
        max_shrink_iters: 100,
        max_shrink_time: 60_000,
        // A failure becomes a test in `regressions.rs`, not a line in a file.
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases())
    }
}

fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn orders_are_done_once_or_given_up(
        scenario in scenario("orders", ORDERS),
        seed: u64,
    ) {
        holds(&scenario, &simulate(&Orders, &scenario, seed, false))?;
    }

    #[test]
    fn customers_are_taken_in_once_or_given_up(
        scenario in scenario("onboarding", ONBOARDING),
        seed: u64,
    ) {
        holds(&scenario, &simulate(&Onboarding, &scenario, seed, false))?;
    }

    #[test]
    fn money_moves_once_and_in_order(
        scenario in scenario("deposits", DEPOSITS),
        seed: u64,
    ) {
        holds(&scenario, &simulate(&Deposits, &scenario, seed, false))?;
    }
}
