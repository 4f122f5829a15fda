//! How the work of a run ended, in numbers: what every summary tells.
//!
//! A work is one consumer and one idempotency key. A run whose every message lies in the dead
//! letters breaks no promise of delivery, and is nothing that a team would call valid; so the
//! numbers stand beside each verdict.

use std::sync::Arc;

use uuid::Uuid;

use crate::words::grouped;

/// How works ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Their effects are committed.
    pub done: u64,
    /// They lie in dead letters, by the reason that the letters give; those of messages that were
    /// no events are among them.
    pub dead: Vec<(&'static str, u64)>,
    /// They have come to no end.
    pub unfinished: u64,
    /// How often a failed attempt was put back to be tried again.
    pub retried: u64,
}

impl Ends {
    /// In dead letters, for whatever reason.
    pub fn dead_lettered(&self) -> u64 {
        self.dead.iter().map(|(_, count)| count).sum()
    }

    /// Counts one that was given up.
    pub fn add_dead(&mut self, reason: &'static str) {
        self.add_many_dead(reason, 1);
    }

    fn add_many_dead(&mut self, reason: &'static str, count: u64) {
        match self.dead.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, sum)) => *sum += count,
            None => {
                self.dead.push((reason, count));
                self.dead.sort_unstable();
            }
        }
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: &Self) {
        self.done += other.done;
        self.unfinished += other.unfinished;
        self.retried += other.retried;
        for (reason, count) in &other.dead {
            self.add_many_dead(reason, *count);
        }
    }

    /// For people: `1,200 done, 3 dead-lettered (poison 2, malformed 1), 14 retried`.
    pub fn describe(&self) -> String {
        let mut text = format!("{} done, ", grouped(self.done));
        match self.dead_lettered() {
            0 => text.push_str("none dead-lettered"),
            dead => {
                let reason = |(reason, n): &(&str, u64)| format!("{reason} {}", grouped(*n));
                let reasons: Vec<_> = self.dead.iter().map(reason).collect();
                let dead = grouped(dead);
                text.push_str(&format!("{dead} dead-lettered ({})", reasons.join(", ")));
            }
        }
        if self.unfinished > 0 {
            text.push_str(&format!(", {} unfinished", grouped(self.unfinished)));
        }
        text.push_str(&format!(", {} retried", grouped(self.retried)));
        text
    }
}

/// A work in the dead letters that the scenario has not planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplanned {
    /// The consumer that gave it up.
    pub consumer: Arc<str>,
    /// Its idempotency key.
    pub key: Arc<str>,
    /// The id of its event, where known.
    pub id: Option<Uuid>,
    /// Why, in a word: as [`Letter::reason`](super::reading::Letter::reason).
    pub reason: &'static str,
    /// Attempts made and the last error, where its letter tells.
    pub told: Option<(u32, String)>,
    /// Its last run ended between these two times, in nanoseconds since the start of the run.
    pub last_run: Option<(u64, u64)>,
    /// The last answer of an outside service in that run, where it was a failure that may pass.
    pub failed_call: Option<String>,
}

/// What a consumer was given, planned poison aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// Some work.
    pub wanted: bool,
    /// Some work that it completed.
    pub completed: bool,
}

impl Worked {
    /// Adds that of another part of the run.
    pub fn merge(&mut self, other: Self) {
        self.wanted |= other.wanted;
        self.completed |= other.completed;
    }
}

/// What was repeated, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The idempotency key.
    pub key: Arc<str>,
    /// The consumer; empty where none is concerned.
    pub consumer: Arc<str>,
    /// How often.
    pub times: u64,
}

/// What was repeated most often in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    /// The event that relays handed to the broker most often.
    pub published: Option<Repeated>,
    /// The message that came to one consumer as redelivered most often.
    pub redelivered: Option<Repeated>,
    /// The message that the broker handed to one consumer most often.
    pub delivered: Option<Repeated>,
}

impl Repeats {
    /// Adds those of another part of the run.
    pub fn merge(&mut self, other: Self) {
        for (known, other) in [
            (&mut self.published, other.published),
            (&mut self.redelivered, other.redelivered),
            (&mut self.delivered, other.delivered),
        ] {
            let times = |it: &Option<Repeated>| it.as_ref().map_or(0, |it| it.times);
            if times(&other) > times(known) {
                *known = other;
            }
        }
    }
}
