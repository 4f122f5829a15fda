//! How long a handler takes, as a distribution.

use statrs::distribution::{ContinuousCDF, Gamma, Normal};

/// How long a handler takes, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency(Shape);

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Fixed(f64),
    Uniform(f64, f64),
    /// Its mean.
    Exponential(f64),
    /// Mean and deviation of its logarithm.
    LogNormal(f64, f64),
    /// Shape and scale.
    Gamma(f64, f64),
    /// Values that were seen, rising.
    Recorded(Recorded),
    /// Shares, which add up to 1.
    Mixture(Vec<(f64, Latency)>),
}

/// Values that were seen.
#[derive(Clone, Debug, PartialEq)]
struct Recorded {
    /// Rising, each with the share of those up to and with it.
    values: Vec<(f64, f64)>,
    /// For each value, the sum of value and share over those up to and with it.
    sums: Vec<f64>,
}

/// Why numbers are no distribution.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// A time is negative, infinite or not a number.
    #[error("{0} s is no time: it is not negative, and has an end")]
    Time(f64),
    /// A spread is zero, negative, infinite or not a number.
    #[error("a spread of {0} is none: it is above zero, and has an end")]
    Spread(f64),
    /// A gamma distribution that is nearly always 0.
    #[error("a deviation of {0} times the mean is too much for a gamma distribution: 5 at most")]
    Wide(f64),
    /// A share lies outside of 0 to 1.
    #[error("{0} is no share: it lies between 0 and 1")]
    Share(f64),
    /// Quantiles, or the values at them, do not rise.
    #[error("the quantiles do not rise: {0} s at {1} comes after {2} s at {3}")]
    NotRising(f64, f64, f64, f64),
    /// Quantiles do not say where it begins and ends.
    #[error("quantiles go from 0 (the shortest) to 1 (the longest): {0} is missing")]
    Open(u8),
    /// Shares of a mixture do not add up to 1.
    #[error("the shares of a mixture add up to 1, these to {0}")]
    Sum(f64),
    /// There is nothing in it.
    #[error("there is no value in it")]
    Empty,
}

fn time(seconds: f64) -> Result<f64, Invalid> {
    match seconds.is_finite() && seconds >= 0.0 {
        true => Ok(seconds),
        false => Err(Invalid::Time(seconds)),
    }
}

fn spread(value: f64) -> Result<f64, Invalid> {
    match value.is_finite() && value > 0.0 {
        true => Ok(value),
        false => Err(Invalid::Spread(value)),
    }
}

/// 95 of 100 values of a standard normal distribution are below it.
const P95: f64 = 1.644_853_626_951_472_6;

impl Latency {
    /// Always the same.
    ///
    /// # Errors
    /// [`Invalid::Time`].
    pub fn fixed(seconds: f64) -> Result<Self, Invalid> {
        Ok(Self(Shape::Fixed(time(seconds)?)))
    }

    /// Each time between two is as likely as the others.
    ///
    /// # Errors
    /// [`Invalid::Time`], or they do not rise.
    pub fn uniform(low: f64, high: f64) -> Result<Self, Invalid> {
        let (low, high) = (time(low)?, time(high)?);
        match low <= high {
            true => Ok(Self(Shape::Uniform(low, high))),
            false => Err(Invalid::NotRising(high, 1.0, low, 0.0)),
        }
    }

    /// Without memory, of this mean.
    ///
    /// # Errors
    /// [`Invalid::Time`], [`Invalid::Spread`].
    pub fn exponential(mean: f64) -> Result<Self, Invalid> {
        Ok(Self(Shape::Exponential(spread(time(mean)?)?)))
    }

    /// Log-normal: half are below the median, 95 of 100 below `p95`.
    ///
    /// # Errors
    /// [`Invalid::Time`], or they do not rise.
    pub fn log_normal(median: f64, p95: f64) -> Result<Self, Invalid> {
        let (median, p95) = (spread(time(median)?)?, time(p95)?);
        match p95 > median {
            true => {
                let deviation = (p95 / median).ln() / P95;
                Ok(Self(Shape::LogNormal(median.ln(), deviation)))
            }
            false => Err(Invalid::NotRising(p95, 0.95, median, 0.5)),
        }
    }

