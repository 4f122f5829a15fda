//! `redeliver gate`: every scenario over many seeds, on all cores, with one verdict.

mod canary;
mod ending;
mod github;
mod junit;
pub(super) mod merge;
mod pages;
mod pool;
mod progress;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::canary::Canaries;
use self::ending::Ending;
use self::pages::Pages;
use self::pool::{Plan, Pool, Sweep};
use self::progress::Progress;
use super::out::{self, Out};
use super::{Context, ENVIRONMENT, Format, USAGE, interrupt};
use redeliver_harness::explore::commit;
use redeliver_harness::registry::Registered;
use redeliver_harness::report::part::{Opening, Part};
use redeliver_harness::report::{Tally, Violation, json};
use redeliver_harness::run::halt;
use redeliver_harness::run::shard::Shard;
use redeliver_harness::scenario::{Day, Scenario, discover, parse_duration};
use redeliver_harness::story;
use redeliver_harness::verdict::{Anomaly, Judgement, Verdict};

/// Stories told at most: one for each scenario, and no more than this.
const STORIES: usize = 5;

/// Runs to make a violated seed smaller.
const SHRINK_RUNS: u32 = 1_000;

/// Run scenarios over many seeds, with a verdict
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run i of a scenario uses seed S + i. A commit hash stands for its first 12 digits.
Shard K of N runs each Nth of these, from the Kth on. Its verdict is about its own seeds; what a
scenario expects of all of them together is judged by `redeliver merge`.

Examples:
  redeliver gate
  redeliver gate scenarios/everything.toml --seeds 10000
  redeliver gate --for 10m --seed $GITHUB_SHA
  redeliver gate --shard 3/16 --format json > shard-3.ndjson

Exit codes: 0 valid, 1 violated, 2 usage, 3 inconclusive, 4 environment.")]
pub(super) struct Args {
    /// Scenario files, or directories of them
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
    /// Seeds for each scenario, in place of what its file says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first seed: decimal, 0x-hex or a 40-digit commit hash [default: the scenario's, or 1]
    #[arg(long, value_name = "S", value_parser = redeliver_sim::seed::parse)]
    seed: Option<u64>,
    /// Run for so long, shared by all scenarios, in place of a number of seeds
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    #[arg(conflicts_with = "seeds")]
    duration: Option<Duration>,
    /// Run one shard of the seeds, as 3/16: the third of sixteen; see `redeliver merge`
    #[arg(long, value_name = "K/N", env = "REDELIVER_SHARD", value_parser = Shard::parse)]
    shard: Option<Shard>,
    /// Runs at the same time [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// The day by which known failures are judged: YYYY-MM-DD [default: today, in UTC]
    #[arg(long, value_name = "DAY", value_parser = Day::parse)]
    today: Option<Day>,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Also show which fault has struck which stage of the pipeline how often
    #[arg(long)]
    reached: bool,
    /// Also write a JUnit report
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Keep the first violated seed of each scenario there, made small
    #[arg(long, value_name = "DIR")]
    capsules: Option<PathBuf>,
    /// Write pages for a browser there: index.html, and one for each violated scenario
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Annotations and a step summary for GitHub Actions
    #[arg(long, env = "GITHUB_ACTIONS", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    github: bool,
}

