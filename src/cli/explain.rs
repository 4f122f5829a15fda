//! `redeliver explain`: why one run failed, and when that was settled.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::json;

use super::out::{self, Out};
use super::{Context, Format, USAGE};
use crate::harness::explore::{Kept, Moment, Needed, keep, moments, needed, settled};
use crate::harness::report::human::wrap;
use crate::harness::report::story;
use crate::harness::verdict::{Anomaly, Verdict};

/// How wide a full bar is.
const BAR: u32 = 20;

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
    #[arg(long, value_name = "S", value_parser = crate::harness::seed::parse)]
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
    let (scenario, workload) = match context.load(&args.scenario) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let Some(seed) = args.seed.or(scenario.seed) else {
        out::complain("which run? Say --seed, as the violation does");
        return USAGE;
    };
    let run = (workload.simulate)(&scenario, seed, true);
    let verdict = run.verdict;
    let Some(kept) = keep(&workload.simulate, &scenario, run.clone(), args.runs) else {
        out::complain(&format!("nothing to explain: the run is {verdict}"));
        return verdict.exit_code();
    };
    let Some(anomaly) = story::chosen(&run.anomalies).cloned() else {
        return verdict.exit_code();
    };
    let simulate = &workload.simulate;
    let needed = needed(simulate, kept.shrunk(), kept.target());
    let moments = moments(simulate, &scenario, &run, kept.target(), args.draws);
    let mut out = Out::default();
    match args.format {
        Format::Json => out.line(&line(&scenario.name, seed, &anomaly, &needed, &moments)),
        Format::Human => {
            out.line(&format!(
                "{}, seed {seed}: {}\n",
                scenario.name, anomaly.kind
            ));
            out.text(&paragraph(&kept, &anomaly, &needed, &moments));
            out.text(&plot(&moments, args.draws));
        }
    }
    Verdict::Violated.exit_code()
}

fn seconds(at: u64) -> String {
    format!("{}.{:03}", at / 1_000_000_000, at / 1_000_000 % 1_000)
}

/// What happened, in plain words.
fn paragraph(kept: &Kept, anomaly: &Anomaly, needed: &[Needed], moments: &[Moment]) -> String {
    let mut text = format!("{} But {}. ", anomaly.promise, anomaly.seen);
    let messages = match kept.messages() {
        1 => "1 request".to_owned(),
        n => format!("{n} requests"),
    };
    match needed {
        [] => {
            let _ = write!(text, "It takes no fault at all, only {messages}. ");
        }
        [only] => {
            let _ = write!(text, "It takes {messages} and one fault: {}. ", only.fault);
        }
        all => {
            let faults: Vec<_> = all.iter().map(|one| one.fault.as_str()).collect();
            let _ = write!(
                text,
                "It takes {messages} and {} faults: {}. ",
                all.len(),
                faults.join("; ")
            );
        }
    }
    let spare = needed.iter().filter(|one| !one.necessary).count();
    match (needed.len(), spare) {
        (0, _) => {}
        (1, 0) => text.push_str("Without it the run is without that anomaly. "),
        (_, 0) => text.push_str("Take any one of them away, and the anomaly is gone. "),
        (_, spare) => {
            let _ = write!(text, "{spare} of them could be spared one at a time. ");
        }
    }
    match settled(moments) {
        Some((Some(before), from)) => {
            let _ = write!(
                text,
                "It was settled at {} s ({}): of runs that share everything up to there, {} of {} \
                 fail; the moment before ({} s, {}) it was {} of {}.",
                seconds(from.at),
                from.what,
                from.failing,
                from.of,
                seconds(before.at),
                before.what,
                before.failing,
                before.of
            );
        }
        Some((None, from)) => {
            let _ = write!(
                text,
                "It was settled from the first moment on: {} of {} runs that begin anew at {} s fail.",
                from.failing,
                from.of,
                seconds(from.at)
            );
        }
        None => text.push_str("At no moment was it settled: it takes luck to the end."),
    }
    let words = text.split(' ').map(str::to_owned);
    let mut lines = wrap(words, 78).join("\n");
    lines.push_str("\n\n");
    lines
}

/// The share of failing runs over the moments.
fn plot(moments: &[Moment], draws: u32) -> String {
    let mut text = format!("   seconds  fails of {draws:<10}  just after\n");
    for moment in moments {
        let filled = (moment.failing * BAR / moment.of.max(1)) as usize;
        let bar = format!(
            "{}{}",
            "#".repeat(filled),
            ".".repeat(BAR as usize - filled)
        );
        let _ = writeln!(
            text,
            "{:>10}  {bar} {:>3}  {}",
            seconds(moment.at),
            moment.failing,
            moment.what
        );
    }
    text
}

fn line(
    scenario: &str,
    seed: u64,
    anomaly: &Anomaly,
    needed: &[Needed],
    moments: &[Moment],
) -> String {
    let faults = needed.iter();
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