    /// Gamma, of this mean and standard deviation.
    ///
    /// # Errors
    /// [`Invalid::Time`], [`Invalid::Spread`], [`Invalid::Wide`].
    pub fn gamma(mean: f64, deviation: f64) -> Result<Self, Invalid> {
        let (mean, deviation) = (spread(time(mean)?)?, spread(deviation)?);
        if deviation > 5.0 * mean {
            return Err(Invalid::Wide(deviation / mean));
        }
        let ratio = mean / deviation;
        Ok(Self(Shape::Gamma(
            ratio * ratio,
            deviation * deviation / mean,
        )))
    }

    /// By quantiles, linear between them: (share, seconds), rising from share 0 to share 1.
    ///
    /// # Errors
    /// [`Invalid`] says which of them is wrong.
    pub fn quantiles(quantiles: &[(f64, f64)]) -> Result<Self, Invalid> {
        for &(share, seconds) in quantiles {
            if !(0.0..=1.0).contains(&share) {
                return Err(Invalid::Share(share));
            }
            time(seconds)?;
        }
        let (Some(first), Some(last)) = (quantiles.first(), quantiles.last()) else {
            return Err(Invalid::Empty);
        };
        if first.0 != 0.0 {
            return Err(Invalid::Open(0));
        }
        if last.0 != 1.0 {
            return Err(Invalid::Open(1));
        }
        let mut parts = Vec::new();
        for pair in quantiles.windows(2) {
            let ((from, low), (until, high)) = (pair[0], pair[1]);
            if until <= from || high < low {
                return Err(Invalid::NotRising(high, until, low, from));
            }
            parts.push((until - from, Self(Shape::Uniform(low, high))));
        }
        Ok(Self(Shape::Mixture(parts)))
    }

    /// Values that were seen, each with how often.
    ///
    /// # Errors
    /// [`Invalid::Time`], [`Invalid::Empty`].
    pub fn recorded(values: impl IntoIterator<Item = (f64, u64)>) -> Result<Self, Invalid> {
        let mut values: Vec<(f64, u64)> = values.into_iter().filter(|it| it.1 > 0).collect();
        for (value, _) in &values {
            time(*value)?;
        }
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count: u64 = values.iter().map(|it| it.1).sum();
        if count == 0 {
            return Err(Invalid::Empty);
        }
        let (mut seen, mut sum) = (0, 0.0);
        let mut recorded = Recorded {
            values: Vec::with_capacity(values.len()),
            sums: Vec::with_capacity(values.len()),
        };
        for (value, times) in values {
            seen += times;
            sum += value * times as f64 / count as f64;
            recorded.values.push((value, seen as f64 / count as f64));
            recorded.sums.push(sum);
        }
        Ok(Self(Shape::Recorded(recorded)))
    }

    /// One of several, each with its share.
    ///
    /// # Errors
    /// [`Invalid::Share`], [`Invalid::Sum`], [`Invalid::Empty`].
    pub fn mixture(parts: Vec<(f64, Self)>) -> Result<Self, Invalid> {
        if parts.is_empty() {
            return Err(Invalid::Empty);
        }
        if let Some((share, _)) = parts.iter().find(|it| !(0.0..=1.0).contains(&it.0)) {
            return Err(Invalid::Share(*share));
        }
        let sum: f64 = parts.iter().map(|it| it.0).sum();
        match (sum - 1.0).abs() < 1e-9 {
            true => Ok(Self(Shape::Mixture(parts))),
            false => Err(Invalid::Sum(sum)),
        }
    }

