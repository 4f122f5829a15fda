use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use redeliver_core::topology::{QueueType, Subscription, Topology};
use redeliver_definitions::Existing;
use redeliver_harness::load::check::CheckError;
use redeliver_harness::run::{LiveError, RunResult};
use redeliver_harness::verdict::{Anomaly, AnomalyKind, Verdict};

/// Every seed in these scenarios is valid, except for what their names say.
fn simulate(scenario: &Scenario, seed: u64, _: bool) -> RunResult {
    let lost = Anomaly {
        kind: AnomalyKind::Lost,
        checker: "no-lost-work",
        message: Arc::from("order-1"),
        message_id: None,
        consumer: Arc::from(""),
        promise: "Every committed event takes effect.",
        seen: "it took none".to_owned(),
        also: Vec::new(),
    };
    let verdict = match scenario.name.as_str() {
        "violated" if seed == 17 => Verdict::Violated,
        "unclear" if seed == 3 => Verdict::Inconclusive,
        _ => Verdict::Valid,
    };
    RunResult {
        seed,
        verdict,
        anomalies: vec![lost; usize::from(verdict == Verdict::Violated)],
        inconclusive: None,
        messages: 1,
        deliveries: 1,
        events: seed,
        virtual_ns: 1_000_000,
        faults: vec![("crash", seed % 3)],
        mechanisms: Vec::new(),
        hash: seed,
        ..RunResult::default()
    }
}

/// A workload that does nothing anywhere.
pub(super) fn idle() -> Registered {
    Registered {
        name: "idle",
        simulate: |_, _, _| RunResult::default(),
        altered: |_, _, _, _| RunResult::default(),
        run_live: |_, _| Err(LiveError::Other(String::new())),
        load: |_, _| Err(LiveError::Other(String::new())),
        load_process: |_| Err(LiveError::Other(String::new())),
        check: |_| Err(CheckError::Other(String::new())),
        remove_live: |_, _| Ok(()),
        topology: no_topology,
        postgres: || None,
        services: Vec::new,
    }
}

fn workloads() -> Vec<Registered> {
    let fake = Registered {
        name: "fake",
        simulate,
        altered: |_, scenario, seed, record| simulate(scenario, seed, record),
        run_live: |_, options| match options.seed {
            1 => Err(LiveError::Environment(
                "the broker does not answer".to_owned(),
            )),
            _ => Err(LiveError::Other("no".to_owned())),
        },
        ..idle()
    };
    let lacking = Registered {
        name: "lacking",
        topology: |_| {
            let subscription = Subscription {
                consumer: Arc::from("charge"),
                types: Vec::new(),
            };
            let needed = Topology::of(vec![subscription], Vec::new(), QueueType::Quorum);
            (needed, Some(Existing::definitions("{\"queues\": []}")))
        },
        ..fake
    };
    vec![fake, lacking]
}

struct Files(PathBuf);

impl Files {
    /// A directory of its own for a test, with a scenario of each of these names.
    fn new(test: &str, names: &[&str]) -> Self {
        let of = format!("redeliver-cli-{test}-{}", std::process::id());
        let directory = std::env::temp_dir().join(of);
        std::fs::create_dir_all(&directory).expect("a directory");
        for name in names {
            let text = "question = \"Is it?\"\nworkload = \"fake\"\nmessages = 1\nseeds = 40\n";
            let path = directory.join(name).with_extension("toml");
            std::fs::write(path, text).expect("a file");
        }
        Self(directory)
    }

