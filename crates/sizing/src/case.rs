//! The question: what happens to a consumer, and what is asked of it.

use crate::latency::Latency;
use crate::model::Dependency;

/// What happens to a consumer, and what is asked of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Messages a second on average.
    pub rate: f64,
    /// How they are spread over time.
    pub arrivals: Shape,
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
    /// From a commit to the delivery, and from an ack to the next delivery, in seconds.
    pub hop: f64,
    /// Calls that one try makes at most, where the handler's client library repeats a failed call.
    pub calls: u32,
    /// What is asked.
    pub targets: Targets,
}

/// How arrivals are spread over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Shape {
    /// At random, as from many clients who know nothing of each other.
    #[default]
    Poisson,
    /// At equal distances.
    Constant,
    /// At random, at a rate that changes: for each part of a cycle how many seconds it lasts, and the
    /// multiple of the average rate.
    Cycle(Vec<(f64, f64)>),
}

/// An outage, or several so close to each other that they are looked at together.
#[derive(Clone, Debug, PartialEq)]
pub struct OutageKind {
    /// Of the first one, in seconds.
    pub lasts: f64,
    /// How often, a day.
    pub per_day: f64,
    /// Those that follow: seconds from the end of the one before, and their length.
    pub then: Vec<(f64, f64)>,
}

impl OutageKind {
    /// A single one.
    pub fn single(lasts: f64, per_day: f64) -> Self {
        Self {
            lasts,
            per_day,
            then: Vec::new(),
        }
    }

    /// From and until when each lasts, in seconds, if the first begins at this time.
    pub fn times(&self, first: f64) -> Vec<(f64, f64)> {
        let mut times = vec![(first, first + self.lasts)];
        let mut ended = first + self.lasts;
        for (gap, lasts) in &self.then {
            times.push((ended + gap, ended + gap + lasts));
            ended += gap + lasts;
        }
        times
    }

    /// From the beginning of the first to the end of the last, in seconds.
    pub fn whole(&self) -> f64 {
        self.lasts + self.then.iter().map(|it| it.0 + it.1).sum::<f64>()
    }
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
