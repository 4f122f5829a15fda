//! Formulas for what can be calculated: waiting for a worker, deliveries that are repeated because a
//! timeout was too short, and retries during an outage.

use std::collections::BTreeMap;
use std::time::Duration;

use redeliver_core::retry::{RetryPolicy, rung_for};

use crate::latency::Latency;
use crate::model::{Queue, Setting};

/// The share of messages that find all workers busy, for messages that arrive at random and handlers
/// without memory (Erlang C). `load` is arrivals a second times mean seconds of a handler. 1 where the
/// workers cannot keep up.
///
/// ```
/// let share = redeliver_sizing::closed::erlang_c(8.0, 10);
/// assert!((share - 0.409).abs() < 0.001);
/// ```
pub fn erlang_c(load: f64, workers: u32) -> f64 {
    if load >= f64::from(workers) {
        return 1.0;
    }
    // Erlang B by its recurrence, which neither overflows nor cancels.
    let blocked = (1..=workers).fold(1.0, |blocked, n| {
        load * blocked / (f64::from(n) + load * blocked)
    });
    blocked / (1.0 - load / f64::from(workers) * (1.0 - blocked))
}

/// The mean wait for a worker in seconds, for messages that arrive at random (`arrivals` a second) and
/// handlers without memory (M/M/c). Infinite where the workers cannot keep up.
pub fn mmc_wait(arrivals: f64, mean: f64, workers: u32) -> f64 {
    let load = arrivals * mean;
    if load >= f64::from(workers) {
        return f64::INFINITY;
    }
    erlang_c(load, workers) * mean / (f64::from(workers) - load)
}

/// The mean wait for a single worker in seconds, for messages that arrive at random and handlers of any
/// distribution (Pollaczek and Khinchine).
pub fn mg1_wait(arrivals: f64, handler: &Latency) -> f64 {
    let load = arrivals * handler.mean();
    if load >= 1.0 {
        return f64::INFINITY;
    }
    arrivals * handler.second_moment() / (2.0 * (1.0 - load))
}

/// The mean number of messages that wait for their next try, where one worker takes a message only if it
/// is idle, and each message that found it busy tries again after a time without memory of mean `retry`
/// (the M/M/1 retrial queue; Falin and Templeton, 1997, section 1.2).
pub fn retrial_waiting(arrivals: f64, mean: f64, retry: f64) -> f64 {
    let load = arrivals * mean;
    if load >= 1.0 {
        return f64::INFINITY;
    }
    load * (load + arrivals * retry) / (1.0 - load)
}

/// The share of deliveries of a managed queue that are delivered again while their handler still runs,
/// because it takes longer than the visibility timeout.
pub fn visibility_redelivery(handler: &Latency, timeout: f64) -> f64 {
    handler.survival(timeout)
}

/// The share of deliveries that RabbitMQ takes back from a handler that is alive: its `consumer_timeout`
/// is looked at on each tick of the channel, and a delivery comes at any time between two ticks. Holds
/// for a prefetch of 1; of a deeper one the messages that wait are taken along.
///
/// E[min(1, max(0, (latency − timeout) / tick))]
pub fn consumer_timeout_redelivery(handler: &Latency, timeout: f64, tick: f64) -> f64 {
    if tick <= 0.0 {
        return handler.survival(timeout);
    }
    (handler.limited_mean(timeout + tick) - handler.limited_mean(timeout)) / tick
}

/// How many tries a message takes on average, if each fails with this chance and `attempts` are made at
/// most.
pub fn expected_tries(fails: f64, attempts: u32) -> f64 {
    match fails >= 1.0 {
        true => f64::from(attempts),
        false => (1.0 - fails.powf(f64::from(attempts))) / (1.0 - fails),
    }
}

/// The waits of a retry policy as the delay ladder gives them, and what follows from them if every try
/// fails at once.
#[derive(Clone, Debug)]
pub struct Retries {
    policy: RetryPolicy,
    rungs: Vec<Duration>,
    /// Whether the broker makes the waits, which grow by the same step each time.
    by_broker: bool,
}

/// The waits of more policies than this are rounded, in tries that are still told apart.
const STATES: usize = 20_000;

impl Retries {
    /// Of a policy, in a ladder that also has a rung for `park`.
    pub fn new(policy: &RetryPolicy, park: Duration) -> Self {
        Self {
            policy: policy.clone(),
            rungs: policy.rungs(park),
            by_broker: false,
        }
    }

