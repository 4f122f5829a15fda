//! A fast model of one consumer: its queue, processes, workers, retries, and the dependency that its
//! handlers call.
//!
//! A [`Scene`] says what happens whatever is chosen: arrivals, handler times, outages, crashes. A
//! [`Setting`] is what is chosen. [`Draws`] holds the chance of one run, so that several settings are
//! compared under the same arrivals and handler times; [`run`] makes the run and gives its [`Outcome`].
//!
//! The rules are those of the pipeline and of RabbitMQ: a claim with a lease, renewed or not; deliveries
//! that find a live claim are parked; `consumer_timeout` is looked at on ticks of the channel and takes
//! back all that it holds; a process whose channel was closed takes nothing until its handlers have
//! ended; waits are rounded up to rungs of the ladder. A managed queue has a visibility timeout instead.
//! Database, relay, envelope and the time of a hop are left out.

mod draws;
mod outcome;
mod world;

use crate::latency::Latency;
use redeliver_core::policy::Policy;

pub use draws::Draws;
pub use outcome::{Outcome, Pickups};
pub use world::run;

#[cfg(test)]
mod tests;

/// What happens, whatever is chosen.
#[derive(Clone, Debug)]
pub struct Scene {
    /// When messages arrive.
    pub arrivals: Arrivals,
    /// How many.
    pub messages: u32,
    /// The first of them that are not measured, since they find an empty system.
    pub warm_up: u32,
    /// How long a handler takes.
    pub handler: Latency,
    /// The chance that a try fails by itself, in a way that may pass.
    pub fails: f64,
    /// When the dependency is away, rising and apart from each other.
    pub outages: Vec<Outage>,
    /// When processes die, rising.
    pub crashes: Vec<Crash>,
    /// How long a dead process takes to be there again, in nanoseconds.
    pub restart_after: u64,
    /// How much the dependency can take.
    pub dependency: Dependency,
}

/// When messages arrive.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// At random, so many a second on average.
    Poisson(f64),
    /// At equal distances, so many a second.
    Constant(f64),
    /// At these times in nanoseconds, rising.
    At(Vec<u64>),
}

/// A time in which calls of the dependency fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it begins, in nanoseconds.
    pub at: u64,
    /// How long it lasts, in nanoseconds.
    pub lasts: u64,
    /// How soon a call fails, in nanoseconds; none where calls hang until the handler's limit.
    pub fails_after: Option<u64>,
}

/// A process that dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// When, in nanoseconds.
    pub at: u64,
    /// Which: its number, counted around.
    pub process: u32,
    /// Whether it is asked to end, and may finish what it has in hand: a deploy.
    pub polite: bool,
}

/// How much the dependency can take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dependency {
    /// Everything.
    Unlimited,
    /// So many calls at once; others fail at once.
    Slots(u32),
    /// So many calls a second, one after the other: others wait in its own queue, and are carried out
    /// even if their caller has given up.
    Rate(f64),
}

/// What is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// How many processes the consumer has.
    pub processes: u32,
    /// The pipeline's numbers.
    pub policy: Policy,
    /// The kind of queue.
    pub queue: Queue,
    /// How the wait before a retry is drawn.
    pub backoff: Backoff,
}

/// The kind of queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// RabbitMQ, with so many nanoseconds between two looks at `consumer_timeout`.
    RabbitMq {
        /// Nanoseconds.
        tick: u64,
    },
    /// A queue that hides a message for a time once it was received.
    Managed {
        /// For how long, in nanoseconds.
        visibility: u64,
        /// How often the time is begun anew while the handler runs, in nanoseconds.
        extend_every: Option<u64>,
        /// After so many receives a message goes to the dead letters.
        receives: u32,
    },
}

/// How the wait before a retry is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// As the policy says, rounded up to a rung of the delay ladder.
    Ladder,
    /// Without memory, of this mean in nanoseconds: as retrial queues are calculated.
    Memoryless(u64),
}
