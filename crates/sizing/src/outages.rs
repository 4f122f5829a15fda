//! Outages of each length at each load: whether the backlog drains, and in what time, or never.

use rayon::prelude::*;

use crate::case::{Case, OutageKind};
use crate::evaluate::{AFTER, InOutage, in_outage};
use crate::model::{Dependency, Setting};

/// What one length of outage does at one load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// How long the outage lasts, in seconds.
    pub lasts: f64,
    /// Messages that arrive, as a multiple of the usual.
    pub load: f64,
    /// What is to be expected.
    pub seen: InOutage,
    /// Why its backlog never drains; none where it does.
    pub never: Option<Never>,
}

impl Cell {
    /// How long after the outage the run has looked, in seconds.
    pub fn looked_at(&self) -> f64 {
        (2.0 * self.lasts).max(AFTER)
    }
}

/// Why a backlog never drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {
    /// More messages arrive than the workers can handle, outage or not.
    Workers,
    /// More messages arrive than the dependency can take, outage or not.
    Dependency,
    /// Once all workers call, a call waits in the dependency for longer than the handler's limit. It is
    /// given up and tried again, while the dependency goes on with what was given up: the retries keep it
    /// down.
    Metastable,
}

impl Never {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workers => "too few workers",
            Self::Dependency => "the dependency takes less than arrives",
            Self::Metastable => "retries keep the dependency down",
        }
    }
}

/// Whether the backlog of an outage never drains, if it is large enough to keep all workers busy.
///
/// All workers together have `workers` calls in the dependency at most. If it takes `rate` a second, a
/// call waits there for `workers / rate` at most. Where that and the call itself take longer than the
/// handler's limit, every call is given up, and its worker calls again.
pub fn never_drains(case: &Case, setting: &Setting, load: f64) -> Option<Never> {
    let consumer = &setting.policy.consumer;
    let workers = f64::from(setting.processes) * f64::from(consumer.workers);
    let limit = consumer.handler_limit.as_secs_f64();
    let arrivals = case.rate * load;
    // A try that fails by chance or is cut off is made again.
    let again = case.fails + case.handler.survival(limit);
    let tries = arrivals / (1.0 - again.min(0.999));
    if tries * case.handler.limited_mean(limit) >= workers {
        return Some(Never::Workers);
    }
    let Dependency::Rate(rate) = case.dependency else {
        return None;
    };
    if tries >= rate {
        return Some(Never::Dependency);
    }
    // The wait at which the dependency is as fast as the workers: each has a call that waits, and is
    // carried out for as long as the handler takes.
    let wait = (workers / rate - case.handler.mean()).max(0.0);
    // Of the calls that wait so long, these still end in time. With them it gets ahead if it can do more
    // than what arrives.
    let in_time = 1.0 - case.handler.survival(limit - wait);
    let goodput = match wait >= limit {
        true => 0.0,
        false => rate * in_time,
    };
    (goodput <= arrivals).then_some(Never::Metastable)
}

/// Each of these lengths, in seconds, at each of these loads.
pub fn map(case: &Case, setting: &Setting, lengths: &[f64], loads: &[f64], seed: u64) -> Vec<Cell> {
    let cells: Vec<(f64, f64)> = lengths
        .iter()
        .flat_map(|lasts| loads.iter().map(move |load| (*lasts, *load)))
        .collect();
    let made = cells.into_par_iter().map(|(lasts, load)| {
        let loaded = Case {
            rate: case.rate * load,
            ..case.clone()
        };
        let seen = in_outage(&loaded, &OutageKind::single(lasts, 1.0), setting, seed);
        let never = never_drains(case, setting, load).filter(|_| seen.drained.is_none());
        Cell {
            lasts,
            load,
            seen,
            never,
        }
    });
    made.collect()
}

