//! `redeliver planted`: are the checkers awake? Each planted bug is looked for, caught and made
//! small.

mod on;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde_json::json;

use super::explore::Which;
use super::out::{self, Out};
use super::{Context, ENVIRONMENT, Format, USAGE, interrupt};
use redeliver_core::ports::env::nanos;
use redeliver_harness::explore::{Extent, Shrunk, Target, hunt, pin, shrink};
use redeliver_harness::run::halt;
use redeliver_harness::verdict::Verdict;
use redeliver_harness::words::time;
use redeliver_planted::{self as planted, Plant};

/// Runs to make a caught bug smaller.
const SHRINK_RUNS: u32 = 1_500;

/// Seeds for each bug.
const SEEDS: u64 = 1_000;

/// Look for bugs that were planted on purpose, and say how soon each is caught
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  redeliver planted                       all of them
  redeliver planted no-dedup no-fence     these two
  redeliver planted --format json         one object a line, for machines
  redeliver planted --on mine.toml        which of them would my scenario notice?

With --on each bug is planted into the pipeline of the scenario's own workload. It is looked for
under the scenario as it is, and where that does not notice it, under the few faults that the bug
is known to need, aimed at this workload's consumers. What the shipped pipeline shows on the same
seed does not count.

Exit codes: 0 all caught, 1 one was not. With --on: 0 each was caught in one way or the other, or
is named as one that this workload cannot show; 1 one was not; 3 of one nothing can be said, since
the shipped pipeline shows the same; 2 usage.")]
pub(super) struct Args {
    /// Only these, by name
    names: Vec<String>,
    /// On the workload of this scenario, not on the one that each was written for
    #[arg(long, value_name = "SCENARIO")]
    on: Option<PathBuf>,
    /// Give a bug up after so many seeds [default: 1000; with --on 200, each way]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// How to look for them
    #[arg(long, value_enum, default_value = "random", conflicts_with = "on")]
    strategy: Which,
    /// Give shrinking up after so many runs [default: 1500; with --on 300]
    #[arg(long, value_name = "N")]
    shrink_runs: Option<u32>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    jobs: Option<u16>,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// How long nothing is said.
const SILENCE: Duration = Duration::from_secs(10);

/// What became of one planted bug.
struct Found {
    plant: &'static Plant,
    /// Runs until it was caught, or that did not catch it.
    seeds: u64,
    took: Duration,
    caught: Option<Caught>,
}

struct Caught {
    target: Target,
    shrunk: Shrunk,
    took: Duration,
}

pub(super) fn planted(args: &Args, context: &Context) -> u8 {
    let plants = match chosen(&args.names) {
        Ok(plants) => plants,
        Err(why) => {
            out::complain(&why);
            return USAGE;
        }
    };
    let threads = usize::from(args.jobs.unwrap_or(0));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let Ok(pool) = pool else {
        out::complain("the threads cannot be started");
        return ENVIRONMENT;
    };
    let watch = Watch::over(plants.len());
    if let Some(path) = &args.on {
        return pool.install(|| on::planted(path, plants, args, context, &watch));
    }
    let found: Vec<Found> = pool.install(|| {
        let all = plants.into_par_iter();
        all.filter_map(|plant| watch.one(|| look_for(plant, args)))
            .collect()
    });
    let mut out = Out::default();
    match args.format {
        Format::Json => found.iter().for_each(|found| out.line(&line(found))),
        Format::Human => out.text(&table(&found)),
    }
    let verdict = match found.iter().all(|found| found.caught.is_some()) {
        true => Verdict::Valid,
        false => Verdict::Violated,
    };
    verdict.and(watch.verdict()).exit_code()
}

/// How far the search is, and whether it was told to stop.
struct Watch {
    all: usize,
    done: AtomicUsize,
    said: Mutex<Instant>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn over(all: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        interrupt::on_first(&stop, || {
            halt::request();
            out::complain("stopping; again to stop at once");
        });
        Self {
            all,
            done: AtomicUsize::new(0),
            said: Mutex::new(Instant::now()),
            stop,
        }
    }

    /// Looks for one more, unless told to stop.
    fn one<T>(&self, look: impl FnOnce() -> T) -> Option<T> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let found = look();
        if self.stop.load(Ordering::Relaxed) {
            // Runs were halted: nothing was looked for to the end.
            return None;
        }
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if done < self.all
            && std::io::stderr().is_terminal()
            && let Ok(mut said) = self.said.lock()
            && said.elapsed() > SILENCE
        {
            *said = Instant::now();
            out::complain(&format!("{done} of {}", self.all));
        }
        Some(found)
    }

