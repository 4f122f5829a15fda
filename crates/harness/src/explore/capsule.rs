//! Failing runs, kept: what goes into a capsule, and what becomes of it later.

use std::fmt;

use crate::explore::{Shrunk, Target};
use crate::run::result::RunResult;
use crate::scenario::{Capsule, Scenario};
use crate::verdict::{AnomalyKind, Verdict};
use crate::watch::trace::TraceLine;

/// Longer traces are kept as a hash only.
const COURSE: usize = 600;

/// The lines of a trace, as a capsule keeps them. No payload is among them: a trace names
/// messages by their keys.
pub(super) fn course(trace: &[TraceLine]) -> Vec<String> {
    trace
        .iter()
        .map(|line| line.to_string().trim_end().to_owned())
        .collect()
}

/// Keeps a run. `commit` is that of the code under test, empty if unknown.
pub fn capsule(shrunk: &Shrunk, target: Target, commit: &str) -> Scenario {
    let run = &shrunk.run;
    let kept = run.trace.len() <= COURSE;
    Scenario {
        capsule: Some(Capsule {
            anomaly: target.kind,
            checker: target.checker.to_owned(),
            trace_hash: run.hash,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit.to_owned(),
            course: if kept { course(&run.trace) } else { Vec::new() },
        }),
        ..shrunk.scenario.clone()
    }
}

/// What has become of a failing run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The same run, to the last bit.
    Reproduced,
    /// The same anomaly by another course of events; where the two part.
    ReproducedOtherwise(Option<Divergence>),
    /// The run is valid now.
    Fixed,
    /// Another promise is broken now.
    Changed(Vec<AnomalyKind>),
    /// Nothing can be said.
    Inconclusive(String),
}

impl Outcome {
    /// What to say about a capsule of this anomaly.
    pub fn remark(&self, anomaly: AnomalyKind) -> String {
        match self {
            Self::Reproduced => format!("reproduced: {anomaly}"),
            Self::ReproducedOtherwise(parted) => {
                let text = format!("reproduced: {anomaly}, by another course of events");
                match parted {
                    Some(parted) => format!("{text}; they part at {parted}"),
                    None => text,
                }
            }
            Self::Fixed => format!("fixed: {anomaly} is not seen any more"),
            Self::Changed(kinds) => {
                let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
                let kinds = kinds.join(", ");
                format!("changed: {anomaly} was kept, {kinds} is seen")
            }
            Self::Inconclusive(why) => format!("inconclusive: {why}"),
        }
    }
}

/// Where a run leaves the course that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Which line of the trace, from 1.
    pub line: usize,
    /// What the capsule says; none where it has ended.
    pub kept: Option<String>,
    /// What happened now; none where the run has ended.
    pub now: Option<String>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let say = |line: &Option<String>| line.clone().unwrap_or_else(|| "(the end)".to_owned());
        let (line, kept, now) = (self.line, say(&self.kept), say(&self.now));
        write!(f, "line {line} of the trace\n  was  {kept}\n  is   {now}")
    }
}

/// Holds a recorded run of a capsule against what was kept.
pub fn compare(capsule: &Capsule, run: &RunResult) -> Outcome {
    let same = |found: &&crate::verdict::Anomaly| {
        found.kind == capsule.anomaly && found.checker == capsule.checker
    };
    match run.verdict {
        Verdict::Valid => Outcome::Fixed,
        Verdict::Inconclusive => {
            let why = run.inconclusive.clone();
            Outcome::Inconclusive(why.unwrap_or_else(|| "nothing was measured".to_owned()))
        }
        Verdict::Violated if !run.anomalies.iter().any(|found| same(&found)) => {
            let mut kinds: Vec<_> = run.anomalies.iter().map(|found| found.kind).collect();
            kinds.sort();
            kinds.dedup();
            Outcome::Changed(kinds)
        }
        Verdict::Violated if run.hash == capsule.trace_hash => Outcome::Reproduced,
        Verdict::Violated => Outcome::ReproducedOtherwise(divergence(capsule, run)),
    }
}

/// The first line that differs; none where the course was not kept.
pub fn divergence(capsule: &Capsule, run: &RunResult) -> Option<Divergence> {
    if capsule.course.is_empty() {
        return None;
    }
    parted(&capsule.course, &course(&run.trace))
}

/// The first line in which two courses differ.
pub(super) fn parted(kept: &[String], now: &[String]) -> Option<Divergence> {
    let lines = kept.len().max(now.len());
    let at = (0..lines).find(|at| kept.get(*at) != now.get(*at))?;
    Some(Divergence {
        line: at + 1,
        kept: kept.get(at).cloned(),
        now: now.get(at).cloned(),
    })
}
