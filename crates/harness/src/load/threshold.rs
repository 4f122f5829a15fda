//! Thresholds: what the figures of a load run have to be.
//!
//! `p99(end-to-end) < 500ms`, `done-rate > 450/s`, `oldest < 5s`, `stuck == 0`: a metric, a
//! comparison and a value of the metric's unit.

use std::fmt;
use std::time::Duration;

use super::figures::Figures;
use super::offer::Rate;
use crate::scenario::{format_duration, parse_duration};
use crate::watch::legs::Leg;
use crate::words::{grouped, latency};
use redeliver_core::ports::env::nanos;

/// One threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    metric: Metric,
    comparison: Comparison,
    /// In the unit of the metric: nanoseconds, requests in 1,000 seconds, a count.
    value: u64,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    /// So many in a million times of a leg are not longer.
    Quantile(u32, Leg),
    /// The longest time of a leg.
    Max(Leg),
    /// The arithmetic mean of a leg's times.
    Mean(Leg),
    /// Requests a second of which everything that followed has ended.
    DoneRate,
    /// Requests a second that were sent.
    SentRate,
    /// The longest that the oldest event in the outbox had waited, looked at once a second.
    Oldest,
    /// Requests of which something has not ended at the end.
    Stuck,
    /// Works that were given up.
    DeadLetters,
    /// Attempts that were put back to be tried again.
    Retries,
    /// Deliveries that were flagged as redelivered.
    Redeliveries,
}

/// The metrics that have no leg.
const PLAIN: [(&str, Metric); 7] = [
    ("done-rate", Metric::DoneRate),
    ("sent-rate", Metric::SentRate),
    ("oldest", Metric::Oldest),
    ("stuck", Metric::Stuck),
    ("dead-letters", Metric::DeadLetters),
    ("retries", Metric::Retries),
    ("redeliveries", Metric::Redeliveries),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// The longer ones first: `<` begins `<=` too.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// The unit of a metric's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Time,
    Rate,
    Count,
}

/// What has become of a threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It holds: the value.
    Yes(String),
    /// It does not: the value.
    No(String),
    /// There is no value: nothing was measured.
    NoSamples,
}

impl Threshold {
    /// Reads a threshold.
    ///
    /// # Errors
    /// Says what is wrong: no comparison, an unknown metric with the nearest known one, a value of
    /// another unit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let place = text.find(['<', '>', '=', '!']);
        let (metric, rest) = place.map(|at| text.split_at(at)).ok_or_else(|| {
            format!(
                "`{text}` compares nothing: say a metric, a comparison and a value, as in \
                     p99(end-to-end) < 500ms"
            )
        })?;
        let found = COMPARISONS.iter().find(|(sign, _)| rest.starts_with(sign));
        let (sign, comparison) = found
            .ok_or_else(|| format!("`{text}`: a comparison is one of <, <=, >, >=, == and !="))?;
        let metric = Metric::parse(metric.trim())?;
        let value = metric.unit().parse(rest[sign.len()..].trim())?;
        Ok(Self {
            metric,
            comparison: *comparison,
            value,
        })
    }

    /// Whether it holds for these figures.
    pub fn judge(&self, figures: &Figures) -> Held {
        let Some(value) = self.metric.of(figures) else {
            return Held::NoSamples;
        };
        let told = self.metric.unit().show(value);
        let holds = match self.comparison {
            Comparison::Less => value < self.value,
            Comparison::LessOrEqual => value <= self.value,
            Comparison::Greater => value > self.value,
            Comparison::GreaterOrEqual => value >= self.value,
            Comparison::Equal => value == self.value,
            Comparison::NotEqual => value != self.value,
        };
        match holds {
            true => Held::Yes(told),
            false => Held::No(told),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = COMPARISONS
            .iter()
            .find(|(_, known)| *known == self.comparison);
        let sign = sign.map_or("?", |(sign, _)| sign);
        write!(
            f,
            "{} {sign} {}",
            self.metric,
            self.metric.unit().write(self.value)
        )
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantile(millionths, leg) => {
                let text = format!("{}.{:04}", millionths / 10_000, millionths % 10_000);
                let text = text.trim_end_matches('0').trim_end_matches('.');
                write!(f, "p{text}({})", leg.as_str())
            }
            Self::Max(leg) => write!(f, "max({})", leg.as_str()),
            Self::Mean(leg) => write!(f, "mean({})", leg.as_str()),
            plain => {
                let known = PLAIN.iter().find(|(_, known)| known == plain);
                f.write_str(known.map_or("?", |(name, _)| name))
            }
        }
    }
}

/// The nearest of these names, where one is near.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<_> = known.collect();
    let distance = |known: &&&str| strsim::damerau_levenshtein(known, name);
    match all.iter().min_by_key(distance) {
        Some(near) if distance(&near) <= near.len() / 2 => format!("did you mean `{near}`?"),
        _ => format!("known are {}", all.join(", ")),
    }
}

