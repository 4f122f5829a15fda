//! `redeliver load --find-max`: probes at one rate after the other, and what they come to.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::{Args, failed, show};
use crate::cli::Format;
use crate::cli::out::{self, Out};
use redeliver_harness::load::LoadOptions;
use redeliver_harness::load::binding;
use redeliver_harness::load::offer::{Pattern, Rate};
use redeliver_harness::load::search::{Found, NotFound, Probe, find_max};
use redeliver_harness::registry::Registered;
use redeliver_harness::run::{LiveError, live_name};
use redeliver_harness::scenario::{Expect, Poison, Scenario};
use redeliver_harness::verdict::Verdict;

/// Where a search begins that is not told where.
pub(super) const BEGIN: Rate = Rate(20_000);

/// A probe with fewer requests shows nothing that grows.
const FEWEST: u64 = 10;

/// What a probe could not give.
enum Stopped {
    /// The run itself could not be made.
    Live(LiveError),
    /// It broke a promise, which no rate excuses: this exit code.
    Code(u8),
}

/// Finds the highest sustained rate of a scenario without its faults; an exit code where there is none.
pub(super) fn find(
    args: &Args,
    workload: &Registered,
    scenario: &Scenario,
    options: &LoadOptions,
) -> Result<Found, u8> {
    // What is sustained has little left to do at the end; what is not would take for ever.
    let rest = scenario.in_real_time().policy.longest_hold() * 2;
    let rest = rest.max(args.probe * 3) * scenario.time_scale.max(1);
    let calm = Scenario {
        settle: Some(scenario.settle.map_or(rest, |own| own.min(rest))),
        poison: Poison::default(),
        // What is expected of faults and of poison cannot come without them.
        expect: Expect {
            no_rows: scenario.expect.no_rows.clone(),
            invariants: scenario.expect.invariants.clone(),
            ..Expect::default()
        },
        ..scenario.without_faults()
    };
    let mut out = Out::default();
    let from = args.rate.unwrap_or(BEGIN);
    let lowest = Rate::of(FEWEST, args.probe);
    let found = find_max((from, lowest), |rate| {
        let probed = probe(args, workload, &calm, options, rate)?;
        tell(&probed, args.format, &mut out);
        Ok(probed)
    });
    match found {
        Ok(found) => {
            end(&found, args.format, &mut out);
            Ok(found)
        }
        Err(NotFound::Failed(Stopped::Code(code))) => Err(code),
        Err(NotFound::Failed(Stopped::Live(error))) => Err(failed(&args.servers, error)),
        Err(NotFound::TooSlow(probe)) => {
            let why = probe.limit.map_or(String::new(), |(binding, why)| {
                format!(": {binding}: {why}")
            });
            out::complain(&format!("not even {} is sustained{why}", probe.rate));
            Err(Verdict::Inconclusive.exit_code())
        }
        Err(NotFound::TooFast(probe)) => {
            out::complain(&format!(
                "{} is sustained, and no more can be tried",
                probe.rate
            ));
            Err(Verdict::Inconclusive.exit_code())
        }
        Err(NotFound::Unsteady) => {
            let why = "the same rates were sustained and were not, by turns: the machine does other \
                       work, or --probe is too short";
            out::complain(why);
            Err(Verdict::Inconclusive.exit_code())
        }
    }
}

fn probe(
    args: &Args,
    workload: &Registered,
    scenario: &Scenario,
    options: &LoadOptions,
    rate: Rate,
) -> Result<Probe, Stopped> {
    let mut history = options.history.clone().into_os_string();
    history.push(".probe");
    let history = PathBuf::from(history);
    remove(&history);
    let mut options = LoadOptions {
        rate,
        lasts: args.probe,
        // At equal distances, so that what grows is not what chance has sent.
        pattern: Pattern::Constant,
        producers: args.producers_for(rate),
        history: history.clone(),
        ..options.clone()
    };
    options.live.name = live_name();
    let report = (workload.load)(scenario, &options);
    let found = report.map_err(Stopped::Live).and_then(|report| {
        if let Some(left) = &report.left_behind {
            out::complain(left);
        }
        let probe = binding::probe_of(&report.checked);
        let mut anomalies = report.checked.result.anomalies.iter();
        // Of a rate that is too high it is no surprise that its work takes longer than it may.
        let excused = |checker: &str| match checker {
            "threshold" => true,
            "stuck" | "starved" => probe.limit.is_some(),
            _ => false,
        };
        if anomalies.any(|anomaly| !excused(anomaly.checker)) {
            return Err(Stopped::Code(show::end(
                &report.checked,
                args.format,
                report.checked.wall(),
                show::Beside::default(),
            )));
        }
        if options.live.stop.load(Ordering::Relaxed) {
            out::complain("stopped before there was an answer");
            return Err(Stopped::Code(Verdict::Inconclusive.exit_code()));
        }
        Ok(probe)
    });
    if found.is_ok() {
        remove(&history);
    }
    found
}

/// Removes the history of a probe, and what its processes have written beside it.
fn remove(history: &std::path::Path) {
    // Not there, otherwise.
    let _ = std::fs::remove_file(history);
    let _ = std::fs::remove_file(history.with_extension("log"));
}

fn tell(probe: &Probe, format: Format, out: &mut Out) {
    let limit = probe.limit.as_ref();
    match (format, limit) {
        (Format::Json, _) => out.line(&event("probe", probe).to_string()),
        (Format::Human, None) => out.line(&format!("{:>10}  sustained", probe.rate.to_string())),
        (Format::Human, Some((binding, why))) => {
            out.line(&format!(
                "{:>10}  not sustained: {binding}: {why}",
                probe.rate.to_string()
            ));
        }
    }
}

fn event(name: &str, probe: &Probe) -> serde_json::Value {
    let limit = probe.limit.as_ref();
    json!({
        "type": name,
        "rate": probe.rate.per_second(),
        "sustained": limit.is_none(),
        "binding": limit.map(|(binding, _)| binding.to_string()),
        "because": limit.map(|(_, why)| why),
    })
}

fn end(found: &Found, format: Format, out: &mut Out) {
    let limit = found.beyond.limit.as_ref();
    match format {
        Format::Json => {
            out.line(&event("last_passing", &found.last_passing).to_string());
            out.line(&event("first_failing", &found.first_failing).to_string());
            let binding = limit.map(|(binding, _)| binding.to_string());
            let because = limit.map(|(_, why)| why);
            out.line(
                &json!({ "type": "binding", "binding": binding, "because": because }).to_string(),
            );
        }
        Format::Human => {
            let binding = limit.map_or(String::new(), |(binding, _)| {
                format!(", bound by {binding}")
            });
            out.line(&format!(
                "highest sustained rate: {} to {}{binding}\n",
                found.from, found.to
            ));
        }
    }
}

/// As it stands in the summary.
pub(super) fn summary(found: &Found) -> serde_json::Value {
    let limit = found.beyond.limit.as_ref();
    json!({
        "from": found.from.per_second(),
        "to": found.to.per_second(),
        "binding": limit.map(|(binding, _)| binding.to_string()),
    })
}
