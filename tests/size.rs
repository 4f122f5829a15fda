//! Sizing: what the model says of a setting, the whole pipeline shows.
#![cfg(feature = "cli")]

use std::path::Path;
use std::time::Duration;

use redeliver::harness::prelude::Workload;
use redeliver::harness::run::simulate;
use redeliver::harness::scenario::Scenario;
use redeliver::harness::size::confirm::{Layers, Measured, PartOf, confirmation, measure, parts};
use redeliver::harness::size::provoke::Provocation;
use redeliver::harness::size::question;
use redeliver::harness::verdict::Verdict;
use redeliver::workloads::Orders;
use redeliver_sizing::case::Target;
use redeliver_sizing::evaluate::Chances;
use redeliver_sizing::layers::{Conflict, Counterexample, conflicts};
use redeliver_sizing::model::Setting;

/// A lease and a `consumer_timeout` shorter than the cold starts: all mechanisms are at work.
const SHORT: &str = r#"
question = "?"
workload = "orders"
messages = 20
allow = ["consumer-timeout-too-short", "lease-shorter-than-handler"]

[policy.consumer]
handler-limit = "40s"
lease = "25s"

[policy.broker]
consumer-timeout = "30s"

[policy.retry]
attempts = 6
first = "5s"

[size]
rate = "1/s"
outage = [{ lasts = "5m", every = "7d" }]
"#;

#[test]
fn the_whole_pipeline_shows_what_the_model_says() {
    let scenario = Scenario::parse(SHORT, Path::new("short.toml"), &["orders"]);
    let scenario = scenario.unwrap_or_else(|error| panic!("{error}"));
    let services = Orders.services();
    let topology = redeliver::harness::registry::topology_of(&Orders, &scenario).0;
    let asked = question(&scenario, &services, &topology).expect("a question");
    let run = |scenario: &Scenario, seed, record| simulate(&Orders, scenario, seed, record);
    let to = confirmation(&asked, &scenario, &services, run).expect("payments");
    assert_eq!((&*to.consumer, &*to.service), ("charge-card", "payments"));
    let model = Chances::new(&to.case, 2, 100_000, 1).evaluate(&to.case, &asked.present);
    let parts = parts(&asked, &scenario, &to, &asked.present);
    assert_eq!(parts.len(), 4);
    for part in &parts {
        let mut all: Vec<Measured> = Vec::new();
        for seed in 1..=3 {
            let result = run(&part.scenario, seed, true);
            assert_eq!(
                result.verdict,
                Verdict::Valid,
                "{:?}: {:?}",
                part.of,
                result.anomalies
            );
            let limit = asked.present.policy.consumer.handler_limit;
            all.push(measure(
                &result.history,
                to.observed(),
                limit,
                &part.outages,
            ));
        }
        let sum = |of: fn(&Measured) -> u64| all.iter().map(of).sum::<u64>() as f64;
        let messages = sum(|it| it.messages);
        // The difference is at most four standard deviations of the count, plus a tenth.
        let near = |found: f64, share: f64, of: f64| {
            let most = 4.0 * (share * of).sqrt() + 0.1 * share * of + 1.0;
            assert!(
                (found - share * of).abs() <= most,
                "{:?}: {found} of {of}, {share}",
                part.of
            );
        };
        match part.of {
            PartOf::Calm => {
                near(sum(|it| it.redelivered), model.taken_back.mean, messages);
                near(sum(|it| it.cut_off), model.cut_off.mean, messages);
                near(sum(|it| it.beside), model.beside.mean, messages);
                assert!(sum(|it| it.beside) > 0.0 && sum(|it| it.cut_off) > 0.0);
            }
            PartOf::Crashes => {
                let recovered: Vec<f64> = all.iter().flat_map(|it| it.recovered.clone()).collect();
                assert!(recovered.len() > 20, "{}", recovered.len());
                let expected = model.recovery.expect("crashes").mean;
                let longer = recovered.iter().filter(|it| **it > expected).count() as f64;
                near(longer, 0.05, recovered.len() as f64);
            }
            PartOf::Faults => {
                let layers = all.iter().map(|it| it.layers);
                let layers = layers.fold(Layers::default(), Layers::and);
                // One call in ten fails, and what fails is done again.
                for factor in layers.factors() {
                    assert!((1.02..2.0).contains(&factor), "{layers:?}");
                }
                assert!(layers.product() > layers.at_service(), "{layers:?}");
            }
            PartOf::Outage(_) => {
                let arrivals = sum(|it| it.arrivals_in_outage);
                near(sum(|it| it.dead), model.outages[0].dead.mean, arrivals);
                near(
                    sum(|it| it.tries_in_outage),
                    model.outages[0].tries.mean,
                    arrivals,
                );
            }
        }
    }
}

