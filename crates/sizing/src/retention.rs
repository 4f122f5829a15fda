//! For how long things have to be kept, so that no outage that is given loses or doubles anything.

use crate::case::Case;
use crate::evaluate::Expected;
use crate::model::{Queue, Setting};
use crate::number::people_choose;

/// Something that is kept for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// Published rows of the outbox.
    Outbox,
    /// Messages in the broker's queues: no time to live or length may end them sooner.
    Broker,
    /// Rows of the inbox: the dedup window.
    Inbox,
    /// Dead letters.
    DeadLetters,
    /// Idempotency keys at the outside service.
    ServiceKeys,
}

impl Kept {
    /// Its name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbox => "outbox_rows_s",
            Self::Broker => "broker_messages_s",
            Self::Inbox => "inbox_rows_s",
            Self::DeadLetters => "dead_letters_s",
            Self::ServiceKeys => "service_keys_s",
        }
    }

    /// Why it has to be kept for so long.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Outbox => {
                "the longest outage and its backlog: from these rows an operator publishes what the broker lost"
            }
            Self::Broker => "the longest outage, its backlog, and all retries",
            Self::Inbox => "all retries and redrives: a duplicate that comes later runs again",
            Self::DeadLetters => "for as long as they may be redriven",
            Self::ServiceKeys => "all retries and redrives: a call that comes later acts twice",
        }
    }
}

/// For how long a message may be tried after it was first taken up, in seconds: the waits, the handlers
/// between them, and a claim that a crash leaves with the distance after it.
pub fn longest_try(setting: &Setting) -> f64 {
    let policy = &setting.policy;
    let waits = setting.longest_wait();
    let handlers = f64::from(policy.retry.attempts) * policy.consumer.handler_limit.as_secs_f64();
    match setting.queue {
        Queue::DelayedRetry { .. } => waits + handlers,
        Queue::Managed { visibility, .. } => {
            waits + handlers + f64::from(policy.retry.attempts) * visibility as f64 / 1e9
        }
        Queue::RabbitMq { .. } => {
            // The total time of the policy counts handlers as well.
            let total = policy.retry.total + policy.consumer.handler_limit;
            let lease = policy.consumer.lease.as_secs_f64();
            (waits + handlers).min(total.as_secs_f64()) + 2.0 * lease
        }
    }
}

/// How long after its first try a message may come again, in seconds: its retries, a redrive at the end of
/// the horizon, and the retries after that.
pub fn comes_again(setting: &Setting) -> f64 {
    2.0 * longest_try(setting) + setting.policy.redrive_horizon.as_secs_f64()
}

/// The dedup window that a setting needs, in seconds as people choose them: retries and redrives can bring a
/// message again for so long.
pub fn dedup_window(setting: &Setting) -> f64 {
    people_choose(comes_again(setting))
}

/// For how long each has to be kept at least, in seconds as people choose them.
pub fn needed(case: &Case, setting: &Setting, expected: &Expected) -> Vec<(Kept, f64)> {
    let outages = case.outages.iter().zip(&expected.outages);
    let away = outages.map(|(kind, seen)| {
        // A backlog that is not seen to end is taken for as long as the outage again, twice.
        let drained = seen.drained.map_or(2.0 * kind.whole(), |it| it.mean);
        kind.whole() + drained
    });
    let away = away.fold(0.0, f64::max);
    let redriven = setting.policy.redrive_horizon.as_secs_f64();
    let tried = longest_try(setting);
    let needed = [
        (Kept::Outbox, away),
        (Kept::Broker, away + tried),
        (Kept::Inbox, comes_again(setting)),
        (Kept::DeadLetters, redriven),
        (Kept::ServiceKeys, comes_again(setting)),
    ];
    needed
        .map(|(kept, seconds)| (kept, people_choose(seconds)))
        .to_vec()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Backoff;
    use redeliver_core::policy::Policy;

    #[test]
    fn the_longest_try_is_bounded_by_count_and_by_time() {
        let mut setting = Setting {
            processes: 1,
            policy: Policy::default(),
            queue: Queue::RabbitMq { tick: 1 },
            backoff: Backoff::Ladder,
            budget: None,
        };
        let policy = &mut setting.policy;
        policy.consumer.handler_limit = Duration::from_secs(10);
        policy.consumer.lease = Duration::from_secs(20);
        policy.retry.attempts = 4;
        policy.retry.first = Duration::from_secs(1);
        // 1 + 2 + 4 s of waits, four handlers of 10 s, and twice the lease.
        assert!((longest_try(&setting) - (7.0 + 40.0 + 40.0)).abs() < 1e-9);
        setting.policy.retry.total = Duration::from_secs(20);
        assert!((longest_try(&setting) - (20.0 + 10.0 + 40.0)).abs() < 1e-9);
    }
}