/// The longest of the outages at a load from which a setting recovers by itself: its backlog drains, and
/// no more of its messages than `dead_letters` end in the dead letters. All shorter ones are recovered
/// from as well.
pub fn recovers_from(cells: &[Cell], load: f64, dead_letters: f64) -> Option<f64> {
    let mut of_load: Vec<&Cell> = cells.iter().filter(|it| it.load == load).collect();
    of_load.sort_by(|a, b| a.lasts.total_cmp(&b.lasts));
    let recovers =
        |cell: &&&Cell| cell.seen.drained.is_some() && cell.seen.dead.mean <= dead_letters;
    let last = of_load.iter().take_while(recovers).last();
    last.map(|cell| cell.lasts)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::case::{Shape, Targets};
    use crate::latency::Latency;
    use crate::model::{Arrivals, Backoff, Draws, Outage, Queue, Scene, run};
    use redeliver_core::policy::Policy;

    fn case(rate: f64, mean: f64, takes: Dependency) -> Case {
        Case {
            rate,
            arrivals: Shape::Poisson,
            handler: Latency::exponential(mean).unwrap(),
            fails: 0.0,
            outages: Vec::new(),
            fails_after: Some(0.05),
            crashes_per_day: 0.0,
            deploys_per_day: 0.0,
            restart_after: 2.0,
            dependency: takes,
            hop: 0.0,
            calls: 1,
            targets: Targets {
                duplicates: 1.0,
                dead_letters: 1.0,
                recovery: 1e9,
                amplification: 1e9,
                quantile: 0.95,
                within: 1e9,
            },
        }
    }

    fn setting(workers: u16, limit: f64) -> Setting {
        let mut policy = Policy::default();
        policy.consumer.workers = workers;
        policy.consumer.prefetch = workers;
        policy.consumer.handler_limit = Duration::from_secs_f64(limit);
        policy.consumer.lease = Duration::from_secs_f64(2.0 * limit);
        policy.consumer_timeout = None;
        policy.retry.attempts = 1_000;
        policy.retry.cap = Duration::from_secs(20);
        policy.retry.total = Duration::from_secs(1_000_000);
        Setting {
            processes: 1,
            policy,
            queue: Queue::RabbitMq {
                tick: 60_000_000_000,
            },
            backoff: Backoff::Ladder,
            budget: None,
        }
    }

    /// Whether it drains in a run that is thirty times as long as its outage.
    fn drains(case: &Case, setting: &Setting, seed: u64) -> bool {
        let lasts = 60.0;
        let messages = (case.rate * lasts * 30.0) as u32;
        let calm = Scene::calm(Arrivals::Poisson(case.rate), messages, case.handler.clone());
        let scene = Scene {
            fails: case.fails,
            outages: vec![Outage {
                at: 100_000_000_000,
                lasts: 60_000_000_000,
                fails_after: Some(50_000_000),
            }],
            dependency: case.dependency,
            ..calm
        };
        let draws = Draws::new(&scene, seed);
        let outcome = run(&scene, setting, &draws, |so_far| {
            so_far.tries > 5 * u64::from(scene.messages)
        });
        outcome.drained.first().copied().flatten().is_some()
    }

    #[test]
    fn drains_or_never_is_what_a_long_run_shows() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut between = |low: f64, high: f64| {
            low + (high - low) * (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
        };
        let configurations: Vec<_> = (0..200)
            .map(|seed| {
                let rate = between(0.7, 3.0);
                let takes = match between(0.0, 1.0) < 0.8 {
                    true => Dependency::Rate(rate * between(0.8, 2.5)),
                    false => Dependency::Unlimited,
                };
                let workers = between(1.0, 40.0) as u16;
                let (mean, limit) = (between(0.1, 1.5), between(2.0, 12.0));
                (seed, case(rate, mean, takes), setting(workers, limit))
            })
            .collect();
        let looked: Vec<(bool, bool)> = configurations
            .par_iter()
            .map(|(seed, case, setting)| {
                let predicted = never_drains(case, setting, 1.0).is_none();
                (predicted, drains(case, setting, *seed))
            })
            .collect();
        let agree = looked
            .iter()
            .filter(|(predicted, seen)| predicted == seen)
            .count();
        let drain = looked.iter().filter(|(_, seen)| *seen).count();
        assert!(agree >= 190, "{agree} of 200; {drain} drain");
        assert!((40..160).contains(&drain), "{drain}");
    }

    #[test]
    fn the_longest_outage_that_is_recovered_from_is_named() {
        let case = case(5.0, 0.5, Dependency::Unlimited);
        let mut setting = setting(8, 10.0);
        setting.policy.retry.attempts = 9;
        // 1, 2, 4, … 20 s, the last wait and its jitter: some 100 s.
        let lengths = [20.0, 60.0, 300.0, 1_200.0];
        let cells = map(&case, &setting, &lengths, &[1.0], 1);
        assert_eq!(recovers_from(&cells, 1.0, 0.001), Some(60.0), "{cells:#?}");
        let overloaded = map(&case, &setting, &[60.0], &[4.0], 1);
        assert_eq!(overloaded[0].never, Some(Never::Workers));
        assert_eq!(recovers_from(&overloaded, 4.0, 0.001), None);
    }
}
