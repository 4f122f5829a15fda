//! Sizing: what the model says of a setting, the whole pipeline shows.
#![cfg(feature = "cli")]

use std::path::Path;

use redeliver::harness::prelude::Workload;
use redeliver::harness::run::simulate;
use redeliver::harness::scenario::Scenario;
use redeliver::harness::size::confirm::{Measured, PartOf, confirmation, measure, parts};
use redeliver::harness::size::question;
use redeliver::harness::verdict::Verdict;
use redeliver::workloads::Orders;
use redeliver_sizing::evaluate::Chances;

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
    assert_eq!(parts.len(), 3);
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
            all.push(measure(&result.history, &to.consumer, limit, part.outage));
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
    let text = std::fs::read_to_string(&page).expect("a page");
    for part in [
        "visibility timeout",
        "polyline",
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
