//! Runs on several threads, with results in the order of their seeds whatever their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::progress::Progress;
use redeliver_harness::explore::{Unrepeatable, is_same, repeat};
use redeliver_harness::registry::Registered;
use redeliver_harness::report::Tally;
use redeliver_harness::run::shard::Shard;
use redeliver_harness::run::{RunResult, halt};
use redeliver_harness::scenario::Scenario;

/// How long a batch should take: short enough that the seeds it names are few, long enough that
/// waiting for its last run costs little.
const BATCH: Duration = Duration::from_millis(500);
const LARGEST: u64 = 4_096;

/// How much of a scenario is run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    /// So many seeds.
    Seeds(u64),
    /// As many as can be; one at least.
    Until(Instant),
}

/// Of so many seeds in a row one is run twice, the first of all among them.
const SAMPLE: u64 = 64;

/// Which of them: another one in each row, so that no shard has them all.
const fn is_sampled(index: u64) -> bool {
    index % SAMPLE == (index / SAMPLE * 37) % SAMPLE
}

/// Which seeds are run: those of a shard of a sweep from `first` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    pub(super) first: u64,
    pub(super) shard: Shard,
}

impl Sweep {
    /// The seed of the shard's run `i`.
    pub(super) fn seed(self, i: u64) -> u64 {
        self.first.wrapping_add(self.shard.index(i))
    }
}

/// A run, and where it was made twice, how the second differs.
type Made = (RunResult, Option<Option<Unrepeatable>>);

pub(super) struct Pool {
    threads: rayon::ThreadPool,
    jobs: u64,
    stop: Arc<AtomicBool>,
}

impl Pool {
    /// Its own threads, so that `--jobs` holds whatever else uses rayon.
    pub(super) fn new(jobs: Option<u16>, stop: Arc<AtomicBool>) -> Result<Self, String> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = jobs.map_or_else(cores, usize::from);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(jobs)
            .thread_name(|i| format!("run-{i}"))
            .build()
            .map_err(|error| format!("{jobs} threads cannot be started: {error}"))?;
        let jobs = jobs as u64;
        Ok(Self {
            threads,
            jobs,
            stop,
        })
    }

    /// Runs a scenario: of the plan, the part of this shard.
    pub(super) fn run(
        &self,
        scenario: &Scenario,
        workload: &Registered,
        sweep: Sweep,
        plan: Plan,
        progress: &Progress,
    ) -> Tally {
        let mut tally = Tally::new(scenario, sweep.first);
        tally.is_part = sweep.shard != Shard::WHOLE;
        let started = Instant::now();
        let (mut done, mut size) = (0u64, self.jobs * 4);
        loop {
            let size_now = match plan {
                Plan::Seeds(all) => size.min(sweep.shard.runs(all) - done),
                Plan::Until(end) if done > 0 && Instant::now() >= end => 0,
                Plan::Until(_) => size,
            };
            if size_now == 0 {
                break;
            }
            if self.stop.load(Ordering::Relaxed) {
                tally.interrupted = true;
                break;
            }
            let began = Instant::now();
            progress.announce(&scenario.name, sweep, done, size_now);
            let runs = self.batch(scenario, workload, sweep, (done, size_now), progress);
            tally.merge(added(scenario, sweep.first, runs));
            if tally.interrupted {
                break;
            }
            done += size_now;
            size = next_size(size, began.elapsed()).max(self.jobs);
        }
        tally.wall = started.elapsed();
        tally
    }

    fn batch(
        &self,
        scenario: &Scenario,
        workload: &Registered,
        sweep: Sweep,
        (done, size): (u64, u64),
        progress: &Progress,
    ) -> Vec<Option<Made>> {
        let one = |i: u64| {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let seed = sweep.seed(done + i);
            let _running = progress.running(rayon::current_thread_index().unwrap_or(0), seed);
            let run = (workload.simulate)(scenario, seed, false);
            if run.halted {
                return None;
            }
            let sampled = is_sampled(sweep.shard.index(done + i));
            let again = sampled.then(|| self.again(scenario, workload, &run));
            Some((run, again))
        };
        self.threads
            .install(|| (0..size).into_par_iter().map(one).collect())
    }

    /// Makes a run once more; gives where the two part.
    fn again(
        &self,
        scenario: &Scenario,
        workload: &Registered,
        run: &RunResult,
    ) -> Option<Unrepeatable> {
        let (simulate, seed) = (&workload.simulate, run.seed);
        let second = simulate(scenario, seed, false);
        if second.halted || is_same(run, &second) {
            return None;
        }
        let found = repeat(simulate, scenario, seed);
        // By chance the next two may be the same.
        Some(found.unwrap_or(Unrepeatable {
            seed,
            parted: None,
            before: None,
            noticed: None,
        }))
    }

    /// Runs one seed with its trace. A signal does not keep what was found from being told.
    pub(super) fn record(
        &self,
        scenario: &Scenario,
        workload: &Registered,
        seed: u64,
    ) -> RunResult {
        let one = || {
            self.threads
                .install(|| (workload.simulate)(scenario, seed, true))
        };
        let run = one();
        if !run.halted {
            return run;
        }
        halt::clear();
        one()
    }
}

/// The runs of a batch, added up.
fn added(scenario: &Scenario, first: u64, runs: Vec<Option<Made>>) -> Tally {
    let mut tally = Tally::new(scenario, first);
    for made in runs {
        let Some((run, again)) = made else {
            tally.interrupted = true;
            continue;
        };
        tally.repeated += u64::from(again.is_some());
        if let Some(Some(found)) = again {
            tally.differs((run.seed, found.to_string()));
        }
        tally.add(run);
    }
    tally
}

fn next_size(size: u64, took: Duration) -> u64 {
    if took < BATCH / 2 {
        (size * 2).min(LARGEST)
    } else if took > BATCH * 2 {
        size / 2
    } else {
        size
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
