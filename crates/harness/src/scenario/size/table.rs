//! `[size]` as it stands in the file. The doc comments here are the descriptions in the JSON Schema.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use redeliver_sim::choice::{MILLION, Ppm};
use redeliver_sizing::model::{Delays, Settles};
use redeliver_sizing::number::Number;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{
    Asked, Budget, DelayedRetry, Managed, NUMBERS, OutageTime, ServiceOutage, Size, SizeWeights,
    Times,
};
use crate::load::offer::Rate;
use crate::scenario::error::Problem;
use crate::scenario::values::{
    Share, ShareOrNone, Time, TimeOrNever, format_duration, parse_share,
};

/// For how long a managed queue keeps a message unless it is told otherwise.
const RETENTION: Duration = Duration::from_secs(4 * 86_400);

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
    failures: Option<ShareOrNone>,
    /// Outages of the service: how long, and how often or when. Default: 5m every 7d, and 30m every 30d.
    #[schemars(with = "Option<Vec<OutageTable>>")]
    outage: Option<Vec<Spanned<OutageTable>>>,
    /// How soon a call fails in an outage, or `never` where it hangs until the handler's limit. Default:
    /// 50ms.
    fails_after: Option<TimeOrNever>,
    /// How often each process dies, or `never`. Default: 1d.
    #[schemars(with = "Option<TimeOrNever>")]
    crash_every: Option<Spanned<TimeOrNever>>,
    /// In place of `crash-every`: one process dies at each of these times of a period.
    #[schemars(with = "Option<Vec<Time>>")]
    crashes_at: Option<Spanned<Vec<Time>>>,
    /// How often all processes are replaced, or `never`. Default: 1d.
    #[schemars(with = "Option<TimeOrNever>")]
    deploy_every: Option<Spanned<TimeOrNever>>,
    /// In place of `deploy-every`: all are replaced at each of these times of a period.
    #[schemars(with = "Option<Vec<Time>>")]
    deploys_at: Option<Spanned<Vec<Time>>>,
    /// After how long the times of `crashes-at`, `deploys-at` and outages come again. Default: 1d.
    #[schemars(with = "Option<Time>")]
    period: Option<Spanned<Time>>,
    /// After how long the `arrivals` of `[load]` come again, where they are steps or a ramp. Default: the
    /// scenario's `over`.
    #[schemars(with = "Option<Time>")]
    cycle: Option<Spanned<Time>>,
    /// The time from a commit to the delivery, and from an ack to the next delivery. Default: 10ms.
    hop: Option<Time>,
    /// How often the handler's client library makes a call that fails, within one try. Default: 1.
    #[schemars(with = "Option<u32>", range(min = 1, max = 100))]
    calls_per_try: Option<Spanned<u32>>,
    /// A token bucket for retries, whose effect is shown beside. Default: a ratio of 10%, a burst of 10.
    #[schemars(with = "Option<BudgetTable>")]
    retry_budget: Option<Spanned<BudgetTable>>,
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
    /// What is weighed against what, once all targets are met.
    weights: WeightsTable,
    /// Numbers of `[policy]` that keep their values: `workers`, `prefetch`, `handler-limit`, `lease`,
    /// `renew-every`, `consumer-timeout`, `attempts`, `first`, `cap`, `total`, `visibility`.
    #[schemars(with = "Vec<String>")]
    fixed: Vec<Spanned<String>>,
    /// Where the queue is a managed one.
    #[schemars(with = "Option<ManagedTable>")]
    managed: Option<Spanned<ManagedTable>>,
    /// Where the queue is a quorum queue of RabbitMQ 4.3 that delays retries by itself.
    #[schemars(with = "Option<DelayedRetryTable>")]
    delayed_retry: Option<Spanned<DelayedRetryTable>>,
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

/// Outages of a service: `lasts`, `mean`, or `median` and `p95` say how long; `every` or `at` says when.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct OutageTable {
    /// Always so long.
    lasts: Option<Time>,
    /// So long on average, without memory.
    mean: Option<Time>,
    /// Half are not longer.
    median: Option<Time>,
    /// 95 in 100 are not longer.
    p95: Option<Time>,
    /// From the beginning of one to that of the next, on average.
    every: Option<Time>,
    /// Once a period, at this time of it.
    at: Option<Time>,
}

/// A token bucket for retries: each first try adds a part of a token, each retry takes one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BudgetTable {
    /// The part of a token that a first try adds.
    ratio: ShareOrNone,
    /// How many tokens each process holds at most.
    burst: u32,
}

