//! The page of a load run: rates, waits and times over the run, with its faults as bands.

use maud::{Markup, html};

use super::chart::{Band, Chart, Line};
use super::{badge, shell, tables, theme_button};
use crate::load::binding;
use crate::load::check::Checked;
use crate::load::figures::{Figures, Interval, Second};
use crate::load::threshold::Held;
use crate::watch::latencies::{QUANTILES, Times};
use crate::watch::legs::Leg;
use crate::words::{grouped, latency, time};

const SECOND: f64 = 1e9;
/// Points of a line at most: a longer run shows means of several seconds.
const POINTS: usize = 300;

/// The page.
pub fn render(checked: &Checked) -> String {
    let (figures, result) = (&checked.figures, &checked.result);
    let judgement = checked.judgement();
    let start = &figures.start;
    let body = html! {
        header {
            div {
                h1 { (start.scenario) " under load " (badge(judgement.verdict)) }
                @if let Some(why) = judgement.why() { p .inconclusive { (why) } }
                p .dim { (checked.scenario.question) }
                p .dim {
                    (grouped(start.requests)) " requests in " (time(start.lasts)) ", seed " (start.seed)
                    @for (server, version) in &start.servers { ", " (server) " " (version) }
                    @if !start.commit.is_empty() { ", commit " code { (start.commit) } }
                    ", redeliver " (start.version) ", scenario " code { (hash(&start.text)) }
                    ", " code { (start.name) }
                }
            }
            (theme_button())
        }
        (sums(checked))
        @if !result.anomalies.is_empty() {
            h2 { "Broken promises" }
            (tables::anomalies(&result.anomalies))
        }
        (thresholds(checked))
        h2 { "Over the run" }
        p .dim {
            "Bands are faults that happen at a time; point at one to read which. Seconds count from the \
             time at which the first request was due."
        }
        (charts(figures))
        h2 { "Times by leg" }
        (legs(figures))
        (faults(checked))
        (machine(figures))
    };
    shell(
        &format!("{}: {}", start.scenario, judgement.verdict),
        &body,
        None,
    )
}

/// Tells one scenario from another by its text.
fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..12].to_owned()
}

fn sums(checked: &Checked) -> Markup {
    let (figures, result) = (&checked.figures, &checked.result);
    let counts = figures.counts();
    html! {
        p {
            "Offered " strong { (format!("{:.1}/s", figures.offered_rate())) }
            ", sent " strong { (format!("{:.1}/s", figures.sent_rate())) }
            ", done " strong { (format!("{:.1}/s", figures.done_rate())) } ". "
            (grouped(counts.workflows)) " of " (grouped(counts.sent)) " requests came to their end, with "
            (grouped(counts.deliveries)) " deliveries, " (grouped(counts.redeliveries)) " of them redelivered."
        }
        p { "Of all messages: " (result.ends.describe()) "." }
        @if figures.struck.is_empty() {
            @if let Some((binding, why)) = binding::limit(figures, &checked.scenario) {
                p .inconclusive { "This rate is not sustained. It is bound by " strong { (binding) } ": " (why) "." }
            }
        }
    }
}