    /// The share of those that take longer.
    pub fn survival(&self, t: f64) -> f64 {
        if t < 0.0 {
            return 1.0;
        }
        match &self.0 {
            Shape::Fixed(value) => f64::from(*value > t),
            Shape::Uniform(low, high) if low == high => f64::from(*low > t),
            Shape::Uniform(low, high) => ((high - t) / (high - low)).clamp(0.0, 1.0),
            Shape::Exponential(mean) => (-t / mean).exp(),
            Shape::LogNormal(mean, deviation) => normal().sf((t.ln() - mean) / deviation),
            Shape::Gamma(shape, scale) => gamma(*shape).sf(t / scale),
            Shape::Recorded(recorded) => {
                1.0 - recorded.up_to(t).map_or(0.0, |at| recorded.values[at].1)
            }
            Shape::Mixture(parts) => sum(parts, |it| it.survival(t)),
        }
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        match &self.0 {
            Shape::Fixed(value) => *value,
            Shape::Uniform(low, high) => f64::midpoint(*low, *high),
            Shape::Exponential(mean) => *mean,
            Shape::LogNormal(mean, deviation) => (mean + deviation * deviation / 2.0).exp(),
            Shape::Gamma(shape, scale) => shape * scale,
            Shape::Recorded(recorded) => recorded.sums.last().copied().unwrap_or(0.0),
            Shape::Mixture(parts) => sum(parts, Self::mean),
        }
    }

    /// The mean of the squares, in square seconds.
    pub fn second_moment(&self) -> f64 {
        match &self.0 {
            Shape::Fixed(value) => value * value,
            Shape::Uniform(low, high) => (low * low + low * high + high * high) / 3.0,
            Shape::Exponential(mean) => 2.0 * mean * mean,
            Shape::LogNormal(mean, deviation) => (2.0 * (mean + deviation * deviation)).exp(),
            Shape::Gamma(shape, scale) => shape * (shape + 1.0) * scale * scale,
            Shape::Recorded(recorded) => recorded
                .steps()
                .map(|(value, share)| value * value * share)
                .sum(),
            Shape::Mixture(parts) => sum(parts, Self::second_moment),
        }
    }

    /// The mean of what a limit leaves: each value, or the limit where that is less.
    pub fn limited_mean(&self, limit: f64) -> f64 {
        if limit <= 0.0 {
            return 0.0;
        }
        match &self.0 {
            Shape::Fixed(value) => value.min(limit),
            Shape::Uniform(low, _) if limit <= *low => limit,
            Shape::Uniform(_, high) if limit >= *high => self.mean(),
            Shape::Uniform(low, high) => limit - (limit - low).powi(2) / (2.0 * (high - low)),
            Shape::Exponential(mean) => mean * -(-limit / mean).exp_m1(),
            Shape::LogNormal(mean, deviation) => {
                let at = (limit.ln() - mean) / deviation;
                self.mean() * normal().cdf(at - deviation) + limit * normal().sf(at)
            }
            Shape::Gamma(shape, scale) => {
                let below = gamma(shape + 1.0).cdf(limit / scale);
                shape * scale * below + limit * gamma(*shape).sf(limit / scale)
            }
            Shape::Recorded(recorded) => {
                let below = recorded.up_to(limit).map_or(0.0, |at| recorded.sums[at]);
                below + limit * self.survival(limit)
            }
            Shape::Mixture(parts) => sum(parts, |it| it.limited_mean(limit)),
        }
    }

