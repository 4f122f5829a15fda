//! Results as NDJSON: one object a line.
//!
//! Numbers stay below 2^53 for seeds made by `gate`, so that readers that know only doubles keep
//! them; `replay` holds the seed in any case.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::part::{Opening, Part};
use super::{Tally, Violation};
use crate::story;
use crate::verdict::{Anomaly, Judgement, Verdict};
use crate::watch::ends::Ends;
use crate::watch::reached::{Cell, Reached};
use crate::watch::trace::TraceLine;

type Counts = BTreeMap<&'static str, u64>;

#[derive(Serialize)]
struct ScenarioLine<'a> {
    r#type: &'static str,
    scenario: &'a str,
    path: String,
    question: &'a str,
    verdict: Verdict,
    because: Option<String>,
    first_seed: u64,
    seeds: u64,
    messages: u64,
    deliveries: u64,
    events: u64,
    faults: Counts,
    reached: BTreeMap<String, u64>,
    never_reached: Vec<String>,
    second_pickups: Counts,
    #[serde(flatten)]
    ended: Ended,
    legs_ms: serde_json::Map<String, serde_json::Value>,
    allowed: Vec<&'static str>,
    known: Option<String>,
    anomalies: u64,
    repeated_seeds: u64,
    violated_seeds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_seconds: Option<f64>,
    wall_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_to_real: Option<f64>,
}

/// How the work of all consumers ended.
#[derive(Debug, Serialize)]
pub struct Ended {
    done: u64,
    dead_lettered: u64,
    dead_lettered_by: Counts,
    unfinished: u64,
    retried: u64,
}

impl Ended {
    /// These.
    pub fn of(ends: &Ends) -> Self {
        Self {
            done: ends.done,
            dead_lettered: ends.dead_lettered(),
            dead_lettered_by: counts(&ends.dead),
            unfinished: ends.unfinished,
            retried: ends.retried,
        }
    }
}

#[derive(Serialize)]
struct ViolationLine<'a> {
    r#type: &'static str,
    scenario: &'a str,
    path: String,
    seed: u64,
    anomaly: &'static str,
    expected: bool,
    checker: &'static str,
    message: &'a str,
    message_id: Option<uuid::Uuid>,
    consumer: &'a str,
    promise: &'static str,
    seen: &'a str,
    also: &'a [std::sync::Arc<str>],
    #[serde(flatten)]
    again: Again,
}

/// How to have it again. Only a run in the seeded world can be replayed.
#[derive(Serialize)]
#[serde(untagged)]
enum Again {
    Replay { trace_hash: String, replay: String },
    Run { run: String },
}

/// Planted bugs that a gate has to catch.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Canaries<'a> {
    /// How many there are.
    pub planted: usize,
    /// Those that were not caught.
    pub silent: &'a [&'static str],
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    r#type: &'static str,
    verdict: Verdict,
    because: Vec<&'a str>,
    scenarios: u64,
    seeds: u64,
    messages: u64,
    deliveries: u64,
    events: u64,
    #[serde(flatten)]
    ended: Ended,
    anomalies: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_seconds: Option<f64>,
    wall_seconds: f64,
    max_rss_bytes: Option<u64>,
    reached: BTreeMap<String, u64>,
    never_reached: Vec<String>,
    canaries: Option<Canaries<'a>>,
    interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_covered: Option<&'static str>,
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a report is JSON")
}

/// Seconds with microseconds: reports are not for computing with.
fn seconds(ns: u128) -> f64 {
    let micros = u64::try_from(ns / 1_000).unwrap_or(u64::MAX);
    Duration::from_micros(micros).as_secs_f64()
}

