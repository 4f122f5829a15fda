//! Dead letters: messages that are given up, with the story that an operator needs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ports::env::Timestamp;

/// Longest text kept of an error, in bytes. Headers travel in one AMQP frame together; a stack
/// trace in them once made dead-lettering itself fail, and the message loop for ever.
pub const MAX_ERROR_BYTES: usize = 1024;

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The handler said that no attempt can succeed.
    Poison,
    /// All attempts were used.
    AttemptsExhausted,
    /// The total time for retries was over.
    TimeExhausted,
    /// Each attempt killed its process before it could end.
    KilledWorker,
    /// It cannot be decoded: see the class.
    Malformed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Poison,
        Self::AttemptsExhausted,
        Self::TimeExhausted,
        Self::KilledWorker,
        Self::Malformed,
    ];

    /// The word for it in headers and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::AttemptsExhausted => "attempts-exhausted",
            Self::TimeExhausted => "time-exhausted",
            Self::KilledWorker => "killed-worker",
            Self::Malformed => "malformed",
        }
    }

    /// The reverse of [`Reason::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == word)
    }
}

/// The story of a dead letter. Bounded, structured, no payload and no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Why.
    pub reason: Reason,
    /// The class of the last error, for grouping: `payment-refused`, `unknown-version`.
    pub class: Arc<str>,
    /// The last error, cut to [`MAX_ERROR_BYTES`].
    pub error: String,
    /// Attempts made.
    pub attempts: u32,
    /// When the first attempt failed.
    pub first_failure: Timestamp,
    /// When the last attempt failed.
    pub last_failure: Timestamp,
    /// The consumer that gave it up.
    pub consumer: Arc<str>,
    /// The queue it came from.
    pub queue: Arc<str>,
    /// The exchange it was first published to.
    pub exchange: Arc<str>,
    /// The routing key it was first published with.
    pub routing_key: Arc<str>,
    /// The worker that gave it up: process and incarnation.
    pub worker: Arc<str>,
}

/// Cuts a text to at most `limit` bytes, at a character boundary, and shows that it was cut.
pub fn bounded(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mark = "…";
    let mut end = limit.saturating_sub(mark.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end])
}
