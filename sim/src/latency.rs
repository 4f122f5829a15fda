//! How long things take: quantiles as whole nanoseconds, sampled without floats.

/// A distribution by four of its quantiles, linear between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The shortest.
    pub min: u64,
    /// Half are not longer.
    pub median: u64,
    /// 95 in 100 are not longer.
    pub p95: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    /// Always the same.
    pub const fn fixed(ns: u64) -> Self {
        Self {
            min: ns,
            median: ns,
            p95: ns,
            max: ns,
        }
    }

    /// From microseconds, in the order min, median, p95, max.
    pub const fn micros(min: u64, median: u64, p95: u64, max: u64) -> Self {
        Self {
            min: min * 1_000,
            median: median * 1_000,
            p95: p95 * 1_000,
            max: max * 1_000,
        }
    }

    /// The value at a drawn position; the median at 0, the benign draw.
    pub fn at(&self, draw: u64) -> u64 {
        const HALF: u64 = 1 << 63;
        const P95: u64 = (u64::MAX / 100) * 95;
        let q = draw.wrapping_add(HALF);
        if q < HALF {
            between(self.min, self.median, q, HALF)
        } else if q < P95 {
            between(self.median, self.p95, q - HALF, P95 - HALF)
        } else {
            between(self.p95, self.max, q - P95, u64::MAX - P95)
        }
    }
}

fn between(low: u64, high: u64, part: u64, whole: u64) -> u64 {
    let span = u128::from(high.saturating_sub(low));
    low + (span * u128::from(part) / u128::from(whole)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stays_within_its_bounds_and_rises(a: u64, b: u64) {
            let latency = Latency::micros(1, 10, 100, 1_000);
            let rank = |draw: u64| draw.wrapping_add(1 << 63);
            let (x, y) = (latency.at(a), latency.at(b));
            prop_assert!((latency.min..=latency.max).contains(&x));
            prop_assert!((rank(a) <= rank(b)) == (x <= y) || x == y);
        }
    }

    #[test]
    fn the_benign_draw_is_the_median() {
        assert_eq!(Latency::micros(1, 10, 100, 1_000).at(0), 10_000);
        assert_eq!(Latency::fixed(5).at(u64::MAX / 2), 5);
    }
}
