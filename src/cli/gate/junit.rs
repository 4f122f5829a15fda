//! The gate as a JUnit report: a test case for each scenario.

use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::ending::Ending;
use super::worst;
use redeliver_harness::explore::commit;
use redeliver_harness::report::Tally;
use redeliver_harness::story;
use redeliver_harness::verdict::{Judgement, Verdict};

/// Writes the report.
pub(super) fn write(path: &Path, ending: &Ending<'_>) -> Result<(), String> {
    let Ending {
        tallies,
        stories,
        judgement,
        wall,
        program,
        ..
    } = *ending;
    let text = render(tallies, stories, judgement, wall, program)?;
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

pub(super) fn render(
    tallies: &[Tally],
    told: &[Option<String>],
    whole: &Judgement,
    wall: Duration,
    program: &str,
) -> Result<String, String> {
    let mut suite = TestSuite::new("scenarios");
    suite.set_time(wall);
    suite.add_property(Property::new(
        "redeliver.version",
        env!("CARGO_PKG_VERSION"),
    ));
    let commit = commit();
    if !commit.is_empty() {
        suite.add_property(Property::new("commit", commit));
    }
    for (tally, story) in tallies.iter().zip(told) {
        let mut case = case(tally, story.as_deref(), program);
        // Files of two folders may share a name, and readers take cases of one name for one.
        let name = &tally.scenario.name;
        if tallies
            .iter()
            .filter(|other| other.scenario.name == *name)
            .count()
            > 1
        {
            case.set_classname(format!("redeliver.{}", tally.scenario.path.display()));
        }
        suite.add_test_case(case);
    }
    if let Some(why) = whole.why() {
        // What no scenario is to blame for: readers of JUnit see cases only.
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_type("inconclusive");
        status.set_message(why);
        let mut case = TestCase::new("the whole gate", status);
        case.set_classname("redeliver");
        suite.add_test_case(case);
    }
    let mut report = Report::new("redeliver gate");
    report.set_time(wall);
    report.add_test_suite(suite);
    report.to_string().map_err(|error| error.to_string())
}

fn case(tally: &Tally, story: Option<&str>, program: &str) -> TestCase {
    let judgement = tally.judgement();
    let why = judgement.why();
    let status = match judgement.verdict {
        Verdict::Valid => TestCaseStatus::success(),
        Verdict::Violated => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let first = tally.violations.first().and_then(|v| v.anomalies.first());
            status.set_type(first.map_or("violated", |anomaly| anomaly.kind.as_str()));
            status.set_message(format!(
                "{} of {} seeds violated",
                tally.violated, tally.seeds
            ));
            status.set_description(story.unwrap_or_default());
            status
        }
        Verdict::Inconclusive if tally.is_empty_part() => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why.unwrap_or_default());
            status
        }
        Verdict::Inconclusive => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type("inconclusive");
            status.set_message(why.unwrap_or_default());
            status
        }
    };
    let mut case = TestCase::new(tally.scenario.name.as_str(), status);
    case.set_classname("redeliver");
    case.set_time(tally.wall);
    for (name, value) in properties(tally, program) {
        case.add_property(Property::new(name, value));
    }
    case
}

/// What a dashboard may want to count, and what a person copies.
fn properties(tally: &Tally, program: &str) -> Vec<(String, String)> {
    let mut all = vec![
        ("workload".to_owned(), tally.scenario.workload.clone()),
        ("verdict".to_owned(), tally.verdict().to_string()),
        ("seeds".to_owned(), tally.seeds.to_string()),
        ("first_seed".to_owned(), tally.first_seed.to_string()),
        ("messages".to_owned(), tally.messages.to_string()),
        ("violated_seeds".to_owned(), tally.violated.to_string()),
    ];
    let ends = &tally.ends;
    all.push(("done".to_owned(), ends.done.to_string()));
    all.push(("dead_lettered".to_owned(), ends.dead_lettered().to_string()));
    for (reason, count) in &ends.dead {
        all.push((format!("dead_lettered.{reason}"), count.to_string()));
    }
    all.push(("unfinished".to_owned(), ends.unfinished.to_string()));
    all.push(("retried".to_owned(), ends.retried.to_string()));
    for (fault, count) in tally.faults_in_order() {
        all.push((format!("fault.{fault}"), count.to_string()));
    }
    if let Some(worst) = worst(tally)
        && let Some(anomaly) = story::chosen(&worst.anomalies)
    {
        let path = &tally.scenario.path;
        let replay = story::replay_line(program, path, worst.seed, anomaly, worst.hash);
        all.push(("anomaly".to_owned(), anomaly.kind.to_string()));
        all.push(("seed".to_owned(), worst.seed.to_string()));
        all.push(("trace_hash".to_owned(), format!("{:016x}", worst.hash)));
        all.push(("replay".to_owned(), replay));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use redeliver_harness::scenario::Scenario;

    #[test]
    fn files_of_two_folders_are_two_cases() {
        let of = |path: &str| {
            let mut scenario = Scenario::new("calm", "orders");
            scenario.path = path.into();
            Tally::new(&scenario, 1)
        };
        let tallies = [of("a/calm.toml"), of("b/calm.toml")];
        let xml = render(
            &tallies,
            &[None, None],
            &Judgement::default(),
            Duration::ZERO,
            "redeliver",
        )
        .expect("a report");
        for path in ["a/calm.toml", "b/calm.toml"] {
            assert!(
                xml.contains(&format!(r#"classname="redeliver.{path}""#)),
                "{xml}"
            );
        }
    }

    #[test]
    fn an_inconclusive_scenario_is_an_error() {
        let tally = Tally::new(&Scenario::new("calm-day", "orders"), 1);
        let xml = render(
            &[tally],
            &[None],
            &Judgement::default(),
            Duration::ZERO,
            "redeliver",
        )
        .expect("a report");
        assert!(
            xml.contains(r#"<testcase name="calm-day" classname="redeliver""#),
            "{xml}"
        );
        assert!(
            xml.contains(r#"<error message="nothing was run" type="inconclusive"/>"#),
            "{xml}"
        );
    }
}
