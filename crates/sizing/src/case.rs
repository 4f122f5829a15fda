//! The question: what happens to a consumer, and what is asked of it.

use crate::latency::Latency;
use crate::model::Dependency;

/// What happens to a consumer, and what is asked of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Messages a second, at random.
    pub rate: f64,
    /// How long its handler takes.
    pub handler: Latency,
    /// The chance that a try fails by itself, in a way that may pass.
    pub fails: f64,
    /// Outages of the dependency.
    pub outages: Vec<OutageKind>,
    /// How soon a call fails during an outage, in seconds; none where it hangs until the limit.
    pub fails_after: Option<f64>,
    /// How often a process dies, a day and process.
    pub crashes_per_day: f64,
    /// How often all processes are replaced one after the other, a day.
    pub deploys_per_day: f64,
    /// How long a process takes to be there again, in seconds.
    pub restart_after: f64,
    /// How much the dependency can take.
    pub dependency: Dependency,
    /// What is asked.
    pub targets: Targets,
}

/// Outages of a length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutageKind {
    /// In seconds.
    pub lasts: f64,
    /// How often, a day.
    pub per_day: f64,
}

/// What is asked of the numbers. A target is met by what is expected on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Targets {
    /// Of all messages, those whose handler runs again at most though an earlier run may have acted.
    pub duplicates: f64,
    /// Of all messages, those that end in the dead letters at most, by failures that would have passed.
    pub dead_letters: f64,
    /// From a crash to the end of what it interrupted, in seconds, for 95 of 100 messages.
    pub recovery: f64,
    /// Calls of the dependency in the busiest tenth of an outage, or of as long after it, as a multiple
    /// of the messages that arrive in that time.
    pub amplification: f64,
    /// The share of messages for which `within` is asked.
    pub quantile: f64,
    /// From arrival to the effect, in seconds, without outages and crashes.
    pub within: f64,
}

/// A target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// [`Targets::duplicates`].
    Duplicates,
    /// [`Targets::dead_letters`].
    DeadLetters,
    /// [`Targets::recovery`].
    Recovery,
    /// [`Targets::amplification`].
    Amplification,
    /// [`Targets::within`].
    Latency,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Duplicates,
        Self::DeadLetters,
        Self::Recovery,
        Self::Amplification,
        Self::Latency,
    ];

    /// Its name in scenario files and results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duplicates => "duplicates",
            Self::DeadLetters => "dead-letters",
            Self::Recovery => "recovery",
            Self::Amplification => "amplification",
            Self::Latency => "latency",
        }
    }
}

impl Targets {
    /// What is asked at most.
    pub fn most(&self, target: Target) -> f64 {
        match target {
            Target::Duplicates => self.duplicates,
            Target::DeadLetters => self.dead_letters,
            Target::Recovery => self.recovery,
            Target::Amplification => self.amplification,
            Target::Latency => self.within,
        }
    }
}
