//! `redeliver doctor determinism`: does the seed decide each run, and nothing else?

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde_json::json;

use crate::cli::out::{self, Out};
use crate::cli::{Context, Format, USAGE, interrupt};
use redeliver_harness::explore::{CAUSES, Unrepeatable, repeat};
use redeliver_harness::registry::Registered;
use redeliver_harness::run::halt;
use redeliver_harness::scenario::{Scenario, discover};
use redeliver_harness::verdict::Verdict;

/// Run each seed twice, with everything kept, and name the first step in which the two differ
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The gate does the same with one seed in 64.

Exit codes: 0 every seed decides its run, 1 one does not, 2 usage, 3 inconclusive.")]
pub(super) struct Determinism {
    /// Scenario files, or directories of them
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
    /// Seeds for each scenario
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed: decimal, 0x-hex or a 40-digit commit hash [default: the scenario's, or 1]
    #[arg(long, value_name = "S", value_parser = redeliver_sim::seed::parse)]
    seed: Option<u64>,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub(super) fn determinism(args: &Determinism, context: &Context) -> u8 {
    let files = match discover(&args.paths) {
        Ok(files) => files,
        Err(why) => {
            out::complain(&why);
            return USAGE;
        }
    };
    let loaded: Result<Vec<_>, u8> = files
        .iter()
        .map(|path| context.load_to_simulate(path))
        .collect();
    let scenarios = match loaded {
        Ok(scenarios) => scenarios,
        Err(code) => return code,
    };
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::on_first(&stop, || {
        halt::request();
        out::complain("stopping; again to stop at once");
    });
    let (mut out, mut verdict) = (Out::default(), Verdict::Valid);
    for (scenario, workload) in &scenarios {
        let (seeds, found) = examine(args, scenario, workload, &stop);
        verdict = verdict.and(match (&found, seeds < args.seeds) {
            (Some(_), _) => Verdict::Violated,
            (None, true) => Verdict::Inconclusive,
            (None, false) => Verdict::Valid,
        });
        match args.format {
            Format::Json => out.line(&line(scenario, (seeds, args.seeds), found.as_ref())),
            Format::Human => match found {
                None => out.line(&format!(
                    "{}: {seeds} seeds, each twice the same{}",
                    scenario.name,
                    match seeds < args.seeds {
                        true => format!("; stopped, {} were asked for", args.seeds),
                        false => String::new(),
                    }
                )),
                Some(found) => out.line(&format!("{}: {found}\n  {CAUSES}", scenario.name)),
            },
        }
    }
    if scenarios.is_empty() {
        return Verdict::Inconclusive.exit_code();
    }
    verdict.exit_code()
}

/// How many seeds were examined, and the first that does not decide its run.
fn examine(
    args: &Determinism,
    scenario: &Scenario,
    workload: &Registered,
    stop: &AtomicBool,
) -> (u64, Option<Unrepeatable>) {
    let first = args.seed.or(scenario.seed).unwrap_or(1);
    let one = |i: u64| {
        let stopped = || stop.load(Ordering::Relaxed);
        if stopped() {
            return None;
        }
        let found = repeat(&workload.simulate, scenario, first.wrapping_add(i));
        // A run that was halted differs from one that was not.
        (!stopped()).then_some(found)
    };
    let examined: Vec<_> = (0..args.seeds).into_par_iter().map(one).collect();
    let seeds = examined.iter().flatten().count() as u64;
    (seeds, examined.into_iter().flatten().flatten().next())
}

fn line(scenario: &Scenario, (seeds, asked): (u64, u64), found: Option<&Unrepeatable>) -> String {
    let parted = found.and_then(|found| found.parted.as_ref());
    json!({
        "type": "determinism",
        "scenario": scenario.name,
        "seeds": seeds,
        "interrupted": found.is_none() && seeds < asked,
        "same": found.is_none(),
        "seed": found.map(|found| found.seed),
        "line": parted.map(|parted| parted.line),
        "one": parted.and_then(|parted| parted.kept.as_deref()),
        "other": parted.and_then(|parted| parted.now.as_deref()),
        "noticed": found.and_then(|found| found.noticed.as_deref()),
    })
    .to_string()
}
