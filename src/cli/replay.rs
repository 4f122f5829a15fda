//! `redeliver replay`: one seed again, with its trace.
//!
//! Standard output holds the trace and nothing that depends on the occasion; whether it is what
//! was expected is said on standard error.

use std::fmt::Write;
use std::path::PathBuf;

use redeliver_sim::fault::Rule;
use serde_json::json;

use super::out::{self, Out};
use super::{Context, Format, USAGE, interrupt};
use redeliver_harness::explore::{Outcome, compare};
use redeliver_harness::report::diagram;
use redeliver_harness::run::{RunResult, swarm};
use redeliver_harness::scenario::{Capsule, Scenario};
use redeliver_harness::verdict::{AnomalyKind, Verdict};
use redeliver_harness::words::{short, time, wrap};
use redeliver_harness::{report, story};

/// Run one seed of a scenario again, with its trace
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A capsule is held against what was kept: reproduced, fixed, or changed into another anomaly.
Where the code has changed since, the first line that differs is named.

Exit codes: 1 reproduced, 0 the run is valid now, 3 it came out otherwise.")]
pub(super) struct Args {
    /// The scenario file, or a capsule
    scenario: PathBuf,
    /// The seed: decimal, 0x-hex or a 40-digit commit hash [default: the scenario's]
    #[arg(long, value_name = "S", value_parser = redeliver_sim::seed::parse)]
    seed: Option<u64>,
    /// Print the whole trace, not only the part of the offending message
    #[arg(long)]
    trace: bool,
    /// Draw it: a column for each process, a line for each step
    #[arg(long)]
    diagram: bool,
    /// What the run came to when it was found
    #[arg(long, value_name = "ANOMALY:HASH", value_parser = Expected::parse)]
    expect: Option<Expected>,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// The outcome of the run that is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    anomaly: AnomalyKind,
    hash: u64,
}

impl Expected {
    fn parse(text: &str) -> Result<Self, String> {
        let (anomaly, hash) = text.split_once(':').ok_or("write ANOMALY:HASH")?;
        let anomaly = AnomalyKind::parse(anomaly).ok_or_else(|| {
            let known: Vec<_> = AnomalyKind::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("`{anomaly}` is no anomaly; known: {}", known.join(", "))
        })?;
        let hash = u64::from_str_radix(hash, 16);
        let hash = hash.map_err(|_| "the hash has up to 16 hexadecimal digits")?;
        Ok(Self { anomaly, hash })
    }
}

pub(super) fn replay(args: &Args, context: &Context) -> u8 {
    if args.diagram && args.format == Format::Json {
        out::complain("--diagram draws for people: it cannot be had with --format json");
        return USAGE;
    }
    let (scenario, workload) = match context.load_to_simulate(&args.scenario) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let Some(seed) = args.seed.or(scenario.seed) else {
        out::complain("which run? Say --seed, as the violation does");
        return USAGE;
    };
    interrupt::end_at_once();
    out::complain(&format!("{} seed {seed}", scenario.name));
    let drawn = swarm::describe(&scenario, seed);
    if let Some(drawn) = &drawn {
        let words = drawn.split(' ').map(str::to_owned);
        out::complain(&wrap(words, 79).join("\n  "));
    }
    let run = (workload.simulate)(&scenario, seed, true);
    let kept = scenario.capsule.as_ref();
    // Another seed than that of the capsule is another run.
    let kept = kept.filter(|_| args.expect.is_none() && scenario.seed == Some(seed));
    let (code, remark) = match kept {
        Some(kept) => judge_capsule(&scenario, kept, &run),
        None => judge(&run, args.expect),
    };
    let mut out = Out::default();
    if args.format == Format::Json {
        tell_machines(args, &scenario, &run, (code, drawn), &mut out);
    } else {
        out.text(&show(args, &scenario, &run, context));
    }
    out::complain(&remark);
    code
}

