//! `redeliver explore`: one scenario, searched by strategies that place the faults themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde_json::json;

use super::out::{self, Out};
use super::{Context, ENVIRONMENT, Format, capsules, interrupt};
use redeliver_core::ports::env::nanos;
use redeliver_harness::explore::{
    Extent, Kept, Portfolio, Priority, Random, Strategy, Systematic, Target, Trial, keep,
};
use redeliver_harness::registry::Registered;
use redeliver_harness::run::{RunResult, halt};
use redeliver_harness::scenario::{Scenario, parse_duration};
use redeliver_harness::story;
use redeliver_harness::verdict::{Anomaly, Verdict};
use redeliver_harness::words::time;

/// Runs that are made before what they came to is looked at.
const BATCH: usize = 256;

/// Runs to make a violated one smaller.
const SHRINK_RUNS: u32 = 1_000;

/// Search one scenario by strategies: every single fault, pairs, slow processes, chance
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Strategies:
  random      the scenario's own faults, by seed, as in the gate
  systematic  without the scenario's faults: each kind of fault at every call that a process
              makes, one run each; then pairs
  priority    without the scenario's faults: slow processes, and few changes of who is slow
  portfolio   all of them in turn

Examples:
  redeliver explore scenarios/calm-day.toml
  redeliver explore scenarios/calm-day.toml --strategy systematic --pairs 20000
  redeliver explore scenarios/everything.toml --for 10m --capsules found/

Exit codes: 0 nothing found, 1 violated, 2 usage, 3 inconclusive, 4 environment.")]
pub(super) struct Args {
    /// The scenario file
    scenario: PathBuf,
    /// How to search
    #[arg(long, value_enum, default_value = "portfolio")]
    strategy: Which,
    /// The first seed: decimal, 0x-hex or a 40-digit commit hash [default: the scenario's, or 1]
    #[arg(long, value_name = "S", value_parser = redeliver_sim::seed::parse)]
    seed: Option<u64>,
    /// Runs by chance and by priority, each
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    runs: u64,
    /// Pairs of faults, systematically
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pairs: u64,
    /// Schedules in which single faults are placed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    schedules: u32,
    /// Requests, where faults are placed one by one
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Stop after so long
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Runs at the same time [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Keep the first run of each anomaly there, made small
    #[arg(long, value_name = "DIR")]
    capsules: Option<PathBuf>,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Which {
    /// The scenario's own faults, by seed.
    Random,
    /// Every fault at every call, then pairs.
    Systematic,
    /// Slow processes, and few changes of who is slow.
    Priority,
    /// All of them in turn.
    Portfolio,
}

impl Which {
    /// The strategies of this name.
    pub(super) fn of(
        self,
        scenario: &Scenario,
        first: u64,
        runs: u64,
        extent: Extent,
    ) -> Portfolio {
        let is = |which| self == which || self == Self::Portfolio;
        let mut all: Vec<Box<dyn Strategy + Send>> = Vec::new();
        if is(Self::Systematic) {
            all.push(Box::new(Systematic::new(scenario, first, extent)));
        }
        if is(Self::Priority) {
            let priority = Priority::new(scenario, first, extent.messages, runs);
            all.push(Box::new(priority));
        }
        if is(Self::Random) {
            all.push(Box::new(Random::new(scenario, first, runs)));
        }
        Portfolio::new(all)
    }
}

/// The first run of an anomaly.
struct Found {
    strategy: &'static str,
    target: Target,
    trial: Trial,
}

#[derive(Default)]
struct Search {
    runs: u64,
    violated: u64,
    messages: u64,
    found: Vec<Found>,
    inconclusive: Option<String>,
    /// Ended before the strategies had nothing left: by its time, or from outside.
    stopped: bool,
    /// From outside.
    interrupted: bool,
}

pub(super) fn explore(args: &Args, context: &Context) -> u8 {
    let (scenario, workload) = match context.load_to_simulate(&args.scenario) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let threads = usize::from(args.jobs.unwrap_or(0));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let Ok(pool) = pool else {
        out::complain("the threads cannot be started");
        return ENVIRONMENT;
    };
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::on_first(&stop, || {
        halt::request();
        out::complain("stopping; again to stop at once");
    });
    let began = Instant::now();
    let mut portfolio = portfolio(args, &scenario);
    let search = pool.install(|| search(args, &workload, &mut portfolio, &stop, began));
    let told = Told {
        args,
        context,
        scenario: &scenario,
        workload: &workload,
        wall: began.elapsed(),
    };
    told.tell(&portfolio, &search)
}

fn portfolio(args: &Args, scenario: &Scenario) -> Portfolio {
    let first = args.seed.or(scenario.seed).unwrap_or(1);
    let extent = Extent {
        messages: args.messages,
        bases: args.schedules,
        pairs: args.pairs,
    };
    args.strategy.of(scenario, first, args.runs, extent)
}

fn search(
    args: &Args,
    workload: &Registered,
    portfolio: &mut Portfolio,
    stop: &AtomicBool,
    began: Instant,
) -> Search {
    let mut search = Search::default();
    let mut said = Instant::now();
    loop {
        let over = args.duration.is_some_and(|most| began.elapsed() >= most);
        search.interrupted = stop.load(Ordering::Relaxed);
        search.stopped = over || search.interrupted;
        if search.stopped {
            return search;
        }
        let trials = portfolio.next(BATCH);
        if trials.is_empty() {
            return search;
        }
        let run = |trial: &Trial| (workload.simulate)(&trial.scenario, trial.seed, trial.recorded);
        let runs: Vec<RunResult> = trials.par_iter().map(run).collect();
        let whole = |(_, run): &(&Trial, &RunResult)| !run.halted;
        for (trial, run) in trials.iter().zip(&runs).filter(whole) {
            portfolio.learn(trial, run);
            search.note(portfolio.maker(trial), trial, run);
        }
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            let (runs, found) = (search.runs, search.found.len());
            out::complain(&format!("{runs} runs, {found} anomalies"));
        }
    }
}

impl Search {
    fn note(&mut self, strategy: &'static str, trial: &Trial, run: &RunResult) {
        self.runs += 1;
        self.messages += run.messages;
        if run.verdict == Verdict::Inconclusive && self.inconclusive.is_none() {
            let why = run.inconclusive.as_deref().unwrap_or_default();
            self.inconclusive = Some(format!("seed {}: {why}", run.seed));
        }
        // What the scenario is there to show is no find.
        let expected = |found: &&Anomaly| !trial.scenario.expect.anomalies.contains(&found.kind);
        let anomalies: Vec<_> = run.anomalies.iter().filter(expected).cloned().collect();
        let Some(anomaly) = story::chosen(&anomalies) else {
            return;
        };
        self.violated += 1;
        let target = Target::of(anomaly);
        if self.found.iter().all(|found| found.target != target) {
            self.found.push(Found {
                strategy,
                target,
                trial: trial.clone(),
            });
        }
    }