fn counts(pairs: &[(&'static str, u64)]) -> Counts {
    pairs
        .iter()
        .copied()
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn reached_counts(reached: &Reached) -> BTreeMap<String, u64> {
    let struck = reached.struck();
    struck.map(|(cell, n)| (cell.to_string(), n)).collect()
}

fn names(cells: &[Cell]) -> Vec<String> {
    cells.iter().map(Cell::to_string).collect()
}

/// The line of a scenario.
pub fn scenario(tally: &Tally) -> String {
    line(&scenario_line(tally))
}

/// The same for a run on real servers, which has no virtual time.
pub fn real_scenario(tally: &Tally) -> String {
    line(&ScenarioLine {
        virtual_seconds: None,
        virtual_to_real: None,
        ..scenario_line(tally)
    })
}

fn scenario_line(tally: &Tally) -> ScenarioLine<'_> {
    let judgement = tally.judgement();
    let (virtual_seconds, wall) = (seconds(tally.virtual_ns), tally.wall.as_secs_f64());
    let ratio = if wall > 0.0 {
        (virtual_seconds / wall).round()
    } else {
        0.0
    };
    ScenarioLine {
        r#type: "scenario",
        scenario: &tally.scenario.name,
        path: tally.scenario.path.display().to_string(),
        question: &tally.scenario.question,
        verdict: judgement.verdict,
        because: judgement.why(),
        first_seed: tally.first_seed,
        seeds: tally.seeds,
        messages: tally.messages,
        deliveries: tally.deliveries,
        events: tally.events,
        faults: counts(&tally.faults),
        reached: reached_counts(&tally.reached),
        never_reached: names(&tally.reached.missed_by(&tally.scenario.rules)),
        second_pickups: counts(&tally.mechanisms),
        ended: Ended::of(&tally.ends),
        legs_ms: super::times::legs(&tally.latencies),
        allowed: tally
            .scenario
            .allow
            .iter()
            .map(|check| check.as_str())
            .collect(),
        known: tally.known(),
        anomalies: tally.anomalies,
        repeated_seeds: tally.repeated,
        violated_seeds: tally.violated,
        virtual_seconds: Some(virtual_seconds),
        wall_seconds: seconds(tally.wall.as_nanos()),
        virtual_to_real: Some(ratio),
    }
}

/// The first line of a shard's output.
pub fn shard(opening: &Opening) -> String {
    let Opening { shard, of, .. } = opening;
    typed("shard", &format!("{shard}/{of}"), opening)
}

/// The line of a reason why shards are not the whole of a sweep.
pub fn gap(why: &str) -> String {
    serde_json::json!({ "type": "gap", "because": why }).to_string()
}

/// The line that `redeliver merge` reads of a scenario.
pub fn part(tally: &Tally, part: &Part) -> String {
    typed("part", &tally.scenario.name, part)
}

fn typed(name: &str, about: &str, value: &impl Serialize) -> String {
    let mut value = serde_json::to_value(value).expect("a report is JSON");
    let key = if name == "part" { "scenario" } else { "name" };
    value["type"] = name.into();
    value[key] = about.into();
    value.to_string()
}

/// The line of one anomaly of a violated seed.
pub fn violation(tally: &Tally, of: &Violation, anomaly: &Anomaly, program: &str) -> String {
    let path = &tally.scenario.path;
    let again = Again::Replay {
        trace_hash: format!("{:016x}", of.hash),
        replay: story::replay_line(program, path, of.seed, anomaly, of.hash),
    };
    violation_line(tally, of, anomaly, again)
}

/// The line of one anomaly of a run on real servers; `run` is the command that makes such a run.
pub fn real_violation(tally: &Tally, of: &Violation, anomaly: &Anomaly, run: &str) -> String {
    let run = run.to_owned();
    violation_line(tally, of, anomaly, Again::Run { run })
}

fn violation_line(tally: &Tally, of: &Violation, anomaly: &Anomaly, again: Again) -> String {
    line(&ViolationLine {
        r#type: "violation",
        scenario: &tally.scenario.name,
        path: tally.scenario.path.display().to_string(),
        seed: of.seed,
        anomaly: anomaly.kind.as_str(),
        expected: tally.is_expected(anomaly.kind),
        checker: anomaly.checker,
        message: &anomaly.message,
        message_id: anomaly.message_id,
        consumer: &anomaly.consumer,
        promise: anomaly.promise,
        seen: &anomaly.seen,
        also: &anomaly.also,
        again,
    })
}

/// A line of a trace.
pub fn trace(of: &TraceLine) -> String {
    let line = serde_json::json!({
        "type": "trace", "at_ns": of.at, "actor": &*of.actor, "what": of.what,
        "subject": &*of.subject, "detail": of.detail,
    });
    line.to_string()
}

/// The last line of a gate.
pub fn summary(
    tallies: &[Tally],
    whole: &Judgement,
    wall: Duration,
    interrupted: bool,
    canaries: Option<Canaries<'_>>,
) -> String {
    line(&SummaryLine {
        canaries,
        ..summary_line(tallies, whole, wall, interrupted)
    })
}

/// The last line of a run on real servers: without canaries, virtual time and a word on what only
/// real servers show.
pub fn real_summary(
    tallies: &[Tally],
    whole: &Judgement,
    wall: Duration,
    interrupted: bool,
) -> String {
    line(&SummaryLine {
        virtual_seconds: None,
        not_covered: None,
        ..summary_line(tallies, whole, wall, interrupted)
    })
}

fn summary_line<'a>(
    tallies: &[Tally],
    whole: &'a Judgement,
    wall: Duration,
    interrupted: bool,
) -> SummaryLine<'a> {
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum();
    let (reached, missed) = super::reached(tallies);
    let virtual_ns = tallies.iter().map(|tally| tally.virtual_ns).sum();
    SummaryLine {
        r#type: "summary",
        verdict: whole.verdict,
        because: whole.because.iter().map(String::as_str).collect(),
        scenarios: tallies.len() as u64,
        seeds: sum(|tally| tally.seeds),
        messages: sum(|tally| tally.messages),
        deliveries: sum(|tally| tally.deliveries),
        events: sum(|tally| tally.events),
        ended: Ended::of(&super::ends(tallies)),
        anomalies: sum(|tally| tally.anomalies),
        virtual_seconds: Some(seconds(virtual_ns)),
        wall_seconds: seconds(wall.as_nanos()),
        max_rss_bytes: max_rss_bytes(),
        reached: reached_counts(&reached),
        never_reached: names(&missed),
        canaries: None,
        interrupted,
        not_covered: Some(super::NOT_COVERED),
    }
}

/// The largest memory that this process had, where the system says (Linux: `VmHWM`).
pub fn max_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
