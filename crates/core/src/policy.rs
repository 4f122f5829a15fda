//! The numbers of a pipeline, and the start-up checks that refuse contradictions among them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::retry::RetryPolicy;

/// How the relay works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayPolicy {
    /// Rows claimed at once.
    pub batch: u32,
    /// How long a claim holds. Must outlast publishing a batch.
    pub lease: Duration,
    /// How long to wait for the confirms of a batch.
    pub confirm_timeout: Duration,
    /// How often to look without being notified.
    pub poll: Duration,
    /// First wait after a failed publish; doubles up to `backoff_cap`.
    pub backoff: Duration,
    /// Longest wait after a failed publish.
    pub backoff_cap: Duration,
    /// How long published rows are kept.
    pub retention: Duration,
    /// Rows removed at once, so that cleaning never holds the hot path up.
    pub purge_batch: u32,
    /// How often to remove old rows.
    pub purge_every: Duration,
}

impl Default for RelayPolicy {
    fn default() -> Self {
        Self {
            batch: 100,
            lease: Duration::from_secs(30),
            confirm_timeout: Duration::from_secs(10),
            poll: Duration::from_secs(1),
            backoff: Duration::from_millis(200),
            backoff_cap: Duration::from_secs(30),
            retention: Duration::from_secs(24 * 3600),
            purge_batch: 1_000,
            purge_every: Duration::from_secs(60),
        }
    }
}

/// How a consumer works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerPolicy {
    /// Messages handled at the same time in one process.
    pub workers: u16,
    /// Unacked deliveries at most; at least one for each worker.
    pub prefetch: u16,
    /// Messages in one transaction at most, of handlers that take several at once: as many as are
    /// there when a worker is free. One means each by itself. A batch has the handler limit of one
    /// message; when it fails its messages are tried again in smaller ones, down to each alone.
    pub batch: u16,
    /// A handler that runs longer is stopped, and its attempt has failed.
    pub handler_limit: Duration,
    /// How long the claim of an outside call holds: the visibility timeout of the work.
    pub lease: Duration,
    /// How often a claim is renewed while the call runs; none for never.
    pub renew_every: Option<Duration>,
    /// How long a polite shutdown waits for work in hand.
    pub drain: Duration,
    /// Wait before work goes on after the database did not answer, and behind an ordered
    /// predecessor.
    pub park: Duration,
    /// How long inbox rows of ended work are kept: duplicates that come later run again.
    pub dedup_window: Duration,
    /// How often to remove old inbox rows.
    pub purge_every: Duration,
}

impl Default for ConsumerPolicy {
    fn default() -> Self {
        Self {
            workers: 4,
            prefetch: 8,
            batch: 1,
            handler_limit: Duration::from_secs(20),
            lease: Duration::from_secs(60),
            renew_every: None,
            drain: Duration::from_secs(25),
            park: Duration::from_secs(1),
            dedup_window: Duration::from_secs(14 * 24 * 3600),
            purge_every: Duration::from_secs(300),
        }
    }
}

/// All numbers of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The relay's.
    pub relay: RelayPolicy,
    /// The consumers'.
    pub consumer: ConsumerPolicy,
    /// When to try again.
    pub retry: RetryPolicy,
    /// RabbitMQ's `consumer_timeout`; none where the broker has none.
    pub consumer_timeout: Option<Duration>,
    /// For how long dead letters may still be redriven.
    pub redrive_horizon: Duration,
    /// Largest payload in bytes: a handler's emit refuses more, and a message that comes with more
    /// goes to the dead letters.
    pub max_payload: usize,
}

impl Policy {
    /// The longest that a worker may keep a message, alive or dead: its handler's limit, and the
    /// lease until which it is taken for alive.
    pub fn longest_hold(&self) -> Duration {
        self.consumer.handler_limit + self.consumer.lease + Duration::from_secs(2)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            relay: RelayPolicy::default(),
            consumer: ConsumerPolicy::default(),
            retry: RetryPolicy::default(),
            consumer_timeout: Some(Duration::from_secs(30 * 60)),
            redrive_horizon: Duration::from_secs(7 * 24 * 3600),
            max_payload: crate::event::MAX_PAYLOAD,
        }
    }
}

/// A start-up check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The lease outlasts the handler's limit by a tenth, unless it is renewed.
    LeaseShorterThanHandler,
    /// Renewal happens at least three times in a lease.
    RenewalTooRare,
    /// Duplicates are remembered for longer than retries and redrives can bring them.
    DedupWindowTooShort,
    /// The broker does not take messages away from a handler that is within its limit.
    ConsumerTimeoutTooShort,
    /// The broker does not take messages away that wait in hand for a worker: all that is prefetched
    /// for one, handled for as long as a handler may run, ends within its `consumer_timeout`. A lease
    /// need not outlast that wait: the claim is made when the handler begins.
    PrefetchTooDeep,
    /// There is a delivery for each worker.
    PrefetchBelowWorkers,
    /// A batch can be full.
    BatchBeyondPrefetch,
    /// The relay's lease outlasts waiting for confirms.
    RelayLeaseTooShort,
    /// No retry delay is longer than the longest rung of the delay ladder.
    DelayBeyondLadder,
    /// Retries end, by count and by time, and wait.
    RetryUnbounded,
    /// Counts that must not be zero are not.
    Zero,
}

impl Check {
    /// Its name in `allow` and in errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaseShorterThanHandler => "lease-shorter-than-handler",
            Self::RenewalTooRare => "renewal-too-rare",
            Self::DedupWindowTooShort => "dedup-window-too-short",
            Self::ConsumerTimeoutTooShort => "consumer-timeout-too-short",
            Self::PrefetchTooDeep => "prefetch-too-deep",
            Self::PrefetchBelowWorkers => "prefetch-below-workers",
            Self::BatchBeyondPrefetch => "batch-beyond-prefetch",
            Self::RelayLeaseTooShort => "relay-lease-too-short",
            Self::DelayBeyondLadder => "delay-beyond-ladder",
            Self::RetryUnbounded => "retry-unbounded",
            Self::Zero => "zero",
        }
    }
}

