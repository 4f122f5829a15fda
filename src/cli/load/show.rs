//! What a load run shows: lines while it goes on, and its summary.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Format, Out, out};
use redeliver_harness::load::check::Checked;
use redeliver_harness::load::figures::Figures;
use redeliver_harness::load::run::Watch;
use redeliver_harness::verdict::Verdict;
use redeliver_harness::watch::latencies::QUANTILES;
use redeliver_harness::watch::legs::Leg;
use redeliver_harness::words::{grouped, wrap};

/// Shows a line a second on standard error.
pub(super) fn lines() -> Watch {
    std::sync::Arc::new(|figures| out::complain(&line(figures)))
}

fn line(figures: &Figures) -> String {
    let counts = figures.counts();
    let gauge = figures.gauges.last();
    let at = gauge
        .map_or(0, |gauge| gauge.at)
        .saturating_sub(figures.begin)
        / 1_000_000_000;
    // The last whole second.
    let last = usize::try_from(at).unwrap_or(0).checked_sub(1);
    let last = last
        .and_then(|last| figures.seconds.get(last))
        .copied()
        .unwrap_or_default();
    let end_to_end = figures.latencies.of(Leg::EndToEnd);
    let p99 = end_to_end.map_or("-".to_owned(), |times| millis(times.quantile(990_000)));
    let (outbox, oldest) = gauge.map_or((0, 0), |gauge| (gauge.outbox, gauge.oldest_ms));
    let waiting: u64 = gauge.map_or(0, |gauge| {
        let work = gauge
            .queues
            .iter()
            .filter(|(queue, _)| !queue.ends_with(".dead"));
        work.map(|(_, ready)| ready).sum()
    });
    format!(
        "{at:>4} s  offered {}/s  done {}/s  p99 {p99}  outbox {} ({:.1} s)  queues {}  open {}  \
         handlers {}  retried {}  dead {}",
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

fn millis(nanos: u64) -> String {
    let millis = nanos as f64 / 1e6;
    match millis {
        ..10.0 => format!("{millis:.2} ms"),
        ..100.0 => format!("{millis:.1} ms"),
        ..10_000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1e3),
    }
}

/// Shows what a run came to; gives the exit code.
pub(super) fn end(checked: &Checked, format: Format, wall: Duration) -> u8 {
    let mut out = Out::default();
    match format {
        Format::Json => {
            for anomaly in &checked.result.anomalies {
                out.line(&violation(anomaly).to_string());
            }
            out.line(&summary(checked, wall).to_string());
        }
        Format::Human => {
            out.text(&table(checked));
        }
    }
    checked.result.judgement().exit_code()
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

fn ms(nanos: u64) -> f64 {
    // Microseconds are what was measured.
    (nanos / 1_000) as f64 / 1_000.0
}

fn times(checked: &Checked, leg: Leg) -> Value {
    let Some(times) = checked.figures.latencies.of(leg) else {
        return Value::Null;
    };
    let mut all = serde_json::Map::new();
    all.insert("count".to_owned(), json!(times.count()));
    for (name, millionths) in QUANTILES {
        all.insert(name.to_owned(), json!(ms(times.quantile(millionths))));
    }
    all.insert("max".to_owned(), json!(ms(times.max())));
    Value::Object(all)
}

fn summary(checked: &Checked, wall: Duration) -> Value {
    let (figures, result) = (&checked.figures, &checked.result);
    let judgement = result.judgement();
    let counts = figures.counts();
    let of_kind = |kind: &str| {
        let all = result
            .anomalies
            .iter()
            .filter(|anomaly| anomaly.kind.as_str() == kind);
        all.count()
    };
    let legs = Leg::ALL
        .into_iter()
        .filter(|leg| figures.latencies.of(*leg).is_some());
    let legs: serde_json::Map<_, _> = legs
        .map(|leg| (leg.as_str().to_owned(), times(checked, leg)))
        .collect();
    let faults: serde_json::Map<_, _> = figures
        .struck
        .iter()
        .map(|(kind, n)| ((*kind).to_owned(), json!(n)))
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
        "retried": result.ends.retried,
        "deliveries": counts.deliveries,
        "redeliveries": counts.redeliveries,
        "lost": of_kind("lost"),
        "duplicate_effects": of_kind("duplicated"),
        "anomalies": result.anomalies.len(),
        "faults": faults,
        "end_to_end_ms": times(checked, Leg::EndToEnd),
        "legs_ms": legs,
        "servers": figures.start.servers.iter().map(|(n, v)| format!("{n} {v}")).collect::<Vec<_>>(),
        "commit": figures.start.commit,
        "wall_seconds": wall.as_secs_f64(),
    })
}

const WIDTH: usize = 79;

fn table(checked: &Checked) -> String {
    use std::fmt::Write;
    let (figures, result) = (&checked.figures, &checked.result);
    let judgement = result.judgement();
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
        let at = |millionths| millis(times.quantile(millionths));
        let _ = writeln!(
            text,
            "{:<25} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
            leg.as_str(),
            times.count(),
            at(500_000),
            at(950_000),
            at(990_000),
            at(999_000),
            millis(times.max())
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
    note("ended:", result.ends.describe());
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
