//! The `[size]` of a scenario file: what happens to its consumer, and what is asked of the numbers that
//! `redeliver size` chooses.
//!
//! `table` is how it stands in the file, `write` writes it back.

mod table;
mod write;

use std::path::PathBuf;
use std::time::Duration;

use redeliver_sim::choice::Ppm;
use redeliver_sizing::model::{Delays, Settles};
use redeliver_sizing::number::Number;

use crate::load::offer::Rate;

pub(super) use table::SizeTable;

/// What happens to a consumer, and what is asked of its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// The outside service that its handler calls; the slowest of the workload where none is named.
    pub service: Option<String>,
    /// Messages a second; those of the scenario where it is not said.
    pub rate: Option<Rate>,
    /// How long its handler takes, each with its share in millionths; as the service where it is empty.
    pub handler: Vec<(Ppm, Times)>,
    /// The chance that a try fails by itself, in a way that may pass.
    pub failures: Ppm,
    /// Outages of the service.
    pub outages: Vec<ServiceOutage>,
    /// How soon a call fails in an outage; none where it hangs until the handler's limit.
    pub fails_after: Option<Duration>,
    /// How often each process dies; never where none is said.
    pub crash_every: Option<Duration>,
    /// Crashes of one process at these times of a period, in place of that.
    pub crashes_at: Vec<Duration>,
    /// How often all processes are replaced.
    pub deploy_every: Option<Duration>,
    /// Deploys at these times of a period, in place of that.
    pub deploys_at: Vec<Duration>,
    /// After how long times of a period come again.
    pub period: Duration,
    /// After how long the pattern of arrivals comes again; the scenario's time where it is not said.
    pub cycle: Option<Duration>,
    /// From a commit to the delivery, and from an ack to the next delivery.
    pub hop: Duration,
    /// Calls that one try makes at most, where the handler's client library repeats a failed call.
    pub calls_per_try: u32,
    /// A token bucket for retries, whose effect is shown beside.
    pub retry_budget: Budget,
    /// How many calls a second the service can take.
    pub service_takes: Option<Rate>,
    /// For how long the service knows idempotency keys; for ever where it is not said.
    pub key_lifetime: Option<Duration>,
    /// How often RabbitMQ looks at `consumer_timeout`.
    pub tick: Duration,
    /// What is asked.
    pub targets: Asked,
    /// What is weighed against what, once all targets are met.
    pub weights: SizeWeights,
    /// Numbers that keep the values of `[policy]`.
    pub fixed: Vec<Number>,
    /// Where its queue is a managed one.
    pub managed: Option<Managed>,
    /// Where its queue is a quorum queue of RabbitMQ 4.3 that delays retries.
    pub delayed_retry: Option<DelayedRetry>,
}

/// Outages of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOutage {
    /// How long.
    pub lasts: Times,
    /// When.
    pub when: OutageTime,
}

impl ServiceOutage {
    /// Outages of one length, so far apart on average.
    pub fn every(lasts: Duration, apart: Duration) -> Self {
        Self {
            lasts: Times::Fixed(lasts),
            when: OutageTime::Every(apart),
        }
    }
}

/// When an outage comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageTime {
    /// So far apart on average, from one beginning to the next.
    Every(Duration),
    /// At this time of each period.
    At(Duration),
}

/// A token bucket for retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The part of a token that each first try adds.
    pub ratio: Ppm,
    /// How many tokens each process holds at most.
    pub burst: u32,
}

/// What is weighed against what, in thousandths: each target's value as a part of what it allows, and three
/// costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeWeights {
    /// Of each target, in the order of [`redeliver_sizing::case::Target::ALL`].
    pub targets: [u32; 5],
    /// Of a worker, as a part of those that are busy on average.
    pub workers: u32,
    /// Of the first wait before a retry, as a part of the time in which messages have to end.
    pub first_wait: u32,
    /// Of the time from an outage's end until its backlog is gone, as a part of its length.
    pub drain: u32,
}

