//! Whether a run was slower than an earlier one, or whether the difference is chance.
//!
//! A second in which the system was busy is followed by another one: times of neighbouring seconds
//! are alike, and a test that takes them for independent sees a difference in every second pair of
//! equal runs. So runs are compared by blocks, which are made longer until neighbours differ as much
//! as others do (batch means); what likeness is left widens the interval. Logarithms are compared, so
//! that a difference is a share of what it was.
//!
//! Runs of the same seed have the same requests, so they are compared interval by interval: what a
//! request brings with it, a slow answer of a service say, is in both.
//!
//! Blocks say how much a run varies within itself. That the same program is a little faster today than
//! it was yesterday they do not show; a [tolerance](Compared::is_slower) is for that.

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::figures::{Figures, Interval};

/// What is compared.
struct Metric {
    name: &'static str,
    of: fn(&Interval) -> u64,
    /// In so many of equal pairs chance makes an alarm of it.
    alarms: f64,
}

/// All of them: five false alarms in a hundred pairs together. What makes a pipeline slower shows in
/// the median first, so that gets most of them.
const METRICS: [Metric; 2] = [
    Metric {
        name: "p50(end-to-end)",
        of: |it| it.p50,
        alarms: 0.04,
    },
    Metric {
        name: "p95(end-to-end)",
        of: |it| it.p95,
        alarms: 0.01,
    },
];

/// Fewer blocks say nothing of how they vary.
const BLOCKS: usize = 8;
/// Neighbouring blocks that are no more alike than this are taken for independent.
const ALIKE: f64 = 0.2;

/// One metric of two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// As in thresholds.
    pub metric: &'static str,
    /// The typical value of the earlier run, in nanoseconds.
    pub before: u64,
    /// That of this one.
    pub now: u64,
    /// The difference, as a share of the earlier value: 0.1 is a tenth slower.
    pub change: f64,
    /// The smallest and the largest change that chance leaves possible.
    pub between: (f64, f64),
}

impl Compared {
    /// Whether it is slower by more than `tolerance`, whatever chance did.
    pub fn is_slower(&self, tolerance: f64) -> bool {
        self.between.0 > tolerance
    }

    /// For people: `p50(end-to-end) 71 ms → 79 ms (+11.3 %, between +8.1 % and +14.6 %)`.
    pub fn describe(&self) -> String {
        let share = |change: f64| format!("{:+.1} %", change * 100.0);
        let (from, to) = self.between;
        format!(
            "{} {} → {} ({}, between {} and {})",
            self.metric,
            crate::words::latency(self.before),
            crate::words::latency(self.now),
            share(self.change),
            share(from),
            share(to)
        )
    }
}

/// Compares a run with an earlier one.
///
/// # Errors
/// They cannot be compared: one is too short, or ended nothing for a long time.
pub fn compare(before: &Figures, now: &Figures) -> Result<Vec<Compared>, String> {
    let each = METRICS.map(|metric| {
        let of = |figures: &Figures| -> BTreeMap<u64, f64> {
            let all = figures.steady();
            all.map(|it| {
                let since = it.began.saturating_sub(figures.begin);
                (since, ((metric.of)(it).max(1) as f64).ln())
            })
            .collect()
        };
        let (one, other) = (of(before), of(now));
        // The same seed makes the same requests at the same times.
        let alike = |figures: &Figures| (figures.start.seed, figures.start.lasts);
        let difference = match alike(before) == alike(now) {
            true => paired(&one, &other),
            false => {
                let values = |of: BTreeMap<u64, f64>| of.into_values().collect::<Vec<_>>();
                apart(&values(one), &values(other))
            }
        };
        compared(&metric, &difference?)
    });
    each.into_iter().collect()
}

/// The difference between two runs, of logarithms.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Difference {
    before: f64,
    now: f64,
    /// Of the difference.
    variance: f64,
    /// Degrees of freedom of that.
    freedom: f64,
}

fn mean(of: &str, series: &[f64]) -> Result<Mean, String> {
    Mean::of(series).ok_or_else(|| {
        format!(
            "{of} is too short to be compared: it has {} intervals in which anything ended, and \
             {BLOCKS} at least are needed",
            series.len()
        )
    })
}

