//! Every verdict through every output: none is greener than another.

use std::sync::Arc;
use std::time::Duration;

use super::canary::Canaries;
use super::{github, judge, junit};
use redeliver_harness::report::page::failure::{self, Failure};
use redeliver_harness::report::page::gate::{self, Gate};
use redeliver_harness::report::{Tally, json, table};
use redeliver_harness::run::RunResult;
use redeliver_harness::scenario::{Day, Known, Scenario};
use redeliver_harness::verdict::{Anomaly, AnomalyKind, Judgement, Verdict};

struct Case {
    name: &'static str,
    tallies: Vec<Tally>,
    canaries: Canaries,
    gaps: Vec<String>,
    verdict: Verdict,
}

fn canaries(silent: &[&'static str], stopped: bool) -> Canaries {
    Canaries {
        all: 3,
        silent: silent.to_vec(),
        stopped,
    }
}

fn run(seed: u64, verdict: Verdict) -> RunResult {
    let anomaly = Anomaly {
        kind: AnomalyKind::Lost,
        checker: "lost",
        message: Arc::from("order-1"),
        message_id: None,
        consumer: Arc::from("charge"),
        promise: "It ends.",
        seen: "it does not".to_owned(),
        also: Vec::new(),
    };
    RunResult {
        seed,
        verdict,
        messages: 1,
        anomalies: match verdict {
            Verdict::Violated => vec![anomaly],
            _ => Vec::new(),
        },
        inconclusive: (verdict == Verdict::Inconclusive).then(|| "the world ended".to_owned()),
        ..RunResult::default()
    }
}

fn tally(verdicts: &[Verdict], change: impl FnOnce(&mut Scenario)) -> Tally {
    let mut scenario = Scenario::new("shop", "orders");
    scenario.path = "scenarios/shop.toml".into();
    change(&mut scenario);
    let mut tally = Tally::new(&scenario, 1);
    for (seed, verdict) in (1..).zip(verdicts) {
        tally.add(run(seed, *verdict));
    }
    tally.excuse(Day::parse("2026-11-30").expect("a day"));
    tally
}

fn cases() -> Vec<Case> {
    use Verdict::{Inconclusive, Valid, Violated};
    let plain = |verdicts: &[Verdict]| tally(verdicts, |_| {});
    let expected = |s: &mut Scenario| {
        s.expect.verdict = Violated;
        s.expect.anomalies = vec![AnomalyKind::Lost];
    };
    let known = |until: &'static str| {
        move |s: &mut Scenario| {
            s.known = Some(Known {
                ticket: "SHOP-1".to_owned(),
                until: Day::parse(until).expect("a day"),
                anomalies: vec![AnomalyKind::Lost],
            });
        }
    };
    let unmet = |s: &mut Scenario| s.expect.second_pickups = vec!["crash"];
    let case = |name, tally: Tally, verdict| Case {
        name,
        tallies: vec![tally],
        canaries: canaries(&[], false),
        gaps: Vec::new(),
        verdict,
    };
    let mut stopped = plain(&[Valid]);
    stopped.interrupted = true;
    vec![
        case("valid", plain(&[Valid]), Valid),
        case("violated", plain(&[Valid, Violated]), Violated),
        case("inconclusive", plain(&[Valid, Inconclusive]), Inconclusive),
        case(
            "violated, else inconclusive",
            plain(&[Violated, Inconclusive]),
            Violated,
        ),
        case("nothing run", plain(&[]), Inconclusive),
        case("unmet", tally(&[Valid], unmet), Inconclusive),
        case("as expected", tally(&[Violated], expected), Valid),
        case(
            "expected, not seen",
            tally(&[Valid], expected),
            Inconclusive,
        ),
        case("known", tally(&[Violated], known("2026-12-31")), Valid),
        case(
            "known too long",
            tally(&[Violated], known("2026-01-31")),
            Violated,
        ),
        case("stopped", stopped, Inconclusive),
        Case {
            canaries: canaries(&["no-dedup"], false),
            ..case("a dead canary", plain(&[Valid]), Inconclusive)
        },
        Case {
            canaries: canaries(&[], true),
            ..case("canaries not run", plain(&[Valid]), Inconclusive)
        },
        Case {
            canaries: canaries(&["no-dedup"], false),
            ..case("a dead canary in a red gate", plain(&[Violated]), Violated)
        },
        Case {
            gaps: vec!["shard 2/3 is missing".to_owned()],
            ..case("a gap", plain(&[Valid]), Inconclusive)
        },
        Case {
            tallies: vec![plain(&[Valid]), plain(&[Violated]), plain(&[])],
            ..case("the worst of three", plain(&[]), Violated)
        },
    ]
}

fn told_by_json(line: &str) -> (String, bool) {
    let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let because = &value["because"];
    let silent = because.is_null() || because.as_array().is_some_and(Vec::is_empty);
    (
        value["verdict"].as_str().expect("a verdict").to_owned(),
        !silent,
    )
}