    /// Of a setting, whose queue may make the waits itself.
    pub fn of(setting: &Setting) -> Self {
        Self {
            by_broker: matches!(setting.queue, Queue::DelayedRetry { .. }),
            ..Self::new(&setting.policy.retry, setting.policy.consumer.park)
        }
    }

    /// The waits after this attempt: seconds and share, rising. A wait that jitter chooses is rounded up
    /// to the next rung, so there are few.
    pub fn waits(&self, attempt: u32) -> Vec<(f64, f64)> {
        let parts = self.parts(attempt, Duration::ZERO);
        parts
            .into_iter()
            .map(|(wait, share)| (wait.as_secs_f64(), share))
            .collect()
    }

    /// The waits after an attempt and `elapsed` after the first failure. Their shares add up to less
    /// than 1 where some would lead past the total time.
    fn parts(&self, attempt: u32, elapsed: Duration) -> Vec<(Duration, f64)> {
        if self.by_broker {
            let wait = self.policy.first.saturating_mul(attempt);
            return vec![(wait.min(self.policy.cap), 1.0)];
        }
        let (low, high) = (self.policy.shortest(attempt), self.policy.nominal(attempt));
        let last = self.policy.total.saturating_sub(elapsed);
        let Some(longest) = rung_for(&self.rungs, high) else {
            return Vec::new();
        };
        if high == low {
            return match high <= last {
                true => vec![(longest, 1.0)],
                false => Vec::new(),
            };
        }
        let wide = (high - low).as_secs_f64();
        let mut parts: Vec<(Duration, f64)> = Vec::new();
        let mut from = low;
        for rung in &self.rungs {
            let until = (*rung).min(high).min(last);
            if until > from {
                parts.push((*rung, (until - from).as_secs_f64() / wide));
                from = until;
            }
        }
        // The ladder may end below the longest wait by what rounding to milliseconds does.
        let until = high.min(last);
        if until > from {
            parts.push((longest, (until - from).as_secs_f64() / wide));
        }
        parts
    }

    /// When the tries of a message end that fails each time: seconds from the first to the last, with
    /// their shares.
    pub fn ends(&self) -> Vec<(f64, f64)> {
        let mut ends = BTreeMap::new();
        self.walk(|_, at, share| {
            *ends.entry(at).or_insert(0.0) += share;
        });
        ends.into_iter()
            .map(|(at, share)| (at.as_secs_f64(), share))
            .collect()
    }

    /// Calls `each` with the number of tries, the time from the first to the last, and the share of
    /// messages of which that is the end. Gives the tries that are made, by time.
    fn walk(&self, mut each: impl FnMut(u32, Duration, f64)) -> Vec<BTreeMap<Duration, f64>> {
        let mut tries = vec![BTreeMap::from([(Duration::ZERO, 1.0)])];
        for attempt in 1..=self.policy.attempts {
            let mut next: BTreeMap<Duration, f64> = BTreeMap::new();
            let now = tries.last().cloned().unwrap_or_default();
            for (at, share) in now {
                let parts = match attempt < self.policy.attempts {
                    true => self.parts(attempt, at),
                    false => Vec::new(),
                };
                let mut left = 1.0;
                for (wait, part) in parts {
                    left -= part;
                    *next.entry(at + wait).or_insert(0.0) += share * part;
                }
                if left > 1e-12 {
                    each(attempt, at, share * left);
                }
            }
            if next.is_empty() {
                break;
            }
            tries.push(thinned(next));
        }
        tries
    }

    /// The share of messages of which all tries fall into an outage of this length, if the first does so
    /// at any time of it and a try within it fails at once.
    pub fn lost_to_outage(&self, outage: f64) -> f64 {
        if outage <= 0.0 {
            return 0.0;
        }
        let ends = self.ends().into_iter();
        ends.map(|(at, share)| share * (outage - at).max(0.0) / outage)
            .sum()
    }

    /// How many tries a message makes within this many seconds of its first, if each fails: at the end of
    /// an outage of that length, this many times the usual load reaches the dependency.
    pub fn tries_within(&self, seconds: f64) -> f64 {
        let tries = self.walk(|_, _, _| {});
        let made = tries.iter().flatten();
        let made = made.filter(|(at, _)| at.as_secs_f64() <= seconds);
        made.map(|(_, share)| share).sum()
    }

    /// Of messages whose attempt fails at the same moment, the largest share that comes back at the same
    /// moment. 1 without jitter.
    pub fn together(&self, attempt: u32) -> f64 {
        let waits = self.waits(attempt).into_iter();
        waits.map(|(_, share)| share).fold(0.0, f64::max)
    }
}

