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
mod step;
mod world;

use crate::latency::Latency;
use redeliver_core::policy::Policy;

pub use draws::Draws;
pub use outcome::{Outcome, Pickups};
pub use step::{Step, Steps, Why};
pub use world::{run, run_with_steps};

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
    /// When processes are interrupted, rising.
    pub interruptions: Vec<Interruption>,
    /// How long a dead process takes to be there again, in nanoseconds.
    pub restart_after: u64,
    /// How much the dependency can take.
    pub dependency: Dependency,
    /// From a commit to the queue's delivery, and from an ack to the next delivery, in nanoseconds.
    pub hop: u64,
    /// Calls that one try makes at most, where the handler's client library repeats a failed call.
    pub calls: u32,
    /// Copies of messages that come late: when, in nanoseconds, and of which message.
    pub late_copies: Vec<(u64, u32)>,
    /// Messages whose handler kills its process, in nanoseconds after it began.
    pub killers: Vec<(u32, u64)>,
    /// For how long the dependency knows an idempotency key, in nanoseconds; none for ever.
    pub key_lifetime: Option<u64>,
    /// Whether a try that fails may have acted.
    pub in_doubt: bool,
}

impl Scene {
    /// A run in which nothing happens but arrivals, all of them measured.
    pub fn calm(arrivals: Arrivals, messages: u32, handler: Latency) -> Self {
        Self {
            arrivals,
            messages,
            warm_up: 0,
            handler,
            fails: 0.0,
            outages: Vec::new(),
            interruptions: Vec::new(),
            restart_after: 0,
            dependency: Dependency::Unlimited,
            hop: 0,
            calls: 1,
            late_copies: Vec::new(),
            killers: Vec::new(),
            key_lifetime: None,
            in_doubt: false,
        }
    }
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
    /// At random, at a rate that changes: messages a second on average, and for each part of a cycle
    /// how many seconds it lasts and the multiple of that rate. At least one part has arrivals. A run
    /// begins anywhere in the cycle.
    Cycle(f64, Vec<(f64, f64)>),
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

/// A process that is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// When, in nanoseconds.
    pub at: u64,
    /// Which process: its number, counted around.
    pub process: u32,
    /// How.
    pub how: Interrupt,
}

/// How a process is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// It dies.
    Crash,
    /// It is asked to end, and may finish the work in hand within the drain time: a deploy.
    Deploy,
    /// It loses its connection to the queue; its handlers go on.
    Disconnect,
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
    /// What limits retries; none where nothing does but the policy.
    pub budget: Option<RetryBudget>,
}

impl Setting {
    /// From the first failure to the last attempt at most, in seconds, if handlers take no time.
    pub fn longest_wait(&self) -> f64 {
        let retry = &self.policy.retry;
        match self.queue {
            Queue::DelayedRetry {
                delays: Delays::Disabled,
                ..
            } => 0.0,
            // Its waits grow by the same step each time.
            Queue::DelayedRetry { .. } => {
                let waits = (1..retry.attempts).map(|n| retry.first.saturating_mul(n));
                waits.map(|wait| wait.min(retry.cap).as_secs_f64()).sum()
            }
            _ => retry.longest().as_secs_f64(),
        }
    }
}

/// A token bucket for retries, as client libraries have it: each retry takes a token, a retry that ends well
/// gives it back, and a first try that ends well adds a part of one. A retry without a token is not made: the
/// message waits as after another failure, and no attempt is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// What a first try that ends well adds, in thousandths of a token.
    pub ratio: u32,
    /// How many tokens each process holds at most. It begins with them.
    pub burst: u32,
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
        /// For how long it keeps a message after it was sent, in nanoseconds; none for ever.
        retention: Option<u64>,
    },
    /// A quorum queue of RabbitMQ 4.3 that delays what comes back: by the policy's first wait times the
    /// count of failed deliveries, at most its cap. Its delivery limit is one less than the attempts.
    DelayedRetry {
        /// What is delayed.
        delays: Delays,
        /// How the consumer gives a failed message back.
        settles: Settles,
        /// For how long a message lives in it, in nanoseconds; none for ever.
        ttl: Option<u64>,
        /// Whether it has a dead-letter exchange: without one a dead letter is dropped.
        dead_letters: bool,
    },
}

/// What a queue of RabbitMQ 4.3 delays (`delayed-retry-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delays {
    /// Everything that comes back.
    All,
    /// What failed: `basic.reject`, and what a lost channel held.
    Failed,
    /// What was only returned: `basic.nack`, and what a consumer timeout took back.
    Returned,
    /// Nothing.
    Disabled,
}

/// How a consumer gives a failed message back to a queue of RabbitMQ 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settles {
    /// `basic.reject` with requeue, which counts towards the delivery limit.
    Reject,
    /// `basic.nack` with requeue, which does not.
    Nack,
}

impl Queue {
    /// Whether the pipeline's claims and its delay ladder stand in front of the handler.
    pub fn has_claims(self) -> bool {
        matches!(self, Self::RabbitMq { .. })
    }
}

/// How the wait before a retry is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// As the policy says, rounded up to a rung of the delay ladder.
    Ladder,
    /// Without memory, of this mean in nanoseconds: as retrial queues are calculated.
    Memoryless(u64),
}
