//! `redeliver explain`: why one run failed, and when that was settled.

use std::path::PathBuf;

use serde_json::json;

use super::out::{self, Out};
use super::shrink::nothing;
use super::{Context, Format, USAGE, interrupt};
use redeliver_harness::explore::{Explanation, keep, settled};
use redeliver_harness::report::explained;
use redeliver_harness::story;
use redeliver_harness::verdict::{Anomaly, Verdict};
use redeliver_harness::words::wrap;

/// Say which faults a failing run needed, and from when on nothing could avert it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The run is made small, and each fault that is left is taken away in turn. Then, moment by moment, the
rest of the original run is drawn anew by other seeds: the share that still fails is shown as a bar.

Examples:
  redeliver explain scenarios/everything.toml --seed 17
  redeliver explain lost-order.toml --draws 100

Exit codes: 1 the run is violated and explained, 0 it is valid, 3 inconclusive.")]
pub(super) struct Args {
    /// The scenario file, or a capsule
    scenario: PathBuf,
    /// The seed: decimal, 0x-hex or a 40-digit commit hash [default: the scenario's]
    #[arg(long, value_name = "S", value_parser = redeliver_sim::seed::parse)]
    seed: Option<u64>,
    /// How often the rest is drawn anew at each moment
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// Give shrinking up after so many runs
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    runs: u32,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub(super) fn explain(args: &Args, context: &Context) -> u8 {
    let (scenario, workload) = match context.load_to_simulate(&args.scenario) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let Some(seed) = args.seed.or(scenario.seed) else {
        out::complain("which run? Say --seed, as the violation does");
        return USAGE;
    };
    interrupt::end_at_once();
    let run = (workload.simulate)(&scenario, seed, true);
    let verdict = run.verdict;
    let Some(kept) = keep(&workload.simulate, &scenario, run.clone(), args.runs) else {
        out::complain(&format!("nothing to explain: the run is {verdict}"));
        if args.format == Format::Json {
            Out::default().line(&nothing("explained", &scenario.name, seed, verdict));
        }
        return verdict.exit_code();
    };
    let Some(anomaly) = story::chosen(&run.anomalies).cloned() else {
        return verdict.exit_code();
    };
    let small = (kept.shrunk(), kept.target());
    let why = Explanation::of(&workload.simulate, &scenario, &run, small, args.draws);
    let mut out = Out::default();
    match args.format {
        Format::Json => out.line(&line(&scenario.name, seed, &anomaly, &why)),
        Format::Human => {
            out.line(&format!(
                "{}, seed {seed}: {}\n",
                scenario.name, anomaly.kind
            ));
            let words = explained::paragraph(&anomaly, &why);
            let lines = wrap(words.split(' ').map(str::to_owned), 78);
            out.text(&format!("{}\n\n", lines.join("\n")));
            out.text(&explained::plot(&why.moments, args.draws));
        }
    }
    Verdict::Violated.exit_code()
}

fn line(scenario: &str, seed: u64, anomaly: &Anomaly, why: &Explanation) -> String {
    let moments = &why.moments;
    let faults = why.needed.iter();
    let faults: Vec<_> = faults
        .map(|one| json!({ "fault": one.fault, "necessary": one.necessary }))
        .collect();
    let all: Vec<_> = moments
        .iter()
        .map(|moment| {
            json!({
                "at_ns": moment.at, "what": moment.what,
                "failing": moment.failing, "of": moment.of,
            })
        })
        .collect();
    json!({
        "type": "explained",
        "verdict": Verdict::Violated,
        "scenario": scenario,
        "seed": seed,
        "anomaly": anomaly.kind,
        "checker": anomaly.checker,
        "message": &*anomaly.message,
        "faults": faults,
        "moments": all,
        "settled_at_ns": settled(moments).map(|(_, from)| from.at),
    })
    .to_string()
}
