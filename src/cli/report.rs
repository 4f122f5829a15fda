//! `redeliver report`: one run as a page, and as a trace for a viewer.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::out::{self, Out};
use super::{Context, ENVIRONMENT, Format, USAGE, interrupt};
use redeliver_harness::explore::{Explanation, commit, keep};
use redeliver_harness::registry::Registered;
use redeliver_harness::report::page::failure::{Failure, Small, render};
use redeliver_harness::report::{diagram, perfetto};
use redeliver_harness::run::RunResult;
use redeliver_harness::scenario::Scenario;
use redeliver_harness::story;

/// Runs to make a violated run small, and runs for each moment of its story.
pub(super) const EFFORT: Effort = Effort {
    runs: 2_000,
    draws: 20,
};

/// Show a run as a page for the browser, in one file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A violated run is also made small and explained. The page needs no network; Perfetto
(https://ui.perfetto.dev) and chrome://tracing read the other file.

Examples:
  redeliver report scenarios/everything.toml --seed 17
  redeliver report lost-order.toml --output lost-order.html --perfetto lost-order.json
  redeliver report before.toml --seed 3 --beside after.toml

Exit codes: those of the run: 1 violated, 0 valid, 3 inconclusive; 4 a file cannot be written.")]
pub(super) struct Args {
    /// The scenario file, or a capsule
    scenario: PathBuf,
    /// The seed: decimal, 0x-hex or a 40-digit commit hash [default: the scenario's]
    #[arg(long, value_name = "S", value_parser = redeliver_sim::seed::parse)]
    seed: Option<u64>,
    /// Where the page is written [default: SCENARIO-SEED.html]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write a trace for Perfetto or chrome://tracing
    #[arg(long, value_name = "FILE")]
    perfetto: Option<PathBuf>,
    /// Another scenario, run with the same seed and shown beside it: with the bug mended, say
    #[arg(long, value_name = "SCENARIO")]
    beside: Option<PathBuf>,
    /// How often the rest of the run is drawn anew at each moment; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = EFFORT.draws)]
    draws: u32,
    /// Give shrinking up after so many runs
    #[arg(long, value_name = "N", default_value_t = EFFORT.runs)]
    runs: u32,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// How much is done to explain a violated run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) runs: u32,
    pub(super) draws: u32,
}

pub(super) fn report(args: &Args, context: &Context) -> u8 {
    let (scenario, workload) = match context.load_to_simulate(&args.scenario) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let Some(seed) = args.seed.or(scenario.seed) else {
        out::complain("which run? Say --seed, as the violation does");
        return USAGE;
    };
    if let Err(why) = distinct(args) {
        out::complain(&why);
        return USAGE;
    }
    if let Err(why) = have_folders(args) {
        out::complain(&why);
        return ENVIRONMENT;
    }
    interrupt::end_at_once();
    let beside = match args
        .beside
        .as_ref()
        .map(|path| context.load_to_simulate(path))
    {
        Some(Err(code)) => return code,
        Some(Ok((other, workload))) => {
            let run = (workload.simulate)(&other, seed, true);
            Some((other.name, run))
        }
        None => None,
    };
    let run = (workload.simulate)(&scenario, seed, true);
    let effort = Effort {
        runs: args.runs,
        draws: args.draws,
    };
    let again = again(&context.program, &scenario, &run);
    let beside = beside.as_ref().map(|(title, run)| (title.as_str(), run));
    let text = page(&scenario, &workload, &run, &again, beside, effort);
    let named = format!("{}-{seed}.html", scenario.name);
    let path = args.output.clone().unwrap_or_else(|| named.into());
    let mut written = vec![(path, text)];
    if let Some(path) = &args.perfetto {
        let trace = perfetto::render(&diagram::build(&run));
        written.push((path.clone(), trace));
    }
    for (path, text) in &written {
        if let Err(why) = write(path, text) {
            out::complain(&why);
            return ENVIRONMENT;
        }
    }
    let files: Vec<_> = written.iter().map(|(path, _)| path.display()).collect();
    let mut out = Out::default();
    match args.format {
        Format::Human => files.iter().for_each(|file| out.line(&file.to_string())),
        Format::Json => {
            let files: Vec<_> = files.iter().map(ToString::to_string).collect();
            let anomaly = story::chosen(&run.anomalies).map(|anomaly| anomaly.kind);
            let line = json!({
                "type": "report", "scenario": scenario.name, "seed": seed, "files": files,
                "verdict": run.verdict, "anomaly": anomaly,
            });
            out.line(&line.to_string());
        }
    }
    out::complain(run.verdict.as_str());
    run.verdict.exit_code()
}

/// No file is written over another one that this command names.
fn distinct(args: &Args) -> Result<(), String> {
    let named = [&args.output, &args.perfetto].into_iter().flatten();
    let read = std::iter::once(&args.scenario).chain(&args.beside);
    let all: Vec<&PathBuf> = named.chain(read).collect();
    // The scenario may well stand beside itself.
    for (i, path) in all.iter().enumerate().take(2) {
        let written = [&args.output, &args.perfetto].contains(&&Some((*path).clone()));
        if written && all[i + 1..].contains(path) {
            return Err(format!("{} is named twice", path.display()));
        }
    }
    Ok(())
}

/// The folders of what is to be written are there: said now, and not after minutes of work.
fn have_folders(args: &Args) -> Result<(), String> {
    for path in [&args.output, &args.perfetto].into_iter().flatten() {
        let folder = path.parent().unwrap_or(Path::new(""));
        if !folder.as_os_str().is_empty() && !folder.is_dir() {
            let (path, folder) = (path.display(), folder.display());
            return Err(format!(
                "{path}: there is no folder {folder}; make it first"
            ));
        }
    }
    Ok(())
}

/// The line that replays a run.
pub(super) fn again(program: &str, scenario: &Scenario, run: &RunResult) -> String {
    match story::chosen(&run.anomalies) {
        Some(anomaly) => story::replay_line(program, &scenario.path, run.seed, anomaly, run.hash),
        None => format!(
            "{} replay {} --seed {}",
            story::quoted(program),
            story::quoted(&scenario.path.display().to_string()),
            run.seed
        ),
    }
}

/// The page of a recorded run.
pub(super) fn page(
    scenario: &Scenario,
    workload: &Registered,
    run: &RunResult,
    again: &str,
    beside: Option<(&str, &RunResult)>,
    effort: Effort,
) -> String {
    let kept = keep(&workload.simulate, scenario, run.clone(), effort.runs);
    let explained = kept.as_ref().map(|kept| {
        let small = (kept.shrunk(), kept.target());
        let why = Explanation::of(&workload.simulate, scenario, run, small, effort.draws);
        (kept, kept.summary(), why)
    });
    let small = explained.as_ref().map(|(kept, summary, why)| Small {
        run: &kept.shrunk().run,
        summary,
        capsule: &kept.text,
        why,
    });
    render(&Failure {
        scenario,
        run,
        judgement: &run.judgement(),
        real: None,
        again,
        small,
        beside,
        commit: &commit(),
    })
}

/// Writes a file, and says which where that fails.
pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|why| format!("{}: {why}", path.display()))
}