    /// Of what was not looked for nothing can be said.
    fn verdict(&self) -> Verdict {
        let done = self.done.load(Ordering::Relaxed);
        if done == self.all {
            return Verdict::Valid;
        }
        out::complain(&format!("stopped: {done} of {} were looked for", self.all));
        Verdict::Inconclusive
    }
}

/// The planted bugs of these names, or all.
fn chosen(names: &[String]) -> Result<Vec<&'static Plant>, String> {
    if names.is_empty() {
        return Ok(planted::ALL.iter().collect());
    }
    let find = |name: &String| {
        let found = planted::ALL.iter().find(|plant| plant.name == name);
        found.ok_or_else(|| {
            let near = planted::ALL.iter().map(|plant| plant.name);
            let near = near.max_by_key(|known| (strsim::jaro(known, name) * 1e6) as u64);
            let near = near.unwrap_or_default();
            format!("there is no planted bug `{name}`; did you mean `{near}`?")
        })
    };
    names.iter().map(find).collect()
}

fn look_for(plant: &'static Plant, args: &Args) -> Found {
    let (scenario, began) = ((plant.scenario)(), Instant::now());
    let shows = |run: &_| plant.is_shown_by(run);
    let seeds = args.seeds.unwrap_or(SEEDS);
    let extent = Extent {
        messages: scenario.messages.min(3),
        bases: 3,
        pairs: seeds,
    };
    let mut strategy = args.strategy.of(&scenario, 0, seeds, extent);
    let hunted = hunt(&plant.planted, &mut strategy, seeds, shows);
    let took = began.elapsed();
    let missed = |seeds| Found {
        plant,
        seeds,
        took,
        caught: None,
    };
    let (seeds, trial, run) = match hunted {
        Ok(found) => found,
        Err(seeds) => return missed(seeds),
    };
    // Recorded, it is the same run.
    let Some(target) = plant.target(&run) else {
        return missed(seeds);
    };
    let began = Instant::now();
    let pinned = pin(&trial.scenario, &run);
    let shrunk = shrink(
        &plant.planted,
        pinned,
        run,
        target,
        args.shrink_runs.unwrap_or(SHRINK_RUNS),
    );
    let caught = Caught {
        target,
        shrunk,
        took: began.elapsed(),
    };
    Found {
        plant,
        seeds,
        took,
        caught: Some(caught),
    }
}

fn line(found: &Found) -> String {
    let Found { plant, caught, .. } = found;
    let some = caught.as_ref();
    json!({
        "type": "planted",
        "name": plant.name,
        "class": plant.class,
        "report": plant.report,
        "change": plant.change,
        "expected": plant.anomalies,
        "caught": some.is_some(),
        "anomaly": some.map(|caught| caught.target.kind),
        "checker": some.map(|caught| caught.target.checker),
        "seeds": found.seeds,
        "seconds": found.took.as_secs_f64(),
        "seed": some.map(|caught| caught.shrunk.run.seed),
        "faults": some.map(|caught| caught.shrunk.faults()),
        "messages": some.map(|caught| caught.shrunk.messages()),
        "shrink_seconds": some.map(|caught| caught.took.as_secs_f64()),
        "shrink_runs": some.map(|caught| caught.shrunk.runs),
    })
    .to_string()
}

fn table(found: &[Found]) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "{:<28}{:<22}{:>6}{:>8}{:>7}{:>9}{:>8}\n",
        "planted bug", "caught by", "seeds", "within", "faults", "messages", "shrunk"
    );
    for Found {
        plant,
        seeds,
        took,
        caught,
    } in found
    {
        let (name, within) = (plant.name, time(nanos(*took)));
        let _ = match caught {
            Some(caught) => writeln!(
                text,
                "{name:<28}{:<22}{seeds:>6}{within:>8}{:>7}{:>9}{:>8}",
                caught.target.checker,
                caught.shrunk.faults(),
                caught.shrunk.messages(),
                time(nanos(caught.took)),
            ),
            None => writeln!(text, "{name:<28}{:<22}{seeds:>6}{within:>8}", "NOT CAUGHT"),
        };
        let _ = writeln!(text, "    {} ({})", plant.class, plant.report);
    }
    let caught = found.iter().filter(|found| found.caught.is_some()).count();
    let _ = writeln!(text, "{caught} of {} caught", found.len());
    text
}