/// Of runs with the same requests: interval by interval, so that what the requests themselves bring
/// with them does not count.
fn paired(before: &BTreeMap<u64, f64>, now: &BTreeMap<u64, f64>) -> Result<Difference, String> {
    let common = |at: &&u64| now.contains_key(at);
    let times: Vec<u64> = before.keys().filter(common).copied().collect();
    let differences: Vec<f64> = times.iter().map(|at| now[at] - before[at]).collect();
    let difference = mean("the time that both have", &differences)?;
    let before = times.iter().map(|at| before[at]).sum::<f64>() / times.len() as f64;
    Ok(Difference {
        before,
        now: before + difference.mean,
        variance: difference.variance,
        freedom: difference.blocks as f64 - 1.0,
    })
}

/// Of runs that have nothing in common but their rate.
fn apart(before: &[f64], now: &[f64]) -> Result<Difference, String> {
    let (before, now) = (mean("the baseline", before)?, mean("this run", now)?);
    Ok(Difference {
        before: before.mean,
        now: now.mean,
        variance: before.variance + now.variance,
        freedom: freedom(&before, &now),
    })
}

fn compared(metric: &Metric, difference: &Difference) -> Result<Compared, String> {
    let student = StudentsT::new(0.0, 1.0, difference.freedom);
    let student = student.map_err(|error| error.to_string())?;
    let width = student.inverse_cdf(1.0 - metric.alarms) * difference.variance.sqrt();
    let change = difference.now - difference.before;
    Ok(Compared {
        metric: metric.name,
        before: difference.before.exp() as u64,
        now: difference.now.exp() as u64,
        change: change.exp_m1(),
        between: ((change - width).exp_m1(), (change + width).exp_m1()),
    })
}

/// The degrees of freedom of a difference (Welch and Satterthwaite).
fn freedom(one: &Mean, other: &Mean) -> f64 {
    let sum = (one.variance + other.variance).powi(2);
    let part = |it: &Mean| it.variance.powi(2) / (it.blocks as f64 - 1.0);
    let parts = part(one) + part(other);
    let most = (one.blocks + other.blocks) as f64 - 2.0;
    match parts > 0.0 {
        true => (sum / parts).clamp(1.0, most),
        false => most,
    }
}

/// The mean of a series, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mean {
    mean: f64,
    /// Of the mean.
    variance: f64,
    blocks: usize,
}

impl Mean {
    fn of(series: &[f64]) -> Option<Self> {
        if series.len() < BLOCKS {
            return None;
        }
        let mut long = 1;
        loop {
            let blocks = blocks(series, long);
            let alike = likeness(&blocks);
            let longer = long * 2;
            if alike > ALIKE && series.len() / longer >= BLOCKS {
                long = longer;
                continue;
            }
            return Some(Self::of_blocks(&blocks, alike.max(0.0)));
        }
    }

    fn of_blocks(blocks: &[f64], alike: f64) -> Self {
        let many = blocks.len() as f64;
        let mean = blocks.iter().sum::<f64>() / many;
        let squares: f64 = blocks.iter().map(|it| (it - mean).powi(2)).sum();
        // What likeness is left makes fewer blocks of them.
        let alike = alike.min(0.8);
        let wider = (1.0 + alike) / (1.0 - alike);
        Self {
            mean,
            variance: squares / (many - 1.0) / many * wider,
            blocks: blocks.len(),
        }
    }
}

/// The means of blocks; what is left over at the beginning belongs to none.
fn blocks(series: &[f64], long: usize) -> Vec<f64> {
    let skipped = series.len() % long;
    let blocks = series[skipped..].chunks_exact(long);
    blocks
        .map(|it| it.iter().sum::<f64>() / long as f64)
        .collect()
}

