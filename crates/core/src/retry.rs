//! When to try again, and when to stop: pure rules.
//!
//! The wait before attempt n+1 is `first × 2^(n-1)`, at most `cap`, with jitter: a value between
//! half of it and all of it, so that messages that failed together do not come back together.
//! Both limits hold: the count and the total time. Nothing overflows at any attempt.

use std::time::Duration;

use crate::policy::Check;

/// When to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts at most, the first included.
    pub attempts: u32,
    /// The wait before the second attempt, before jitter.
    pub first: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// No attempt begins later than this after the first failure.
    pub total: Duration,
    /// Spread waits between half and all of their length.
    pub jitter: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            first: Duration::from_secs(1),
            cap: Duration::from_secs(600),
            total: Duration::from_secs(3600),
            jitter: true,
        }
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again after this wait.
    After(Duration),
    /// All attempts are used.
    AttemptsExhausted,
    /// The next attempt would begin after the total time.
    TimeExhausted,
}

impl RetryPolicy {
    /// The wait after `attempt` failed attempts, before jitter.
    pub fn nominal(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(63);
        let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
        let first = u64::try_from(self.first.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(first.saturating_mul(factor)).min(self.cap)
    }

    /// The shortest wait that jitter may choose after `attempt` failed attempts.
    pub fn shortest(&self, attempt: u32) -> Duration {
        if self.jitter {
            self.nominal(attempt) / 2
        } else {
            self.nominal(attempt)
        }
    }

    /// The wait after `attempt` failed attempts; `chance` decides within the jitter.
    pub fn delay(&self, attempt: u32, chance: u64) -> Duration {
        let (low, high) = (self.shortest(attempt), self.nominal(attempt));
        let span = u128::from(u64::try_from((high - low).as_nanos()).unwrap_or(u64::MAX));
        low + Duration::from_nanos(((span * u128::from(chance)) >> 64) as u64)
    }

    /// Decides after the failure of `attempt`, `elapsed` after the first failure.
    pub fn next(&self, attempt: u32, elapsed: Duration, chance: u64) -> Next {
        if attempt >= self.attempts {
            return Next::AttemptsExhausted;
        }
        let delay = self.delay(attempt, chance);
        if elapsed.saturating_add(delay) > self.total {
            return Next::TimeExhausted;
        }
        Next::After(delay)
    }

    /// From the first failure to the last attempt at most.
    pub fn longest(&self) -> Duration {
        let waits = (1..self.attempts).try_fold(Duration::ZERO, |sum, attempt| {
            let sum = sum.saturating_add(self.nominal(attempt));
            if sum >= self.total {
                Err(self.total)
            } else {
                Ok(sum)
            }
        });
        waits.unwrap_or_else(|total| total)
    }

    /// The delays for which queues are needed, ascending: `steps` to each doubling, from half of
    /// `first` to `cap`, and `park`. A wait is rounded up to the next of them, so that jitter
    /// chooses among queues and no message comes early.
    pub fn rungs(&self, park: Duration) -> Vec<Duration> {
        let mut rungs = vec![park, self.cap];
        let mut octave = self.shortest(1).max(Duration::from_millis(1));
        while octave < self.cap {
            rungs.extend([octave, octave + octave / 4, octave + octave / 2]);
            octave = octave.saturating_mul(2);
        }
        for rung in &mut rungs {
            let millis = rung.as_nanos().div_ceil(1_000_000);
            *rung = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
        }
        let longest = rungs[1].max(rungs[0]);
        rungs.retain(|rung| *rung <= longest);
        rungs.sort_unstable();
        rungs.dedup();
        rungs
    }

    pub(crate) fn contradictions(&self, refuse: &mut impl FnMut(Check, String)) {
        if self.attempts == 0 || self.attempts > 1_000 {
            refuse(
                Check::RetryUnbounded,
                format!("attempts = {}: choose 1 to 1000", self.attempts),
            );
        }
        if self.first.is_zero() {
            refuse(
                Check::RetryUnbounded,
                "the first wait is zero: a hot loop".to_owned(),
            );
        }
        if self.first > self.cap {
            let (first, cap) = (self.first, self.cap);
            refuse(
                Check::DelayBeyondLadder,
                format!("first wait {first:?} is above cap {cap:?}"),
            );
        }
        // A RabbitMQ TTL is at most 2^32 - 1 ms.
        if self.cap.as_millis() > u128::from(u32::MAX) {
            let cap = self.cap;
            refuse(
                Check::DelayBeyondLadder,
                format!("cap {cap:?} is above what a TTL can hold"),
            );
        }
        if self.total < self.first {
            let (total, first) = (self.total, self.first);
            refuse(
                Check::RetryUnbounded,
                format!(
                    "total time {total:?} is below the first wait {first:?}: nothing is retried"
                ),
            );
        }
    }
}

/// The smallest rung that is not shorter than `delay`; the longest where none is.
pub fn rung_for(rungs: &[Duration], delay: Duration) -> Option<Duration> {
    let at = rungs.partition_point(|rung| *rung < delay);
    rungs.get(at).or(rungs.last()).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn policy()(
            attempts in 1u32..2_000,
            first in 1u64..10_000_000,
            cap in 1u64..u64::MAX / 2,
            total in 1u64..u64::MAX / 2,
            jitter: bool,
        ) -> RetryPolicy {
            RetryPolicy {
                attempts,
                first: Duration::from_micros(first),
                cap: Duration::from_nanos(cap),
                total: Duration::from_nanos(total),
                jitter,
            }
        }
    }

    proptest! {
        #[test]
        fn a_delay_never_exceeds_cap_nor_undercuts_the_jitter(p in policy(), n: u32, chance: u64) {
            let delay = p.delay(n, chance);
            prop_assert!(delay <= p.cap);
            prop_assert!(delay >= p.shortest(n) && delay <= p.nominal(n));
        }

        #[test]
        fn delays_do_not_fall_from_attempt_to_attempt(p in policy(), n in 1u32..u32::MAX) {
            prop_assert!(p.nominal(n) <= p.nominal(n + 1));
        }

        #[test]
        fn retries_end_by_count_and_by_time(p in policy(), chance: u64) {
            let (mut elapsed, mut attempt) = (Duration::ZERO, 1u32);
            while let Next::After(delay) = p.next(attempt, elapsed, chance) {
                elapsed += delay;
                attempt += 1;
                prop_assert!(attempt <= p.attempts && elapsed <= p.total);
            }
            prop_assert!(elapsed <= p.longest().max(p.total));
        }

        #[test]
        fn a_rung_is_never_early_and_at_most_a_quarter_late(
            first in 1u64..5_000, cap in 1u64..5_000_000, n in 1u32..64, chance: u64,
        ) {
            let p = RetryPolicy {
                first: Duration::from_millis(first),
                cap: Duration::from_millis(cap.max(first)),
                ..RetryPolicy::default()
            };
            let delay = p.delay(n, chance);
            let rungs = p.rungs(Duration::from_secs(1));
            let rung = rung_for(&rungs, delay).expect("there are rungs");
            prop_assert!(rung >= delay, "{rung:?} for {delay:?}");
            prop_assert!(rung <= delay + delay / 3 + Duration::from_millis(1), "{rung:?} {delay:?}");
        }
    }
}