/// Weights: what a target's value costs, as a part of what the target allows. A heavier one is kept further
/// from its limit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct WeightsTable {
    /// Default: 1.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1000))]
    duplicates: Option<Spanned<f64>>,
    /// Default: 1.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1000))]
    dead_letters: Option<Spanned<f64>>,
    /// Default: 1.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1000))]
    recovery: Option<Spanned<f64>>,
    /// Default: 1.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1000))]
    amplification: Option<Spanned<f64>>,
    /// Default: 1.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1000))]
    latency: Option<Spanned<f64>>,
    /// Of a worker, as a part of those that are busy on average. Default: 0.2.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1000))]
    workers: Option<Spanned<f64>>,
    /// Of the first wait before a retry, as a part of `within`. Default: 0.2.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1000))]
    first_wait: Option<Spanned<f64>>,
    /// Of the time from an outage's end until its backlog is gone, as a part of its length. Default: 0.2.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1000))]
    drain: Option<Spanned<f64>>,
}

/// What is asked of the numbers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct TargetsTable {
    /// Of all messages, those whose handler runs again at most though an earlier run may have acted.
    /// Default: 0.1%.
    duplicates: Option<ShareOrNone>,
    /// Of all messages, those that end in the dead letters at most by failures that would have passed.
    /// Default: 0.01%.
    dead_letters: Option<ShareOrNone>,
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
    /// For how long it keeps a message. Default: 4d.
    retention: Option<Time>,
}

/// A quorum queue of RabbitMQ 4.3 that delays what comes back: by `min` times the count of failed
/// deliveries, at most `max`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct DelayedRetryTable {
    /// `x-delayed-retry-type`: `all`, `failed`, `returned` or `disabled`. Default: failed.
    #[serde(rename = "type")]
    #[schemars(with = "Option<String>")]
    kind: Option<Spanned<String>>,
    /// `x-delayed-retry-min`.
    #[schemars(with = "Time")]
    min: Spanned<Time>,
    /// `x-delayed-retry-max`.
    max: Time,
    /// `x-delivery-limit`. Default: 20.
    #[schemars(with = "Option<u32>", range(max = 999))]
    delivery_limit: Option<Spanned<u32>>,
    /// How the consumer gives a failed message back, with requeue: `reject`, which counts towards the limit,
    /// or `nack`, which does not. Default: reject.
    #[schemars(with = "Option<String>")]
    settle: Option<Spanned<String>>,
    /// `x-message-ttl`. Default: none.
    message_ttl: Option<Time>,
    /// Whether the queue has a dead-letter exchange. Default: true.
    dead_letter_exchange: Option<bool>,
}

impl SizeTable {
    /// What it says, with the defaults for the rest.
    pub(in crate::scenario) fn read(&self, attempts: u32, problems: &mut Vec<Problem>) -> Size {
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
        let period = self.period(problems);
        let calls_per_try = self.calls(problems);
        self.timetables(period, problems);
        let times_of = |times: &Option<Spanned<Vec<Time>>>| -> Vec<Duration> {
            let times = times.iter().flat_map(|it| it.get_ref());
            times.map(|it| it.0).collect()
        };
        if let (Some(managed), Some(delayed)) = (&self.managed, &self.delayed_retry) {
            let what = "the queue is either a managed one or one that delays retries";
            let help = "remove [size.managed] or [size.delayed-retry]";
            let after = managed.span().start.max(delayed.span().start);
            let span = match after == managed.span().start {
                true => managed.span(),
                false => delayed.span(),
            };
            problems.push(Problem::new(what, span).help(help));
        }
        for time in [&self.crash_every, &self.deploy_every]
            .into_iter()
            .flatten()
        {
            if time.get_ref().0 == Some(Duration::ZERO) {
                let what = "this happens all the time";
                problems.push(Problem::new(what, time.span()).help("say `never`"));
            }
        }
        let every = |time: &Option<Spanned<TimeOrNever>>, usual: Option<Duration>| {
            time.as_ref().map_or(usual, |time| time.get_ref().0)
        };
        Size {
            service: self.service.as_ref().map(|name| name.get_ref().clone()),
            rate: arrivals,
            crash_every: every(&self.crash_every, usual.crash_every),
            crashes_at: times_of(&self.crashes_at),
            deploy_every: every(&self.deploy_every, usual.deploy_every),
            deploys_at: times_of(&self.deploys_at),
            period,
            cycle: self.cycle.as_ref().map(|it| it.get_ref().0),
            hop: self.hop.map_or(usual.hop, |it| it.0),
            calls_per_try,
            retry_budget: self
                .retry_budget
                .as_ref()
                .map_or(usual.retry_budget, |it| it.get_ref().read()),
            handler: self.handler(problems),
            failures: self.failures.map_or(usual.failures, |it| it.0),
            outages: self.outages(period, problems).unwrap_or(usual.outages),
            fails_after: self.fails_after.map_or(usual.fails_after, |it| it.0),
            service_takes,
            key_lifetime: self.key_lifetime.map(|it| it.0),
            tick: self.tick.as_ref().map_or(usual.tick, |it| it.get_ref().0),
            targets: self.targets.read(problems),
            weights: self.weights.read(problems),
            fixed: self.fixed(problems),
            managed: self
                .managed
                .as_ref()
                .map(|table| table.get_ref().read(attempts)),
            delayed_retry: self
                .delayed_retry
                .as_ref()
                .map(|table| table.get_ref().read(problems)),
        }
    }