    fn command(&self, line: &str) -> u8 {
        let directory = self.0.display().to_string();
        let words = line
            .split(' ')
            .map(|word| word.replace("DIR", &directory).into());
        let arguments = std::iter::once("redeliver".into()).chain(words);
        main_with(arguments.collect(), workloads())
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left over in the temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_definitions_lack_ends_what_would_run_and_nothing_else() {
    let files = Files::new("lacking", &["calm"]);
    let path = files.path().join("calm.toml");
    let text = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, text.replace("\"fake\"", "\"lacking\"")).expect("a file");
    for (line, code) in [
        ("gate DIR/calm.toml", 2),
        ("replay DIR/calm.toml --seed 1", 2),
        ("explore DIR/calm.toml", 2),
        ("scenarios DIR/calm.toml", 0),
        ("topology print DIR/calm.toml", 0),
        ("topology check DIR/calm.toml", 1),
    ] {
        assert_eq!(files.command(line), code, "{line}");
    }
}

#[test]
fn the_exit_code_is_the_worst_verdict() {
    let files = Files::new("codes", &["calm", "unclear", "violated"]);
    for (line, code) in [
        ("gate DIR/calm.toml", 0),
        ("gate DIR/calm.toml DIR/unclear.toml --jobs 2", 3),
        ("gate DIR/unclear.toml --seed 4", 0),
        ("gate DIR --format json --jobs 3", 1),
        ("gate DIR --seeds 16 --seed 1", 3),
        ("gate DIR/violated.toml --for 1ms --seed 0x11", 1),
        ("gate DIR/nowhere.toml", 2),
        ("gate DIR/calm.toml --seed x", 2),
        ("gate DIR/calm.toml --seeds 1 --for 1s", 2),
        ("gate DIR/calm.toml --shard 0/4", 2),
        ("gate DIR/calm.toml --shard 5/4", 2),
        ("gate DIR/calm.toml --shard a/b", 2),
        // Seed 17 has index 16: it is the first shard's. And of forty-one shards the last has no seed.
        ("gate DIR/violated.toml --shard 1/16", 1),
        ("gate DIR/violated.toml --shard 2/16", 0),
        ("gate DIR/calm.toml --shard 41/41 --format json", 0),
        // All seeds of a gate are below 2^53.
        ("gate DIR/calm.toml --seeds 10 --seed 9007199254740982", 0),
        ("gate DIR/calm.toml --seeds 11 --seed 9007199254740982", 2),
        ("gate DIR/calm.toml --seed 9007199254740992", 2),
        ("replay DIR/violated.toml --seed 17", 1),
        ("replay DIR/violated.toml --seed 17 --expect lost:11", 1),
        (
            "replay DIR/violated.toml --seed 17 --expect lost:12 --format json",
            3,
        ),
        ("replay DIR/violated.toml --seed 18 --expect lost:11", 0),
        ("replay DIR/violated.toml", 2),
        (
            "run DIR/calm.toml --on rabbitmq --amqp-url a --database-url b",
            4,
        ),
        (
            "run DIR/calm.toml --on rabbitmq --amqp-url a --database-url b --seed 2",
            3,
        ),
        (
            "run DIR/calm.toml --on carrier-pigeon --amqp-url a --database-url b",
            2,
        ),
        ("scenarios DIR", 0),
        ("--version", 0),
        ("frobnicate", 2),
    ] {
        assert_eq!(files.command(line), code, "{line}");
    }
}

#[test]
fn a_wrong_scenario_is_wrong_usage_even_beside_a_violated_one() {
    let files = Files::new("wrong", &["violated"]);
    std::fs::write(files.path().join("broken.toml"), "question = 3\n").expect("a file");
    assert_eq!(files.command("gate DIR"), USAGE);
    assert_eq!(files.command("scenarios DIR"), USAGE);
}

#[test]
fn junit_tells_the_story() {
    let files = Files::new("junit", &["calm", "unclear", "violated"]);
    assert_eq!(files.command("gate DIR --junit DIR/report.xml"), 1);
    let report = std::fs::read_to_string(files.path().join("report.xml")).expect("a report");
    assert!(
        report.contains(r#"tests="3" skipped="0" failures="1" errors="1""#),
        "{report}"
    );
    assert!(report.contains("redeliver replay"), "{report}");
    assert!(
        report.contains("--seed 17 --expect lost:0000000000000011"),
        "{report}"
    );
    assert_eq!(
        files.command("gate DIR/calm.toml --junit DIR/no/where.xml"),
        ENVIRONMENT
    );
    assert_eq!(
        files.command("gate DIR/violated.toml --junit DIR/no/where.xml"),
        1
    );
}

#[test]
fn the_page_of_a_gate_leads_to_those_of_its_violated_runs() {
    let files = Files::new("pages", &["calm", "unclear", "violated"]);
    assert_eq!(files.command("gate DIR --report DIR/pages"), 1);
    let read = |name: &str| std::fs::read_to_string(files.path().join("pages").join(name));
    let index = read("index.html").expect("a page");
    assert_eq!(index.matches(r#"href="violated-17.html""#).count(), 2);
    assert!(
        index.contains("1 violated") && index.contains("1 inconclusive"),
        "{index}"
    );
    let run = read("violated-17.html").expect("a page");
    assert!(run.contains("Every committed event takes effect."), "{run}");
    assert!(run.contains("--expect lost:0000000000000011"), "{run}");
    let all = std::fs::read_dir(files.path().join("pages")).expect("a folder");
    assert_eq!(all.count(), 2, "what is valid has no page of its own");
    // A place that is a file.
    let nowhere = "gate DIR/calm.toml --report DIR/calm.toml";
    assert_eq!(files.command(nowhere), ENVIRONMENT);
}

#[test]
fn a_report_ends_as_its_run_does() {
    let files = Files::new("report", &["calm", "unclear", "violated"]);
    for (line, code) in [
        ("report DIR/calm.toml --seed 1 --output DIR/calm.html", 0),
        (
            "report DIR/unclear.toml --seed 3 --output DIR/unclear.html --format json",
            3,
        ),
        (
            "report DIR/violated.toml --seed 17 --output DIR/violated.html --beside DIR/calm.toml \
             --perfetto DIR/violated.json",
            1,
        ),
        ("report DIR/violated.toml --output DIR/none.html", 2),
        (
            "report DIR/calm.toml --seed 1 --output DIR/no/where.html",
            4,
        ),
        ("report DIR/calm.toml --seed 1 --beside DIR/nowhere.toml", 2),
    ] {
        assert_eq!(files.command(line), code, "{line}");
    }
    for name in [
        "calm.html",
        "unclear.html",
        "violated.html",
        "violated.json",
    ] {
        assert!(files.path().join(name).is_file(), "{name}");
    }
    assert!(!files.path().join("none.html").exists());
}

/// The command lines of a file to copy, as a shell would hand them over.
fn commands(text: &str) -> Vec<Vec<String>> {
    let filled = |word: &str| {
        let word = word.trim_matches('"').replace("$CI_NODE_INDEX", "3");
        let word = word
            .replace("$CI_NODE_TOTAL", "8")
            .replace("$JOB_COMPLETION_INDEX", "2");
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let word = word
            .replace("$CI_COMMIT_SHA", hash)
            .replace("$GITHUB_SHA", hash);
        assert!(!word.contains('$'), "{word}: which variable?");
        word
    };
    let lines = text.lines().filter_map(|line| {
        let line = line.trim_start_matches(['#', '-', ' ']);
        let line = line.strip_prefix("run: ").unwrap_or(line);
        let line = line.strip_prefix("redeliver ").map(|_| line)?;
        Some(line.split_whitespace().take_while(|word| *word != ">"))
    });
    lines.map(|words| words.map(filled).collect()).collect()
}

#[test]
fn what_is_there_to_copy_is_accepted() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for (file, expected) in [
        ("ci/github-actions.yml", 3),
        ("ci/gitlab-ci.yml", 3),
        ("ci/kubernetes-job.yml", 2),
        ("ci.md", 2),
    ] {
        let text = std::fs::read_to_string(root.join(file)).expect(file);
        let found = commands(&text);
        assert_eq!(found.len(), expected, "{file}: {found:?}");
        for command in found {
            if let Err(why) = Cli::try_parse_from(&command) {
                panic!("{file}: {command:?}: {why}");
            }
        }
    }
}

/// Needs no PostgreSQL, and none is asked for.
#[test]
fn no_rows_of_a_model_are_refused_with_their_place() {
    let files = Files::new("no-rows", &["asks"]);
    let path = files.path().join("asks.toml");
    let mut text = std::fs::read_to_string(&path).expect("a scenario");
    text.push_str("\n[expect]\nno-rows = [\"select 1\"]\n");
    std::fs::write(&path, text).expect("a scenario");
    assert_eq!(files.command("gate DIR/asks.toml"), USAGE);
    assert_eq!(files.command("replay DIR/asks.toml --seed 1"), USAGE);
    let shown = nothing_to_ask(&path);
    assert!(shown.to_string().contains("\"select 1\""), "{shown}");
}

/// Of a workload without consumers.
pub(in crate::cli) fn no_topology(_: &Scenario) -> (Topology, Option<Existing>) {
    let none = Topology::of(Vec::new(), Vec::new(), QueueType::Quorum);
    (none, None)
}
