//! Verdicts and anomalies.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a run, a scenario or a gate came to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Something was measured, and nothing was wrong.
    Valid,
    /// Not enough was measured to say.
    #[default]
    Inconclusive,
    /// A promise was broken. Outranks everything.
    Violated,
}

impl Verdict {
    /// The worse of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }

    /// The exit code of a command with this result.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Violated => 1,
            Self::Inconclusive => 3,
        }
    }

    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Inconclusive => "inconclusive",
            Self::Violated => "violated",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is said of a run, of a scenario or of a whole gate, and why. Table, JSON, JUnit, page,
/// annotation and exit code are all made from this one value, so that none is greener than
/// another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why nothing more can be said, as clauses; none where that is not so.
    pub because: Vec<String>,
}

impl Judgement {
    /// What was said, with no reason to doubt it.
    pub fn plain(verdict: Verdict) -> Self {
        Self {
            verdict,
            because: Vec::new(),
        }
    }

    /// Inconclusive, for this reason.
    pub fn doubt(why: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Inconclusive,
            because: vec![why.into()],
        }
    }

    /// Adds a reason to doubt: what was valid is inconclusive.
    #[must_use]
    pub fn and_doubt(mut self, why: impl Into<String>) -> Self {
        self.verdict = self.verdict.and(Verdict::Inconclusive);
        self.because.push(why.into());
        self
    }

    /// The reasons as one text; none where there is none.
    pub fn why(&self) -> Option<String> {
        (!self.because.is_empty()).then(|| self.because.join("; "))
    }

    /// The exit code of a command that came to this.
    pub fn exit_code(&self) -> u8 {
        self.verdict.exit_code()
    }
}

/// The ways in which a workflow goes wrong.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// Committed work took no effect and is in no dead-letter queue.
    Lost,
    /// A side effect happened twice.
    Duplicated,
    /// An effect, or a message, without a committed event behind it.
    EffectWithoutEvent,
    /// Order of a key was broken, or newer state overwritten by older.
    Reordered,
    /// No progress although nothing stands in its way.
    Stuck,
    /// Retries beyond their budget, or too early.
    OverRetried,
    /// Rows, claims, locks or messages left behind.
    Leaked,
    /// Dead letters without their message, with a wrong story, or that should not be there.
    Misfiled,
    /// Dead letters for which nothing accounts: no fault, no planned poison, no expectation.
    UnexplainedLetter,
    /// An invariant of the workload itself does not hold.
    Invariant,
}

impl AnomalyKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Lost,
        Self::Duplicated,
        Self::EffectWithoutEvent,
        Self::Reordered,
        Self::Stuck,
        Self::OverRetried,
        Self::Leaked,
        Self::Misfiled,
        Self::UnexplainedLetter,
        Self::Invariant,
    ];

    /// Its name in reports, JSON and `--expect`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::EffectWithoutEvent => "effect_without_event",
            Self::Reordered => "reordered",
            Self::Stuck => "stuck",
            Self::OverRetried => "over_retried",
            Self::Leaked => "leaked",
            Self::Misfiled => "misfiled",
            Self::UnexplainedLetter => "unexplained_letter",
            Self::Invariant => "invariant",
        }
    }

    /// The reverse of [`AnomalyKind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for AnomalyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    /// Which way.
    pub kind: AnomalyKind,
    /// The checker that found it.
    pub checker: &'static str,
    /// The idempotency key of the message it is about; empty where it is about none.
    pub message: Arc<str>,
    /// The id of that message's event, where known.
    pub message_id: Option<Uuid>,
    /// The consumer concerned; empty where none is.
    pub consumer: Arc<str>,
    /// The promise that was broken, as a sentence.
    pub promise: &'static str,
    /// What was seen instead, as a sentence.
    pub seen: String,
    /// Keys of other messages that belong to its story.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Arc<str>>,
}

impl Anomaly {
    /// A promise of a workload's own that was broken: the promise, and what was seen instead, each
    /// as a sentence. Keys of messages, business keys and workflows in it pull their events into the
    /// story.
    pub fn broken(checker: &'static str, promise: &'static str, seen: impl Into<String>) -> Self {
        Self {
            kind: AnomalyKind::Invariant,
            checker,
            message: Arc::from(""),
            message_id: None,
            consumer: Arc::from(""),
            promise,
            seen: seen.into(),
            also: Vec::new(),
        }
    }

    /// The same as an anomaly of this kind.
    #[must_use]
    pub fn of_kind(self, kind: AnomalyKind) -> Self {
        Self { kind, ..self }
    }

    /// The same about one message, by its idempotency key, at a consumer: its way is told in the
    /// story.
    #[must_use]
    pub fn about(self, message: impl Into<Arc<str>>, consumer: impl Into<Arc<str>>) -> Self {
        let (message, consumer) = (message.into(), consumer.into());
        Self {
            message,
            consumer,
            ..self
        }
    }

    /// All messages of its story, the one that it is about first.
    pub fn messages(&self) -> Vec<&str> {
        let first = std::iter::once(&self.message).filter(|key| !key.is_empty());
        first.chain(&self.also).map(|key| &**key).collect()
    }
}