/// Two values that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", check.as_str())]
pub struct Contradiction {
    /// Which check.
    pub check: Check,
    /// Both values, with what to change.
    pub what: String,
}

impl Policy {
    /// The delays for which it needs queues.
    pub fn rungs(&self) -> Vec<Duration> {
        self.retry.rungs(self.consumer.park)
    }

    /// Everything in it that contradicts itself.
    pub fn contradictions(&self) -> Vec<Contradiction> {
        let mut found = Vec::new();
        let mut refuse = |check, what| found.push(Contradiction { check, what });
        let c = &self.consumer;
        let margin = c.handler_limit + c.handler_limit / 10;
        match c.renew_every {
            None if c.lease < margin => refuse(
                Check::LeaseShorterThanHandler,
                format!(
                    "the claim's lease ({:?}) is shorter than the handler's limit ({:?}) and a \
                     tenth, and is not renewed: another worker would take over work in progress",
                    c.lease, c.handler_limit
                ),
            ),
            Some(every) if every * 3 > c.lease => refuse(
                Check::RenewalTooRare,
                format!(
                    "renewal every {every:?} is more than a third of the lease {:?}",
                    c.lease
                ),
            ),
            _ => {}
        }
        let horizon = self.retry.longest() + self.redrive_horizon;
        if c.dedup_window < horizon {
            refuse(
                Check::DedupWindowTooShort,
                format!(
                    "the dedup window ({:?}) is shorter than the retry budget ({:?}) and the \
                     redrive horizon ({:?}) together: a late duplicate would run again",
                    c.dedup_window,
                    self.retry.longest(),
                    self.redrive_horizon
                ),
            );
        }
        if let Some(timeout) = self.consumer_timeout.filter(|t| *t < margin) {
            refuse(
                Check::ConsumerTimeoutTooShort,
                format!(
                    "the broker's consumer_timeout ({timeout:?}) is shorter than the handler's \
                     limit ({:?}) and a tenth",
                    c.handler_limit
                ),
            );
        }
        let turns = u32::from(c.prefetch).div_ceil(u32::from(c.workers.max(1)));
        // A batch that is stopped at the limit costs it once more, before each of its messages may.
        let batches = match c.batch {
            0 | 1 => 0,
            batch => turns.div_ceil(u32::from(batch)),
        };
        let in_hand = c.handler_limit.saturating_mul(turns.max(1) + batches);
        // One handler alone is the check above.
        let waits = |timeout: &Duration| *timeout >= margin && *timeout < in_hand;
        if let Some(timeout) = self.consumer_timeout.filter(waits) {
            refuse(
                Check::PrefetchTooDeep,
                format!(
                    "the last of {} prefetched messages waits for {} handlers of up to {:?} \
                     with {} workers, longer than the broker's consumer_timeout ({timeout:?}): it \
                     would take them all away",
                    c.prefetch,
                    turns + batches,
                    c.handler_limit,
                    c.workers
                ),
            );
        }
        if c.prefetch < c.workers {
            refuse(
                Check::PrefetchBelowWorkers,
                format!("prefetch {} is below the {} workers", c.prefetch, c.workers),
            );
        }
        if c.batch > c.prefetch {
            refuse(
                Check::BatchBeyondPrefetch,
                format!(
                    "a batch of {} messages is never full with a prefetch of {}",
                    c.batch, c.prefetch
                ),
            );
        }
        if self.relay.lease < self.relay.confirm_timeout * 2 {
            refuse(
                Check::RelayLeaseTooShort,
                format!(
                    "the relay's lease ({:?}) is less than twice its confirm timeout ({:?})",
                    self.relay.lease, self.relay.confirm_timeout
                ),
            );
        }
        self.retry.contradictions(&mut refuse);
        let relay = &self.relay;
        if [c.workers, c.prefetch, c.batch].contains(&0)
            || relay.batch == 0
            || relay.purge_batch == 0
        {
            refuse(
                Check::Zero,
                "workers, prefetch and batches are at least 1".to_owned(),
            );
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What contradicts itself about a consumer.
    fn found(change: impl Fn(&mut ConsumerPolicy)) -> Vec<Check> {
        let mut policy = Policy::default();
        change(&mut policy.consumer);
        let found = policy.contradictions();
        found.into_iter().map(|found| found.check).collect()
    }

    #[test]
    fn a_batch_can_be_full_and_holds_a_message() {
        assert_eq!(found(|it| it.batch = it.prefetch), []);
        let beyond = found(|it| it.batch = it.prefetch + 1);
        assert_eq!(beyond, [Check::BatchBeyondPrefetch]);
        assert_eq!(found(|it| it.batch = 0), [Check::Zero]);
    }

    /// All that two workers have in hand: 200 messages each, of which each may need the limit.
    #[test]
    fn a_batch_that_hangs_costs_its_limit_before_each_message_may() {
        let in_hand = |batch, limit| {
            found(|it| {
                (it.workers, it.prefetch, it.batch) = (2, 400, batch);
                it.handler_limit = limit;
            })
        };
        let half_an_hour = Duration::from_secs(30 * 60);
        assert_eq!(in_hand(1, half_an_hour / 200), []);
        let too_deep = in_hand(100, half_an_hour / 200);
        assert_eq!(too_deep, [Check::PrefetchTooDeep]);
        assert_eq!(in_hand(100, half_an_hour / 202), []);
    }
}
