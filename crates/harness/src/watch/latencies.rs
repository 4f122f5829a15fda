//! Times that legs took, as histograms.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

use super::legs::{Leg, Sample};

/// Significant digits of a quantile, where one run is measured.
const FINE: u8 = 3;
/// The same where many thousands of runs are added up.
const COARSE: u8 = 2;
/// Nanoseconds in the unit of the histograms.
const MICRO: u64 = 1_000;

/// Times by leg. Each histogram counts microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies {
    digits: u8,
    all: BTreeMap<Leg, Histogram<u64>>,
}

impl Eq for Latencies {}

impl Default for Latencies {
    /// With three significant digits.
    fn default() -> Self {
        Self {
            digits: FINE,
            all: BTreeMap::new(),
        }
    }
}

impl Latencies {
    /// With two significant digits, in a tenth of the room.
    pub fn coarse() -> Self {
        Self {
            digits: COARSE,
            ..Self::default()
        }
    }

    /// Adds a time.
    pub fn add(&mut self, sample: Sample) {
        self.add_many(sample.leg, sample.took, 1);
    }

    /// Adds a time in nanoseconds, so many times over.
    pub fn add_many(&mut self, leg: Leg, took: u64, times: u64) {
        let histogram = self.all.entry(leg).or_insert_with(|| empty(self.digits));
        let micros = took.div_ceil(MICRO);
        let grown = histogram.record_n(micros, times);
        grown.expect("a histogram that grows by itself takes half a million years");
    }

    /// Adds those of others.
    pub fn merge(&mut self, other: &Self) {
        for (leg, histogram) in &other.all {
            let sum = self.all.entry(*leg).or_insert_with(|| empty(self.digits));
            sum.add(histogram)
                .expect("a histogram that grows by itself takes any other");
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those with times, in the order of reports.
    pub fn legs(&self) -> impl Iterator<Item = (Leg, Times<'_>)> {
        self.all
            .iter()
            .map(|(leg, histogram)| (*leg, Times(histogram)))
    }

    /// The times of a leg, if there are any.
    pub fn of(&self, leg: Leg) -> Option<Times<'_>> {
        self.all.get(&leg).map(Times)
    }

    /// As text, leg by leg, in HdrHistogram's V2 form.
    pub fn encode(&self) -> BTreeMap<String, String> {
        let text = |histogram: &Histogram<u64>| {
            let mut bytes = Vec::new();
            let written = V2Serializer::new().serialize(histogram, &mut bytes);
            written.expect("a vector takes all");
            BASE64.encode(bytes)
        };
        let all = self.all.iter();
        all.map(|(leg, histogram)| (leg.as_str().to_owned(), text(histogram)))
            .collect()
    }

    /// The reverse of [`Latencies::encode`].
    ///
    /// # Errors
    /// Says what cannot be read.
    pub fn decode(text: &BTreeMap<String, String>) -> Result<Self, String> {
        let one = |(name, text): (&String, &String)| {
            let leg = Leg::parse(name).ok_or_else(|| format!("unknown leg {name:?}"))?;
            let bytes = BASE64
                .decode(text)
                .map_err(|error| format!("{name}: {error}"))?;
            let read = Deserializer::new().deserialize(&mut &bytes[..]);
            let mut histogram: Histogram<u64> = read.map_err(|error| format!("{name}: {error}"))?;
            histogram.auto(true);
            Ok((leg, histogram))
        };
        let all: BTreeMap<_, Histogram<u64>> =
            text.iter().map(one).collect::<Result<_, String>>()?;
        let digits = all.values().map(Histogram::sigfig).next().unwrap_or(FINE);
        Ok(Self { digits, all })
    }
}

fn empty(digits: u8) -> Histogram<u64> {
    Histogram::new(digits).expect("up to five digits are allowed")
}

/// The times of one leg.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a>(&'a Histogram<u64>);

/// The quantiles of reports, in millionths, with their names.
pub const QUANTILES: [(&str, u32); 6] = [
    ("p50", 500_000),
    ("p90", 900_000),
    ("p95", 950_000),
    ("p99", 990_000),
    ("p99.9", 999_000),
    ("p99.99", 999_900),
];

impl<'a> Times<'a> {
    /// How many.
    pub fn count(self) -> u64 {
        self.0.len()
    }

    /// So many in a million are not longer; in nanoseconds.
    pub fn quantile(self, millionths: u32) -> u64 {
        let micros = self.0.value_at_quantile(f64::from(millionths) / 1e6);
        micros.min(self.0.max()).saturating_mul(MICRO)
    }

    /// How many are not longer than this, in nanoseconds.
    pub fn within(self, nanos: u64) -> u64 {
        self.0.count_between(0, nanos / MICRO)
    }

    /// The longest, in nanoseconds.
    pub fn max(self) -> u64 {
        self.0.max().saturating_mul(MICRO)
    }

    /// The arithmetic mean, in nanoseconds.
    pub fn mean(self) -> f64 {
        self.0.mean() * MICRO as f64
    }

    /// The histogram itself, in microseconds.
    pub fn histogram(self) -> &'a Histogram<u64> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        for took in times {
            latencies.add_many(Leg::EndToEnd, *took, 1);
        }
        latencies
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_thousandth_of_the_times(
            mut times in proptest::collection::vec(0u64..10_000_000_000_000, 1..200),
            millionths in 1u32..1_000_000,
        ) {
            let latencies = of(&times);
            times.sort_unstable();
            let rank = (times.len() as u64 * u64::from(millionths)).div_ceil(1_000_000);
            let true_one = times[rank as usize - 1];
            let told = latencies.of(Leg::EndToEnd).expect("some").quantile(millionths);
            let off = told.abs_diff(true_one);
            prop_assert!(off <= true_one / 1_000 + MICRO, "{told} for {true_one}");
        }

        #[test]
        fn what_is_encoded_is_read_again(
            one in proptest::collection::vec(0u64..1 << 50, 1..50),
            other in proptest::collection::vec(0u64..1 << 50, 1..50),
        ) {
            let (one, other) = (of(&one), of(&other));
            let mut read = Latencies::decode(&one.encode()).expect("what was encoded");
            prop_assert_eq!(&read, &one);
            read.merge(&other);
            let both = read.of(Leg::EndToEnd).expect("some").count();
            let times = |of: &Latencies| of.of(Leg::EndToEnd).map_or(0, Times::count);
            prop_assert_eq!(both, times(&one) + times(&other));
        }
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        let of = |leg: &str, text: &str| {
            Latencies::decode(&BTreeMap::from([(leg.to_owned(), text.to_owned())]))
        };
        assert!(of("end-to-middle", "").is_err_and(|why| why.contains("end-to-middle")));
        assert!(of("ack", "no base64").is_err());
        assert!(of("ack", "AAAA").is_err());
    }
}
