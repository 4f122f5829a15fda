//! Sentences of anomalies.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::verdict::{Anomaly, AnomalyKind};

/// A time in a story: `4.2 s`.
#[derive(Clone, Copy)]
pub(super) struct At(pub(super) u64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!(
            "{}.{:03}",
            self.0 / 1_000_000_000,
            self.0 / 1_000_000 % 1_000
        );
        let text = text.trim_end_matches('0').trim_end_matches('.');
        write!(f, "{text} s")
    }
}

/// `1 message`, `2 messages`.
pub(super) struct Count(pub(super) u64, pub(super) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}{}",
            self.0,
            self.1,
            if self.0 == 1 { "" } else { "s" }
        )
    }
}

/// Parts joined as in speech: `a, b and c`.
pub(super) fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// What a checker accuses: its name, the kind of anomaly and the promise.
#[derive(Clone, Copy)]
pub(super) struct Promise {
    pub(super) checker: &'static str,
    pub(super) kind: AnomalyKind,
    pub(super) text: &'static str,
}

/// Whom an anomaly is about.
#[derive(Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub(super) message: &'a str,
    pub(super) id: Option<Uuid>,
    pub(super) consumer: &'a str,
}

impl Promise {
    /// It was broken, in so far as `seen` says.
    pub(super) fn broken(self, about: About<'_>, seen: String) -> Anomaly {
        Anomaly {
            kind: self.kind,
            checker: self.checker,
            message: Arc::from(about.message),
            message_id: about.id,
            consumer: Arc::from(about.consumer),
            promise: self.text,
            seen,
            also: Vec::new(),
        }
    }
}
