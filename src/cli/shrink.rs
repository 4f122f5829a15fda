//! `redeliver shrink`: a failing run with everything taken away that it does not need, as a
//! capsule.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::json;

use super::out::{self, Out};
use super::{Context, ENVIRONMENT, Format, USAGE, interrupt};
use redeliver_harness::explore::{Kept, keep};
use redeliver_harness::run::halt;
use redeliver_harness::story;
use redeliver_harness::verdict::Verdict;

/// Make a failing run small and keep it as a capsule
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A capsule is a scenario file for one run, with its faults named call by call.
`redeliver replay FILE` runs it again; in scenarios/regressions/ the gate does.

Examples:
  redeliver shrink scenarios/everything.toml --seed 17
  redeliver shrink scenarios/everything.toml --seed 17 --output lost-order.toml

Exit codes: 1 the run is violated and was made small, 0 it is valid, 3 inconclusive.")]
pub(super) struct Args {
    /// The scenario file, or a capsule to make smaller still
    scenario: PathBuf,
    /// The seed: decimal, 0x-hex or a 40-digit commit hash [default: the scenario's]
    #[arg(long, value_name = "S", value_parser = redeliver_sim::seed::parse)]
    seed: Option<u64>,
    /// Where the capsule is written [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Give up after so many runs
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    runs: u32,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub(super) fn run(args: &Args, context: &Context) -> u8 {
    let (scenario, workload) = match context.load_to_simulate(&args.scenario) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if let Some(path) = &args.output
        && scenario.capsule.is_none()
        && is_same(path, &args.scenario)
    {
        out::complain(&format!(
            "{} is the scenario: its capsule needs another name",
            path.display()
        ));
        return USAGE;
    }
    let Some(seed) = args.seed.or(scenario.seed) else {
        out::complain("which run? Say --seed, as the violation does");
        return USAGE;
    };
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::on_first(&stop, || {
        halt::request();
        out::complain("stopping with the smallest run so far; again to stop at once");
    });
    out::complain(&format!("{} seed {seed}", scenario.name));
    let run = (workload.simulate)(&scenario, seed, true);
    if run.halted {
        out::complain("stopped before there was anything to show");
        return Verdict::Inconclusive.exit_code();
    }
    let verdict = run.verdict;
    let Some(kept) = keep(&workload.simulate, &scenario, run, args.runs) else {
        out::complain(&format!("nothing to make smaller: the run is {verdict}"));
        if args.format == Format::Json {
            Out::default().line(&nothing("shrunk", &scenario.name, seed, verdict));
        }
        return verdict.exit_code();
    };
    let mut out = Out::default();
    if let Some(path) = &args.output {
        if let Err(why) = std::fs::write(path, &kept.text) {
            out::complain(&format!("{}: {why}", path.display()));
            return ENVIRONMENT;
        }
        let (program, path) = (story::quoted(&context.program), path.display().to_string());
        let replay = format!("{program} replay {}", story::quoted(&path));
        if args.format == Format::Human {
            out.text(&kept.story(&replay));
        }
    } else if args.format == Format::Human {
        out.text(&kept.text);
    }
    if args.format == Format::Json {
        out.line(&line(&kept));
    }
    out::complain(&kept.summary());
    Verdict::Violated.exit_code()
}

fn is_same(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().ok();
    whole(one).is_some_and(|one| Some(one) == whole(other))
}

/// The line of a run with nothing to make smaller, or to explain.
pub(super) fn nothing(what: &str, scenario: &str, seed: u64, verdict: Verdict) -> String {
    json!({ "type": what, "scenario": scenario, "seed": seed, "verdict": verdict }).to_string()
}

fn line(kept: &Kept) -> String {
    let Kept {
        scenario,
        shrunk,
        target,
        before: (faults, messages),
        text,
    } = kept;
    json!({
        "type": "shrunk",
        "scenario": scenario.name,
        "seed": shrunk.run.seed,
        "verdict": Verdict::Violated,
        "anomaly": target.kind,
        "checker": target.checker,
        "faults": shrunk.faults(),
        "faults_before": faults,
        "messages": shrunk.messages(),
        "messages_before": messages,
        "runs": shrunk.runs,
        "unfinished": shrunk.unfinished,
        "trace_hash": format!("{:016x}", shrunk.run.hash),
        "capsule": text,
    })
    .to_string()
}
