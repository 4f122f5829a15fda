//! The numbers that are chosen, and the values that people give them.

use std::time::Duration;

use crate::model::{Queue, Setting};

/// A number that is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Number {
    /// Workers of a process.
    Workers,
    /// Unacked deliveries of a process.
    Prefetch,
    /// The longest that a handler may run.
    HandlerLimit,
    /// How long a claim holds.
    Lease,
    /// How often a claim is renewed.
    RenewEvery,
    /// RabbitMQ's `consumer_timeout`.
    ConsumerTimeout,
    /// How long a managed queue hides a message that was received.
    Visibility,
    /// Attempts, the first included.
    Attempts,
    /// The wait before the second attempt.
    First,
    /// The longest wait.
    Cap,
    /// From the first failure to the last attempt.
    Total,
}

/// A value of a number: seconds, or a count; none for never.
pub type Value = Option<f64>;

/// Seconds that people choose.
const TIMES: [f64; 43] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 45.0, 50.0, 60.0,
    75.0, 90.0, 120.0, 150.0, 180.0, 240.0, 300.0, 420.0, 600.0, 900.0, 1_200.0, 1_800.0, 2_700.0,
    3_600.0, 5_400.0, 7_200.0, 10_800.0, 14_400.0, 21_600.0, 28_800.0, 43_200.0, 64_800.0,
    86_400.0, 172_800.0, 259_200.0, 604_800.0,
];

/// Counts that people choose.
const COUNTS: [f64; 26] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 28.0, 32.0,
    40.0, 48.0, 64.0, 80.0, 96.0, 128.0, 192.0, 256.0, 512.0,
];

/// The shortest of the times that people choose, from this one on.
pub fn people_choose(least: f64) -> f64 {
    let longer = TIMES.into_iter().find(|time| *time >= least);
    // Beyond them, whole days.
    longer.unwrap_or_else(|| (least / 86_400.0).ceil() * 86_400.0)
}

impl Number {
    /// Those of a kind of queue, in the order in which they are chosen.
    pub fn of(queue: Queue) -> Vec<Self> {
        let mut numbers = vec![Self::Workers, Self::Prefetch, Self::HandlerLimit];
        match queue {
            Queue::RabbitMq { .. } => {
                numbers.extend([Self::Lease, Self::RenewEvery, Self::ConsumerTimeout]);
            }
            Queue::Managed { .. } => numbers.push(Self::Visibility),
            Queue::DelayedRetry { .. } => numbers.push(Self::ConsumerTimeout),
        }
        numbers.extend([Self::Attempts, Self::First, Self::Cap]);
        // A broker that delays retries counts them, and has no total time.
        if !matches!(queue, Queue::DelayedRetry { .. }) {
            numbers.push(Self::Total);
        }
        numbers
    }

    /// Its name in results, with its unit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workers => "workers",
            Self::Prefetch => "prefetch",
            Self::HandlerLimit => "handler_limit_s",
            Self::Lease => "lease_s",
            Self::RenewEvery => "renew_every_s",
            Self::ConsumerTimeout => "consumer_timeout_s",
            Self::Visibility => "visibility_timeout_s",
            Self::Attempts => "retry_attempts",
            Self::First => "first_backoff_s",
            Self::Cap => "longest_backoff_s",
            Self::Total => "total_retry_s",
        }
    }

    /// Whether it is a count, and no time.
    pub fn is_count(self) -> bool {
        matches!(self, Self::Workers | Self::Prefetch | Self::Attempts)
    }

    /// What it is in a setting.
    pub fn get(self, setting: &Setting) -> Value {
        let policy = &setting.policy;
        let seconds = |time: Duration| Some(time.as_secs_f64());
        match self {
            Self::Workers => Some(f64::from(policy.consumer.workers)),
            Self::Prefetch => Some(f64::from(policy.consumer.prefetch)),
            Self::HandlerLimit => seconds(policy.consumer.handler_limit),
            Self::Lease => seconds(policy.consumer.lease),
            Self::RenewEvery => policy.consumer.renew_every.and_then(seconds),
            Self::ConsumerTimeout => policy.consumer_timeout.and_then(seconds),
            Self::Visibility => match setting.queue {
                Queue::Managed { visibility, .. } => Some(visibility as f64 / 1e9),
                Queue::RabbitMq { .. } | Queue::DelayedRetry { .. } => None,
            },
            Self::Attempts => Some(f64::from(policy.retry.attempts)),
            Self::First => seconds(policy.retry.first),
            Self::Cap => seconds(policy.retry.cap),
            Self::Total => seconds(policy.retry.total),
        }
    }

    /// Gives it a value.
    pub fn set(self, setting: &mut Setting, value: Value) {
        let policy = &mut setting.policy;
        let time = value.map(|it| Duration::from_nanos((it * 1e9).round() as u64));
        let (count, some) = (value.unwrap_or(1.0).round(), time.unwrap_or_default());
        match self {
            Self::Workers => policy.consumer.workers = count as u16,
            Self::Prefetch => policy.consumer.prefetch = count as u16,
            Self::HandlerLimit => policy.consumer.handler_limit = some,
            Self::Lease => policy.consumer.lease = some,
            Self::RenewEvery => policy.consumer.renew_every = time,
            Self::ConsumerTimeout => policy.consumer_timeout = time,
            Self::Visibility => {
                if let Queue::Managed { visibility, .. } = &mut setting.queue {
                    *visibility = u64::try_from(some.as_nanos()).unwrap_or(u64::MAX);
                }
            }
            Self::Attempts => policy.retry.attempts = count as u32,
            Self::First => policy.retry.first = some,
            Self::Cap => policy.retry.cap = some,
            Self::Total => policy.retry.total = some,
        }
    }

    /// Its values that are looked at, rising, the one of a setting among them. Never comes last.
    pub fn candidates(self, setting: &Setting) -> Vec<Value> {
        let present = self.get(setting);
        let values: &[f64] = match self.is_count() {
            true => &COUNTS,
            false => &TIMES,
        };
        let range = match self {
            Self::First => 0.1..=300.0,
            Self::Cap => 1.0..=86_400.0,
            Self::HandlerLimit | Self::Lease | Self::Visibility => 1.0..=43_200.0,
            Self::RenewEvery => 0.5..=600.0,
            Self::ConsumerTimeout | Self::Total => 10.0..=604_800.0,
            Self::Attempts => 1.0..=64.0,
            Self::Workers | Self::Prefetch => 1.0..=512.0,
        };
        let values = values.iter().copied().filter(|value| range.contains(value));
        let mut values: Vec<f64> = values.chain(present).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let mut candidates: Vec<Value> = values.into_iter().map(Some).collect();
        if matches!(self, Self::RenewEvery) {
            candidates.push(None);
        }
        candidates
    }
}