/// Each contradiction that the model shows for the pipeline's own queue, a seed of the whole pipeline shows as
/// well; and none does once the settings agree.
#[test]
fn the_whole_pipeline_shows_contradictions_until_they_are_mended() {
    let contradicting = format!("{SHORT}\n[size.targets]\nrecovery = \"45s\"\n");
    let contradicting =
        contradicting.replace("lease = \"25s\"", "lease = \"25s\"\ndrain = \"10s\"");
    let scenario = Scenario::parse(&contradicting, Path::new("short.toml"), &["orders"]);
    let scenario = scenario.unwrap_or_else(|error| panic!("{error}"));
    let topology = redeliver::harness::registry::topology_of(&Orders, &scenario).0;
    let asked = question(&scenario, &Orders.services(), &topology).expect("a question");
    let run = |scenario: &Scenario, seed, record| simulate(&Orders, scenario, seed, record);
    let to = confirmation(&asked, &scenario, &Orders.services(), run).expect("payments");
    let shown = conflicts(&asked.case, &asked.present, &Target::ALL, None);
    let mut agreed = asked.present.clone();
    let policy = &mut agreed.policy;
    policy.consumer.handler_limit = Duration::from_secs(50);
    policy.consumer.lease = Duration::from_secs(60);
    policy.consumer.drain = Duration::from_secs(50);
    policy.consumer.prefetch = policy.consumer.workers;
    policy.consumer_timeout = Some(Duration::from_secs(120));
    policy.retry.attempts = 12;
    let shows = |shown: &Counterexample, setting: &Setting| {
        let provoked = Provocation::of(shown, &asked, &scenario, &to, setting)?;
        let limit = setting.policy.consumer.handler_limit;
        let seed = (1..=6).find(|seed| {
            let result = run(&provoked.scenario, *seed, true);
            provoked.shows(&measure(
                &result.history,
                to.observed(),
                limit,
                &provoked.outages,
            ))
        });
        // What is written can be read and replayed.
        let text = provoked.scenario.to_toml();
        let read = Scenario::parse(&text, Path::new("provoked.toml"), &["orders"]);
        assert!(read.is_ok(), "{text}\n{read:?}");
        Some(seed)
    };
    let mut provoked = Vec::new();
    for counterexample in &shown {
        let Some(seed) = shows(counterexample, &asked.present) else {
            continue;
        };
        let conflict = counterexample.conflict;
        provoked.push(conflict);
        assert!(seed.is_some(), "no seed shows {conflict:?}");
        // How soon a message is taken over is a matter of the target, which stays.
        if conflict != Conflict::TakeoverLaterThanRecovery {
            let mended = shows(counterexample, &agreed).flatten();
            assert_eq!(mended, None, "{conflict:?} though the settings agree");
        }
    }
    // The parts of a confirmation can be written and read, too, whatever their scenario allows.
    for setting in [&asked.present, &agreed] {
        for part in parts(&asked, &scenario, &to, setting) {
            let text = part.scenario.to_toml();
            let read = Scenario::parse(&text, Path::new("part.toml"), &["orders"]);
            assert!(read.is_ok(), "{:?}: {text}\n{read:?}", part.of);
        }
    }
    let expected = [
        Conflict::LeaseShorterThanHandler,
        Conflict::ConsumerTimeoutShorterThanHandler,
        Conflict::DrainShorterThanHandler,
        Conflict::HandlerLimitShorterThanHandler,
        Conflict::TakeoverLaterThanRecovery,
        Conflict::RetriesShorterThanOutage,
    ];
    assert_eq!(provoked, expected);
}

/// The command with a page: what is written, and that the page asks for nothing from elsewhere.
#[test]
fn a_managed_queue_is_sized_with_a_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("size.html");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_redeliver"))
        .current_dir(root)
        .args([
            "size",
            "tests/cli/size/managed.toml",
            "--quick",
            "--format",
            "json",
        ])
        .args(["--messages", "20000", "--report"])
        .arg(&page)
        .output()
        .expect("it runs");
    let told = String::from_utf8(output.stdout).expect("text");
    let object: serde_json::Value = serde_json::from_str(&told).expect("one object");
    assert_eq!(output.status.code(), Some(0), "{object}");
    let recommended = object["recommended"]["visibility_timeout_s"].as_f64();
    assert!(recommended > Some(45.0), "{recommended:?}");
    assert_eq!(object["bound_by"]["handler_limit_s"]["below"], "duplicates");
    let expected = object["present_expected"]["p_redelivery"].as_f64();
    // 2 of 100 take longer than the 30 s for which a message is hidden.
    assert!(
        (0.017..0.026).contains(&expected.expect("a share")),
        "{expected:?}"
    );
    assert!(object["configurations"].as_u64() > Some(100));
    let now = &object["present_contradictions"][0];
    assert_eq!(now["conflict"], "visibility-shorter-than-handler");
    let run = now["run"].to_string();
    assert!(run.contains("BESIDE"), "{run}");
    assert_eq!(object["contradictions"], serde_json::json!([]));
    let budget = &object["amplification"]["outages"][0];
    let calls = |which: &str| budget[which]["calls"].as_f64().expect("a figure");
    assert!(calls("with_budget") < calls("without_budget"), "{budget}");
    let text = std::fs::read_to_string(&page).expect("a page");
    for part in [
        "visibility timeout",
        "polyline",
        "visibility-shorter-than-handler",
        "with a budget of",
        "★",
        "asked at most",
        "After an outage",
    ] {
        assert!(text.contains(part), "{part}");
    }
    // The script names the namespace of SVG.
    let outside = text.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http://") && !outside.contains("https://"));
    assert!(text.contains("default-src 'none'"), "it may load nothing");
    assert!(
        !text.contains("NaN") && !text.contains(">inf"),
        "a number that is none"
    );
}
