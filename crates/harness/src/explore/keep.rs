//! A failing run, made small and put into a file.

use crate::explore::{Shrunk, Simulate, Target, capsule, pin, shrink};
use crate::run::result::RunResult;
use crate::scenario::Scenario;
use crate::story;
use crate::words::counted;

/// A run that was made small.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its capsule.
    pub scenario: Scenario,
    /// What is left of it.
    pub shrunk: Shrunk,
    /// What had to remain.
    pub target: Target,
    /// Faults and messages there were.
    pub before: (usize, usize),
    /// The file.
    pub text: String,
}

impl Kept {
    /// What happened in it, with the line to copy.
    pub fn story(&self, replay: &str) -> String {
        story::render(&self.scenario, &self.shrunk.run, replay)
    }

    /// The run that was made small.
    pub fn shrunk(&self) -> &Shrunk {
        &self.shrunk
    }

    /// What had to remain.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Faults that are left.
    pub fn faults(&self) -> usize {
        self.shrunk.faults()
    }

    /// Messages that are left.
    pub fn messages(&self) -> usize {
        self.shrunk.messages()
    }

    /// How much smaller it became.
    pub fn summary(&self) -> String {
        summary(&self.shrunk, self.before)
    }
}

/// Makes a recorded run small with at most so many runs; none where nothing is wrong with it.
pub fn keep(
    simulate: Simulate<'_>,
    scenario: &Scenario,
    run: RunResult,
    runs: u32,
) -> Option<Kept> {
    let target = Target::of(story::chosen(&run.anomalies)?);
    let pinned = pin(scenario, &run);
    let faults = pinned.rules.len() + pinned.events.len();
    let before = (faults, run.requests.len());
    let shrunk = shrink(simulate, pinned, run, target, runs);
    let scenario = capsule(&shrunk, target, &commit());
    let text = text(&scenario, &shrunk, before);
    Some(Kept {
        scenario,
        shrunk,
        target,
        before,
        text,
    })
}

fn summary(shrunk: &Shrunk, (faults, messages): (usize, usize)) -> String {
    format!(
        "{} of {faults}, {} of {messages}, {}{}",
        counted(shrunk.faults() as u64, "fault"),
        counted(shrunk.messages() as u64, "message"),
        counted(shrunk.runs.into(), "run"),
        match shrunk.unfinished {
            true => "; more may go with a larger --runs",
            false => "",
        }
    )
}

fn text(kept: &Scenario, shrunk: &Shrunk, before: (usize, usize)) -> String {
    let found = shrunk.run.anomalies.iter().map(|found| &found.seen).next();
    let seen = found
        .map_or("", String::as_str)
        .replace(char::is_control, " ");
    format!(
        "# A failing run, kept by `redeliver shrink`: {}.\n# Seen: {seen}\n{}",
        summary(shrunk, before),
        kept.to_toml()
    )
}

/// The commit of the code under test, as CI or git says; empty where neither does.
pub fn commit() -> String {
    let named = ["GITHUB_SHA", "CI_COMMIT_SHA"];
    if let Some(commit) = named.iter().find_map(|name| std::env::var(name).ok()) {
        return commit;
    }
    let git = std::process::Command::new("git")
        .args(["rev-parse", "HEAD"])
        .output();
    match git {
        Ok(said) if said.status.success() => {
            String::from_utf8_lossy(&said.stdout).trim().to_owned()
        }
        _ => String::new(),
    }
}