pub(super) fn gate(args: &Args, context: &Context) -> u8 {
    let scenarios = match load(args, context) {
        Ok(scenarios) => scenarios,
        Err(code) => return code,
    };
    if let Err(why) = refuse_large(args, &scenarios) {
        out::complain(&why);
        return USAGE;
    }
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
    if let Some(shard) = args.shard.filter(|_| args.format == Format::Json) {
        out.line(&json::shard(&opening(shard, scenarios.len())));
    }
    let (mut tallies, mut stories) = (Vec::new(), Vec::new());
    let mut pages = args.report.as_deref().map(Pages::into);
    for (i, (scenario, workload)) in scenarios.iter().enumerate() {
        let sweep = sweep(args, scenario);
        let plan = plan(args, scenario, started, scenarios.len() - i);
        let mut tally = pool.run(scenario, workload, sweep, plan, &progress);
        tally.excuse(args.today.unwrap_or_else(today));
        let told = tell(&tally, workload, &pool, context);
        if let Some(folder) = args.capsules.as_ref().filter(|_| told.is_some())
            && let Err(why) = keep(&tally, workload, folder, &stop)
        {
            out::complain(&why);
        }
        let page = pages.as_mut().and_then(|pages| {
            let worst = worst(&tally).filter(|_| told.is_some());
            pages.add(&tally, worst, workload, (context, &stop))
        });
        if args.format == Format::Json {
            tell_machines(&tally, context, &mut out);
            if args.shard.is_some() {
                let planned = args.duration.is_none() || scenario.capsule.is_some();
                let mut part = Part::of(&tally, planned.then(|| seeds(args, scenario)));
                part.story.clone_from(&told);
                part.page = page;
                out.line(&json::part(&tally, &part));
            }
        }
        stories.push(told.map(|told| with_others(told, &tally)));
        tallies.push(tally);
    }
    progress.finish();
    let interrupted = stop.load(Ordering::Relaxed);
    let canaries = Canaries::sing(&stop);
    let judgement = judge(&tallies, &interruption(interrupted), &canaries);
    let ending = Ending {
        judgement: &judgement,
        tallies: &tallies,
        stories: &stories,
        canaries: &canaries,
        wall: started.elapsed(),
        interrupted,
        program: &context.program,
    };
    ending.tell(args.format, args.reached, &mut out);
    let shown = pages.map(|pages| pages.finish(&ending));
    ending.write(args.junit.as_deref(), shown, args.github)
}

/// What a shard says of itself before all else.
fn opening(shard: Shard, scenarios: usize) -> Opening {
    Opening {
        shard: shard.number(),
        of: shard.of(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: commit(),
        scenarios,
    }
}

fn sweep(args: &Args, scenario: &Scenario) -> Sweep {
    Sweep {
        first: first_seed(args, scenario),
        shard: args.shard.unwrap_or_default(),
    }
}

fn refuse_large(args: &Args, scenarios: &[(Scenario, Registered)]) -> Result<(), String> {
    for (scenario, _) in scenarios {
        let first = first_seed(args, scenario);
        if !fits(args, scenario, first) {
            return Err(format!(
                "{}: seeds from {first} on go beyond 2^53, where readers of JSON that know only \
                 doubles take one for another; start lower",
                scenario.name
            ));
        }
    }
    Ok(())
}

/// All scenarios with their workloads; all that are wrong are told.
fn load(args: &Args, context: &Context) -> Result<Vec<(Scenario, Registered)>, u8> {
    let files = discover(&args.paths).map_err(|why| {
        out::complain(&why);
        USAGE
    })?;
    let loaded: Vec<_> = files
        .iter()
        .map(|path| context.load_to_simulate(path))
        .collect();
    loaded.into_iter().collect()
}

/// Runs in all; none where time decides.
fn planned(args: &Args, scenarios: &[(Scenario, Registered)]) -> Option<u64> {
    let shard = args.shard.unwrap_or_default();
    let each = scenarios.iter();
    let each = each.map(|(scenario, _)| shard.runs(seeds(args, scenario)));
    let sum = each.sum();
    args.duration.is_none().then_some(sum)
}

fn today() -> Day {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs());
    Day::of_seconds(seconds).expect("a day that can be told")
}

/// A capsule is one run: flags that choose seeds are for the others.
fn first_seed(args: &Args, scenario: &Scenario) -> u64 {
    let asked = args.seed.filter(|_| scenario.capsule.is_none());
    asked.or(scenario.seed).unwrap_or(1)
}

/// Whether all seeds of a scenario stay below 2^53. A capsule's is taken as it is.
fn fits(args: &Args, scenario: &Scenario, first: u64) -> bool {
    let last = first.saturating_add(seeds(args, scenario).saturating_sub(1));
    scenario.capsule.is_some() || last < 1 << 53
}

fn seeds(args: &Args, scenario: &Scenario) -> u64 {
    let asked = args.seeds.filter(|_| scenario.capsule.is_none());
    asked.unwrap_or(u64::from(scenario.seeds))
}

/// What a scenario gets; of the time that is left, its equal part.
fn plan(args: &Args, scenario: &Scenario, started: Instant, left: usize) -> Plan {
    match args.duration {
        _ if scenario.capsule.is_some() => Plan::Seeds(1),
        None => Plan::Seeds(seeds(args, scenario)),
        Some(all) => {
            let rest = all.saturating_sub(started.elapsed());
            let part = rest / u32::try_from(left).unwrap_or(u32::MAX).max(1);
            Plan::Until(Instant::now() + part)
        }
    }
}

