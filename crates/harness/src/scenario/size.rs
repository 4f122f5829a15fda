//! The `[size]` of a scenario file: what happens to its consumer, and what is asked of the numbers that
//! `redeliver size` chooses.
//!
//! The doc comments here are the descriptions in the JSON Schema.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use redeliver_sim::choice::{MILLION, Ppm};
use redeliver_sizing::number::Number;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::error::Problem;
use super::values::{Share, Time, TimeOrNever, format_duration, parse_share};
use crate::load::offer::Rate;

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
    /// Outages of the service: how long, and how far apart on average.
    pub outages: Vec<(Duration, Duration)>,
    /// How soon a call fails in an outage; none where it hangs until the handler's limit.
    pub fails_after: Option<Duration>,
    /// How often each process dies; never where none is said.
    pub crash_every: Option<Duration>,
    /// How often all processes are replaced.
    pub deploy_every: Option<Duration>,
    /// How many calls a second the service can take.
    pub service_takes: Option<Rate>,
    /// For how long the service knows idempotency keys; for ever where it is not said.
    pub key_lifetime: Option<Duration>,
    /// How often RabbitMQ looks at `consumer_timeout`.
    pub tick: Duration,
    /// What is asked.
    pub targets: Asked,
    /// Numbers that keep the values of `[policy]`.
    pub fixed: Vec<Number>,
    /// Where its queue is a managed one.
    pub managed: Option<Managed>,
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
                (Duration::from_secs(300), DAY * 7),
                (Duration::from_secs(1_800), DAY * 30),
            ],
            fails_after: Some(Duration::from_millis(50)),
            crash_every: Some(DAY),
            deploy_every: Some(DAY),
            service_takes: None,
            key_lifetime: None,
            tick: Duration::from_secs(60),
            targets: Asked::default(),
            fixed: Vec::new(),
            managed: None,
        }
    }
}

/// What `redeliver size` is asked.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct SizeTable {
    /// The outside service that the handler calls. Default: the slowest of the workload.
    #[schemars(with = "Option<String>")]
    service: Option<Spanned<String>>,
    /// Messages a second, such as `5/s`. Default: `messages` over `over`.
    #[schemars(with = "Option<String>")]
    rate: Option<Spanned<String>>,
    /// How long the handler takes: one entry, or several with a share each. Default: as long as the
    /// service.
    #[schemars(with = "Vec<HandlerTable>")]
    handler: Vec<Spanned<HandlerTable>>,
    /// The chance that a try fails by itself, in a way that may pass. Default: 0.1%.
    failures: Option<Share>,
    /// Outages of the service. Default: 5m every 7d, and 30m every 30d.
    #[schemars(with = "Option<Vec<OutageTable>>")]
    outage: Option<Vec<Spanned<OutageTable>>>,
    /// How soon a call fails in an outage, or `never` where it hangs until the handler's limit. Default:
    /// 50ms.
    fails_after: Option<TimeOrNever>,
    /// How often each process dies, or `never`. Default: 1d.
    #[schemars(with = "Option<TimeOrNever>")]
    crash_every: Option<Spanned<TimeOrNever>>,
    /// How often all processes are replaced, or `never`. Default: 1d.
    #[schemars(with = "Option<TimeOrNever>")]
    deploy_every: Option<Spanned<TimeOrNever>>,
    /// How many calls a second the service can take, such as `200/s`: more wait in a queue of its own.
    /// Default: all.
    #[schemars(with = "Option<String>")]
    service_takes: Option<Spanned<String>>,
    /// For how long the service knows idempotency keys. Default: for ever.
    key_lifetime: Option<Time>,
    /// How often RabbitMQ looks at `consumer_timeout`. Default: 60s.
    #[schemars(with = "Option<Time>")]
    tick: Option<Spanned<Time>>,
    /// What is asked of the numbers.
    targets: TargetsTable,
    /// Numbers of `[policy]` that keep their values: `workers`, `prefetch`, `handler-limit`, `lease`,
    /// `renew-every`, `consumer-timeout`, `attempts`, `first`, `cap`, `total`, `visibility`.
    #[schemars(with = "Vec<String>")]
    fixed: Vec<Spanned<String>>,
    /// Where the queue is a managed one.
    #[schemars(with = "Option<ManagedTable>")]
    managed: Option<Spanned<ManagedTable>>,
}

/// How long a handler takes: `fixed`; `mean`, with `deviation` or without; `median` and `p95`; all four
/// of `min`, `median`, `p95` and `max`; `quantiles`; or `recorded`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct HandlerTable {
    /// The share of handlers that take so long. Default: all.
    #[schemars(with = "Option<Share>")]
    share: Option<Spanned<Share>>,
    /// Always the same.
    fixed: Option<Time>,
    /// The mean: exponential, or gamma with a deviation.
    mean: Option<Time>,
    /// The standard deviation.
    deviation: Option<Time>,
    /// The shortest.
    min: Option<Time>,
    /// Half are not longer.
    median: Option<Time>,
    /// 95 in 100 are not longer.
    p95: Option<Time>,
    /// The longest.
    max: Option<Time>,
    /// Times by the share that does not exceed them, from `0%` to `100%`.
    quantiles: BTreeMap<String, Time>,
    /// A file: a history of `redeliver load`, an interval log of HdrHistogram (`.hlog`), or a CSV with
    /// seconds in its first column, and how often in its second if it has one.
    recorded: Option<String>,
}

