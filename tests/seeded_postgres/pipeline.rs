//! The shipped pipeline, with its own SQL, over a real server in the seeded world.

use std::time::Duration;

use redeliver::harness::run::{RunResult, TraceLine, simulate};
use redeliver::harness::scenario::{Database, Scenario};
use redeliver::harness::verdict::Verdict;
use redeliver::workloads::orders::Orders;
use redeliver_sim::fault::{Event, Kind, Rule};

/// Ten orders in two seconds, and what strikes a database and its clients.
fn scenario() -> Scenario {
    let mut scenario = Scenario::new("seeded-postgres", "orders");
    scenario.database = Database::Postgres;
    scenario.messages = 10;
    scenario.over = Duration::from_secs(2);
    scenario.faults_until = Duration::from_secs(5);
    let kinds = [
        Kind::Crash,
        Kind::Pause,
        Kind::Abort,
        Kind::SlowStatement,
        Kind::LostCommit,
        Kind::CommitInDoubt,
        Kind::LostNotification,
        Kind::LostAck,
        Kind::DuplicatePublish,
    ];
    scenario.rules = kinds.map(|kind| Rule::new(kind, 10_000)).to_vec();
    scenario
}

fn told(run: &RunResult) -> String {
    let lines: Vec<String> = run.trace.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn the_pipeline_holds_and_the_seed_decides() {
    if !crate::has_postgres() {
        return;
    }
    let scenario = scenario();
    for seed in 1..=5 {
        let run = simulate(&Orders, &scenario, seed, true);
        assert_eq!(
            (run.verdict, &run.inconclusive),
            (Verdict::Valid, &None),
            "seed {seed}: {:#?}\n{}",
            run.anomalies,
            told(&run)
        );
        let again = simulate(&Orders, &scenario, seed, true);
        assert_eq!(told(&run), told(&again), "seed {seed}");
        assert_eq!((run.hash, run.state), (again.hash, again.state));
    }
}

/// The database goes away twice, once with half of its clients cut off from it, in the middle of
/// commits in doubt.
#[test]
fn the_pipeline_holds_while_the_database_fails_over() {
    if !crate::has_postgres() {
        return;
    }
    const SECOND: u64 = 1_000_000_000;
    let event = |kind, at, lasts, target: Option<&str>| Event {
        kind,
        at: at * SECOND / 10,
        lasts: lasts * SECOND,
        target: target.map(Into::into),
        amount: 0,
    };
    let mut scenario = scenario();
    scenario.faults_until = Duration::from_secs(20);
    scenario.events = vec![
        event(Kind::FailOver, 6, 3, None),
        event(Kind::Partition, 5, 6, Some("relay@database")),
        event(Kind::Partition, 45, 3, Some("charge-card@database")),
        event(Kind::FailOver, 60, 2, None),
    ];
    for seed in 1..=5 {
        let run = simulate(&Orders, &scenario, seed, true);
        let outcome = (run.verdict, &run.inconclusive);
        let valid = (Verdict::Valid, &None);
        assert_eq!(
            outcome,
            valid,
            "seed {seed}: {:#?}\n{}",
            run.anomalies,
            told(&run)
        );
        for (kind, times) in [(Kind::FailOver, 2), (Kind::Partition, 2)] {
            assert!(
                run.faults.contains(&(kind.as_str(), times)),
                "{:?}",
                run.faults
            );
        }
        // What is still under way when it goes is not carried out, and nobody is answered.
        let away = |line: &&TraceLine| line.what == "sql" && is_away(line.at, &scenario.events);
        let served: Vec<_> = run.trace.iter().filter(away).collect();
        assert!(served.is_empty(), "{served:#?}");
        let again = simulate(&Orders, &scenario, seed, true);
        assert_eq!(told(&run), told(&again), "seed {seed}");
        assert_eq!((run.hash, run.state), (again.hash, again.state));
    }
}

fn is_away(at: u64, events: &[Event]) -> bool {
    let mut away = events.iter().filter(|event| event.kind == Kind::FailOver);
    away.any(|event| event.at < at && at < event.at + event.lasts)
}
