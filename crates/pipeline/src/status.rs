//! How the parts of a running pipeline are: what a readiness probe asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What a part of a pipeline is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not reached its servers yet, or has lost them and tries again.
    Connecting,
    /// It works: the relay has read the outbox, the consumer is subscribed to its queue.
    Working,
    /// It has ended.
    Ended,
}

/// The state of one part, shared with the one who looks at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicU8>);

impl Gauge {
    pub(crate) fn state(&self) -> State {
        match self.0.load(Ordering::Relaxed) {
            0 => State::Connecting,
            1 => State::Working,
            _ => State::Ended,
        }
    }

    /// Tells whether it works now.
    pub(crate) fn works(&self, works: bool) {
        self.0.store(works.into(), Ordering::Relaxed);
    }

    fn ended(&self) {
        self.0.store(2, Ordering::Relaxed);
    }
}

/// How the parts of a pipeline are. Clones look at the same pipeline.
#[derive(Clone, Debug)]
pub struct Health {
    parts: Arc<[(Arc<str>, Gauge)]>,
}

impl Health {
    pub(crate) fn of(parts: Vec<(Arc<str>, Gauge)>) -> Self {
        Self {
            parts: parts.into(),
        }
    }

    /// Each part and what it is doing: `relay`, and the consumers by their names.
    pub fn parts(&self) -> impl Iterator<Item = (&str, State)> {
        self.parts
            .iter()
            .map(|(name, gauge)| (&**name, gauge.state()))
    }

    /// Whether every part works: what a readiness probe asks.
    pub fn is_ready(&self) -> bool {
        self.parts().all(|(_, state)| state == State::Working)
    }

    /// Whether a part has ended, as it does once the process is asked to stop, or after a panic of
    /// the pipeline's own. A liveness probe says no then, unless the process is stopping.
    pub fn has_ended(&self) -> bool {
        self.parts().any(|(_, state)| state == State::Ended)
    }
}

/// Says that a part has ended, however it ends: held by its task.
#[derive(Debug)]
pub(crate) struct Life(pub(crate) Gauge);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.ended();
    }
}
