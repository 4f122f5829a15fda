//! What a client sees of a step.

use std::collections::BTreeMap;
use std::fmt;

/// A row: `id`, `v`, `u`.
pub(super) type Row = (i64, i64, Option<i64>);

/// What came of a statement.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is complete, and there is nothing more to say.
    Done,
    /// Rows, in order.
    Rows(Vec<Row>),
    /// How many rows were written.
    Count(u64),
    /// A number of the sequence.
    Number(i64),
    /// Whether a lock was to be had.
    Flag(bool),
    /// Channels notified, in order.
    Heard(Vec<usize>),
    /// SQLSTATE, and the violated constraint.
    Error(String, Option<String>),
    /// The session was cut before an answer came.
    Lost,
    /// It waits.
    Blocked,
}

impl Answer {
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Error(code, _) => Some(code),
            _ => None,
        }
    }

    pub(super) fn succeeded(&self) -> bool {
        !matches!(self, Self::Error(..) | Self::Lost | Self::Blocked)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => write!(f, "done"),
            Self::Rows(rows) => write!(f, "rows {rows:?}"),
            Self::Count(count) => write!(f, "{count} written"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Heard(channels) => write!(f, "heard {channels:?}"),
            Self::Error(code, None) => write!(f, "{code}"),
            Self::Error(code, Some(constraint)) => write!(f, "{code} by {constraint}"),
            Self::Lost => write!(f, "lost"),
            Self::Blocked => write!(f, "blocked"),
        }
    }
}

/// What is seen of a step: its own answer (none where it was left out), and the answers of
/// earlier statements that went on.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) own: Option<Answer>,
    pub(super) woken: BTreeMap<usize, Answer>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.own {
            Some(answer) => write!(f, "{answer:?}")?,
            None => write!(f, "left out")?,
        }
        for (session, answer) in &self.woken {
            write!(f, "; session {session} goes on: {answer:?}")?;
        }
        Ok(())
    }
}