    /// The time that this share does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let share = share.clamp(0.0, 1.0);
        match &self.0 {
            Shape::Fixed(value) => *value,
            Shape::Uniform(low, high) => low + (high - low) * share,
            Shape::Exponential(mean) => -mean * (-share.min(ALMOST_ALL)).ln_1p(),
            Shape::LogNormal(mean, deviation) => {
                let inner = share.clamp(1.0 - ALMOST_ALL, ALMOST_ALL);
                (mean + deviation * normal().inverse_cdf(inner)).exp()
            }
            // The library's own inverse is off for small shapes (statrs 0.18).
            Shape::Gamma(shape, scale) => {
                let (wanted, law) = (share.min(ALMOST_ALL), gamma(*shape));
                let mut longest = shape.max(1.0);
                while law.cdf(longest) < wanted {
                    longest *= 2.0;
                }
                scale * bisect(longest, |t| law.cdf(t) >= wanted)
            }
            Shape::Recorded(recorded) => {
                let at = recorded.values.partition_point(|(_, known)| *known < share);
                recorded.values[at.min(recorded.values.len() - 1)].0
            }
            Shape::Mixture(_) => bisect(self.longest(), |t| self.survival(t) <= 1.0 - share),
        }
    }

    /// One of its values, for two draws between 0 and 1.
    pub fn sample(&self, which: f64, value: f64) -> f64 {
        match &self.0 {
            Shape::Mixture(parts) => {
                let mut below = 0.0;
                for (share, part) in parts {
                    below += share;
                    if which < below {
                        // What is left of the first draw is as good as a new one.
                        let inner = (which - (below - share)) / share;
                        return part.sample(inner, value);
                    }
                }
                parts
                    .last()
                    .map_or(0.0, |(_, part)| part.sample(0.0, value))
            }
            _ => self.quantile(value),
        }
    }

    /// The longest that there is, or nearly so where there is none.
    pub fn longest(&self) -> f64 {
        match &self.0 {
            Shape::Mixture(parts) => parts
                .iter()
                .map(|(_, part)| part.longest())
                .fold(0.0, f64::max),
            _ => self.quantile(1.0),
        }
    }
}

/// The share at which distributions without an end are cut off.
const ALMOST_ALL: f64 = 1.0 - 1e-12;

fn sum(parts: &[(f64, Latency)], of: impl Fn(&Latency) -> f64) -> f64 {
    parts.iter().map(|(share, part)| share * of(part)).sum()
}

/// The smallest time up to `longest` for which something holds that holds for all later ones.
fn bisect(longest: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, longest);
    // As exact as the numbers are.
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        match holds(middle) {
            true => high = middle,
            false => low = middle,
        }
    }
    high
}

fn normal() -> Normal {
    Normal::standard()
}

#[expect(clippy::expect_used, reason = "every constructor refuses other shapes")]
fn gamma(shape: f64) -> Gamma {
    Gamma::new(shape, 1.0).expect("a shape above zero")
}

impl Recorded {
    /// The place of the last value that is not above a time.
    fn up_to(&self, t: f64) -> Option<usize> {
        self.values
            .partition_point(|(value, _)| *value <= t)
            .checked_sub(1)
    }

