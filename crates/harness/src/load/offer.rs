//! What a load run offers: how many requests, and when each of them is due.
//!
//! All of it follows from rate, duration, pattern and seed, in whole numbers, so that several
//! processes which share the sending agree without a word.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::run::any_workload::Facts;
use crate::scenario::parse_share;
use crate::team::request::{Generator, Request};
use redeliver_core::ports::env::nanos;

/// Requests in 1,000 seconds, so that `0.5/s` is a whole number too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rate(pub u64);

impl Rate {
    /// Reads `500/s`, `0.5/s`, `30/m`, `3600/h`; a bare number is one a second.
    ///
    /// # Errors
    /// Says what a rate looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shape = || format!("{text:?} is no rate: say 500/s, 0.5/s, 30/m or 3600/h");
        let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return Err(shape()),
        };
        let (whole, part) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > 3 || !digits(whole) || !digits(part) {
            return Err(shape());
        }
        let whole: u64 = whole.parse().map_err(|_| shape())?;
        let part: u64 = format!("{part:0<3}").parse().map_err(|_| shape())?;
        let thousandths = whole.checked_mul(1_000).and_then(|it| it.checked_add(part));
        match thousandths.map(|it| it / seconds) {
            Some(rate @ 1..=MOST) => Ok(Self(rate)),
            Some(0) => Err("a rate of nothing offers nothing".to_owned()),
            _ => Err(format!("{text} is more than 1,000,000 a second")),
        }
    }

    /// So many of `requests` within `time`.
    pub fn of(requests: u64, time: Duration) -> Self {
        let nanos = u128::from(nanos(time)).max(1);
        let rate = u128::from(requests) * u128::from(KILOSECOND) / nanos;
        Self(u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// In requests a second.
    pub fn per_second(self) -> f64 {
        self.0 as f64 / 1_000.0
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, part) = (self.0 / 1_000, self.0 % 1_000);
        match part {
            0 => write!(f, "{whole}/s"),
            _ => write!(
                f,
                "{whole}.{}/s",
                format!("{part:03}").trim_end_matches('0')
            ),
        }
    }
}

const MOST: u64 = 1_000_000_000;
const KILOSECOND: u64 = 1_000_000_000_000;
const MILLION: u128 = 1_000_000;

/// How requests are spread over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    /// At equal distances.
    Constant,
    /// At random, as from many clients who know nothing of each other.
    #[default]
    Poisson,
    /// So many at once, again and again.
    Bursts(u32),
    /// From this share of the rate, in a million, up to the rate.
    Ramp(u32),
    /// For equal times these shares of the rate, in a million.
    Steps(Vec<u32>),
    /// At these times, in nanoseconds after the start, again and again until the run's end.
    Recorded(Arc<[u64]>),
}

impl Pattern {
    /// Reads `constant`, `poisson`, `bursts:100`, `ramp:10%`, `steps:25%,50%,100%` or
    /// `recorded:FILE`; a file of times is looked for in `folder`.
    ///
    /// # Errors
    /// Says what a pattern looks like, or what is wrong with the file, with its line.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        match (name, rest) {
            ("constant", "") => Ok(Self::Constant),
            ("poisson", "") => Ok(Self::Poisson),
            ("bursts", many) => {
                let many = many.parse().ok().filter(|many| *many > 0);
                let shape = || format!("`{text}`: say how many requests come at once: bursts:100");
                many.map(Self::Bursts).ok_or_else(shape)
            }
            ("ramp", from) => parse_share(from)
                .map(Self::Ramp)
                .map_err(|_| format!("`{text}`: say where it begins: ramp:10%")),
            ("steps", shares) => {
                let shares = shares.split(',').map(|share| parse_share(share.trim()));
                let shares = shares.collect::<Result<_, _>>();
                shares.map(Self::Steps).map_err(|_| {
                    format!("`{text}`: say the shares of the rate: steps:25%,50%,100%")
                })
            }
            ("recorded", file) if !file.is_empty() => {
                let path = folder.join(file);
                let read = std::fs::read_to_string(&path);
                let read = read.map_err(|error| format!("{}: {error}", path.display()))?;
                recorded(&read).map_err(|why| format!("{}: {why}", path.display()))
            }
            _ => Err(format!(
                "`{text}` is no pattern of arrivals: there are constant, poisson, bursts:100, \
                 ramp:10%, steps:25%,50%,100% and recorded:FILE"
            )),
        }
    }
}