    fn period(&self, problems: &mut Vec<Problem>) -> Duration {
        let Some(period) = &self.period else {
            return Size::default().period;
        };
        if period.get_ref().0.is_zero() {
            problems.push(Problem::new("a period has a length", period.span()).help("say `1d`"));
        }
        period.get_ref().0
    }

    /// Checks the times of a period, and that nothing is said in two ways.
    fn timetables(&self, period: Duration, problems: &mut Vec<Problem>) {
        for (times, every, key) in [
            (&self.crashes_at, &self.crash_every, "crash-every"),
            (&self.deploys_at, &self.deploy_every, "deploy-every"),
        ] {
            let Some(times) = times else { continue };
            if every.is_some() {
                let what = format!("times of a period stand in place of `{key}`");
                problems.push(Problem::new(what, times.span()).help("remove one of the two"));
            }
            if let Some(late) = times.get_ref().iter().find(|it| it.0 >= period) {
                let help = format!(
                    "{} is not before the period's end, {}",
                    format_duration(late.0),
                    format_duration(period)
                );
                let what = "these are times of a period";
                problems.push(Problem::new(what, times.span()).help(help));
            }
        }
        if let Some(cycle) = self.cycle.as_ref().filter(|it| it.get_ref().0.is_zero()) {
            problems.push(Problem::new("a cycle has a length", cycle.span()).help("say `1d`"));
        }
    }

