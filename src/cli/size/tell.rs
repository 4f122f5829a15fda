//! The result for people.

use std::time::Duration;

use super::snippets::snippets;
use crate::cli::out::Out;
use redeliver_harness::scenario::{Size, format_duration};
use redeliver_harness::size::Question;
use redeliver_harness::size::words::{figure, name, neighbour, share, time, value, with};
use redeliver_sizing::case::{OutageKind, Shape, Target};
use redeliver_sizing::evaluate::Expected;
use redeliver_sizing::number::Value;
use redeliver_sizing::retention::{longest_try, needed};
use redeliver_sizing::search::{Bound, Found, Weights};

/// How long an outage is; several as a list.
pub(super) fn length(kind: &OutageKind) -> String {
    let lengths = kind
        .times(0.0)
        .into_iter()
        .map(|(from, until)| until - from);
    lengths.map(time).collect::<Vec<_>>().join(" + ")
}

fn outage(kind: &OutageKind) -> String {
    format!("{} every {}", length(kind), time(86_400.0 / kind.per_day))
}

/// The weights, those that are not as usual.
fn weights(size: &Size) -> String {
    let (found, usual) = (weights_of(size), Weights::default());
    let targets = Target::ALL.map(Target::as_str).into_iter();
    let targets = targets.zip(found.targets).zip(usual.targets);
    let targets = targets.map(|((name, weight), usual)| (name, weight, usual));
    let all = targets.chain([
        ("workers", found.workers, usual.workers),
        ("first-wait", found.retries, usual.retries),
        ("drain", found.drain, usual.drain),
    ]);
    let changed: Vec<String> = all
        .filter(|(_, weight, usual)| weight != usual)
        .map(|(name, weight, _)| format!("{name} {weight}"))
        .collect();
    match changed.is_empty() {
        true => "as usual".to_owned(),
        false => changed.join(", "),
    }
}

/// The weights of the search.
pub(super) fn weights_of(size: &Size) -> Weights {
    let weight = |thousandths: u32| f64::from(thousandths) / 1e3;
    Weights {
        targets: size.weights.targets.map(weight),
        workers: weight(size.weights.workers),
        retries: weight(size.weights.first_wait),
        drain: weight(size.weights.drain),
    }
}

/// What is assumed, and what is asked.
pub(super) fn said(question: &Question, out: &mut Out) {
    let (case, size) = (&question.case, &question.size);
    let of = match &question.service {
        Some(service) => format!("as service {service}"),
        None => "as [size] says".to_owned(),
    };
    let handler = &case.handler;
    out.line(&format!(
        "{:.3} messages a second for {} processes; a handler takes {} on average, {} at p95, {} at p99 \
         ({of})",
        case.rate,
        question.present.processes,
        time(handler.mean()),
        time(handler.quantile(0.95)),
        time(handler.quantile(0.99)),
    ));
    let every = |it: Option<Duration>, happens: &str, never: &str| match it {
        None => never.to_owned(),
        Some(it) => format!("{happens} every {}", format_duration(it)),
    };
    let outages: Vec<_> = case.outages.iter().map(outage).collect();
    let fails = match size.fails_after {
        Some(after) => format!("calls fail after {}", format_duration(after)),
        None => "calls hang".to_owned(),
    };
    out.line(&format!(
        "assumed: {} of tries fail; {}; {}; {}",
        share(case.fails),
        match outages.is_empty() {
            true => "no outages".to_owned(),
            false => format!("outages of {} ({fails})", outages.join(", ")),
        },
        match size.crashes_at.len() {
            0 => every(size.crash_every, "each process dies", "no process dies"),
            crashes => format!(
                "{crashes} {} each {}",
                if crashes == 1 { "crash" } else { "crashes" },
                format_duration(size.period)
            ),
        },
        match size.deploys_at.len() {
            0 => every(size.deploy_every, "all are replaced", "none is replaced"),
            deploys => format!(
                "{deploys} {} each {}",
                if deploys == 1 { "deploy" } else { "deploys" },
                format_duration(size.period)
            ),
        },
    ));
    out.line(&format!(
        "         arrivals {}; {} for a hop; {} {} in each try; weights {}",
        match &case.arrivals {
            Shape::Poisson => "at random",
            Shape::Constant => "at equal distances",
            Shape::Cycle(_) => "at a rate that changes",
        },
        time(case.hop),
        case.calls,
        if case.calls == 1 { "call" } else { "calls" },
        weights(size),
    ));
    let asked = Target::ALL.map(|target| match target {
        Target::Latency => format!(
            "{} of messages within {}",
            share(case.targets.quantile),
            time(case.targets.within)
        ),
        _ => format!(
            "{} at most {}",
            target.as_str(),
            figure(target, case.targets.most(target))
        ),
    });
    out.line(&format!("asked: {}", asked.join(", ")));
    out.line("");
}

