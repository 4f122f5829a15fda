//! What a load run shows: lines while it goes on, and its summary.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Format, Out, baseline, out};
use redeliver_harness::load::Watch;
use redeliver_harness::load::binding;
use redeliver_harness::load::check::Checked;
use redeliver_harness::load::figures::Figures;
use redeliver_harness::load::search::{Binding, Found};
use redeliver_harness::load::threshold::Held;
use redeliver_harness::report::{Tally, times};
use redeliver_harness::verdict::Verdict;
use redeliver_harness::watch::legs::{Leg, Standing};
use redeliver_harness::words::{counted, grouped, latency, wrap};

/// Shows a line a second on standard error.
pub(super) fn lines() -> Watch {
    std::sync::Arc::new(|figures| out::complain(&line(figures)))
}

fn line(figures: &Figures) -> String {
    let counts = figures.counts();
    let gauge = figures.gauges.last();
    let at = figures.now.saturating_sub(figures.begin) / 1_000_000_000;
    // The last whole second.
    let last = usize::try_from(at).unwrap_or(0).checked_sub(1);
    let last = last
        .and_then(|last| figures.seconds.get(last))
        .copied()
        .unwrap_or_default();
    let end_to_end = figures.latencies.of(Leg::EndToEnd);
    let p99 = end_to_end.map_or("-".to_owned(), |times| latency(times.quantile(990_000)));
    let (outbox, oldest) = gauge.map_or((0, 0), |gauge| (gauge.outbox, gauge.oldest_ms));
    let waiting: u64 = gauge.map_or(0, |gauge| {
        let work = gauge
            .queues
            .iter()
            .filter(|(queue, _)| !queue.ends_with(".dead"));
        work.map(|(_, ready)| ready).sum()
    });
    let stuck = stuck(&figures.standing());
    let stuck = stuck.map_or(String::new(), |told| format!("  stuck: {told}"));
    format!(
        "{at:>4} s  offered {}/s  done {}/s  p99 {p99}  outbox {} ({:.1} s)  queues {}  open {}  \
         handlers {}  retried {}  dead {}{stuck}",
        last.offered,
        last.workflows,
        grouped(outbox),
        oldest as f64 / 1_000.0,
        grouped(waiting),
        grouped(figures.legs().open_workflows()),
        figures.legs().in_handlers(),
        grouped(counts.retried),
        grouped(counts.dead),
    )
}

/// How many workflows are stuck, and where; none where none is.
pub(super) fn stuck(standing: &[Standing]) -> Option<String> {
    let stuck = standing.iter().filter(|it| it.stuck > 0);
    let told: Vec<_> = stuck
        .map(|it| format!("{} in {}", grouped(it.stuck), it.place))
        .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// What is known beside the run itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside<'a> {
    /// The highest rate, where it was looked for.
    pub(super) max: Option<&'a Found>,
    /// The same requests in the seeded world.
    pub(super) predicted: Option<&'a Tally>,
    /// How it compares with an earlier run.
    pub(super) baseline: Option<&'a baseline::Beside>,
}

/// The model's figures for the same scenario.
fn predicted(tally: &Tally) -> Value {
    let end_to_end = tally.latencies.of(Leg::EndToEnd);
    json!({
        "requests": tally.scenario.messages,
        "end_to_end_ms": end_to_end.map(times::quantiles),
        "deliveries": tally.deliveries,
        "retried": tally.ends.retried,
    })
}

/// Shows what a run came to; gives the exit code.
pub(super) fn end(checked: &Checked, format: Format, wall: Duration, beside: Beside<'_>) -> u8 {
    let mut out = Out::default();
    match format {
        Format::Json => {
            for anomaly in &checked.result.anomalies {
                out.line(&violation(anomaly).to_string());
            }
            out.line(&summary(checked, wall, beside).to_string());
        }
        Format::Human => {
            out.text(&table(checked, beside));
        }
    }
    checked.judgement().exit_code()
}

fn violation(anomaly: &redeliver_harness::verdict::Anomaly) -> Value {
    json!({
        "type": "violation",
        "anomaly": anomaly.kind.as_str(),
        "checker": anomaly.checker,
        "message": &*anomaly.message,
        "message_id": anomaly.message_id,
        "consumer": &*anomaly.consumer,
        "promise": anomaly.promise,
        "seen": anomaly.seen,
        "also": anomaly.also,
    })
}