/// Times in seconds, one a line, rising: what was recorded of real requests. They count from the
/// first.
fn recorded(text: &str) -> Result<Pattern, String> {
    let mut times: Vec<u64> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = seconds(line);
        let at = at.ok_or_else(|| format!("line {number}: `{line}` is no time in seconds"))?;
        if times.last().is_some_and(|last| *last > at) {
            return Err(format!(
                "line {number}: {line} s is before the time above it"
            ));
        }
        times.push(at);
    }
    let Some(first) = times.first().copied() else {
        return Err("no time is in it".to_owned());
    };
    times.iter_mut().for_each(|at| *at -= first);
    Ok(Pattern::Recorded(times.into()))
}

/// `12.5` in nanoseconds.
fn seconds(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let (whole, part): (u64, u64) = (whole.parse().ok()?, format!("{part:0<9}").parse().ok()?);
    whole.checked_mul(1_000_000_000)?.checked_add(part)
}

/// What a load run offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Requests a second, at most where the pattern varies it.
    pub rate: Rate,
    /// For how long.
    pub lasts: Duration,
    /// How they are spread.
    pub pattern: Pattern,
    /// Makes them.
    pub seed: u64,
}

/// The most requests of a part: those of a whole hour do not fit into memory.
const PART: u64 = 2_000;
/// A part is to be made within this time of its sending, so it covers no more.
const PART_LASTS: u64 = 10_000_000_000;

impl Offer {
    /// How many requests are offered in all.
    pub fn requests(&self) -> u64 {
        self.due_before(self.lasts())
    }

    /// The rate over the whole time.
    pub fn mean(&self) -> Rate {
        Rate::of(self.requests(), self.lasts)
    }

    fn lasts(&self) -> u64 {
        nanos(self.lasts)
    }

    /// Requests that are due before a time, where they are spread evenly, in [`WHOLE`]ths.
    fn by(&self, at: u64) -> u128 {
        let (rate, lasts) = (u128::from(self.rate.0), u128::from(self.lasts()).max(1));
        let at = u128::from(at).min(lasts);
        match &self.pattern {
            Pattern::Ramp(from) => {
                // The rate at time t is from + (1 - from) * t / lasts.
                let from = u128::from(*from).min(MILLION);
                rate * (from * at + (MILLION - from) * at * at / (2 * lasts))
            }
            Pattern::Steps(shares) if !shares.is_empty() => {
                let step = (lasts / shares.len() as u128).max(1);
                let shares = shares.iter().enumerate();
                let one = |(i, share): (usize, &u32)| {
                    let begins = step * i as u128;
                    rate * u128::from(*share) * at.saturating_sub(begins).min(step)
                };
                shares.map(one).sum()
            }
            _ => rate * MILLION * at,
        }
    }

