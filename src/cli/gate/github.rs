//! The gate inside of GitHub Actions: annotations, one for each class of anomaly, and the summary
//! of the step.
//!
//! Workflow commands go to standard error, which the runner reads as well, so that standard output
//! stays what it is everywhere else.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::ending::Ending;
use super::worst;
use crate::cli::out;
use redeliver_harness::report::{Tally, ends};
use redeliver_harness::story;
use redeliver_harness::verdict::{AnomalyKind, Judgement, Verdict};
use redeliver_harness::words::{counted, grouped, time};

/// Where the runner reads the summary of a step.
const SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// A summary that is longer is refused as a whole.
const SUMMARY_BYTES: usize = 1_000_000;

/// A story that is longer is left to the other reports.
const STORY_BYTES: usize = 20_000;

/// Tells GitHub what came out.
pub(super) fn tell(ending: &Ending<'_>) -> Result<(), String> {
    let Ending {
        tallies,
        stories,
        judgement,
        program,
        ..
    } = *ending;
    for line in annotations(tallies, judgement, program) {
        out::complain(&line);
    }
    let Some(path) = std::env::var_os(SUMMARY).filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let path = Path::new(&path);
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path);
    file.and_then(|mut file| file.write_all(summary(tallies, stories, judgement).as_bytes()))
        .map_err(|why| format!("{}: {why}", path.display()))
}

/// One error for each reason to doubt the whole and for each class of anomaly that was not expected,
/// and one warning for each scenario of
/// which nothing can be said.
pub(super) fn annotations(tallies: &[Tally], whole: &Judgement, program: &str) -> Vec<String> {
    let of_all = |why: &String| command("error", Path::new(""), "the gate is not conclusive", why);
    let mut lines: Vec<_> = whole.because.iter().map(of_all).collect();
    for kind in AnomalyKind::ALL {
        let meant = |tally: &&Tally| {
            let expects = tally.scenario.expect.verdict == Verdict::Violated;
            (expects && tally.is_expected(kind)) || tally.is_known(kind)
        };
        let shows = |tally: &&Tally| {
            let mut all = tally.violations.iter().flat_map(|found| &found.anomalies);
            all.any(|anomaly| anomaly.kind == kind)
        };
        let red: Vec<_> = tallies.iter().filter(|t| shows(t) && !meant(t)).collect();
        let Some(first) = red.first() else {
            continue;
        };
        lines.extend(error(first, kind, &red[1..], program));
    }
    for tally in tallies {
        let judgement = tally.judgement();
        if judgement.verdict == Verdict::Inconclusive && !tally.is_empty_part() {
            let title = format!("{}: inconclusive", tally.scenario.name);
            let why = judgement.why().unwrap_or_default();
            lines.push(command("warning", &tally.scenario.path, &title, &why));
        }
    }
    lines
}

/// The first violation of that class, with how to have it again.
fn error(tally: &Tally, kind: AnomalyKind, also: &[&Tally], program: &str) -> Option<String> {
    let (violation, anomaly) = tally.violations.iter().find_map(|violation| {
        let mut all = violation.anomalies.iter();
        Some((violation, all.find(|anomaly| anomaly.kind == kind)?))
    })?;
    let path = &tally.scenario.path;
    let replay = story::replay_line(program, path, violation.seed, anomaly, violation.hash);
    let mut text = format!(
        "{} But {}. {} of {} seeds are violated.\n{replay}",
        anomaly.promise,
        anomaly.seen,
        grouped(tally.violated),
        grouped(tally.seeds)
    );
    if !also.is_empty() {
        let names: Vec<_> = also
            .iter()
            .map(|tally| tally.scenario.name.as_str())
            .collect();
        let _ = write!(text, "\nAlso in: {}", names.join(", "));
    }
    let title = format!("{}: {kind}", tally.scenario.name);
    Some(command("error", path, &title, &text))
}

/// A workflow command, with its own escapes.
fn command(level: &str, path: &Path, title: &str, text: &str) -> String {
    let data = |text: &str| {
        let text = text.replace('%', "%25");
        text.replace('\r', "%0D").replace('\n', "%0A")
    };
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    format!(
        "::{level} file={},title={}::{}",
        property(&in_repository(path).display().to_string()),
        property(title),
        data(text)
    )
}

/// A path as annotations need it: from the root of the repository on, wherever a step runs.
fn in_repository(path: &Path) -> PathBuf {
    let root = std::env::var_os("GITHUB_WORKSPACE").map(PathBuf::from);
    let whole = std::path::absolute(path).ok();
    let inside = root.zip(whole).and_then(|(root, whole)| {
        let inside = whole.strip_prefix(root).ok()?;
        Some(inside.to_path_buf())
    });
    inside
        .filter(|_| !path.as_os_str().is_empty())
        .unwrap_or_else(|| path.to_path_buf())
}