fn thresholds(checked: &Checked) -> Markup {
    html! {
        @if !checked.scenario.thresholds.is_empty() {
            h2 { "Thresholds" }
            table {
                thead { tr { th { "threshold" } th { "" } th .n { "value" } } }
                tbody {
                    @for threshold in &checked.scenario.thresholds {
                        tr {
                            td { code { (threshold) } }
                            @match threshold.judge(&checked.figures) {
                                Held::Yes(value) => { td .valid { "holds" } td .n { (value) } }
                                Held::No(value) => { td .violated { "broken" } td .n { (value) } }
                                Held::NoSamples => { td .inconclusive { "nothing was measured" } td {} }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A line over the seconds of a run.
fn rate(figures: &Figures, name: &str, of: impl Fn(&Second) -> u64) -> Line {
    let each = figures.seconds.len().div_ceil(POINTS).max(1);
    let points = figures
        .seconds
        .chunks(each)
        .enumerate()
        .map(|(i, seconds)| {
            let sum: u64 = seconds.iter().map(&of).sum();
            let at = (i * each) as f64 + seconds.len() as f64 / 2.0;
            (at, sum as f64 / seconds.len() as f64)
        });
    Line {
        name: name.to_owned(),
        points: points.collect(),
    }
}

/// A line over the looks from outside.
fn gauge(figures: &Figures, name: &str, of: impl Fn(&crate::watch::file::Gauge) -> f64) -> Line {
    let each = figures.gauges.len().div_ceil(POINTS).max(1);
    // Of several looks the worst, since that is asked for.
    let points = figures.gauges.chunks(each).map(|gauges| {
        let worst = gauges.iter().map(&of).fold(0.0, f64::max);
        (since(figures, gauges[0].at), worst)
    });
    Line {
        name: name.to_owned(),
        points: points.collect(),
    }
}

fn since(figures: &Figures, at: u64) -> f64 {
    at.saturating_sub(figures.begin) as f64 / SECOND
}

fn bands(figures: &Figures) -> Vec<Band> {
    // Those that strike calls by chance are everywhere.
    let timed = figures.faults.iter().filter(|given| given.place.is_empty());
    let band = |given: &crate::watch::file::Given| {
        let from = since(figures, given.at);
        Band {
            from,
            until: from + given.lasts as f64 / SECOND,
            what: format!("{} of {} at {from:.1} s", given.kind, given.target),
        }
    };
    timed.map(band).collect()
}

fn charts(figures: &Figures) -> Markup {
    let bands = bands(figures);
    // Of a run that was cut short, only what there is of it.
    let planned = figures.begin + figures.start.lasts;
    let last = match figures.end {
        Some(_) => figures.last.max(planned),
        None => figures.last,
    };
    let seconds = since(figures, last);
    let chart = |title, unit, lines: &[Line]| {
        let bands = &bands;
        Chart {
            title,
            unit,
            lines,
            bands,
            seconds,
        }
        .render()
    };
    let rates = [
        rate(figures, "offered", |second| second.offered),
        rate(figures, "sent", |second| second.sent),
        rate(figures, "confirmed", |second| second.confirmed),
        rate(figures, "delivered", |second| second.delivered),
        rate(figures, "requests done", |second| second.workflows),
    ];
    let oldest = [gauge(figures, "the oldest event in the outbox", |it| {
        it.oldest_ms as f64 / 1e3
    })];
    let mut depths = vec![gauge(figures, "outbox", |it| it.outbox as f64)];
    for queue in figures.work_queues() {
        depths.push(gauge(figures, &queue, |it| it.ready(&queue) as f64));
    }
    let times = [
        interval(figures, "p50", |it| it.p50),
        interval(figures, "p99", |it| it.p99),
        interval(figures, "longest", |it| it.max),
    ];
    html! {
        (chart("Rates", "/s", &rates))
        (chart("Age of the oldest", " s", &oldest))
        (chart("Messages that wait", "", &depths))
        (chart("From a request's time to its last effect", " ms", &times))
    }
}

fn interval(figures: &Figures, name: &str, of: impl Fn(&Interval) -> u64) -> Line {
    let points = figures.intervals.iter();
    Line {
        name: name.to_owned(),
        points: points
            .map(|it| (since(figures, it.began), of(it) as f64 / 1e6))
            .collect(),
    }
}

fn legs(figures: &Figures) -> Markup {
    html! {
        div .wide {
            table {
                thead {
                    tr {
                        th { "leg" } th .n { "count" }
                        @for (name, _) in QUANTILES { th .n { (name) } }
                        th .n { "longest" } th { "from 0.1 ms to 100 s" }
                    }
                }
                tbody {
                    @for (leg, times) in figures.latencies.legs() { (row(leg, times)) }
                }
            }
        }
    }
}

fn row(leg: Leg, times: Times<'_>) -> Markup {
    html! {
        tr {
            td { code { (leg.as_str()) } }
            td .n { (grouped(times.count())) }
            @for (_, millionths) in QUANTILES { td .n { (latency(times.quantile(millionths))) } }
            td .n { (latency(times.max())) }
            td { (histogram(times)) }
        }
    }
}

/// How many times fall into each third of a power of ten.
fn histogram(times: Times<'_>) -> Markup {
    const BARS: u32 = 18;
    let bound = |bar: u32| (100.0 * 10f64.powf(f64::from(bar) / 3.0)) as u64;
    let counts: Vec<u64> = (0..BARS)
        .map(|bar| {
            let from = if bar == 0 { 0 } else { bound(bar) };
            let until = if bar + 1 == BARS {
                u64::MAX
            } else {
                bound(bar + 1) - 1
            };
            times.histogram().count_between(from, until)
        })
        .collect();
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    html! {
        svg width="180" height="26" viewBox="0 0 180 26" role="img" aria-label="histogram" {
            line .lane x1="0" x2="180" y1="25" y2="25" {}
            @for (bar, count) in counts.iter().enumerate() {
                @if *count > 0 {
                    @let height = (*count as f64 / most * 24.0).max(1.0);
                    rect x=(bar * 10 + 1) y=(format!("{:.1}", 25.0 - height)) width="8"
                        height=(format!("{height:.1}")) fill="var(--accent)" {
                        title { (grouped(*count)) " from " (latency(bound(bar as u32) * 1_000)) }
                    }
                }
            }
        }
    }
}

fn faults(checked: &Checked) -> Markup {
    let figures = &checked.figures;
    let not_given = figures.end.iter().flat_map(|end| &end.not_given);
    let not_given: Vec<_> = not_given.map(String::as_str).collect();
    html! {
        @if !figures.struck.is_empty() {
            h2 { "Faults" }
            table {
                thead { tr { th { "fault" } th .n { "given" } th .n { "seen by somebody else" } } }
                tbody {
                    @for (kind, given) in &figures.struck {
                        tr {
                            td { (kind) } td .n { (grouped(*given)) }
                            td .n { (grouped(figures.witnessed.get(kind).copied().unwrap_or(0))) }
                        }
                    }
                }
            }
        }
        @if !not_given.is_empty() { p .dim { "Real servers were not given: " (not_given.join(", ")) "." } }
    }
}

fn machine(figures: &Figures) -> Markup {
    let parts = binding::cores(figures);
    let ended = figures.counts().done.max(1) as f64;
    let seconds = figures.start.lasts as f64 / SECOND;
    html! {
        @if !parts.is_empty() {
            h2 { "The machine" }
            table {
                thead { tr { th { "part" } th .n { "cores" } th .n { "CPU a message" } } }
                tbody {
                    @for (part, used) in &parts {
                        tr {
                            td { (part) } td .n { (format!("{used:.2}")) }
                            td .n { (latency((used * seconds / ended * SECOND) as u64)) }
                        }
                    }
                }
            }
            p .dim { "It has " (figures.start.cores) " cores." }
        }
    }
}