    /// Each value with its own share.
    fn steps(&self) -> impl Iterator<Item = (f64, f64)> {
        let mut before = 0.0;
        self.values.iter().map(move |(value, share)| {
            let own = share - before;
            before = *share;
            (*value, own)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn simple() -> impl Strategy<Value = Latency> {
        prop_oneof![
            (0.0..9.0f64).prop_map(|it| Latency::fixed(it).unwrap()),
            (0.0..9.0f64, 0.0..9.0f64)
                .prop_map(|(a, b)| Latency::uniform(a.min(b), a.max(b)).unwrap()),
            (0.1..9.0f64).prop_map(|it| Latency::exponential(it).unwrap()),
            (0.1..9.0f64, 0.1..9.0f64).prop_map(|(a, b)| Latency::log_normal(a, a + b).unwrap()),
            (0.1..9.0f64, 0.05..5.0f64).prop_map(|(a, b)| Latency::gamma(a, a * b).unwrap()),
            prop::collection::vec((0.0..9.0f64, 1u64..5), 1..9)
                .prop_map(|it| Latency::recorded(it).unwrap()),
        ]
    }

    fn any() -> impl Strategy<Value = Latency> {
        let mixed = (simple(), simple(), 0.0..1.0f64);
        let mixed = mixed.prop_map(|(a, b, share)| {
            Latency::mixture(vec![(share, a), (1.0 - share, b)]).unwrap()
        });
        prop_oneof![simple(), mixed]
    }

    /// The integral of a function from 0 to `until`.
    fn integral(until: f64, of: impl Fn(f64) -> f64) -> f64 {
        let steps = 20_000;
        let wide = until / f64::from(steps);
        let middles = (0..steps).map(|step| (f64::from(step) + 0.5) * wide);
        middles.map(|t| of(t) * wide).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_a_limit_leaves_is_the_area_below_the_survival(latency in any(), limit in 0.1..20.0f64) {
            let area = integral(limit, |t| latency.survival(t));
            prop_assert!((latency.limited_mean(limit) - area).abs() < 2e-3 * limit);
        }

        #[test]
        fn a_quantile_is_not_exceeded_by_its_share(latency in any(), share in 0.001..0.999f64) {
            let t = latency.quantile(share);
            prop_assert!(latency.survival(t * (1.0 + 1e-9) + 1e-9) <= 1.0 - share + 1e-6);
            prop_assert!(latency.survival(t * (1.0 - 1e-9) - 1e-9) >= 1.0 - share - 1e-6);
        }

        #[test]
        fn samples_have_its_mean_and_moment(latency in any()) {
            // A grid instead of chance: each pair of draws once.
            let (which, value) = (20, 200);
            let (mut first, mut second) = (0.0, 0.0);
            for a in 0..which {
                for b in 0..value {
                    let at = |n: i32, of: i32| (f64::from(n) + 0.5) / f64::from(of);
                    let sample = latency.sample(at(a, which), at(b, value));
                    first += sample;
                    second += sample * sample;
                }
            }
            let count = f64::from(which * value);
            let scale = latency.second_moment().sqrt();
            // A share is only as fine as the grid, and long tails end at its last point.
            prop_assert!((first / count - latency.mean()).abs() <= 0.1 * scale + 0.3);
            prop_assert!(second / count <= latency.second_moment() * 1.2 + 3.0);
        }
    }

    #[test]
    fn quantiles_are_linear_between() {
        let latency = Latency::quantiles(&[(0.0, 1.0), (0.5, 2.0), (0.95, 12.0), (1.0, 19.0)]);
        let latency = latency.unwrap();
        for (share, seconds) in [(0.25, 1.5), (0.5, 2.0), (0.95, 12.0), (0.975, 15.5)] {
            assert!((latency.quantile(share) - seconds).abs() < 1e-9, "{share}");
        }
        assert!((latency.survival(15.5) - 0.025).abs() < 1e-12);
        assert!((latency.mean() - (0.5 * 1.5 + 0.45 * 7.0 + 0.05 * 15.5)).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        use Invalid as I;
        let quantiles = |it: &[(f64, f64)]| Latency::quantiles(it).unwrap_err();
        assert_eq!(Latency::fixed(-1.0), Err(I::Time(-1.0)));
        assert!(matches!(Latency::fixed(f64::NAN), Err(I::Time(_))));
        assert!(matches!(
            Latency::exponential(f64::INFINITY),
            Err(I::Time(_))
        ));
        assert_eq!(Latency::exponential(0.0), Err(I::Spread(0.0)));
        assert_eq!(Latency::recorded([]), Err(I::Empty));
        assert_eq!(Latency::recorded([(1.0, 0)]), Err(I::Empty));
        assert_eq!(Latency::mixture(vec![]), Err(I::Empty));
        assert_eq!(quantiles(&[]), I::Empty);
        assert_eq!(quantiles(&[(0.1, 1.0), (1.0, 2.0)]), I::Open(0));
        assert_eq!(quantiles(&[(0.0, 1.0), (0.9, 2.0)]), I::Open(1));
        assert_eq!(quantiles(&[(0.0, 1.0), (1.5, 2.0)]), I::Share(1.5));
        assert_eq!(
            quantiles(&[(0.0, 3.0), (0.5, 2.0), (1.0, 4.0)]),
            I::NotRising(2.0, 0.5, 3.0, 0.0)
        );
        let half = Latency::fixed(1.0).unwrap();
        assert_eq!(
            Latency::mixture(vec![(0.5, half.clone()), (0.4, half)]),
            Err(I::Sum(0.9))
        );
    }
}
