//! Settings of different layers that contradict each other, each shown by a run.
//!
//! No rule decides. For each [`Conflict`] there is a small run that is made to provoke it, within what the
//! case says may happen: the longest time that a handler takes, a crash or a lost connection at the worst
//! moment, an outage that is given, a redrive at the end of its horizon. If the run shows the harm, its steps
//! are the counter-example. If it does not, the settings agree as far as this case goes.

mod probe;

#[cfg(test)]
mod tests;

use crate::case::{Case, Target};
use crate::model::{Queue, Setting, Step, Steps};

use self::probe::Probe;

pub use self::probe::taken_over_after;

/// Two settings of different layers that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conflict {
    /// A claim ends while its handler still runs, and another worker begins beside it.
    LeaseShorterThanHandler,
    /// The broker takes a message away from a handler that is within its limit.
    ConsumerTimeoutShorterThanHandler,
    /// The broker takes messages away that wait for a worker in their process.
    ConsumerTimeoutShorterThanPrefetch,
    /// A managed queue shows a message again while its handler still runs.
    VisibilityShorterThanHandler,
    /// A managed queue shows messages again that wait for a worker in their process.
    VisibilityShorterThanPrefetch,
    /// A deploy interrupts a handler that is within its limit.
    DrainShorterThanHandler,
    /// The handler's limit cuts off calls that would have ended, more often than the target for duplicates
    /// allows.
    HandlerLimitShorterThanHandler,
    /// After a crash a message waits for longer than the target for recovery allows.
    TakeoverLaterThanRecovery,
    /// All attempts end before a given outage does, more often than the target for dead letters allows.
    RetriesShorterThanOutage,
    /// The total retry time ends before the attempts are used.
    TotalEndsBeforeAttempts,
    /// The queue gives a message up before the attempts are used.
    DeliveryLimitBelowAttempts,
    /// Crashes of a process use up the delivery limit of messages that no handler has seen.
    CrashesCountForPrefetched,
    /// A consumer that gives messages back with `basic.nack` retries without an end: it is not counted.
    NackIsNotCounted,
    /// The queue delays other messages than those that fail, so retries follow at once.
    FailuresAreNotDelayed,
    /// A message that is given up is dropped: the queue has no dead-letter exchange.
    NoDeadLetterExchange,
    /// The inbox forgets a message before its last redrive, and its handler runs again.
    DedupWindowShorterThanRedrive,
    /// The service forgets an idempotency key before the last retry or redrive, and acts again.
    KeyLifetimeShorterThanRetries,
    /// The queue removes a message before its retries have ended.
    RetentionShorterThanRetries,
}

impl Conflict {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::LeaseShorterThanHandler,
        Self::ConsumerTimeoutShorterThanHandler,
        Self::ConsumerTimeoutShorterThanPrefetch,
        Self::VisibilityShorterThanHandler,
        Self::VisibilityShorterThanPrefetch,
        Self::DrainShorterThanHandler,
        Self::HandlerLimitShorterThanHandler,
        Self::TakeoverLaterThanRecovery,
        Self::RetriesShorterThanOutage,
        Self::TotalEndsBeforeAttempts,
        Self::DeliveryLimitBelowAttempts,
        Self::CrashesCountForPrefetched,
        Self::NackIsNotCounted,
        Self::FailuresAreNotDelayed,
        Self::NoDeadLetterExchange,
        Self::DedupWindowShorterThanRedrive,
        Self::KeyLifetimeShorterThanRetries,
        Self::RetentionShorterThanRetries,
    ];

    /// Its name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaseShorterThanHandler => "lease-shorter-than-handler",
            Self::ConsumerTimeoutShorterThanHandler => "consumer-timeout-shorter-than-handler",
            Self::ConsumerTimeoutShorterThanPrefetch => "consumer-timeout-shorter-than-prefetch",
            Self::VisibilityShorterThanHandler => "visibility-shorter-than-handler",
            Self::VisibilityShorterThanPrefetch => "visibility-shorter-than-prefetch",
            Self::DrainShorterThanHandler => "drain-shorter-than-handler",
            Self::HandlerLimitShorterThanHandler => "handler-limit-shorter-than-handler",
            Self::TakeoverLaterThanRecovery => "takeover-later-than-recovery",
            Self::RetriesShorterThanOutage => "retries-shorter-than-outage",
            Self::TotalEndsBeforeAttempts => "total-ends-before-attempts",
            Self::DeliveryLimitBelowAttempts => "delivery-limit-below-attempts",
            Self::CrashesCountForPrefetched => "crashes-count-for-prefetched",
            Self::NackIsNotCounted => "nack-is-not-counted",
            Self::FailuresAreNotDelayed => "failures-are-not-delayed",
            Self::NoDeadLetterExchange => "no-dead-letter-exchange",
            Self::DedupWindowShorterThanRedrive => "dedup-window-shorter-than-redrive",
            Self::KeyLifetimeShorterThanRetries => "key-lifetime-shorter-than-retries",
            Self::RetentionShorterThanRetries => "retention-shorter-than-retries",
        }
    }

    /// The target whose miss it explains; none where it is wrong whatever is asked.
    pub fn target(self) -> Option<Target> {
        match self {
            Self::HandlerLimitShorterThanHandler => Some(Target::Duplicates),
            Self::TakeoverLaterThanRecovery => Some(Target::Recovery),
            Self::RetriesShorterThanOutage => Some(Target::DeadLetters),
            _ => None,
        }
    }

    /// Whether a queue can have it.
    fn is_of(self, queue: Queue) -> bool {
        let claims = queue.has_claims();
        let managed = matches!(queue, Queue::Managed { .. });
        match self {
            Self::LeaseShorterThanHandler => claims,
            Self::ConsumerTimeoutShorterThanHandler | Self::ConsumerTimeoutShorterThanPrefetch => {
                !managed
            }
            Self::VisibilityShorterThanHandler
            | Self::VisibilityShorterThanPrefetch
            | Self::DeliveryLimitBelowAttempts => managed,
            Self::NackIsNotCounted | Self::FailuresAreNotDelayed | Self::NoDeadLetterExchange => {
                !claims && !managed
            }
            Self::TotalEndsBeforeAttempts => claims || managed,
            Self::CrashesCountForPrefetched | Self::RetentionShorterThanRetries => !claims,
            // A broker that keeps the connection sees at once that it is gone.
            Self::TakeoverLaterThanRecovery => claims || managed,
            Self::DrainShorterThanHandler
            | Self::HandlerLimitShorterThanHandler
            | Self::RetriesShorterThanOutage
            | Self::DedupWindowShorterThanRedrive
            | Self::KeyLifetimeShorterThanRetries => true,
        }
    }
}