fn summary(checked: &Checked, wall: Duration, beside: Beside<'_>) -> Value {
    let (figures, result) = (&checked.figures, &checked.result);
    let judgement = checked.judgement();
    let counts = figures.counts();
    let of_kind = |kind: &str| {
        let all = result
            .anomalies
            .iter()
            .filter(|anomaly| anomaly.kind.as_str() == kind);
        all.count()
    };
    let faults: serde_json::Map<_, _> = figures
        .struck
        .iter()
        .map(|(kind, n)| ((*kind).to_owned(), json!(n)))
        .collect();
    let witnessed: serde_json::Map<_, _> = figures
        .witnessed
        .iter()
        .map(|(kind, n)| ((*kind).to_owned(), json!(n)))
        .collect();
    let cpu = figures.gauges.last().map(|gauge| gauge.cpu.iter());
    let cpu: serde_json::Map<_, _> = cpu
        .into_iter()
        .flatten()
        .map(|(part, ms)| (part.to_string(), json!(ms)))
        .collect();
    json!({
        "type": "summary",
        "verdict": judgement.verdict.as_str(),
        "because": judgement.why(),
        "scenario": figures.start.scenario,
        "seed": figures.start.seed,
        "offered_rate": figures.offered_rate(),
        "sent_rate": figures.sent_rate(),
        "done_rate": figures.done_rate(),
        "messages": result.messages,
        "requests": counts.sent,
        "workflows": counts.workflows,
        "done": result.ends.done,
        "dead_lettered": result.ends.dead_lettered(),
        "unfinished": result.ends.unfinished,
        "standing": standing(&figures.standing()),
        "retried": result.ends.retried,
        "deliveries": counts.deliveries,
        "redeliveries": counts.redeliveries,
        "lost": of_kind("lost"),
        "duplicate_effects": of_kind("duplicated"),
        "anomalies": result.anomalies.len(),
        "faults": faults,
        "end_to_end_ms": figures.latencies.of(Leg::EndToEnd).map(times::quantiles),
        "legs_ms": times::legs(&figures.latencies),
        "max_rate": beside.max.map(super::search::summary),
        "predicted": beside.predicted.map(predicted),
        "baseline": beside.baseline.map(baseline::Beside::json),
        "binding": limit(checked).map(|(binding, _)| binding.to_string()),
        "cores_by_part": cores(checked),
        "thresholds": thresholds(checked),
        "witnessed": witnessed,
        "not_given": figures.end.as_ref().map(|end| end.not_given.clone()),
        "memory_kb": figures.gauges.iter().map(|gauge| gauge.memory_kb).max(),
        "memory_kb_by_quarter": figures.quarters(|gauge| gauge.memory_kb),
        "open_files": figures.gauges.iter().map(|gauge| gauge.files).max(),
        "open_files_by_quarter": figures.quarters(|gauge| gauge.files),
        "cpu_ms": cpu,
        "servers": figures.start.servers.iter().map(|(n, v)| format!("{n} {v}")).collect::<Vec<_>>(),
        "commit": figures.start.commit,
        "wall_seconds": wall.as_secs_f64(),
    })
}

/// Where everything stands that has not ended.
fn standing(standing: &[Standing]) -> Vec<Value> {
    let all = standing.iter().map(|it| {
        json!({
            "place": it.place.to_string(),
            "workflows": it.workflows,
            "stuck": it.stuck,
            "longest_ms": it.longest / 1_000_000,
        })
    });
    all.collect()
}

/// What limits the rate; of a run with faults that says nothing.
fn limit(checked: &Checked) -> Option<(Binding, String)> {
    if !checked.figures.struck.is_empty() {
        return None;
    }
    binding::limit(&checked.figures, &checked.scenario)
}

fn cores(checked: &Checked) -> serde_json::Map<String, Value> {
    let cores = binding::cores(&checked.figures).into_iter();
    cores
        .map(|(part, used)| (part.to_string(), json!((used * 100.0).round() / 100.0)))
        .collect()
}