    fn verdict(&self) -> Verdict {
        match &self.inconclusive {
            _ if self.violated > 0 => Verdict::Violated,
            Some(_) => Verdict::Inconclusive,
            None if self.interrupted => Verdict::Inconclusive,
            None if self.messages == 0 => Verdict::Inconclusive,
            None => Verdict::Valid,
        }
    }
}

/// Everything that a report needs beside what was found.
struct Told<'a> {
    args: &'a Args,
    context: &'a Context,
    scenario: &'a Scenario,
    workload: &'a Registered,
    wall: Duration,
}

impl Told<'_> {
    fn tell(&self, portfolio: &Portfolio, search: &Search) -> u8 {
        let mut out = Out::default();
        let code = search.verdict().exit_code();
        // What was found before a signal is told, and not made small first.
        halt::clear();
        let shrink_runs = if search.interrupted { 0 } else { SHRINK_RUNS };
        for found in &search.found {
            // What was found outranks that it could not be kept.
            if let Err(why) = self.violation(found, shrink_runs, &mut out) {
                out::complain(&why);
            }
        }
        match self.args.format {
            Format::Json => out.line(&self.summary_line(portfolio, search)),
            Format::Human => out.text(&self.summary(portfolio, search)),
        }
        code
    }

    fn violation(&self, found: &Found, runs: u32, out: &mut Out) -> Result<(), String> {
        let trial = &found.trial;
        let run = (self.workload.simulate)(&trial.scenario, trial.seed, true);
        let seed = trial.seed;
        let Some(kept) = keep(&self.workload.simulate, &trial.scenario, run, runs) else {
            return Err(format!("seed {seed}: violated, and valid when run again"));
        };
        let written = self.args.capsules.as_ref();
        let written = written.map(|folder| self.write(folder, found, &kept));
        let path = written.as_ref().and_then(|written| written.as_ref().ok());
        match self.args.format {
            Format::Json => {
                out.line(&self.violation_line(found, &kept, path.map(PathBuf::as_path)))
            }
            Format::Human => {
                let replay = match path {
                    Some(path) => {
                        let program = story::quoted(&self.context.program);
                        let path = path.display().to_string();
                        format!("{program} replay {}", story::quoted(&path))
                    }
                    None => "(with --capsules DIR it is kept as a file that replays)".to_owned(),
                };
                out.line(&format!("found by strategy {}", found.strategy));
                out.text(&kept.story(&replay));
                out.line("");
            }
        }
        written.transpose().map(drop)
    }

    fn write(&self, folder: &Path, found: &Found, kept: &Kept) -> Result<PathBuf, String> {
        let Target { kind, checker } = found.target;
        let name = format!("{}-{kind}-{checker}", self.scenario.name);
        capsules::write(folder, &name, &kept.text)
    }

    fn violation_line(&self, found: &Found, kept: &Kept, path: Option<&Path>) -> String {
        json!({
            "type": "violation",
            "scenario": self.scenario.name,
            "strategy": found.strategy,
            "seed": found.trial.seed,
            "anomaly": found.target.kind,
            "checker": found.target.checker,
            "faults": kept.faults(),
            "messages": kept.messages(),
            "path": path.map(|path| path.display().to_string()),
            "capsule": kept.text,
        })
        .to_string()
    }

    fn summary_line(&self, portfolio: &Portfolio, search: &Search) -> String {
        json!({
            "type": "explored",
            "scenario": self.scenario.name,
            "verdict": search.verdict(),
            "runs": search.runs,
            "violated": search.violated,
            "anomalies": search.found.len(),
            "statements": portfolio.statements(),
            "because": search.inconclusive,
            "stopped": search.stopped,
            "wall_seconds": self.wall.as_secs_f64(),
        })
        .to_string()
    }

    fn summary(&self, portfolio: &Portfolio, search: &Search) -> String {
        let (name, verdict, runs) = (&self.scenario.name, search.verdict(), search.runs);
        let wall = time(nanos(self.wall));
        let mut text = format!("{name}: {verdict}, {runs} runs in {wall}\n");
        let mut lines = portfolio.statements();
        if search.stopped {
            lines.push("stopped before everything was tried".to_owned());
        }
        if let Some(why) = &search.inconclusive {
            lines.push(format!("inconclusive: {why}"));
        }
        for line in lines {
            text.push_str(&format!("  {line}\n"));
        }
        text
    }
}
