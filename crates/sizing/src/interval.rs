//! How sure a figure is that several independent runs have given.

use std::cmp::Ordering;

use statrs::distribution::{ChiSquared, ContinuousCDF, StudentsT};

/// A figure with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean of the runs.
    pub mean: f64,
    /// Half the width of the interval that contains the true value in 95 of 100 cases; infinite for
    /// fewer than two runs.
    pub half: f64,
}

impl Estimate {
    /// Of independent runs, each of which gave one value.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        if values.len() < 2 {
            return Self {
                mean,
                half: f64::INFINITY,
            };
        }
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0)).sqrt();
        Self {
            mean,
            half: student(count - 1.0) * deviation / count.sqrt(),
        }
    }

    /// Of independent runs, each of which counted something among so many: their share. Where it was
    /// counted so rarely that the runs cannot differ, the interval is that of a Poisson count, so that
    /// nothing seen is not taken for nothing.
    pub fn of_share(counts: &[(u64, u64)]) -> Self {
        let shares: Vec<f64> = counts
            .iter()
            .map(|(count, of)| *count as f64 / (*of).max(1) as f64)
            .collect();
        let of_runs = Self::of(&shares);
        let count: u64 = counts.iter().map(|it| it.0).sum();
        let all: u64 = counts.iter().map(|it| it.1).sum();
        if count >= FEW {
            return of_runs;
        }
        let highest = poisson_upper(count) / all.max(1) as f64;
        Self {
            half: of_runs.half.max(highest - of_runs.mean),
            ..of_runs
        }
    }

    /// Of a single count among so many, as a share: the interval of a Poisson count.
    pub fn of_count(count: u64, of: u64) -> Self {
        let all = of.max(1) as f64;
        let mean = count as f64 / all;
        Self {
            mean,
            half: poisson_upper(count) / all - mean,
        }
    }

    /// Both ends.
    pub fn ends(&self) -> (f64, f64) {
        (self.mean - self.half, self.mean + self.half)
    }

    /// Whether a value lies within.
    pub fn contains(&self, value: f64) -> bool {
        let (low, high) = self.ends();
        (low..=high).contains(&value)
    }
}

/// The value that a share of others does not exceed; none where there is none. The values are reordered.
pub fn nearest_rank<T: Copy>(
    values: &mut [T],
    share: f64,
    order: impl FnMut(&T, &T) -> Ordering,
) -> Option<T> {
    let last = values.len().checked_sub(1)?;
    let at = ((values.len() as f64 * share).ceil() as usize).clamp(1, last + 1) - 1;
    let (_, value, _) = values.select_nth_unstable_by(at, order);
    Some(*value)
}

/// Counts below it are rare.
const FEW: u64 = 20;

/// The mean of a Poisson distribution below which 97.5 of 100 such counts are not so few.
fn poisson_upper(count: u64) -> f64 {
    let freedom = 2.0 * (count as f64 + 1.0);
    ChiSquared::new(freedom).map_or(f64::INFINITY, |it| it.inverse_cdf(0.975) / 2.0)
}

/// The quantile at 97.5 % of Student's distribution.
fn student(freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::INFINITY, |it| it.inverse_cdf(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_table_of_student_says() {
        // Mean 3, deviation 1.5811, t for 4 degrees of freedom 2.7764.
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((estimate.mean - 3.0).abs() < 1e-12);
        assert!((estimate.half - 2.776_445 * 1.581_139 / 5f64.sqrt()).abs() < 1e-4);
        assert!(estimate.contains(4.9) && !estimate.contains(5.0));
    }

    #[test]
    fn nothing_seen_is_not_nothing() {
        // 0 of 8,000: up to 3.689 are possible.
        let none = Estimate::of_share(&[(0, 1_000); 8]);
        assert!(
            (none.mean, none.half - 3.689 / 8_000.0) <= (0.0, 1e-6),
            "{none:?}"
        );
        let often = [(10, 1_000), (12, 1_000), (9, 1_000), (11, 1_000)];
        let shares = often.map(|(count, of)| count as f64 / of as f64);
        assert_eq!(Estimate::of_share(&often), Estimate::of(&shares));
    }

    #[test]
    fn one_run_says_nothing() {
        assert!(Estimate::of(&[1.0]).contains(1e9));
    }
}
