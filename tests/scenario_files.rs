//! Scenarios as files: what is written is read back, and a run that was pinned comes again.
#![cfg(feature = "harness")]

use std::path::Path;

use redeliver::harness::explore::pin;
use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::{Capsule, Day, Known, Reach, Scenario, discover};
use redeliver::harness::verdict::AnomalyKind;
use redeliver::pipeline::dead_letter::Reason;
use redeliver::workloads::{Deposits, Onboarding, Orders};

const WORKLOADS: &[&str] = &["orders", "onboarding", "deposits"];

fn comes_back(scenario: &Scenario) {
    let text = scenario.to_toml();
    let read = Scenario::parse(&text, &scenario.path, WORKLOADS);
    let read = read.unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(read, *scenario, "{text}");
}

fn scenarios() -> impl Iterator<Item = Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = discover(&[folder]).expect("scenarios");
    let load = |path: std::path::PathBuf| Scenario::load(&path, WORKLOADS).expect("a scenario");
    files.into_iter().map(load)
}

#[test]
fn every_scenario_comes_back() {
    scenarios().for_each(|scenario| comes_back(&scenario));
}

/// A way into the dead letters that no scenario demands would not be missed if nothing went it.
#[test]
fn every_reason_of_a_letter_is_demanded_somewhere() {
    let all: Vec<Scenario> = scenarios().collect();
    for reason in Reason::ALL {
        let mut demanded = all.iter().flat_map(|scenario| &scenario.expect.reached);
        assert!(
            demanded.any(|reach| *reach == Reach::Letter(reason)),
            "{reason:?}"
        );
    }
}

#[test]
fn any_line_of_a_course_comes_back() {
    // The name of a scenario is that of its file, and there is none.
    let mut scenario = Scenario::new("", "orders");
    scenario.question = "\"?\" \\ é \u{1b}".to_owned();
    scenario.capsule = Some(Capsule {
        anomaly: AnomalyKind::Stuck,
        checker: "stuck".to_owned(),
        trace_hash: u64::MAX,
        version: "1".to_owned(),
        commit: String::new(),
        course: vec![
            "a \"\"\" b \\".to_owned(),
            String::new(),
            "\t\u{1b}[0m →".to_owned(),
        ],
    });
    scenario.known = Some(Known {
        ticket: "SHOP-\"17\"".to_owned(),
        until: Day::parse("2027-01-31").expect("a day"),
        anomalies: vec![AnomalyKind::Stuck, AnomalyKind::Lost],
    });
    comes_back(&scenario);
}

#[test]
fn pinned_runs_come_back() {
    for scenario in scenarios().filter(|scenario| scenario.workload == "orders") {
        let run = simulate(&Orders, &scenario, 1 << 63, true);
        let mut pinned = pin(&scenario, &run);
        pinned.only = run.requests;
        pinned.capsule = Some(Capsule {
            anomaly: AnomalyKind::Lost,
            checker: "lost".to_owned(),
            trace_hash: run.hash,
            version: String::new(),
            commit: "4711".to_owned(),
            course: run
                .trace
                .iter()
                .map(|line| line.to_string())
                .take(99)
                .collect(),
        });
        comes_back(&pinned);
    }
}

fn comes_again(scenario: &Scenario, simulate: impl Fn(&Scenario, u64) -> RunResult) {
    for seed in 1..=10 {
        let drawn = simulate(scenario, seed);
        let pinned = pin(scenario, &drawn);
        let again = simulate(&pinned, seed);
        assert_eq!(drawn.faults, again.faults, "seed {seed}");
        assert_eq!(drawn.strikes, again.strikes, "seed {seed}");
        assert_eq!(drawn.hash, again.hash, "seed {seed}");
    }
}

fn load(name: &str) -> Scenario {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("scenarios").join(name).with_extension("toml");
    Scenario::load(&path, WORKLOADS).expect("a scenario")
}

#[test]
fn a_pinned_run_is_the_same_run() {
    comes_again(&load("everything"), |s, seed| {
        simulate(&Orders, s, seed, true)
    });
    comes_again(&load("everything-onboarding"), |s, seed| {
        simulate(&Onboarding, s, seed, true)
    });
    comes_again(&load("everything-deposits"), |s, seed| {
        simulate(&Deposits, s, seed, true)
    });
}

/// What `redeliver size` is asked comes back as well, whichever way it is said.
#[test]
fn what_is_asked_of_numbers_comes_back() {
    let head = "question = \"?\"\nworkload = \"orders\"\nmessages = 20\n";
    for lines in [
        "[size]",
        "[size]\nhandler = [{ median = \"2s\", p95 = \"12s\" }]\nfixed = [\"workers\", \"lease\"]",
        "[size]\nhandler = [{ share = \"98%\", mean = \"2s\" }, { share = \"2%\", fixed = \"45s\" }]",
        "[size]\nhandler = [{ mean = \"2s\", deviation = \"1s\" }]\ncrash-every = \"never\"",
        "[size]\nhandler = [{ quantiles = { \"0%\" = \"1s\", \"99.5%\" = \"2s\", \"100%\" = \"9s\" } }]",
        "[size]\nhandler = [{ recorded = \"times \\\"1\\\".csv\" }]\nfails-after = \"never\"",
        "[size]\noutage = []\nservice-takes = \"7.5/s\"\nkey-lifetime = \"1d\"\ntick = \"5s\"",
        "[size]\noutage = [{ lasts = \"1m\", every = \"1d\" }]\nrate = \"0.5/s\"\nfailures = \"1%\"",
        "[size.targets]\nduplicates = \"1%\"\namplification = 2.5\nrecovery = \"1m\"\nwithin = \"9s\"",
        "[size.managed]\nvisibility = \"30s\"\nextend-every = \"10s\"\nreceives = 3\nretention = \"1d\"",
        "[size]\noutage = [{ median = \"1m\", p95 = \"20m\", every = \"1d\" }, { mean = \"1m\", every = \"1d\" }]",
        "[size]\noutage = [{ at = \"2h\", lasts = \"5m\" }]\nperiod = \"3d\"\ncrashes-at = [\"1h\", \"2d\"]",
        "[size]\ndeploys-at = [\"10h\", \"16h30m\"]\ncycle = \"1d\"\nhop = \"2ms\"\ncalls-per-try = 3",
        "[size]\nretry-budget = { ratio = \"20%\", burst = 50 }",
        "[size]\nfailures = \"0%\"\nretry-budget = { ratio = \"0%\", burst = 0 }",
        "[size.targets]\nduplicates = \"0%\"\ndead-letters = \"0%\"",
        "[size.weights]\nduplicates = 2.5\nlatency = 0\nworkers = 1\nfirst-wait = 0.5\ndrain = 3",
        "[size.delayed-retry]\nmin = \"1s\"\nmax = \"1m\"",
        "[size.delayed-retry]\ntype = \"all\"\nmin = \"1s\"\nmax = \"1m\"\nsettle = \"nack\"\n\
         delivery-limit = 3\nmessage-ttl = \"1h\"\ndead-letter-exchange = false",
    ] {
        let parse = |text: &str| match Scenario::parse(text, Path::new("mine.toml"), &["orders"]) {
            Ok(scenario) => scenario,
            Err(error) => panic!("{text}\n{error}"),
        };
        let scenario = parse(&format!("{head}{lines}\n"));
        assert_eq!(
            parse(&scenario.to_toml()),
            scenario,
            "{}",
            scenario.to_toml()
        );
    }
}