/// What is said of all: violated outranks inconclusive, and a gate that is not whole (it was
/// interrupted, or shards are missing) is inconclusive without a violation, as is one whose checkers
/// are not awake. A shard says nothing of scenarios that it has no seeds of.
fn judge(tallies: &[Tally], gaps: &[String], canaries: &Canaries) -> Judgement {
    let mut run = tallies
        .iter()
        .filter(|tally| !tally.is_empty_part())
        .peekable();
    let mut whole = Judgement::plain(Verdict::Valid);
    if run.peek().is_none() {
        whole = whole.and_doubt("nothing was run");
    }
    if !canaries.is_awake() {
        whole = whole.and_doubt(canaries.describe());
    }
    for gap in gaps {
        whole = whole.and_doubt(gap);
    }
    whole.verdict = run.fold(whole.verdict, |worst, tally| worst.and(tally.verdict()));
    whole
}

/// Why a gate is not whole, where it was ended early.
fn interruption(interrupted: bool) -> Vec<String> {
    let why = interrupted.then(|| "it was stopped before all was run".to_owned());
    why.into_iter().collect()
}

/// The first seed that is violated as it was not expected, or else the first.
fn worst(tally: &Tally) -> Option<&Violation> {
    let unexpected = |a: &Anomaly| !tally.is_expected(a.kind);
    let mut all = tally.violations.iter();
    let found = all.find(|violation| violation.anomalies.iter().any(unexpected));
    found.or(tally.violations.first())
}

/// The story of a scenario's first violated seed, run again with recording.
fn tell(tally: &Tally, workload: &Registered, pool: &Pool, context: &Context) -> Option<String> {
    if tally.verdict() != Verdict::Violated {
        return None;
    }
    let worst = worst(tally)?;
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
    Some(text)
}

/// A story, with how many others there would be.
fn with_others(mut story: String, tally: &Tally) -> String {
    match tally.violated.saturating_sub(1) {
        0 => {}
        1 => story.push_str("  1 more seed of this scenario is violated.\n"),
        n => story.push_str(&format!(
            "  {n} more seeds of this scenario are violated.\n"
        )),
    }
    story
}

/// Runs that may be spent on making a failure small: none once the gate was stopped.
fn shrink_runs(stop: &AtomicBool) -> u32 {
    match stop.load(Ordering::Relaxed) {
        true => 0,
        false => SHRINK_RUNS,
    }
}

/// The violated run of a story as a capsule in this folder.
fn keep(
    tally: &Tally,
    workload: &Registered,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<(), String> {
    let Some(worst) = worst(tally) else {
        return Ok(());
    };
    let simulate = &workload.simulate;
    let kept = |runs| {
        let run = simulate(&tally.scenario, worst.seed, true);
        redeliver_harness::explore::keep(simulate, &tally.scenario, run, runs)
    };
    let mut found = kept(shrink_runs(stop));
    if found.is_none() && halt::is_requested() {
        halt::clear();
        found = kept(shrink_runs(stop));
    }
    let Some(kept) = found else {
        return Ok(());
    };
    let name = format!("{}-{}", tally.scenario.name, worst.seed);
    let path = crate::cli::capsules::write(folder, &name, &kept.text)?;
    out::complain(&format!("kept as {}", path.display()));
    Ok(())
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
        halt::request();
        out::complain(&format!(
            "stopping; in flight: {}; again to stop at once",
            in_flight.describe()
        ));
    };
    interrupt::on_first(stop, stopping);
}

#[cfg(test)]
mod verdict_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_run_is_never_valid() {
        let awake = Canaries {
            all: 0,
            silent: Vec::new(),
            stopped: false,
        };
        let judged = |tallies: &[Tally]| judge(tallies, &[], &awake).verdict;
        assert_eq!(judged(&[]), Verdict::Inconclusive);
        let mut tally = Tally::new(&Scenario::new("empty", "none"), 1);
        assert_eq!(judged(std::slice::from_ref(&tally)), Verdict::Inconclusive);
        tally.is_part = true;
        assert_eq!(judged(std::slice::from_ref(&tally)), Verdict::Inconclusive);
        assert_eq!(
            tally.judgement().why().as_deref(),
            Some("no seeds of this scenario in this shard")
        );
    }
}