/// The exit code, and what to say about it.
fn judge(run: &RunResult, expect: Option<Expected>) -> (u8, String) {
    let otherwise = Verdict::Inconclusive.exit_code();
    match (run.verdict, expect) {
        (Verdict::Valid, None) => (0, "valid".to_owned()),
        (Verdict::Valid, Some(_)) => (0, "did not reproduce: the run is valid now".to_owned()),
        (Verdict::Inconclusive, _) => {
            let why = run
                .inconclusive
                .as_deref()
                .unwrap_or("nothing was measured");
            (otherwise, format!("did not reproduce: inconclusive, {why}"))
        }
        (Verdict::Violated, None) => (1, "violated".to_owned()),
        (Verdict::Violated, Some(Expected { anomaly, hash })) => {
            let seen = run.anomalies.iter().any(|found| found.kind == anomaly);
            if !seen {
                let found: Vec<_> = run.anomalies.iter().map(|a| a.kind.as_str()).collect();
                let found = found.join(", ");
                let text = format!("did not reproduce: {anomaly} was expected, {found} was found");
                (otherwise, text)
            } else if run.hash != hash {
                let text = format!(
                    "did not reproduce: {anomaly} again, but by another course of events (trace \
                     {:016x}, expected {hash:016x}): the code or the scenario has changed since",
                    run.hash
                );
                (otherwise, text)
            } else {
                (1, format!("reproduced: {anomaly}"))
            }
        }
    }
}

/// The same for a run that was kept.
fn judge_capsule(scenario: &Scenario, kept: &Capsule, run: &RunResult) -> (u8, String) {
    let outcome = compare(kept, run);
    let mut remark = outcome.remark(kept.anomaly);
    let code = match outcome {
        Outcome::Reproduced | Outcome::ReproducedOtherwise(_) => 1,
        Outcome::Fixed => 0,
        Outcome::Changed(_) | Outcome::Inconclusive(_) => 3,
    };
    let missed = scenario.rules.iter().filter(|rule| {
        let same = |strike: &Rule| {
            (strike.kind, strike.call, &strike.subject) == (rule.kind, rule.call, &rule.subject)
        };
        !run.strikes.iter().any(same)
    });
    let missed: Vec<_> = missed.map(|rule| rule.kind.as_str()).collect();
    if !missed.is_empty() {
        let (n, all) = (missed.len(), scenario.rules.len());
        let _ = write!(
            remark,
            "\n{n} of {all} faults found no call to strike: {}",
            missed.join(", ")
        );
    }
    (code, remark)
}

fn show(args: &Args, scenario: &Scenario, run: &RunResult, context: &Context) -> String {
    let mut text = String::new();
    if args.diagram {
        let drawn = diagram::build(run);
        let messages = story::chosen(&run.anomalies).filter(|_| !args.trace);
        let messages = messages.map(|anomaly| anomaly.messages());
        return diagram::render(&drawn, &messages.unwrap_or_default(), args.trace);
    }
    if args.trace {
        for line in &run.trace {
            let _ = writeln!(text, "{line}");
        }
        return text;
    }
    if let Some(anomaly) = story::chosen(&run.anomalies) {
        let (program, path) = (&context.program, &scenario.path);
        let replay = story::replay_line(program, path, run.seed, anomaly, run.hash);
        return story::render(scenario, run, &replay);
    }
    let _ = writeln!(
        text,
        "{}, seed {}: {}",
        scenario.name, run.seed, run.verdict
    );
    let counts = |counts: &[(&'static str, u64)]| {
        let shown: Vec<_> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(", ")
        }
    };
    for (label, value) in [
        ("messages", short(run.messages)),
        ("ended", run.ends.describe()),
        ("deliveries", short(run.deliveries)),
        ("events", short(run.events)),
        ("virtual time", time(run.virtual_ns)),
        ("faults", counts(&run.faults)),
        ("second pick-ups", counts(&run.mechanisms)),
        (
            "trace",
            format!("{} lines, {:016x}", run.trace.len(), run.hash),
        ),
    ] {
        let _ = writeln!(text, "  {label:<15}  {value}");
    }
    text
}

fn tell_machines(
    args: &Args,
    scenario: &Scenario,
    run: &RunResult,
    (code, drawn): (u8, Option<String>),
    out: &mut Out,
) {
    if args.trace {
        let lines = run
            .trace
            .iter()
            .map(|line| report::json::trace(line) + "\n");
        out.text(&lines.collect::<String>());
    }
    let line = json!({
        "type": "replay",
        "scenario": scenario.name,
        "seed": run.seed,
        "swarm": drawn,
        "verdict": run.verdict,
        "because": run.inconclusive,
        "reproduced": (args.expect.is_some() || scenario.capsule.is_some()).then_some(code == 1),
        "anomalies": run.anomalies,
        "trace_hash": format!("{:016x}", run.hash),
        "messages": run.messages,
        "deliveries": run.deliveries,
        "ended": report::json::Ended::of(&run.ends),
        "events": run.events,
        "virtual_ns": run.virtual_ns,
    });
    out.line(&line.to_string());
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