/// The summary as Markdown: what is not valid first.
pub(super) fn summary(tallies: &[Tally], stories: &[Option<String>], whole: &Judgement) -> String {
    let mut text = format!("### Redeliver: {}\n\n", whole.verdict);
    for why in &whole.because {
        let _ = writeln!(text, "{why}\n");
    }
    let seeds: u64 = tallies.iter().map(|tally| tally.seeds).sum();
    let virtual_ns: u128 = tallies.iter().map(|tally| tally.virtual_ns).sum();
    let _ = writeln!(
        text,
        "{} of {}, {} of virtual time; of all messages {}.\n",
        counted(seeds, "run"),
        counted(tallies.len() as u64, "scenario"),
        time(u64::try_from(virtual_ns).unwrap_or(u64::MAX)),
        ends(tallies).describe()
    );
    text.push_str("| scenario | verdict | seeds | violated | anomalies |\n");
    text.push_str("| --- | --- | ---: | ---: | --- |\n");
    let mut all: Vec<_> = tallies
        .iter()
        .map(|tally| (tally.judgement(), tally))
        .collect();
    all.sort_by_key(|(judgement, _)| std::cmp::Reverse(judgement.verdict));
    for (judgement, tally) in all {
        let found = worst(tally).map(|worst| worst.anomalies.iter().map(|a| a.kind.as_str()));
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.dedup();
        let what = judgement.why().unwrap_or_else(|| found.join(", "));
        let (verdict, what) = (judgement.verdict, what.replace('|', "\\|"));
        let _ = writeln!(
            text,
            "| {} | {verdict} | {} | {} | {what} |",
            tally.scenario.name,
            grouped(tally.seeds),
            grouped(tally.violated),
        );
    }
    for (tally, story) in tallies.iter().zip(stories) {
        let Some(story) = story.as_ref().filter(|story| story.len() < STORY_BYTES) else {
            continue;
        };
        // More tildes than any story has.
        let _ = write!(
            text,
            "\n<details><summary>{}</summary>\n\n~~~~~~text\n{story}~~~~~~\n\n</details>\n",
            tally.scenario.name
        );
        if text.len() > SUMMARY_BYTES - STORY_BYTES - 1_000 {
            text.push_str("\nMore stories are in the log.\n");
            break;
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use redeliver_harness::run::RunResult;
    use redeliver_harness::scenario::Scenario;
    use redeliver_harness::verdict::Anomaly;

    fn red(name: &str) -> Tally {
        let mut scenario = Scenario::new(name, "orders");
        scenario.path = PathBuf::from(format!("scenarios/{name}, 100 %.toml"));
        let mut tally = Tally::new(&scenario, 1);
        let anomaly = |kind| Anomaly {
            kind,
            checker: "lost",
            message: Arc::from("order-1"),
            message_id: None,
            consumer: Arc::from(""),
            promise: "It ends.",
            seen: "it is 100 % lost\nfor good".to_owned(),
            also: Vec::new(),
        };
        for seed in 1..21 {
            let red = seed < 3;
            tally.add(RunResult {
                seed,
                hash: 7,
                messages: 1,
                verdict: match red {
                    true => Verdict::Violated,
                    false => Verdict::Valid,
                },
                anomalies: vec![anomaly(AnomalyKind::Lost); if red { 2 } else { 0 }],
                ..RunResult::default()
            });
        }
        tally
    }

    #[test]
    fn one_annotation_for_each_class_however_many_runs_show_it() {
        let mut tallies = vec![red("one"), red("two")];
        tallies.push(Tally::new(&Scenario::new("empty", "orders"), 1));
        assert_eq!(
            annotations(
                &tallies,
                &Judgement::doubt("the canaries died"),
                "redeliver"
            ),
            [
                "::error file=,title=the gate is not conclusive::the canaries died",
                "::error file=scenarios/one%2C 100 %25.toml,title=one%3A lost::It ends. But it is \
                 100 %25 lost%0Afor good. 2 of 20 seeds are violated.%0Aredeliver replay \
                 'scenarios/one, 100 %25.toml' --seed 1 --expect lost:0000000000000007%0AAlso in: \
                 two",
                "::warning file=,title=empty%3A inconclusive::nothing was run",
            ]
        );
    }

    #[test]
    fn the_summary_tells_the_worst_first() {
        let tallies = [Tally::new(&Scenario::new("empty", "orders"), 1), red("one")];
        let text = summary(
            &tallies,
            &[None, Some("story\n".into())],
            &Judgement::plain(Verdict::Violated),
        );
        insta::assert_snapshot!(text);
    }
}
