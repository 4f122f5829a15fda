//! The gate as a JUnit report: a test case for each scenario.

use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::harness::report::Tally;
use crate::harness::verdict::Verdict;

/// Writes the report.
pub(super) fn write(
    path: &Path,
    tallies: &[Tally],
    stories: &[Option<String>],
    wall: Duration,
) -> Result<(), String> {
    let text = render(tallies, stories, wall)?;
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn render(tallies: &[Tally], told: &[Option<String>], wall: Duration) -> Result<String, String> {
    let mut suite = TestSuite::new("scenarios");
    suite.set_time(wall);
    for (tally, story) in tallies.iter().zip(told) {
        suite.add_test_case(case(tally, story.as_deref()));
    }
    let mut report = Report::new("redeliver gate");
    report.set_time(wall);
    report.add_test_suite(suite);
    report.to_string().map_err(|error| error.to_string())
}

fn case(tally: &Tally, story: Option<&str>) -> TestCase {
    let (verdict, why) = tally.verdict();
    let status = match verdict {
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
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::scenario::Scenario;

    #[test]
    fn an_inconclusive_scenario_is_an_error() {
        let tally = Tally::new(&Scenario::new("calm-day", "orders"), 1);
        let xml = render(&[tally], &[None], Duration::ZERO).expect("a report");
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
