//! What the checks found, told as it comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::cli::out::Out;
use crate::cli::{ENVIRONMENT, Format};
use redeliver_harness::verdict::Verdict;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    Warning,
    Missing,
    Skipped,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
            Self::Skipped => "skipped",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) status: Status,
    pub(super) seen: String,
    /// What to do about it.
    pub(super) todo: Option<String>,
}

impl Finding {
    pub(super) fn ok(seen: impl Into<String>) -> Self {
        Self {
            status: Status::Ok,
            seen: seen.into(),
            todo: None,
        }
    }

    pub(super) fn warning(seen: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            status: Status::Warning,
            seen: seen.into(),
            todo: Some(todo.into()),
        }
    }

    pub(super) fn missing(seen: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            status: Status::Missing,
            seen: seen.into(),
            todo: Some(todo.into()),
        }
    }

    fn skipped(because: impl Into<String>) -> Self {
        Self {
            status: Status::Skipped,
            seen: because.into(),
            todo: None,
        }
    }
}

/// Tells every check as soon as it is done, and counts.
pub(super) struct Sheet {
    format: Format,
    out: Out,
    stop: Arc<AtomicBool>,
    counts: [usize; 4],
    /// What everything that is made on the servers begins with.
    under: String,
    /// Nothing is told; what is missing is kept, each as a line.
    quiet: bool,
    missing: Vec<String>,
}

impl Sheet {
    /// Tells nothing: for whoever wants to know only what is missing.
    pub(super) fn quiet() -> Self {
        Self {
            quiet: true,
            ..Self::new(Format::Human, Arc::default(), "")
        }
    }

    /// What is missing, with what to do about it.
    pub(super) fn missing(self) -> Vec<String> {
        self.missing
    }

    pub(super) fn new(format: Format, stop: Arc<AtomicBool>, under: &str) -> Self {
        Self {
            format,
            under: under.to_owned(),
            out: Out::default(),
            stop,
            counts: [0; 4],
            quiet: false,
            missing: Vec::new(),
        }
    }

    fn count(&self, status: Status) -> usize {
        self.counts[status as usize]
    }

    pub(super) fn note(&mut self, name: &str, finding: &Finding) {
        self.counts[finding.status as usize] += 1;
        if finding.status == Status::Missing {
            let todo = finding.todo.as_deref().map(one_line).unwrap_or_default();
            let line = format!("{name}: {} -> {todo}", one_line(&finding.seen));
            self.missing.push(line);
        }
        if self.quiet {
            return;
        }
        let line = match self.format {
            Format::Human => human(name, finding),
            Format::Json => machine(name, finding),
        };
        self.out.line(&line);
    }

    /// The last line; gives the exit code.
    pub(super) fn end(mut self) -> u8 {
        let [missing, warnings, skipped] =
            [Status::Missing, Status::Warning, Status::Skipped].map(|status| self.count(status));
        let stopped = self.stop.load(Ordering::Relaxed);
        let (status, code) = match (missing, warnings) {
            (1.., _) => ("missing", ENVIRONMENT),
            _ if stopped => ("inconclusive", Verdict::Inconclusive.exit_code()),
            (0, 1..) => ("warning", 0),
            (0, 0) => ("ok", 0),
        };
        let line = match (self.format, status) {
            (Format::Json, _) => {
                json!({"type": "env", "status": status, "under": self.under}).to_string()
            }
            (_, "missing") => format!("{missing} missing, {skipped} skipped"),
            (_, "inconclusive") => format!("stopped, {skipped} skipped"),
            (_, "warning") => format!("a real run can be made, with {warnings} warnings"),
            _ => "a real run can be made".to_owned(),
        };
        self.out.line(&line);
        code
    }
}

/// The checks of one server, each of which may make the later ones pointless.
pub(super) struct Chain<'a> {
    sheet: &'a mut Sheet,
    left: &'static [&'static str],
    /// Why nothing more is checked.
    ended: Option<String>,
}

impl<'a> Chain<'a> {
    /// `names` are all its checks, in their order.
    pub(super) fn new(sheet: &'a mut Sheet, names: &'static [&'static str]) -> Self {
        Self {
            sheet,
            left: names,
            ended: None,
        }
    }

    /// Whether the next check makes sense.
    pub(super) fn goes_on(&mut self) -> bool {
        if self.ended.is_none() && self.sheet.stop.load(Ordering::Relaxed) {
            self.ended = Some("stopped".to_owned());
        }
        self.ended.is_none()
    }

    /// Notes the next check.
    pub(super) fn note(&mut self, finding: &Finding) {
        let [name, left @ ..] = self.left else {
            debug_assert!(false, "a check without a name: {finding:?}");
            return;
        };
        self.left = left;
        self.sheet.note(name, finding);
    }

    /// Notes the next check as pointless.
    pub(super) fn skip(&mut self, because: &str) {
        self.note(&Finding::skipped(because));
    }

    /// Notes the next check, which all later ones stand on.
    pub(super) fn must<T>(&mut self, found: Result<(T, Finding), Finding>) -> Option<T> {
        match found {
            Ok((out, finding)) => {
                self.note(&finding);
                self.goes_on().then_some(out)
            }
            Err(finding) => {
                let name = self.left.first().copied().unwrap_or_default();
                self.note(&finding);
                self.ended = Some(format!("{name} is missing"));
                None
            }
        }
    }

    /// Skips what is left.
    pub(super) fn end(mut self) {
        let because = self.ended.take().unwrap_or_else(|| "stopped".to_owned());
        while !self.left.is_empty() {
            self.skip(&because);
        }
    }
}

/// Servers' words may hold line breaks; a check is one line.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c == ' ');
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn human(name: &str, finding: &Finding) -> String {
    let seen = one_line(&finding.seen);
    let line = format!("{:<8} {name:<24} {seen}", finding.status.name());
    match &finding.todo {
        None => line,
        Some(todo) => format!("{line} -> {}", one_line(todo)),
    }
}

fn machine(name: &str, finding: &Finding) -> String {
    json!({
        "type": "check",
        "name": name,
        "status": finding.status.name(),
        "seen": one_line(&finding.seen),
        "do": finding.todo.as_deref().map(one_line),
    })
    .to_string()
}
