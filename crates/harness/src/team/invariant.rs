//! A team's own promises, in Rust, over all that was seen of a run.

use std::fmt;
use std::sync::Arc;

use crate::team::request::Request;
use crate::verdict::Anomaly;
use crate::watch::history::History;
use crate::watch::reading::FinalReading;

/// What an invariant looks at: a run that has come to rest, in the seeded world or on real servers.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What clients, relays and workers saw, in order.
    pub history: &'a History,
    /// What stands in tables, queues, dead letters and the ledgers of services at the end.
    pub reading: &'a FinalReading,
    /// The requests whose commit was seen, or whose event stands in the outbox.
    pub accepted: &'a [Request],
}

type Judge = dyn Fn(&Evidence<'_>) -> Result<(), String> + Send + Sync;

/// A promise with what judges it. It must judge by its argument alone: the same run is judged again
/// when it is replayed.
#[derive(Clone)]
pub struct Invariant {
    promise: &'static str,
    judge: Arc<Judge>,
}

impl Invariant {
    /// A promise, as a sentence, and what says whether it was kept: `Err` tells what was seen
    /// instead.
    pub fn new(
        promise: &'static str,
        judge: impl Fn(&Evidence<'_>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            promise,
            judge: Arc::new(judge),
        }
    }

    /// What was seen instead of what was promised.
    pub(crate) fn broken(&self, evidence: &Evidence<'_>) -> Option<Anomaly> {
        let seen = (self.judge)(evidence).err()?;
        Some(Anomaly::broken("invariant", self.promise, seen))
    }
}

impl fmt::Debug for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Invariant").field(&self.promise).finish()
    }
}

/// Two are the same only if one is a copy of the other.
impl PartialEq for Invariant {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.judge, &other.judge)
    }
}

impl Eq for Invariant {}
