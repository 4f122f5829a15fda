//! Progress on standard error, and the names of seeds that hang or kill.
//!
//! A seed must be on record before it runs. Thousands run in a second, so a line for each would
//! be most of a CI log. Instead:
//!
//! - the first batch of each scenario is named, written and flushed before its first run (it is
//!   four runs for each job), and after that one in five seconds: whatever kills the process, the
//!   seed is in the last range shown or in the seconds after it, and `gate FILE --seed FIRST
//!   --jobs 1` finds it;
//! - a run that takes longer than ten seconds is named exactly while it runs;
//! - Ctrl-C and SIGTERM name the seeds in flight exactly.
//!
//! On a terminal each batch stands in the progress bar.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::out;
use super::pool::Sweep;

/// A run that takes longer is named.
const SLOW: Duration = Duration::from_secs(10);

/// Without a terminal no more is said of one scenario than once in so long.
const SILENCE: Duration = Duration::from_secs(5);

/// The runs in flight, by thread.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    scenario: Mutex<String>,
    runs: Mutex<BTreeMap<usize, Flight>>,
    over: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    seed: u64,
    since: Instant,
    named: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InFlight {
    /// The scenario and its seeds in flight, as a text.
    pub(super) fn describe(&self) -> String {
        let seeds: Vec<_> = lock(&self.runs)
            .values()
            .map(|run| run.seed.to_string())
            .collect();
        if seeds.is_empty() {
            return "nothing".to_owned();
        }
        format!("{} seed {}", lock(&self.scenario), seeds.join(", "))
    }

    fn name_slow_ones(&self) {
        let scenario = lock(&self.scenario).clone();
        for run in lock(&self.runs).values_mut() {
            if !run.named && run.since.elapsed() >= SLOW {
                run.named = true;
                let (seed, s) = (run.seed, SLOW.as_secs());
                out::complain(&format!(
                    "{scenario} seed {seed} has been running for {s} s"
                ));
            }
        }
    }
}

/// The progress bar of a gate, with the seeds that are running.
pub(super) struct Progress {
    bar: ProgressBar,
    in_flight: Arc<InFlight>,
    watchdog: Option<JoinHandle<()>>,
    /// The scenario of the last line, and when that was written.
    said: Mutex<(String, Option<Instant>)>,
}

/// A run in flight; it ends with this value.
pub(super) struct Running<'a> {
    progress: &'a Progress,
    thread: usize,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.progress.in_flight.runs).remove(&self.thread);
        self.progress.bar.inc(1);
    }
}

impl Progress {
    /// A bar over so many runs; without a length where time decides.
    pub(super) fn start(runs: Option<u64>) -> Self {
        let bar = match runs {
            Some(runs) => ProgressBar::new(runs),
            None => ProgressBar::new_spinner(),
        };
        let template = match runs {
            Some(_) => "[{bar:20}] {human_pos}/{human_len}  {wide_msg}  {eta} left",
            None => "{spinner} {human_pos}  {wide_msg}  {elapsed}",
        };
        // A wrong template is a mistake of ours that only looks bad.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        // Hidden by itself where standard error is no terminal.
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let in_flight = Arc::<InFlight>::default();
        let watched = in_flight.clone();
        let watch = move || {
            while !watched.over.load(Ordering::Relaxed) {
                watched.name_slow_ones();
                std::thread::park_timeout(Duration::from_secs(1));
            }
        };
        let watchdog = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(watch);
        Self {
            bar,
            in_flight,
            watchdog: watchdog.ok(),
            said: Mutex::default(),
        }
    }

    pub(super) fn in_flight(&self) -> Arc<InFlight> {
        self.in_flight.clone()
    }

    /// Names the seeds of a batch before its first run: so many of the sweep from run `done` on.
    pub(super) fn announce(&self, scenario: &str, sweep: Sweep, done: u64, size: u64) {
        scenario.clone_into(&mut lock(&self.in_flight.scenario));
        let (first, last) = (sweep.seed(done), sweep.seed(done + size - 1));
        let text = match (size, sweep.shard.of()) {
            (1, _) => format!("{scenario} seed {first}"),
            (_, 1) => format!("{scenario} seeds {first}..={last}"),
            (_, step) => format!("{scenario} seeds {first}..={last}, one in {step}"),
        };
        if self.bar.is_hidden() {
            let mut said = lock(&self.said);
            let other = said.0 != scenario;
            if other || said.1.is_none_or(|at| at.elapsed() >= SILENCE) {
                *said = (scenario.to_owned(), Some(Instant::now()));
                out::complain(&text);
            }
        } else {
            self.bar.set_message(text);
            self.bar.force_draw();
        }
    }

    /// Notes that a seed runs now, on this thread.
    pub(super) fn running(&self, thread: usize, seed: u64) -> Running<'_> {
        let flight = Flight {
            seed,
            since: Instant::now(),
            named: false,
        };
        lock(&self.in_flight.runs).insert(thread, flight);
        Running {
            progress: self,
            thread,
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.in_flight.over.store(true, Ordering::Relaxed);
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.thread().unpark();
            // It only prints; had it panicked, the verdict would be the same.
            let _ = watchdog.join();
        }
    }
}