impl Metric {
    fn parse(text: &str) -> Result<Self, String> {
        let Some((name, leg)) = text.split_once('(') else {
            let known = PLAIN.iter().find(|(name, _)| *name == text);
            let names = PLAIN.iter().map(|(name, _)| *name);
            let names = names.chain(["p99(end-to-end)", "max(end-to-end)", "mean(end-to-end)"]);
            return known
                .map(|(_, metric)| *metric)
                .ok_or_else(|| format!("unknown metric `{text}`: {}", nearest(text, names)));
        };
        let leg = leg.trim().strip_suffix(')').map(str::trim);
        let leg = leg.ok_or_else(|| format!("`{text}`: the parenthesis is not closed"))?;
        let leg = Leg::parse(leg).ok_or_else(|| {
            let near = nearest(leg, Leg::ALL.iter().map(|leg| leg.as_str()));
            format!("unknown leg `{leg}` in `{text}`: {near}")
        })?;
        match name.trim() {
            "max" => Ok(Self::Max(leg)),
            "mean" => Ok(Self::Mean(leg)),
            name => name
                .strip_prefix('p')
                .and_then(millionths)
                .map(|millionths| Self::Quantile(millionths, leg))
                .ok_or_else(|| {
                    format!(
                        "unknown metric `{text}`: of a leg there are p and a number from 0 to 100, \
                         as in p99.9, and max and mean"
                    )
                }),
        }
    }

    fn unit(self) -> Unit {
        match self {
            Self::Quantile(..) | Self::Max(_) | Self::Mean(_) | Self::Oldest => Unit::Time,
            Self::DoneRate | Self::SentRate => Unit::Rate,
            Self::Stuck | Self::DeadLetters | Self::Retries | Self::Redeliveries => Unit::Count,
        }
    }

    /// Its value; none where nothing was measured.
    fn of(self, figures: &Figures) -> Option<u64> {
        let (times, counts) = (&figures.latencies, figures.counts());
        let thousandths = |rate: f64| (rate * 1_000.0).round() as u64;
        let any = counts.sent > 0;
        match self {
            Self::Quantile(millionths, leg) => Some(times.of(leg)?.quantile(millionths)),
            Self::Max(leg) => Some(times.of(leg)?.max()),
            Self::Mean(leg) => Some(times.of(leg)?.mean() as u64),
            Self::DoneRate => any.then(|| thousandths(figures.done_rate())),
            Self::SentRate => any.then(|| thousandths(figures.sent_rate())),
            Self::Oldest => {
                let oldest = figures.gauges.iter().map(|gauge| gauge.oldest_ms).max();
                oldest.map(|ms| ms.saturating_mul(1_000_000))
            }
            Self::Stuck => any.then(|| figures.legs().open_workflows()),
            Self::DeadLetters => any.then_some(counts.dead),
            Self::Retries => any.then_some(counts.retried),
            Self::Redeliveries => any.then_some(counts.redeliveries),
        }
    }
}

/// `99.9` as millionths.
fn millionths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 4 || !digits(whole) || !digits(part) {
        return None;
    }
    let (whole, part): (u32, u32) = (whole.parse().ok()?, format!("{part:0<4}").parse().ok()?);
    let all = whole.checked_mul(10_000)?.checked_add(part)?;
    (all <= 1_000_000).then_some(all)
}

impl Unit {
    fn parse(self, text: &str) -> Result<u64, String> {
        match self {
            Self::Time => parse_duration(text).map(nanos),
            Self::Rate => Rate::parse(text).map(|rate| rate.0),
            Self::Count => text
                .parse()
                .map_err(|_| format!("`{text}` is no count: say a whole number")),
        }
    }

    /// As it is read.
    fn write(self, value: u64) -> String {
        match self {
            Self::Time => format_duration(Duration::from_nanos(value)),
            Self::Rate => Rate(value).to_string(),
            Self::Count => value.to_string(),
        }
    }

    /// For people.
    fn show(self, value: u64) -> String {
        match self {
            Self::Time => latency(value),
            Self::Rate => Rate(value).to_string(),
            Self::Count => grouped(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        for text in [
            "p99(end-to-end) < 500ms",
            "p99.99(commit-to-effect) <= 2s",
            "max(handler) < 1m",
            "mean(ack) != 5us",
            "done-rate > 450/s",
            "sent-rate >= 0.5/s",
            "oldest < 5s",
            "stuck == 0",
            "dead-letters <= 3",
        ] {
            let read = Threshold::parse(text).expect(text);
            assert_eq!(read.to_string(), text);
        }
        let spaced = Threshold::parse("  p50( ack )<1ms ").expect("spaces say nothing");
        assert_eq!(spaced.to_string(), "p50(ack) < 1ms");
    }

    #[test]
    fn what_cannot_be_read_is_told_with_a_suggestion() {
        let wrong = |text: &str| Threshold::parse(text).expect_err(text);
        insta::assert_snapshot!(
            [
                "p99(end-to-end)",
                "p99(end-to-ned) < 1s",
                "p101(ack) < 1s",
                "q99(ack) < 1s",
                "p99(ack < 1s",
                "done-rat > 1/s",
                "throughput > 1/s",
                "stuck == none",
                "oldest < 5",
                "done-rate > 5ms",
                "oldest =< 5s",
            ]
            .map(wrong)
            .join("\n")
        );
    }
}
