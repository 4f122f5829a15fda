//! `redeliver gate`: every scenario over many seeds, on all cores, with one verdict.

mod junit;
mod pool;
mod progress;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::pool::{Plan, Pool};
use self::progress::Progress;
use super::interrupt;
use super::out::{self, Out};
use super::{Context, ENVIRONMENT, Format, USAGE};
use crate::harness::report::{NOT_COVERED, Tally, json, story, table};
use crate::harness::run::Registered;
use crate::harness::scenario::{Scenario, discover, parse_duration};
use crate::harness::verdict::Verdict;

/// Stories told at most: one for each scenario, and no more than this.
const STORIES: usize = 5;

/// Run scenarios over many seeds, with a verdict
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run i of a scenario uses seed S + i. A commit hash stands for its first 12 digits.
Exit codes: 0 valid, 1 violated, 2 usage, 3 inconclusive, 4 environment.")]
pub(super) struct Args {
    /// Scenario files, or directories of them
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
    /// Seeds for each scenario, in place of what its file says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first seed: decimal, 0x-hex or a 40-digit commit hash [default: the scenario's, or 1]
    #[arg(long, value_name = "S", value_parser = crate::harness::seed::parse)]
    seed: Option<u64>,
    /// Run for so long, shared by all scenarios, in place of a number of seeds
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    #[arg(conflicts_with = "seeds")]
    duration: Option<Duration>,
    /// Runs at the same time [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Also write a JUnit report
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

pub(super) fn gate(args: &Args, context: &Context) -> u8 {
    let scenarios = match load(args, context) {
        Ok(scenarios) => scenarios,
        Err(code) => return code,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let progress = Progress::start(planned(args, &scenarios));
    on_interrupt(&stop, &progress);
    let pool = match Pool::new(args.jobs, stop.clone()) {
        Ok(pool) => pool,
        Err(why) => {
            out::complain(&why);
            return ENVIRONMENT;
        }
    };
    let (mut out, started) = (Out::default(), Instant::now());
    let (mut tallies, mut stories) = (Vec::new(), Vec::new());
    for (i, (scenario, workload)) in scenarios.iter().enumerate() {
        let plan = plan(args, scenario, started, scenarios.len() - i);
        let tally = pool.run(
            scenario,
            workload,
            first_seed(args, scenario),
            plan,
            &progress,
        );
        stories.push(tell(&tally, workload, &pool, context));
        if args.format == Format::Json {
            tell_machines(&tally, context, &mut out);
        }
        tallies.push(tally);
    }
    progress.finish();
    let wall = started.elapsed();
    let interrupted = stop.load(Ordering::Relaxed);
    let verdict = verdict(&tallies, interrupted);
    if args.format == Format::Json {
        out.line(&json::summary(&tallies, verdict, wall, interrupted));
    } else {
        let told: Vec<_> = stories.iter().flatten().collect();
        for story in told.iter().take(STORIES) {
            out.line(story);
        }
        if let Some(more @ 1..) = told.len().checked_sub(STORIES) {
            out.line(&format!("({more} more scenarios are violated)\n"));
        }
        out.text(&table::render(
            &tallies,
            verdict,
            wall,
            out::is_coloured(&std::io::stdout()),
        ));
        out.line(NOT_COVERED);
    }
    let written = args
        .junit
        .as_ref()
        .map(|path| junit::write(path, &tallies, &stories, wall));
    if let Some(Err(why)) = written {
        out::complain(&why);
        if verdict != Verdict::Violated {
            return ENVIRONMENT;
        }
    }
    verdict.exit_code()
}

/// All scenarios with their workloads; all that are wrong are told.
fn load(args: &Args, context: &Context) -> Result<Vec<(Scenario, Registered)>, u8> {
    let files = discover(&args.paths).map_err(|why| {
        out::complain(&why);
        USAGE
    })?;
    let loaded: Vec<_> = files.iter().map(|path| context.load(path)).collect();
    loaded.into_iter().collect()
}

/// Runs in all; none where time decides.
fn planned(args: &Args, scenarios: &[(Scenario, Registered)]) -> Option<u64> {
    let each = |scenario: &Scenario| args.seeds.unwrap_or(u64::from(scenario.seeds));
    let sum = scenarios.iter().map(|(scenario, _)| each(scenario)).sum();
    args.duration.is_none().then_some(sum)
}

fn first_seed(args: &Args, scenario: &Scenario) -> u64 {
    args.seed.or(scenario.seed).unwrap_or(1)
}

/// What a scenario gets; of the time that is left, its equal part.
fn plan(args: &Args, scenario: &Scenario, started: Instant, left: usize) -> Plan {
    match args.duration {
        None => Plan::Seeds(args.seeds.unwrap_or(u64::from(scenario.seeds))),
        Some(all) => {
            let rest = all.saturating_sub(started.elapsed());
            let part = rest / u32::try_from(left).unwrap_or(u32::MAX).max(1);
            Plan::Until(Instant::now() + part)
        }
    }
}

/// The verdict over all: violated outranks inconclusive, and an interrupted gate without a
/// violation is inconclusive.
fn verdict(tallies: &[Tally], interrupted: bool) -> Verdict {
    let least = if interrupted || tallies.is_empty() {
        Verdict::Inconclusive
    } else {
        Verdict::Valid
    };
    tallies
        .iter()
        .fold(least, |worst, tally| worst.and(tally.verdict().0))
}

/// The story of a scenario's first violated seed, run again with recording.
fn tell(tally: &Tally, workload: &Registered, pool: &Pool, context: &Context) -> Option<String> {
    if tally.verdict().0 != Verdict::Violated {
        return None;
    }
    let worst = tally
        .violations
        .iter()
        .find(|v| v.anomalies.iter().any(|a| !tally.is_expected(a.kind)))
        .or(tally.violations.first())?;
    let scenario = &tally.scenario;
    let run = pool.record(scenario, workload, worst.seed);
    let anomaly = story::chosen(&run.anomalies).or(worst.anomalies.first())?;
    let program = &context.program;
    let replay = story::replay_line(program, &scenario.path, worst.seed, anomaly, run.hash);
    let mut text = story::render(scenario, &run, &replay);
    if run.hash != worst.hash {
        text.push_str(
            "\n  This seed ran differently the second time: the run is not repeatable.\n",
        );
    }
    if tally.violated > 1 {
        let others = tally.violated - 1;
        text.push_str(&format!(
            "  {others} more seeds of this scenario are violated.\n"
        ));
    }
    Some(text)
}

fn tell_machines(tally: &Tally, context: &Context, out: &mut Out) {
    for violation in &tally.violations {
        for anomaly in &violation.anomalies {
            out.line(&json::violation(
                tally,
                violation,
                anomaly,
                &context.program,
            ));
        }
    }
    out.line(&json::scenario(tally));
}

/// Ctrl-C (or SIGTERM) ends the gate with what is known so far, and names the seeds in flight in
/// case one of them hangs.
fn on_interrupt(stop: &Arc<AtomicBool>, progress: &Progress) {
    let in_flight = progress.in_flight();
    let stopping = move || {
        out::complain(&format!(
            "stopping; in flight: {}; again to stop at once",
            in_flight.describe()
        ));
    };
    interrupt::on_first(stop, stopping);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_run_is_never_valid() {
        assert_eq!(verdict(&[], false), Verdict::Inconclusive);
        let tally = Tally::new(&Scenario::new("empty", "none"), 1);
        assert_eq!(verdict(&[tally], false), Verdict::Inconclusive);
    }
}