pub(super) fn tell(question: &Question, found: &Found, took: Duration, out: &mut Out) {
    said(question, out);
    out.line(&format!(
        "{:<20} {:>10} {:>12}  {:<16} {}",
        "number", "now", "recommended", "range", "bound by (below, above)"
    ));
    for sized in &found.numbers {
        let number = sized.number;
        let range = format!(
            "{} to {}",
            value(number, sized.lowest),
            value(number, sized.highest)
        );
        let bound = |it: &Option<(Value, Bound)>| it.map_or("-", |(_, bound)| bound.as_str());
        let bounds = format!("{}, {}", bound(&sized.below), bound(&sized.above));
        out.line(&format!(
            "{:<20} {:>10} {:>12}  {:<16} {}",
            name(number),
            value(number, sized.present),
            value(number, sized.recommended),
            range,
            if sized.fixed { "fixed" } else { &bounds },
        ));
    }
    out.line("");
    neighbours(question, found, out);
    let columns = [("now", &found.present), ("recommended", &found.expected)];
    outcomes(question, &columns, out);
    missed(question, &found.present, "the present numbers", out);
    if !found.impossible.is_empty() {
        missed(
            question,
            &found.expected,
            "no numbers were found that meet this: the nearest",
            out,
        );
    }
    keeping(question, found, out);
    snippets(&found.recommended, out);
    out.line(&format!(
        "{} settings of {} messages each, in {:.1} s",
        found.settings,
        found.expected.messages,
        took.as_secs_f64()
    ));
}

/// What a fifth less and a fifth more of each number would cost, the others as recommended.
fn neighbours(question: &Question, found: &Found, out: &mut Out) {
    out.line(&format!("{:<20} {:<44} {}", "a fifth off", "less", "more"));
    for sized in found.numbers.iter().filter(|it| !it.neighbours.is_empty()) {
        let number = sized.number;
        let cells = sized.neighbours.iter().map(|(at, outcome)| {
            let cost = neighbour(outcome, &found.expected, &question.case);
            format!("{}: {cost}", value(number, *at))
        });
        let cells: Vec<String> = cells.collect();
        let (less, more) = (cells.first(), cells.get(1));
        let text = |cell: Option<&String>| cell.cloned().unwrap_or_default();
        let line = format!("{:<20} {:<44} {}", name(number), text(less), text(more));
        out.line(line.trim_end());
    }
    out.line("");
}

/// What is to be expected, a line each.
pub(super) fn outcomes(question: &Question, columns: &[(&str, &Expected)], out: &mut Out) {
    let mut head = format!("{:<44}", "expected");
    for (name, _) in columns {
        head.push_str(&format!(" {name:>20}"));
    }
    out.line(&head);
    type Row<'a> = (&'a str, &'a dyn Fn(&Expected) -> String);
    let rows: [Row<'_>; 12] = [
        ("taken back from a live handler by a timeout", &|it| {
            with(it.taken_back, &share)
        }),
        ("cut off at the handler limit, and run again", &|it| {
            with(it.cut_off, &share)
        }),
        ("run again beside a handler that still runs", &|it| {
            with(it.beside, &share)
        }),
        ("run again after a crash", &|it| with(it.crashed, &share)),
        ("dead letters of failures that would pass", &|it| {
            with(it.dead, &share)
        }),
        ("mean wait for a worker", &|it| with(it.wait, &time)),
        ("arrival to effect, p50", &|it| with(it.times[0], &time)),
        ("arrival to effect, p95", &|it| with(it.times[1], &time)),
        ("arrival to effect, p99", &|it| with(it.times[2], &time)),
        ("recovery after a crash, p95", &|it| {
            it.recovery.map_or("-".to_owned(), |it| with(it, &time))
        }),
        ("most calls in an outage or after it", &|it| {
            with(it.amplification, &|value| format!("{value:.1}x"))
        }),
        ("workers busy", &|it| with(it.busy, &share)),
    ];
    for (name, of) in rows {
        let mut line = format!("{name:<44}");
        for (_, expected) in columns {
            line.push_str(&format!(" {:>20}", of(expected)));
        }
        out.line(&line);
    }
    for (at, kind) in question.case.outages.iter().enumerate() {
        let name = format!("backlog gone after an outage of {}", length(kind));
        let mut line = format!("{name:<44}");
        for (_, expected) in columns {
            let drained = expected.outages.get(at).and_then(|it| it.drained);
            let drained = drained.map_or("later".to_owned(), |it| with(it, &time));
            line.push_str(&format!(" {drained:>20}"));
        }
        out.line(&line);
    }
    out.line("");
}

/// The targets that are missed, and by how much.
pub(super) fn missed(question: &Question, expected: &Expected, who: &str, out: &mut Out) {
    for target in expected.broken(&question.case) {
        let (found, most) = (expected.of(target).mean, question.case.targets.most(target));
        out.line(&format!(
            "{who}: {} {}, at most {} asked",
            target.as_str(),
            figure(target, found),
            figure(target, most)
        ));
    }
}

/// For how long things have to be kept.
fn keeping(question: &Question, found: &Found, out: &mut Out) {
    out.line("");
    out.line("to be kept at least, for the recommended numbers:");
    for (kept, least) in needed(&question.case, &found.recommended, &found.expected) {
        let name = kept.as_str().trim_end_matches("_s").replace('_', " ");
        let least = format_duration(Duration::from_secs_f64(least));
        out.line(&format!("  {name:<16} {least:>10}  {}", kept.reason()));
    }
    if let Some((lifetime, least)) = forgotten(question, found) {
        out.line(&format!(
            "the service forgets idempotency keys after {}, and a message may be tried for {}: a call \
             that comes later acts twice",
            format_duration(lifetime),
            time(least)
        ));
    }
}

/// Where the service forgets keys before the last retry or redrive: its lifetime, and how long it takes.
pub(super) fn forgotten(question: &Question, found: &Found) -> Option<(Duration, f64)> {
    let lifetime = question.size.key_lifetime?;
    let setting = &found.recommended;
    let least = longest_try(setting) + setting.policy.redrive_horizon.as_secs_f64();
    (lifetime.as_secs_f64() < least).then_some((lifetime, least))
}