/// Outages of a service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct OutageTable {
    /// How long.
    lasts: Time,
    /// How far apart on average.
    every: Time,
}

/// What is asked of the numbers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct TargetsTable {
    /// Of all messages, those whose handler runs again at most though an earlier run may have acted.
    /// Default: 0.1%.
    duplicates: Option<Share>,
    /// Of all messages, those that end in the dead letters at most by failures that would have passed.
    /// Default: 0.01%.
    dead_letters: Option<Share>,
    /// From a crash to the end of what it interrupted, for 95 of 100 messages. Default: 5m.
    recovery: Option<Time>,
    /// Calls of the service in the busiest part of an outage, or of as long after it, as a multiple of
    /// the messages that arrive. Default: 10.
    #[schemars(with = "Option<f64>", range(min = 1))]
    amplification: Option<Spanned<f64>>,
    /// The share of messages for which `within` is asked. Default: 95%.
    quantile: Option<Share>,
    /// From arrival to effect, without outages and crashes. Default: one and a half times what the handler
    /// takes.
    within: Option<Time>,
}

/// A managed queue, which hides a message for a time once it was received.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ManagedTable {
    /// How long it hides a message.
    visibility: Time,
    /// How often that time is begun anew while the handler runs, or `never`. Default: never.
    extend_every: Option<TimeOrNever>,
    /// After so many receives a message goes to the dead letters. Default: as many as attempts.
    receives: Option<u32>,
}

