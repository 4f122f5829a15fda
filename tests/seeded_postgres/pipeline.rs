//! The shipped pipeline, with its own SQL, over a real server in the seeded world.

use std::time::Duration;

use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::{Database, Scenario};
use redeliver::harness::verdict::Verdict;
use redeliver::workloads::orders::Orders;
use redeliver_sim::fault::{Kind, Rule};

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
