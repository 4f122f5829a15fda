//! A capsule: the scenario of one failing run, with what came of it when it was found.
//!
//! It is a scenario file like any other, for one seed and with pinned faults, and a table beside
//! it that says what to expect. The gate runs it as a regression; `redeliver replay` compares.

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::error::Problem;
use crate::verdict::AnomalyKind;

/// What came of a run when it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capsule {
    /// The promise that was broken.
    pub anomaly: AnomalyKind,
    /// The checker that saw it.
    pub checker: String,
    /// Hash over the whole trace.
    pub trace_hash: u64,
    /// The version of this program, and the commit of the code under test; empty if unknown.
    pub version: String,
    /// See `version`.
    pub commit: String,
    /// The trace, line by line; empty where it was too long to keep.
    pub course: Vec<String>,
}

/// The `[capsule]` of a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CapsuleTable {
    /// The promise that was broken.
    #[schemars(with = "AnomalyKind")]
    anomaly: AnomalyKind,
    /// The checker that saw it.
    checker: String,
    /// Hash over the whole trace: 16 hexadecimal digits.
    #[schemars(with = "String")]
    trace_hash: Spanned<String>,
    /// The version of Redeliver that found it.
    #[serde(default)]
    version: String,
    /// The commit of the code under test.
    #[serde(default)]
    commit: String,
    /// The trace, line by line.
    #[serde(default)]
    course: String,
}

impl CapsuleTable {
    pub(super) fn read(&self, problems: &mut Vec<Problem>) -> Option<Capsule> {
        let hash = u64::from_str_radix(self.trace_hash.get_ref(), 16);
        let Ok(trace_hash) = hash else {
            let what = "`trace-hash` has up to 16 hexadecimal digits";
            problems.push(Problem::new(what, self.trace_hash.span()));
            return None;
        };
        Some(Capsule {
            anomaly: self.anomaly,
            checker: self.checker.clone(),
            trace_hash,
            version: self.version.clone(),
            commit: self.commit.clone(),
            course: self.course.lines().map(str::to_owned).collect(),
        })
    }
}