/// How much neighbours are alike: the correlation of each with the next.
fn likeness(series: &[f64]) -> f64 {
    let mean = series.iter().sum::<f64>() / series.len() as f64;
    let squares: f64 = series.iter().map(|it| (it - mean).powi(2)).sum();
    let pairs = series.windows(2).map(|it| (it[0] - mean) * (it[1] - mean));
    // Of few numbers it comes out too small, since the mean is their own.
    match squares > 0.0 {
        true => pairs.sum::<f64>() / squares + 1.0 / series.len() as f64,
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    /// A number that is spread like a sum of many.
    fn normal(rng: &mut ChaCha8Rng) -> f64 {
        let uniform = |rng: &mut ChaCha8Rng| f64::from(rng.next_u32()) / f64::from(u32::MAX);
        (0..12).map(|_| uniform(rng)).sum::<f64>() - 6.0
    }

    /// Times around 70 ms that vary by a share `noise`, each like the one before by `alike`.
    fn series(rng: &mut ChaCha8Rng, many: usize, noise: f64, alike: f64, slower: f64) -> Vec<f64> {
        let mut last = normal(rng);
        let own = (1.0 - alike * alike).sqrt();
        let next = |_| {
            last = alike * last + own * normal(rng);
            (70e6_f64 * (1.0 + slower)).ln() + noise * last
        };
        (0..many).map(next).collect()
    }

    /// How many of 1,000 pairs are called slower, where the second ones are by a share.
    fn alarms((many, noise, alike): (usize, f64, f64), slower: f64) -> usize {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let slow = |_: &usize| {
            let before = series(&mut rng, many, noise, alike, 0.0);
            let now = series(&mut rng, many, noise, alike, slower);
            let difference = apart(&before, &now).expect("long enough");
            let compared = compared(&METRICS[0], &difference).expect("a number");
            compared.is_slower(0.0)
        };
        (0..1_000).filter(slow).count()
    }

    #[test]
    fn equal_runs_are_seldom_called_slower_and_slower_ones_nearly_always() {
        for kind in [
            (54, 0.1, 0.0),
            (54, 0.07, 0.5),
            (216, 0.13, 0.5),
            (216, 0.07, 0.8),
        ] {
            let (equal, slower) = (alarms(kind, 0.0), alarms(kind, 0.1));
            println!("{kind:?}: {equal} false alarms, {slower} seen of 1,000");
            assert!(equal <= 50, "{kind:?}: {equal} false alarms in 1,000");
            assert!(slower >= 950, "{kind:?}: {slower} of 1,000 seen");
        }
    }

    /// Eight runs of the same requests, of orders at 20/s for 40 s on real servers on two cores: a line
    /// each, for each second `second:p50:p95`, in microseconds.
    const EQUAL: &str = include_str!("baseline/equal-runs.txt");

    /// By second: p50 and p95.
    type Recorded = [BTreeMap<u64, f64>; 2];

    fn recorded() -> Vec<Recorded> {
        let run = |line: &str| {
            let mut metrics = Recorded::default();
            for second in line.split(' ') {
                let numbers: Vec<u64> = (second.split(':').map(|it| it.parse()))
                    .collect::<Result<_, _>>()
                    .expect("three numbers");
                for (metric, micros) in metrics.iter_mut().zip(&numbers[1..]) {
                    metric.insert(numbers[0], (*micros as f64 * 1e3).ln());
                }
            }
            metrics
        };
        EQUAL.lines().map(run).collect()
    }

    /// In how many of all ordered pairs the second run is called slower, if it is by a share.
    fn recorded_alarms(slower: f64, tolerance: f64) -> (usize, usize) {
        let runs = recorded();
        let (mut alarms, mut pairs) = (0, 0);
        for (i, before) in runs.iter().enumerate() {
            for now in (0..runs.len()).filter(|j| *j != i).map(|j| &runs[j]) {
                let is_slower = METRICS.iter().enumerate().any(|(at, metric)| {
                    let all = now[at].iter();
                    let later = all.map(|(second, it)| (*second, it + slower.ln_1p()));
                    let difference = paired(&before[at], &later.collect());
                    let compared = compared(metric, &difference.expect("long enough"));
                    compared.expect("a number").is_slower(tolerance)
                });
                alarms += usize::from(is_slower);
                pairs += 1;
            }
        }
        (alarms, pairs)
    }

    #[test]
    fn real_runs_that_are_equal_are_not_called_slower_and_a_tenth_more_is_seen() {
        let ((equal, pairs), (slower, _)) =
            (recorded_alarms(0.0, 0.03), recorded_alarms(0.1, 0.03));
        println!("{equal} false alarms, {slower} seen of {pairs}");
        assert!(equal * 100 <= pairs * 5, "{equal} false alarms of {pairs}");
        assert!(slower * 100 >= pairs * 95, "{slower} of {pairs} seen");
        // Without a tolerance the drift of a machine from run to run looks like a change.
        assert!(recorded_alarms(0.0, 0.0).0 > equal);
    }

    #[test]
    fn what_is_too_short_is_not_compared() {
        let short = vec![1.0; BLOCKS - 1];
        let long = vec![1.0; BLOCKS];
        assert!(apart(&long, &short).is_err());
        let same = apart(&long, &long).expect("long enough");
        let same = compared(&METRICS[0], &same).expect("a number");
        assert!(!same.is_slower(0.0), "{same:?}");
    }
}