fn thresholds(checked: &Checked) -> Vec<Value> {
    let all = checked.scenario.thresholds.iter();
    all.map(|threshold| {
        let (held, value) = match threshold.judge(&checked.figures) {
            Held::Yes(value) => (Some(true), Some(value)),
            Held::No(value) => (Some(false), Some(value)),
            Held::NoSamples => (None, None),
        };
        json!({ "threshold": threshold.to_string(), "holds": held, "value": value })
    })
    .collect()
}

const WIDTH: usize = 79;

fn table(checked: &Checked, beside: Beside<'_>) -> String {
    use std::fmt::Write;
    let (figures, result) = (&checked.figures, &checked.result);
    let judgement = checked.judgement();
    let mut text = String::new();
    if judgement.verdict == Verdict::Violated {
        for anomaly in result.anomalies.iter().take(10) {
            let _ = writeln!(
                text,
                "{}: {}: {}",
                anomaly.kind, anomaly.message, anomaly.seen
            );
        }
        if let more @ 1.. = result.anomalies.len().saturating_sub(10) {
            let _ = writeln!(text, "… and {more} more");
        }
        text.push('\n');
    }
    let counts = figures.counts();
    let _ = writeln!(
        text,
        "{}: offered {:.1}/s, sent {:.1}/s, done {:.1}/s",
        figures.start.scenario,
        figures.offered_rate(),
        figures.sent_rate(),
        figures.done_rate()
    );
    let _ = writeln!(
        text,
        "{} requests, {} workflows ended, {} deliveries ({} redelivered)\n",
        grouped(counts.sent),
        grouped(counts.workflows),
        grouped(counts.deliveries),
        grouped(counts.redeliveries)
    );
    let _ = writeln!(
        text,
        "{:<25} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "leg", "count", "p50", "p95", "p99", "p99.9", "max"
    );
    text.push_str(&"-".repeat(WIDTH));
    text.push('\n');
    for (leg, times) in figures.latencies.legs() {
        let at = |millionths| latency(times.quantile(millionths));
        let _ = writeln!(
            text,
            "{:<25} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
            leg.as_str(),
            times.count(),
            at(500_000),
            at(950_000),
            at(990_000),
            at(999_000),
            latency(times.max())
        );
    }
    text.push_str(&"-".repeat(WIDTH));
    text.push('\n');
    let mut note = |label: &str, words: String| {
        if words.is_empty() {
            return;
        }
        let words = format!("{label} {words}");
        for line in wrap(words.split(' ').map(str::to_owned), WIDTH) {
            let _ = writeln!(text, "{line}");
        }
    };
    if let Some(tally) = beside.predicted {
        note("the model predicts:", times::describe(&tally.latencies));
    }
    for (it, slower) in beside.baseline.iter().flat_map(|it| &it.compared) {
        let verdict = if *slower { "slower" } else { "not slower" };
        note("baseline:", format!("{}: {verdict}", it.describe()));
    }
    if let Some((binding, why)) = limit(checked) {
        note("not sustained:", format!("{binding}: {why}"));
    }
    note("ended:", result.ends.describe());
    for it in figures.standing() {
        let (many, stuck) = (counted(it.workflows, "workflow"), grouped(it.stuck));
        let longest = latency(it.longest);
        let told = format!(
            "{many} in {}, {stuck} stuck, the longest for {longest}",
            it.place
        );
        note("unfinished:", told);
    }
    for threshold in &checked.scenario.thresholds {
        let told = match threshold.judge(figures) {
            Held::Yes(value) => format!("{threshold}: holds, {value}"),
            Held::No(value) => format!("{threshold}: broken, {value}"),
            Held::NoSamples => format!("{threshold}: nothing was measured"),
        };
        note("threshold", told);
    }
    let faults = figures.struck.iter().map(|(kind, n)| format!("{kind} {n}"));
    note("faults:", faults.collect::<Vec<_>>().join(", "));
    let not_given = figures.end.as_ref().map(|end| end.not_given.join(", "));
    note(
        "real servers were not given:",
        not_given.unwrap_or_default(),
    );
    if checked.torn > 0 {
        note(
            "torn:",
            format!(
                "{} bytes of the file belong to no whole record",
                checked.torn
            ),
        );
    }
    note("verdict:", judgement.verdict.as_str().to_owned());
    note("because:", judgement.why().unwrap_or_default().to_owned());
    text
}