    /// When a number of requests has become due, spread evenly.
    fn time_of(&self, requests: u64) -> u64 {
        let wanted = u128::from(requests) * WHOLE;
        let (mut low, mut high) = (0, self.lasts());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.by(middle) < wanted {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// When each request of a range is due, in nanoseconds after the start, in order.
    fn due(&self, range: Range<u64>) -> Vec<u64> {
        match &self.pattern {
            Pattern::Poisson => {
                // Given how many there are in a time, they lie anywhere in it.
                let (from, until) = (self.time_of(range.start), self.time_of(range.end));
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ range.start.rotate_left(32));
                let width = u128::from(until - from);
                let mut when = || ((u128::from(rng.next_u64()) * width) >> 64) as u64 + from;
                let mut due: Vec<_> = range.map(|_| when()).collect();
                due.sort_unstable();
                due
            }
            Pattern::Bursts(size) => {
                let size = u64::from(*size).max(1);
                range.map(|at| self.time_of(at / size * size)).collect()
            }
            Pattern::Recorded(times) => {
                let (round, many) = (round(times), times.len() as u64);
                let one = |at: u64| at / many * round + times[(at % many) as usize];
                range.map(one).collect()
            }
            Pattern::Constant | Pattern::Ramp(_) | Pattern::Steps(_) => {
                range.map(|at| self.time_of(at)).collect()
            }
        }
    }

    /// How many requests a part has; the last one may have fewer.
    fn part(&self) -> u64 {
        let rate = u128::from(self.rate.0) * u128::from(PART_LASTS) / u128::from(KILOSECOND);
        u64::try_from(rate).unwrap_or(PART).clamp(1, PART)
    }

    /// How many parts there are.
    pub fn parts(&self) -> u64 {
        self.requests().div_ceil(self.part())
    }

    /// How many requests are due before a time after the first one, where they are spread evenly.
    pub fn due_before(&self, at: u64) -> u64 {
        match &self.pattern {
            Pattern::Recorded(times) => {
                let (round, at) = (round(times), at.min(self.lasts()));
                let rest = times.partition_point(|due| *due < at % round) as u64;
                at / round * times.len() as u64 + rest
            }
            _ => u64::try_from(self.by(at) / WHOLE).unwrap_or(u64::MAX),
        }
    }

    /// The number of the first request behind a part.
    pub fn ends(&self, part: u64) -> u64 {
        ((part + 1) * self.part()).min(self.requests())
    }

    /// The requests of a part, in the order of their times, with the number of the first.
    ///
    /// # Panics
    /// With more than four thousand million requests in all.
    pub fn requests_of(&self, workload: &dyn Facts, part: u64) -> (u64, Vec<Request>) {
        let first = part * self.part();
        let range = first..(first + self.part()).min(self.requests());
        let due = self.due(range.clone());
        let number = |at: u64| u32::try_from(at).expect("a run has fewer than 2^32 requests");
        let messages = number(range.end - range.start);
        let over = due.last().map_or(0, |last| last - due[0]);
        let over = Duration::from_nanos(over).max(Duration::from_millis(1));
        let seed = self.seed ^ (part + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut generator = Generator::new(seed, messages, over).behind(number(first));
        let mut requests = workload.requests(&mut generator);
        requests.sort_by_key(|request| request.at);
        // A workload chooses the order of its requests; when they come is the load's affair.
        let many = requests.len().max(1);
        for (at, request) in requests.iter_mut().enumerate() {
            request.at = Duration::from_nanos(due[at * due.len() / many]);
        }
        (first, requests)
    }

    /// Which requests of this run cannot be handled, of each sort so many: their keys.
    pub fn pick(&self, workload: &dyn Facts, sorts: &[u32]) -> Vec<Vec<Arc<str>>> {
        let parts = self.parts();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0x0005_EED0_F901_5050);
        let mut below =
            |bound: u64| ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64;
        let mut wanted: Vec<(u64, usize, u64)> = Vec::new();
        for (sort, many) in sorts.iter().enumerate() {
            for _ in 0..(*many).min(u32::try_from(self.requests()).unwrap_or(u32::MAX)) {
                wanted.push((below(parts), sort, below(u64::MAX)));
            }
        }
        wanted.sort_unstable();
        let mut picked = vec![Vec::new(); sorts.len()];
        let mut made: Option<(u64, Vec<Arc<str>>)> = None;
        for (part, sort, choice) in wanted {
            if made.as_ref().is_none_or(|(known, _)| *known != part) {
                let (_, requests) = self.requests_of(workload, part);
                let mut keys: Vec<_> = requests.into_iter().map(|it| it.key).collect();
                keys.sort_unstable();
                keys.dedup();
                made = Some((part, keys));
            }
            let Some((_, keys)) = made.as_mut().filter(|(_, keys)| !keys.is_empty()) else {
                continue;
            };
            let at = (choice % keys.len() as u64) as usize;
            picked[sort].push(keys.swap_remove(at));
        }
        picked
    }
}

/// One request in the unit of [`Offer::by`].
const WHOLE: u128 = 1_000_000_000_000_000_000;

/// How long a recording lasts until it begins again: the last distance once more, at least.
fn round(times: &[u64]) -> u64 {
    let last = times.last().copied().unwrap_or(0);
    let mean = last / (times.len() as u64).max(1);
    (last + mean).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer(pattern: Pattern) -> Offer {
        Offer {
            rate: Rate(500_000),
            lasts: Duration::from_secs(10),
            pattern,
            seed: 7,
        }
    }

    fn all(offer: &Offer) -> Vec<u64> {
        offer.due(0..offer.requests())
    }

    #[test]
    fn rates_are_read_and_shown() {
        let read = |text| Rate::parse(text).map(|rate| rate.to_string());
        for (text, shown) in [
            ("500/s", "500/s"),
            ("0.5/s", "0.5/s"),
            ("30/m", "0.5/s"),
            ("7", "7/s"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(shown));
        }
        for wrong in [
            "",
            "-1/s",
            "1e3/s",
            "500/d",
            "0/s",
            "0.0001/s",
            "2000000/s",
            "5 0/s",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_pattern_offers_what_it_says() {
        let constant = all(&offer(Pattern::Constant));
        assert_eq!(
            (constant.len(), constant[0], constant[1]),
            (5_000, 0, 2_000_000)
        );
        let ramp = all(&offer(Pattern::Ramp(0)));
        let half = ramp.partition_point(|at| *at < 5_000_000_000);
        assert_eq!((ramp.len(), half), (2_500, 625));
        let steps = all(&offer(Pattern::Steps(vec![100_000, 1_000_000])));
        let half = steps.partition_point(|at| *at < 5_000_000_000);
        assert_eq!((steps.len(), half), (2_750, 250));
        let bursts = all(&offer(Pattern::Bursts(100)));
        assert_eq!((bursts[99], bursts[100]), (0, 200_000_000));
        let recorded = offer(Pattern::Recorded(Arc::from([0, 1_000_000_000])));
        assert_eq!(
            (recorded.requests(), all(&recorded)[2]),
            (13, 1_500_000_000)
        );
    }

    #[test]
    fn random_arrivals_vary_as_chance_does() {
        let due = all(&offer(Pattern::Poisson));
        let mut counts = vec![0i64; 1_000];
        for at in &due {
            counts[(at / 10_000_000) as usize] += 1;
        }
        let mean = due.len() as i64 / 1_000;
        let variance: i64 = counts.iter().map(|n| (n - mean).pow(2)).sum::<i64>() / 1_000;
        assert!(
            (4..=6).contains(&variance),
            "{variance} about a mean of {mean}"
        );
    }

    proptest! {
        #[test]
        fn due_times_rise_and_end_with_the_run(
            rate in 1u64..2_000_000, lasts in 1u64..100_000, which in 0usize..5, seed: u64
        ) {
            let pattern = [
                Pattern::Constant, Pattern::Poisson, Pattern::Bursts(7), Pattern::Ramp(200_000),
                Pattern::Steps(vec![1_000_000, 0, 300_000]),
            ][which].clone();
            let (rate, lasts) = (Rate(rate), Duration::from_millis(lasts));
            let offer = Offer { rate, lasts, pattern, seed };
            let many = offer.requests();
            for first in [0, many / 2, many.saturating_sub(50)] {
                let due = offer.due(first..(first + 50).min(many));
                prop_assert!(due.is_sorted());
                prop_assert!(due.iter().all(|at| *at <= nanos(lasts)));
            }
        }
    }
}
