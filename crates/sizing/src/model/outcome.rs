//! What came of a run.

use crate::interval::nearest_rank;

/// Parts of an outage.
pub(super) const PARTS: usize = 10;

/// What came of a run. Counts and times are those of the messages that are measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Messages that were measured.
    pub messages: u64,
    /// Of them, those that were done.
    pub done: u64,
    /// Of them, those that ended in the dead letters: all of them by failures that may pass.
    pub dead: u64,
    /// Hand-overs to a process.
    pub deliveries: u64,
    /// Of these, the ones that the queue had taken back before.
    pub redelivered: u64,
    /// Messages that a timeout of the queue took back from a process that was alive.
    pub taken_back: u64,
    /// Handler runs that began while an earlier one of the message had not ended.
    pub pickups: Pickups,
    /// Messages with such a run.
    pub picked_up_twice: u64,
    /// Tries, all of them.
    pub tries: u64,
    /// Handler runs, with those of messages that are not measured.
    pub begun: u64,
    /// Tries that were cut off at the handler's limit.
    pub cut_off: u64,
    /// From arrival to the first handler, summed up, in seconds.
    pub waited: f64,
    /// From arrival to the end of those that were done, in nanoseconds and in the order of their ends.
    pub times: Vec<u64>,
    /// For each message that a crash interrupted: from the crash to its end, in nanoseconds.
    pub recovered: Vec<u64>,
    /// For each outage: from its end until no more is open than before it, in nanoseconds; none where
    /// that did not come before the next outage or the end of arrivals.
    pub drained: Vec<Option<u64>>,
    /// Tries during outages.
    pub tries_in_outages: u64,
    /// Calls of the dependency during outages: each try makes one or more.
    pub calls_in_outages: u64,
    /// Of the messages that arrived during outages, those that ended in the dead letters.
    pub dead_of_outages: u64,
    /// Arrivals during outages.
    pub arrivals_in_outages: u64,
    /// Calls in each tenth of the first outage, and in as many as long after it again twice.
    pub calls_by_part: Vec<u64>,
    /// Retries that the budget did not let through at their time.
    pub held_back: u64,
    /// Messages that ran again after they were done, since the inbox had forgotten them.
    pub forgotten: u64,
    /// Messages whose call acted again, since the dependency had forgotten its key.
    pub acted_again: u64,
    /// Messages that the queue removed because they were too old.
    pub expired: u64,
    /// Dead letters that no dead-letter exchange took.
    pub dropped: u64,
    /// Seconds in which workers were in handlers, summed up over all of them.
    pub busy: f64,
    /// From the first arrival to the last end, in seconds.
    pub lasted: f64,
    /// Whether it was ended early, as hopeless.
    pub given_up: bool,
}

/// Second pick-ups by what brought them about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pickups {
    /// The earlier run's process had died.
    pub crash: u64,
    /// The lease of the earlier run's claim was over, and it still ran.
    pub lease_over: u64,
    /// The queue had taken the message back by a timeout, or with a lost connection, and the earlier run
    /// still ran.
    pub visibility: u64,
}

impl Pickups {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.crash + self.lease_over + self.visibility
    }
}

impl Outcome {
    /// The time that this share of the messages that were done does not exceed, in seconds; none where
    /// none was.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let value = nearest_rank(&mut self.times.clone(), share, u64::cmp)?;
        Some(value as f64 / 1e9)
    }

    /// The mean wait for the first handler, in seconds.
    pub fn mean_wait(&self) -> f64 {
        self.waited / self.messages.max(1) as f64
    }

    /// A count as a share of the messages.
    pub fn share(&self, count: u64) -> f64 {
        count as f64 / self.messages.max(1) as f64
    }
}