/// The numbers by their names in `fixed`.
pub(super) const NUMBERS: [(&str, Number); 11] = [
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

impl SizeTable {
    /// What it says, with the defaults for the rest.
    pub(super) fn read(&self, attempts: u32, problems: &mut Vec<Problem>) -> Size {
        let usual = Size::default();
        let mut rate = |text: &Option<Spanned<String>>| {
            let text = text.as_ref()?;
            match Rate::parse(text.get_ref()) {
                Ok(rate) => Some(rate),
                Err(why) => {
                    problems.push(Problem::new(why, text.span()));
                    None
                }
            }
        };
        let (arrivals, service_takes) = (rate(&self.rate), rate(&self.service_takes));
        let mut every = |time: &Option<Spanned<TimeOrNever>>, usual: Option<Duration>| match time {
            None => usual,
            Some(time) => {
                let found = time.get_ref().0;
                if found == Some(Duration::ZERO) {
                    problems.push(
                        Problem::new("this happens all the time", time.span()).help("say `never`"),
                    );
                }
                found
            }
        };
        Size {
            service: self.service.as_ref().map(|name| name.get_ref().clone()),
            rate: arrivals,
            crash_every: every(&self.crash_every, usual.crash_every),
            deploy_every: every(&self.deploy_every, usual.deploy_every),
            handler: self.handler(problems),
            failures: self.failures.map_or(usual.failures, |it| it.0),
            outages: self.outages(problems).unwrap_or(usual.outages),
            fails_after: self.fails_after.map_or(usual.fails_after, |it| it.0),
            service_takes,
            key_lifetime: self.key_lifetime.map(|it| it.0),
            tick: self.tick.as_ref().map_or(usual.tick, |it| it.get_ref().0),
            targets: self.targets.read(problems),
            fixed: self.fixed(problems),
            managed: self
                .managed
                .as_ref()
                .map(|table| table.get_ref().read(attempts)),
        }
    }

    fn handler(&self, problems: &mut Vec<Problem>) -> Vec<(Ppm, Times)> {
        let mut handler = Vec::new();
        for table in &self.handler {
            let share = table
                .get_ref()
                .share
                .as_ref()
                .map_or(MILLION, |it| it.get_ref().0);
            match table.get_ref().times() {
                Ok(times) => handler.push((share, times)),
                Err((what, help)) => problems.push(Problem::new(what, table.span()).help(help)),
            }
        }
        let sum: u64 = handler.iter().map(|(share, _)| u64::from(*share)).sum();
        if let Some(first) = self.handler.first()
            && handler.len() == self.handler.len()
            && sum != u64::from(MILLION)
        {
            let what = "the shares of a handler's times add up to 100%, these do not";
            let found = format!("they add up to {}.{:04}%", sum / 10_000, sum % 10_000);
            problems.push(Problem::new(what, first.span()).help(found));
        }
        handler
    }

    fn outages(&self, problems: &mut Vec<Problem>) -> Option<Vec<(Duration, Duration)>> {
        let tables = self.outage.as_ref()?;
        let mut outages = Vec::new();
        for table in tables {
            let (lasts, every) = (table.get_ref().lasts.0, table.get_ref().every.0);
            if lasts.is_zero() || every <= lasts {
                let what = "an outage has a length, and ends before the next";
                let help = format!(
                    "{} every {}",
                    format_duration(lasts),
                    format_duration(every)
                );
                problems.push(Problem::new(what, table.span()).help(help));
                continue;
            }
            outages.push((lasts, every));
        }
        Some(outages)
    }

    fn fixed(&self, problems: &mut Vec<Problem>) -> Vec<Number> {
        let names = NUMBERS.map(|(name, _)| name);
        let mut fixed = Vec::new();
        for name in &self.fixed {
            match NUMBERS.iter().find(|(known, _)| known == name.get_ref()) {
                Some((_, number)) => fixed.push(*number),
                None => problems.push(Problem::unknown(
                    "number",
                    name.get_ref(),
                    &names,
                    name.span(),
                )),
            }
        }
        fixed
    }
}

impl HandlerTable {
    /// Its times, or what is wrong with them and what to do about it.
    fn times(&self) -> Result<Times, (String, String)> {
        let all = [
            self.fixed.is_some(),
            self.mean.is_some(),
            self.median.is_some(),
            !self.quantiles.is_empty(),
            self.recorded.is_some(),
        ];
        let wrong = |what: &str| {
            let help = "fixed; mean (and deviation); median and p95; min, median, p95 and max; \
                        quantiles; or recorded";
            Err((what.to_owned(), format!("one of: {help}")))
        };
        if all.iter().filter(|given| **given).count() != 1 {
            return wrong("a handler's times are said in one way");
        }
        if self.deviation.is_some() && self.mean.is_none() {
            return wrong("`deviation` belongs to `mean`");
        }
        if let Some(fixed) = self.fixed {
            return Ok(Times::Fixed(fixed.0));
        }
        if let Some(mean) = self.mean {
            if mean.0.is_zero() || self.deviation.is_some_and(|it| it.0.is_zero()) {
                return wrong("a mean and a deviation are above zero");
            }
            return Ok(match self.deviation {
                None => Times::Exponential(mean.0),
                Some(deviation) => Times::Gamma(mean.0, deviation.0),
            });
        }
        if let Some(path) = &self.recorded {
            return Ok(Times::Recorded(PathBuf::from(path)));
        }
        if let Some(median) = self.median {
            return match (self.min, self.p95, self.max) {
                (None, Some(p95), None) if !median.0.is_zero() && median.0 < p95.0 => {
                    Ok(Times::LogNormal(median.0, p95.0))
                }
                (None, Some(_), None) => wrong("`median` is above zero, and below `p95`"),
                (Some(min), Some(p95), Some(max)) => {
                    let quantiles = [
                        (0, min),
                        (MILLION / 2, median),
                        (950_000, p95),
                        (MILLION, max),
                    ];
                    rising(quantiles.map(|(share, time)| (share, time.0)).to_vec())
                }
                _ => wrong("beside `median` stands `p95`, or `min`, `p95` and `max`"),
            };
        }
        let mut quantiles = Vec::new();
        for (share, time) in &self.quantiles {
            let share = match share.as_str() {
                "0%" => 0,
                text => {
                    parse_share(text).map_err(|why| (why, "as in \"50%\" = \"2s\"".to_owned()))?
                }
            };
            quantiles.push((share, time.0));
        }
        quantiles.sort_unstable();
        rising(quantiles)
    }
}

fn rising(quantiles: Vec<(Ppm, Duration)>) -> Result<Times, (String, String)> {
    let ends = quantiles
        .first()
        .map(|it| it.0)
        .zip(quantiles.last().map(|it| it.0));
    if ends != Some((0, MILLION)) {
        let what = "quantiles go from 0% (the shortest) to 100% (the longest)";
        return Err((what.to_owned(), "add the one that is missing".to_owned()));
    }
    let broken = quantiles.windows(2).find(|pair| pair[0].1 > pair[1].1);
    match broken {
        None => Ok(Times::Quantiles(quantiles)),
        Some(pair) => Err((
            "these quantiles do not rise".to_owned(),
            format!(
                "{} comes after {}",
                format_duration(pair[1].1),
                format_duration(pair[0].1)
            ),
        )),
    }
}

impl TargetsTable {
    fn read(&self, problems: &mut Vec<Problem>) -> Asked {
        let usual = Asked::default();
        let amplification = self.amplification.as_ref().map(|value| {
            let found = *value.get_ref();
            if !(1.0..=1_000.0).contains(&found) {
                let what = "amplification is a multiple: 1 to 1000";
                problems.push(Problem::new(what, value.span()));
            }
            (found * 1_000.0).round() as u32
        });
        Asked {
            duplicates: self.duplicates.map_or(usual.duplicates, |it| it.0),
            dead_letters: self.dead_letters.map_or(usual.dead_letters, |it| it.0),
            recovery: self.recovery.map_or(usual.recovery, |it| it.0),
            amplification: amplification.unwrap_or(usual.amplification),
            quantile: self.quantile.map_or(usual.quantile, |it| it.0),
            within: self.within.map(|it| it.0),
        }
    }
}

impl ManagedTable {
    fn read(&self, attempts: u32) -> Managed {
        Managed {
            visibility: self.visibility.0,
            extend_every: self.extend_every.and_then(|it| it.0),
            receives: self.receives.unwrap_or(attempts).max(1),
        }
    }
}
