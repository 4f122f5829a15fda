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
pub struct Gauge(Arc<AtomicU8>);

impl Gauge {
    /// What the part is doing.
    pub fn state(&self) -> State {
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

/// Says that a part has ended, however it ends: held by its task.
#[derive(Debug)]
pub(crate) struct Life(pub(crate) Gauge);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.ended();
    }
}