/// A run that shows a conflict.
#[derive(Clone, Debug, PartialEq)]
pub struct Counterexample {
    /// What contradicts what.
    pub conflict: Conflict,
    /// The message that is harmed.
    pub message: u32,
    /// What happened to it, and to the processes and the dependency meanwhile.
    pub steps: Steps,
    /// How long the handler takes in the run, in seconds.
    pub handler: f64,
}

/// Everything in a setting that contradicts another layer, with the run that shows it. `broken` are the
/// targets that the setting misses, and `key_lifetime` is how long the service knows an idempotency key, in
/// seconds, where it forgets them.
pub fn conflicts(
    case: &Case,
    setting: &Setting,
    broken: &[Target],
    key_lifetime: Option<f64>,
) -> Vec<Counterexample> {
    let mut found: Vec<Counterexample> = Vec::new();
    for conflict in Conflict::ALL {
        let explains = conflict.target().is_none_or(|it| broken.contains(&it));
        if !explains || !conflict.is_of(setting.queue) {
            continue;
        }
        // What one message alone already shows is not said again of several.
        let said = |other| found.iter().any(|it| it.conflict == other);
        let alone = match conflict {
            Conflict::ConsumerTimeoutShorterThanPrefetch => {
                said(Conflict::ConsumerTimeoutShorterThanHandler)
            }
            Conflict::VisibilityShorterThanPrefetch => said(Conflict::VisibilityShorterThanHandler),
            _ => false,
        };
        if alone {
            continue;
        }
        let probe = Probe::of(conflict, case, setting, key_lifetime);
        if let Some(shown) = probe.and_then(|it| it.run(setting)) {
            found.push(shown);
        }
    }
    found
}

/// Steps of a message that are shown after the one that harms it.
const AFTERWARDS: usize = 3;

/// The steps that people need to see what became of a message: its own, and those of the processes that
/// had it and of the dependency, up to a little after the one that harms it.
fn story(steps: &Steps, message: u32, harm: usize) -> Steps {
    let mine = |step: &Step| step.message() == Some(message);
    let own: Vec<usize> = (0..steps.len()).filter(|at| mine(&steps[*at].1)).collect();
    let afterwards = own.iter().filter(|at| **at > harm).nth(AFTERWARDS - 1);
    let (first, last) = (own.first(), afterwards.or(own.last()));
    let (Some(first), Some(last)) = (first, last) else {
        return Steps::new();
    };
    let processes: Vec<u32> = own
        .iter()
        .filter_map(|at| match steps[*at].1 {
            Step::Delivered { process, .. } => Some(process),
            _ => None,
        })
        .collect();
    let told = |step: &Step| match step {
        Step::Crashed { process }
        | Step::AskedToEnd { process }
        | Step::Disconnected { process }
        | Step::Restarted { process } => processes.contains(process),
        Step::OutageBegan | Step::OutageEnded => true,
        step => mine(step),
    };
    let told = steps[*first..=*last].iter().filter(|(_, step)| told(step));
    told.copied().collect()
}