    fn calls(&self, problems: &mut Vec<Problem>) -> u32 {
        let Some(calls) = &self.calls_per_try else {
            return Size::default().calls_per_try;
        };
        if !(1..=100).contains(calls.get_ref()) {
            problems.push(Problem::new("a try makes 1 to 100 calls", calls.span()));
        }
        *calls.get_ref()
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

    fn outages(&self, period: Duration, problems: &mut Vec<Problem>) -> Option<Vec<ServiceOutage>> {
        let tables = self.outage.as_ref()?;
        let mut outages = Vec::new();
        let mut timetable: Vec<(Duration, Duration, Range<usize>)> = Vec::new();
        for table in tables {
            match table.get_ref().read(period) {
                Ok(outage) => {
                    if let (OutageTime::At(at), Times::Fixed(lasts)) = (outage.when, &outage.lasts)
                    {
                        timetable.push((at, *lasts, table.span()));
                    }
                    outages.push(outage);
                }
                Err((what, help)) => problems.push(Problem::new(what, table.span()).help(help)),
            }
        }
        timetable.sort_by_key(|it| it.0);
        for pair in timetable.windows(2) {
            let ends = pair[0].0 + pair[0].1;
            if pair[1].0 <= ends {
                let what = "this outage begins before the one before it has ended";
                let help = format!("that one ends after {}", format_duration(ends));
                problems.push(Problem::new(what, pair[1].2.clone()).help(help));
            }
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

impl OutageTable {
    /// What it says, or what is wrong with it and what to do about it.
    fn read(&self, period: Duration) -> Result<ServiceOutage, (String, String)> {
        let wrong = |what: &str, help: String| Err((what.to_owned(), help));
        let lasts = match (self.lasts, self.mean, self.median, self.p95) {
            (Some(lasts), None, None, None) => Times::Fixed(lasts.0),
            (None, Some(mean), None, None) => Times::Exponential(mean.0),
            (None, None, Some(median), Some(p95)) => Times::LogNormal(median.0, p95.0),
            _ => {
                let help = "one of: lasts; mean; median and p95";
                return wrong(
                    "the length of an outage is said in one way",
                    help.to_owned(),
                );
            }
        };
        let least = match &lasts {
            Times::LogNormal(median, p95) if median >= p95 => {
                let help = format!(
                    "{} is not below {}",
                    format_duration(*median),
                    format_duration(*p95)
                );
                return wrong("`median` is below `p95`", help);
            }
            Times::Fixed(time) | Times::Exponential(time) | Times::LogNormal(time, _) => *time,
            Times::Gamma(..) | Times::Quantiles(_) | Times::Recorded(_) => Duration::ZERO,
        };
        if least.is_zero() {
            return wrong("an outage has a length", "it is zero here".to_owned());
        }
        let when = match (self.every, self.at) {
            (Some(every), None) => OutageTime::Every(every.0),
            (None, Some(at)) => OutageTime::At(at.0),
            _ => {
                let help = "one of: every; at".to_owned();
                return wrong("when an outage comes is said in one way", help);
            }
        };
        match when {
            OutageTime::Every(every) if every <= least => {
                let help = format!(
                    "{} every {}",
                    format_duration(least),
                    format_duration(every)
                );
                wrong("an outage has a length, and ends before the next", help)
            }
            OutageTime::At(_) if !matches!(lasts, Times::Fixed(_)) => {
                let help = "with `at` stands `lasts`".to_owned();
                wrong("an outage at a known time has a known length", help)
            }
            OutageTime::At(at) if at + least >= period => {
                let help = format!("the period ends after {}", format_duration(period));
                wrong("this outage ends after its period", help)
            }
            when => Ok(ServiceOutage { lasts, when }),
        }
    }
}

impl BudgetTable {
    fn read(&self) -> Budget {
        Budget {
            ratio: self.ratio.0,
            burst: self.burst,
        }
    }
}

impl WeightsTable {
    fn read(&self, problems: &mut Vec<Problem>) -> SizeWeights {
        let usual = SizeWeights::default();
        let mut weight = |weight: &Option<Spanned<f64>>, usual: u32| -> u32 {
            let Some(weight) = weight else { return usual };
            let found = *weight.get_ref();
            if !(0.0..=1_000.0).contains(&found) {
                problems.push(Problem::new("a weight is 0 to 1000", weight.span()));
            }
            (found * 1_000.0).round() as u32
        };
        let targets = [
            &self.duplicates,
            &self.dead_letters,
            &self.recovery,
            &self.amplification,
            &self.latency,
        ];
        SizeWeights {
            targets: std::array::from_fn(|at| weight(targets[at], usual.targets[at])),
            workers: weight(&self.workers, usual.workers),
            first_wait: weight(&self.first_wait, usual.first_wait),
            drain: weight(&self.drain, usual.drain),
        }
    }
}

impl DelayedRetryTable {
    fn read(&self, problems: &mut Vec<Problem>) -> DelayedRetry {
        let kinds = ["all", "failed", "returned", "disabled"];
        let delays = match self.kind.as_ref().map(|it| (it.get_ref().as_str(), it)) {
            None | Some(("failed", _)) => Delays::Failed,
            Some(("all", _)) => Delays::All,
            Some(("returned", _)) => Delays::Returned,
            Some(("disabled", _)) => Delays::Disabled,
            Some((other, at)) => {
                problems.push(Problem::unknown("type", other, &kinds, at.span()));
                Delays::Failed
            }
        };
        let settles = match self.settle.as_ref().map(|it| (it.get_ref().as_str(), it)) {
            None | Some(("reject", _)) => Settles::Reject,
            Some(("nack", _)) => Settles::Nack,
            Some((other, at)) => {
                let names = ["reject", "nack"];
                problems.push(Problem::unknown("settle", other, &names, at.span()));
                Settles::Reject
            }
        };
        let (min, max) = (self.min.get_ref().0, self.max.0);
        if min.is_zero() || min > max {
            let help = format!("{} to {}", format_duration(min), format_duration(max));
            let what = "`min` is above zero, and not above `max`";
            problems.push(Problem::new(what, self.min.span()).help(help));
        }
        if let Some(limit) = self
            .delivery_limit
            .as_ref()
            .filter(|it| *it.get_ref() > 999)
        {
            problems.push(Problem::new("a delivery limit is 0 to 999", limit.span()));
        }
        DelayedRetry {
            delays,
            min,
            max,
            delivery_limit: self.delivery_limit.as_ref().map_or(20, |it| *it.get_ref()),
            settles,
            ttl: self.message_ttl.map(|it| it.0),
            dead_letters: self.dead_letter_exchange.unwrap_or(true),
        }
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
            retention: self.retention.map_or(RETENTION, |it| it.0),
        }
    }
}