/// Times that are near each other as one, where there are too many of them.
fn thinned(times: BTreeMap<Duration, f64>) -> BTreeMap<Duration, f64> {
    if times.len() <= STATES {
        return times;
    }
    let longest = times.last_key_value().map_or(Duration::ZERO, |(at, _)| *at);
    let grid = (longest / STATES as u32 * 2)
        .max(Duration::from_nanos(1))
        .as_nanos();
    let mut thin: BTreeMap<Duration, f64> = BTreeMap::new();
    for (at, share) in times {
        let rounded = (at.as_nanos() + grid / 2) / grid * grid;
        let rounded = Duration::from_nanos(u64::try_from(rounded).unwrap_or(u64::MAX));
        *thin.entry(rounded).or_insert(0.0) += share;
    }
    thin
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn policy(attempts: u32, first: u64, cap: u64, total: u64, jitter: bool) -> RetryPolicy {
        RetryPolicy {
            attempts,
            first: S * u32::try_from(first).unwrap(),
            cap: S * u32::try_from(cap).unwrap(),
            total: S * u32::try_from(total).unwrap(),
            jitter,
        }
    }

    #[test]
    fn erlangs_tables() {
        // Of published tables, to four places.
        for (load, workers, share) in [
            (0.5, 1, 0.5),
            (1.0, 2, 0.3333),
            (3.0, 5, 0.2362),
            (20.0, 24, 0.2981),
            (5.0, 5, 1.0),
        ] {
            assert!(
                (erlang_c(load, workers) - share).abs() < 1e-4,
                "{load} {workers}"
            );
        }
    }

    #[test]
    fn one_worker_waits_the_same_by_both_formulas() {
        let handler = Latency::exponential(0.5).unwrap();
        for arrivals in [0.2, 1.0, 1.9] {
            let (a, b) = (mmc_wait(arrivals, 0.5, 1), mg1_wait(arrivals, &handler));
            assert!((a - b).abs() < 1e-9 * a, "{a} {b}");
        }
        assert!(mmc_wait(2.0, 0.5, 1).is_infinite() && mg1_wait(2.0, &handler).is_infinite());
    }

    #[test]
    fn a_timeout_is_looked_at_on_ticks() {
        let fixed = Latency::fixed(50.0).unwrap();
        // 20 s beyond the timeout, of a minute between ticks.
        assert!((consumer_timeout_redelivery(&fixed, 30.0, 60.0) - 20.0 / 60.0).abs() < 1e-9);
        assert!((consumer_timeout_redelivery(&fixed, 30.0, 10.0) - 1.0).abs() < 1e-9);
        assert!(consumer_timeout_redelivery(&fixed, 50.0, 10.0).abs() < 1e-9);
        assert!((visibility_redelivery(&fixed, 30.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn waits_without_jitter_double() {
        let retries = Retries::new(&policy(5, 1, 600, 3600, false), S);
        let waits: Vec<_> = (1..5).flat_map(|n| retries.waits(n)).collect();
        assert_eq!(waits, [(1.0, 1.0), (2.0, 1.0), (4.0, 1.0), (8.0, 1.0)]);
        assert_eq!(retries.ends(), [(15.0, 1.0)]);
        assert!((retries.lost_to_outage(60.0) - 0.75).abs() < 1e-9);
        assert!((retries.tries_within(7.0) - 4.0).abs() < 1e-9);
        assert!((retries.together(1) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn jitter_chooses_among_rungs() {
        let retries = Retries::new(&policy(8, 4, 600, 3600, true), S);
        assert_eq!(retries.waits(1), [(2.5, 0.25), (3.0, 0.25), (4.0, 0.5)]);
        assert!((retries.together(1) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_total_time_ends_retries() {
        // 1, 2, 4: the fourth wait, 8 s, would lead past 10 s.
        let retries = Retries::new(&policy(9, 1, 600, 10, false), S);
        assert_eq!(retries.ends(), [(7.0, 1.0)]);
    }

    proptest! {
        #[test]
        fn all_messages_end(
            attempts in 1u32..12, first in 1u64..9, more in 0u64..600, total in 10u64..5_000, jitter: bool,
        ) {
            let retries = Retries::new(&policy(attempts, first, first + more, total, jitter), S);
            let shares: f64 = retries.ends().into_iter().map(|(_, share)| share).sum();
            prop_assert!((shares - 1.0).abs() < 1e-6, "{shares}");
            let (short, long) = (retries.lost_to_outage(10.0), retries.lost_to_outage(1e6));
            prop_assert!(short <= long + 1e-9 && (0.0..=1.0 + 1e-9).contains(&long));
        }
    }
}
