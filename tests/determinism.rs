//! A seed stands for one course of events: in one process and in two, recorded or not, on one
//! thread or on many, with a tokio runtime around the world or without.

use std::process::Command;

use rayon::prelude::*;
use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::harness::team::workload::{Generator, Request, ServiceModel, Workload};
use redeliver::harness::verdict::Anomaly;
use redeliver::harness::watch::history::History;
use redeliver::harness::watch::reading::FinalReading;
use redeliver::pipeline::handler::{Consumer, Cx, Failure};
use redeliver::ports::World;
use redeliver::workloads::{Deposits, Onboarding, Orders};

/// The scenario of a workload in which everything goes wrong.
const EVERYTHING: [(&str, Simulate); 3] = [
    ("scenarios/everything.toml", |s, seed, record| {
        simulate(&Orders, s, seed, record)
    }),
    ("scenarios/everything-onboarding.toml", |s, seed, record| {
        simulate(&Onboarding, s, seed, record)
    }),
    ("scenarios/everything-deposits.toml", |s, seed, record| {
        simulate(&Deposits, s, seed, record)
    }),
];

type Simulate = fn(&Scenario, u64, bool) -> RunResult;

fn load(path: &str) -> Scenario {
    match Scenario::load(path.as_ref(), &["orders", "onboarding", "deposits"]) {
        Ok(scenario) => scenario,
        Err(error) => panic!("{error}"),
    }
}

/// Everything in a result, but for the trace.
fn told(run: &RunResult) -> String {
    let mut run = run.clone();
    // Kept only where it is recorded.
    run.trace.clear();
    run.history = History::default();
    run.strikes.clear();
    run.calls.clear();
    run.requests.clear();
    format!("{run:?}")
}

#[test]
fn one_seed_gives_one_run() {
    for (path, simulate) in EVERYTHING {
        let scenario = load(path);
        for seed in 1..=10 {
            let (first, second) = (
                simulate(&scenario, seed, true),
                simulate(&scenario, seed, true),
            );
            let mut lines = first.trace.iter().zip(&second.trace);
            if let Some((first, second)) = lines.find(|(first, second)| first != second) {
                panic!("{path} seed {seed} parts at\n{first}\n{second}");
            }
            assert_eq!(first.trace.len(), second.trace.len(), "{path} seed {seed}");
            assert_eq!(told(&first), told(&second), "{path} seed {seed}");
        }
    }
}

#[test]
fn two_seeds_give_two_runs() {
    for (path, simulate) in EVERYTHING {
        let scenario = load(path);
        assert_ne!(
            simulate(&scenario, 1, false).hash,
            simulate(&scenario, 2, false).hash,
            "{path}"
        );
    }
}

#[test]
fn recording_changes_nothing() {
    for (path, simulate) in EVERYTHING {
        let scenario = load(path);
        for seed in 1..=10 {
            let (plain, recorded) = (
                simulate(&scenario, seed, false),
                simulate(&scenario, seed, true),
            );
            assert!(plain.trace.is_empty() && !recorded.trace.is_empty());
            assert_eq!(told(&plain), told(&recorded), "{path} seed {seed}");
        }
    }
}

#[test]
fn what_ran_before_on_a_thread_changes_nothing() {
    let scenario = load(EVERYTHING[0].0);
    let fresh = |seed| {
        let scenario = scenario.clone();
        let run = std::thread::spawn(move || told(&simulate(&Orders, &scenario, seed, false)));
        run.join().expect("a run does not panic")
    };
    for seed in 1..=5 {
        assert_eq!(
            told(&simulate(&Orders, &scenario, seed, false)),
            fresh(seed)
        );
    }
}

/// What a command writes to standard output, and its exit code.
fn redeliver(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_redeliver"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the binary starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (text, output.status.code())
}

#[test]
fn two_processes_write_the_same_trace() {
    for (path, _) in EVERYTHING {
        for seed in ["1", "2"] {
            let arguments = ["replay", path, "--seed", seed, "--trace"];
            let (first, second) = (redeliver(&arguments), redeliver(&arguments));
            assert!(
                first.0.lines().count() > 100,
                "{path} seed {seed} leaves a trace"
            );
            assert_eq!(first.1, second.1, "{path} seed {seed}");
            let mut lines = first.0.lines().zip(second.0.lines());
            if let Some((first, second)) = lines.find(|(first, second)| first != second) {
                panic!("{path} seed {seed} parts at\n{first}\n{second}");
            }
            assert_eq!(first.0.len(), second.0.len(), "{path} seed {seed}");
        }
    }
}

/// What a gate says, without the time that it took.
fn gate(jobs: &str) -> (Vec<serde_json::Value>, Option<i32>) {
    let paths = EVERYTHING.map(|(path, _)| path);
    let options = ["--seeds", "12", "--jobs", jobs, "--format", "json"];
    let arguments = [&["gate"], &paths[..], &options].concat();
    let (text, code) = redeliver(&arguments);
    let lines = text.lines().map(|line| {
        let mut line: serde_json::Value = serde_json::from_str(line).expect("lines of JSON");
        forget_times(&mut line);
        line
    });
    (lines.collect(), code)
}

/// Fields that depend on the machine and its load.
const OF_THE_OCCASION: [&str; 3] = ["wall_seconds", "virtual_to_real", "max_rss_bytes"];

fn forget_times(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|name, _| !OF_THE_OCCASION.contains(&&**name));
            fields.values_mut().for_each(forget_times);
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(forget_times),
        _ => {}
    }
}

#[test]
fn one_job_and_many_come_to_the_same() {
    assert_eq!(gate("1"), gate("4"));
}

#[test]
fn hashes_do_not_depend_on_the_number_of_threads() {
    let hashes = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads").install(|| {
            let runs = EVERYTHING.par_iter().flat_map_iter(|(path, simulate)| {
                let scenario = load(path);
                (1..=8).map(move |seed| simulate(&scenario, seed, false).hash)
            });
            runs.collect::<Vec<u64>>()
        })
    };
    assert_eq!(hashes(1), hashes(4));
}

/// Orders in a world with a tokio runtime around it, which its handlers do not need.
#[derive(Clone, Copy)]
struct InTokio;

impl Workload for InTokio {
    const NAME: &'static str = Orders::NAME;
    const TOKIO: bool = true;

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        Orders.consumers()
    }
    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        Orders.requests(generator)
    }
    async fn submit<W: World>(&self, request: &Request, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        Orders.submit(request, cx).await
    }
    fn services(&self) -> Vec<ServiceModel> {
        Orders.services()
    }
    fn transitions(&self) -> &'static [(&'static str, &'static str)] {
        Orders.transitions()
    }
    fn final_states(&self) -> &'static [&'static str] {
        Orders.final_states()
    }
    fn check(&self, accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly> {
        Orders.check(accepted, reading)
    }
}

#[test]
fn a_runtime_around_the_world_changes_nothing() {
    const { assert!(InTokio::TOKIO != Orders::TOKIO) };
    let scenario = load(EVERYTHING[0].0);
    for seed in 1..=10 {
        let (bare, around) = (
            simulate(&Orders, &scenario, seed, false),
            simulate(&InTokio, &scenario, seed, false),
        );
        assert_eq!(told(&bare), told(&around), "seed {seed}");
    }
}