#[test]
fn every_output_says_the_same() {
    for case in cases() {
        let Case {
            name,
            tallies,
            canaries,
            gaps,
            verdict,
        } = &case;
        let whole = judge(tallies, gaps, canaries);
        assert_eq!(whole.verdict, *verdict, "{name}");
        assert_eq!(whole.exit_code(), verdict.exit_code(), "{name}");
        let word = verdict.as_str();

        let text = table::render(tallies, &whole, Duration::ZERO, false);
        let last = text
            .lines()
            .find(|line| line.starts_with("all "))
            .expect("a sum");
        assert!(last.ends_with(word), "{name}: {last}");
        let summary = json::summary(tallies, &whole, Duration::ZERO, false, None);
        assert_eq!(told_by_json(&summary).0, word, "{name}");
        // A real run says the same, without the words of the seeded world.
        let real = json::real_summary(tallies, &whole, Duration::ZERO, false);
        assert_eq!(told_by_json(&real).0, word, "{name}");
        let lines = tallies.iter().map(json::real_scenario);
        for line in lines.chain([real]) {
            assert!(!line.contains("virtual"), "{name}: {line}");
        }
        let doubted = tallies
            .iter()
            .any(|tally| told_by_json(&json::scenario(tally)).1);
        let doubts = doubted || told_by_json(&summary).1;
        assert!(
            *verdict != Verdict::Inconclusive || doubts,
            "{name} says why in JSON"
        );
        assert_eq!(
            text.contains("because: "),
            doubts,
            "{name} says why in the table: {text}"
        );

        let stories = vec![None; tallies.len()];
        let xml = junit::render(tallies, &stories, &whole, Duration::ZERO, "redeliver");
        let xml = xml.expect("a report");
        let (failed, broke) = (xml.contains("<failure"), xml.contains("<error"));
        assert_eq!(failed, *verdict == Verdict::Violated, "{name}: {xml}");
        assert_eq!(failed || broke, *verdict != Verdict::Valid, "{name}: {xml}");

        let page = gate::render(&Gate {
            tallies,
            judgement: &whole,
            stories: &stories,
            pages: &stories,
            canaries: &canaries.describe(),
            wall: Duration::ZERO,
            interrupted: false,
            commit: "",
        });
        assert!(page.contains(&format!("<title>gate: {word}")), "{name}");
        for why in &whole.because {
            assert!(
                page.contains(why) && summary.contains(why) && xml.contains(why),
                "{name}"
            );
        }

        let lines = github::annotations(tallies, &whole, "redeliver");
        let red = lines
            .iter()
            .any(|line| line.starts_with("::error") && line.contains("lost"));
        assert_eq!(red, *verdict == Verdict::Violated, "{name}: {lines:?}");
        assert_eq!(
            lines.is_empty(),
            *verdict == Verdict::Valid,
            "{name}: {lines:?}"
        );
        let told = github::summary(tallies, &stories, &whole);
        assert!(
            told.starts_with(&format!("### Redeliver: {word}\n")),
            "{name}: {told}"
        );
    }
}

/// A page shows the verdict that it is given: that of a scenario on real servers, whose
/// expectations a single run may have missed.
#[test]
fn the_page_of_a_run_is_no_greener_than_its_command() {
    use Verdict::{Inconclusive, Valid, Violated};
    let unmet = |s: &mut Scenario| s.expect.second_pickups = vec!["crash"];
    let expected = |s: &mut Scenario| {
        s.expect.verdict = Violated;
        s.expect.anomalies = vec![AnomalyKind::Lost];
    };
    for (of, change, verdict) in [
        (Valid, (|_| {}) as fn(&mut Scenario), Valid),
        (Valid, unmet, Inconclusive),
        (Inconclusive, |_| {}, Inconclusive),
        (Violated, |_| {}, Violated),
        (Violated, expected, Valid),
    ] {
        let (tally, run) = (tally(&[of], change), run(1, of));
        let judgement = tally.judgement();
        assert_eq!(judgement.verdict, verdict);
        let not_given = ["clock-jump".to_owned()];
        let page = failure::render(&Failure {
            scenario: &tally.scenario,
            run: &run,
            judgement: &judgement,
            real: Some(&not_given),
            again: "",
            small: None,
            beside: None,
            commit: "",
        });
        let callout = format!("callout {verdict}\"");
        assert!(page.contains(&callout), "{of} {verdict}");
        let silent = page.contains("No promise was broken");
        assert_eq!(silent, verdict == Valid && of == Valid);
        for simulated in ["virtual time", "<td>trace</td>", "Not covered"] {
            assert!(!page.contains(simulated), "a real run has no {simulated}");
        }
        assert!(page.contains("Real servers were not given: clock-jump."));
    }
    assert_eq!(
        Judgement::default().verdict,
        Inconclusive,
        "nothing measured"
    );
}