impl Default for SizeWeights {
    fn default() -> Self {
        Self {
            targets: [1_000; 5],
            workers: 200,
            first_wait: 200,
            drain: 200,
        }
    }
}

/// How long a handler takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Times {
    /// Always the same.
    Fixed(Duration),
    /// Without memory, of this mean.
    Exponential(Duration),
    /// Gamma: mean and standard deviation.
    Gamma(Duration, Duration),
    /// Log-normal: median, and what 95 of 100 do not exceed.
    LogNormal(Duration, Duration),
    /// Quantiles, rising: millionths and time, linear between.
    Quantiles(Vec<(Ppm, Duration)>),
    /// A file: a history of `redeliver load`, an interval log of HdrHistogram, or a CSV.
    Recorded(PathBuf),
}

/// What is asked of the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of all messages, those whose handler runs again at most though an earlier run may have acted.
    pub duplicates: Ppm,
    /// Of all messages, those that end in the dead letters at most by failures that would have passed.
    pub dead_letters: Ppm,
    /// From a crash to the end of what it interrupted.
    pub recovery: Duration,
    /// Calls in the busiest part of an outage, in thousandths of the messages that arrive.
    pub amplification: u32,
    /// The share of messages for which `within` is asked.
    pub quantile: Ppm,
    /// From arrival to effect; one and a half times what the handler takes where it is not said.
    pub within: Option<Duration>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            duplicates: 1_000,
            dead_letters: 100,
            recovery: Duration::from_secs(300),
            amplification: 10_000,
            quantile: 950_000,
            within: None,
        }
    }
}

/// A managed queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Managed {
    /// How long it hides a message that was received.
    pub visibility: Duration,
    /// How often that time is begun anew while the handler runs.
    pub extend_every: Option<Duration>,
    /// After so many receives a message goes to the dead letters.
    pub receives: u32,
    /// For how long it keeps a message.
    pub retention: Duration,
}

/// A quorum queue of RabbitMQ 4.3 that delays retries by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedRetry {
    /// What it delays.
    pub delays: Delays,
    /// The shortest delay, which grows by itself with each failed delivery.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
    /// How many deliveries may fail before the next one that fails ends the message.
    pub delivery_limit: u32,
    /// How the consumer gives a failed message back.
    pub settles: Settles,
    /// For how long a message lives in the queue; for ever where it is not said.
    pub ttl: Option<Duration>,
    /// Whether it has a dead-letter exchange.
    pub dead_letters: bool,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Size {
    fn default() -> Self {
        Self {
            service: None,
            rate: None,
            handler: Vec::new(),
            failures: 1_000,
            outages: vec![
                ServiceOutage::every(Duration::from_secs(300), DAY * 7),
                ServiceOutage::every(Duration::from_secs(1_800), DAY * 30),
            ],
            fails_after: Some(Duration::from_millis(50)),
            crash_every: Some(DAY),
            crashes_at: Vec::new(),
            deploy_every: Some(DAY),
            deploys_at: Vec::new(),
            period: DAY,
            cycle: None,
            hop: Duration::from_millis(10),
            calls_per_try: 1,
            retry_budget: Budget {
                ratio: 100_000,
                burst: 10,
            },
            service_takes: None,
            key_lifetime: None,
            tick: Duration::from_secs(60),
            targets: Asked::default(),
            weights: SizeWeights::default(),
            fixed: Vec::new(),
            managed: None,
            delayed_retry: None,
        }
    }
}

/// The numbers by their names in `fixed`.
const NUMBERS: [(&str, Number); 11] = [
    ("workers", Number::Workers),
    ("prefetch", Number::Prefetch),
    ("handler-limit", Number::HandlerLimit),
    ("lease", Number::Lease),
    ("renew-every", Number::RenewEvery),
    ("consumer-timeout", Number::ConsumerTimeout),
    ("attempts", Number::Attempts),
    ("first", Number::First),
    ("cap", Number::Cap),
    ("total", Number::Total),
    ("visibility", Number::Visibility),
];
