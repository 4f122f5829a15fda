//! Mistakes in scenario files, shown with their place, a caret and a suggestion.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What is wrong, as a sentence without a full stop.
    pub(crate) what: String,
    /// Where, in bytes.
    pub(crate) span: Option<Range<usize>>,
    /// What to say at that place.
    pub(crate) label: String,
    /// What to do about it.
    pub(crate) help: Option<String>,
}

impl Problem {
    pub(crate) fn new(what: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            what: what.into(),
            span: Some(span),
            label: "here".to_owned(),
            help: None,
        }
    }

    #[must_use]
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A name that is not known, with the nearest of those that are.
    pub(crate) fn unknown(kind: &str, name: &str, known: &[&str], span: Range<usize>) -> Self {
        Self::new(format!("unknown {kind} `{name}`"), span)
            .label("not known")
            .help(suggestion(kind, name, known))
    }

    /// A mistake found by the TOML reader or by serde.
    pub(crate) fn of_toml(error: &toml::de::Error) -> Self {
        let message = error.message();
        let plain = Self {
            what: message.lines().collect::<Vec<_>>().join(", "),
            span: error.span(),
            label: "here".to_owned(),
            help: None,
        };
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let Some((name, known)) = quoted.split_first() else {
            return plain;
        };
        let kind = message
            .strip_prefix("unknown ")
            .and_then(|rest| rest.split_once(" `"))
            .map(|(kind, _)| kind);
        match kind {
            Some("field") => Self::unknown("key", name, known, error.span().unwrap_or(0..0)),
            Some(kind) => Self::unknown(kind, name, known, error.span().unwrap_or(0..0)),
            None => plain,
        }
    }
}

/// The nearest known name where one is near, and all of them otherwise.
fn suggestion(kind: &str, name: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .min()
        .filter(|(distance, k)| *distance * 3 <= k.len().max(name.len()) + 1);
    match near {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("there is no {kind} to choose from"),
        None => format!("known: {}", known.join(", ")),
    }
}

/// A scenario file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    pub(crate) path: PathBuf,
    pub(crate) source: Arc<str>,
    pub(crate) problems: Vec<Problem>,
}

impl ScenarioError {
    /// A file that cannot be read at all.
    pub(crate) fn unreadable(path: PathBuf, why: &str) -> Self {
        let what = format!("{}: {why}", path.display());
        let problem = Problem {
            what,
            span: None,
            label: String::new(),
            help: None,
        };
        Self {
            path,
            source: Arc::from(""),
            problems: vec![problem],
        }
    }

    /// A TOML file of another kind that cannot be used.
    pub fn of_toml(path: &std::path::Path, source: &str, error: &toml::de::Error) -> Self {
        Self {
            path: path.to_owned(),
            source: Arc::from(source),
            problems: vec![Problem::of_toml(error)],
        }
    }

    /// All mistakes with their places, as text of at most `width` columns.
    pub fn render(&self, width: usize, colour: bool) -> String {
        let theme = if colour {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(width)
            .with_links(false);
        let name = self.path.display().to_string();
        let mut text = String::new();
        for (i, problem) in self.problems.iter().enumerate() {
            text.push_str(if i == 0 { "" } else { "\n" });
            let shown = Shown {
                problem,
                source: NamedSource::new(&name, self.source.clone()),
            };
            if handler.render_report(&mut text, &shown).is_err() {
                text.push_str(&problem.what);
                text.push('\n');
            }
        }
        text
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(80, false))
    }
}

impl std::error::Error for ScenarioError {}

#[derive(Debug)]
struct Shown<'a> {
    problem: &'a Problem,
    source: NamedSource<Arc<str>>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.what)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.problem.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.problem.span.as_ref()?;
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.span.clone()?;
        let label = LabeledSpan::new_with_span(Some(self.problem.label.clone()), span);
        Some(Box::new(std::iter::once(label)))
    }
}
