//! Runs on several threads, with results in the order of their seeds whatever their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::progress::Progress;
use crate::harness::report::Tally;
use crate::harness::run::{Registered, RunResult};
use crate::harness::scenario::Scenario;

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

    /// Runs a scenario. Run i uses seed `first + i`.
    pub(super) fn run(
        &self,
        scenario: &Scenario,
        workload: &Registered,
        first: u64,
        plan: Plan,
        progress: &Progress,
    ) -> Tally {
        let mut tally = Tally::new(scenario, first);
        let started = Instant::now();
        let (mut done, mut size) = (0u64, self.jobs * 4);
        loop {
            let size_now = match plan {
                Plan::Seeds(all) => size.min(all - done),
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
            progress.announce(&scenario.name, first.wrapping_add(done), size_now);
            let runs = self.batch(
                scenario,
                workload,
                first.wrapping_add(done),
                size_now,
                progress,
            );
            for run in runs {
                match run {
                    Some(run) => tally.add(run),
                    None => tally.interrupted = true,
                }
            }
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
        first: u64,
        size: u64,
        progress: &Progress,
    ) -> Vec<Option<RunResult>> {
        let one = |i: u64| {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let seed = first.wrapping_add(i);
            let _running = progress.running(rayon::current_thread_index().unwrap_or(0), seed);
            Some((workload.simulate)(scenario, seed, false))
        };
        self.threads
            .install(|| (0..size).into_par_iter().map(one).collect())
    }

    /// Runs one seed with its trace.
    pub(super) fn record(
        &self,
        scenario: &Scenario,
        workload: &Registered,
        seed: u64,
    ) -> RunResult {
        self.threads
            .install(|| (workload.simulate)(scenario, seed, true))
    }
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
