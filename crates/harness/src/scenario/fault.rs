//! Faults of a scenario file: each becomes a rule (by chance, at calls) or an event (at a time).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::choice::MILLION;
use redeliver_sim::fault::{Event, Kind, Rule};
use toml::Spanned;

use super::error::Problem;
use super::file::FaultTable;
use redeliver_core::ports::env::nanos;

/// A fault as the world takes it.
pub(super) enum Fault {
    ByChance(Rule),
    AtATime(Event),
}

/// A second, for faults that do not say how long they last.
const LASTS: u64 = 1_000_000_000;

pub(super) fn read(table: &Spanned<FaultTable>) -> Result<Fault, Vec<Problem>> {
    let table = table.get_ref();
    let kind = table.kind.get_ref().0;
    let mut problems = Vec::new();
    // A crash and a pause can be either: `at` says which.
    let both = matches!(kind, Kind::Crash | Kind::Pause);
    let timed = kind.seams().is_empty() || (both && table.at.is_some());
    if timed {
        misplaced(
            kind,
            "happens at a time",
            by_chance_keys(table),
            &mut problems,
        );
        if table.at.is_none() {
            problems.push(
                Problem::new(
                    format!("`{kind}` has no time", kind = kind.as_str()),
                    table.kind.span(),
                )
                .label("happens at a time, not by chance")
                .help("say when: at = \"30s\""),
            );
        }
        needs(kind, table, &mut problems);
    } else {
        misplaced(
            kind,
            "strikes calls by chance",
            timed_keys(table),
            &mut problems,
        );
        chance(kind, table, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(if timed {
        Fault::AtATime(event(kind, table))
    } else {
        Fault::ByChance(rule(kind, table))
    })
}

fn place<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
    value.as_ref().map(Spanned::span)
}

fn by_chance_keys(t: &FaultTable) -> [(&'static str, Option<Range<usize>>); 10] {
    [
        ("probability", place(&t.probability)),
        ("seam", place(&t.seam)),
        ("process", place(&t.process)),
        ("message", place(&t.message)),
        ("attempt", place(&t.attempt)),
        ("call", place(&t.call)),
        ("after", place(&t.after)),
        ("from", place(&t.from)),
        ("until", place(&t.until)),
        ("limit", place(&t.limit)),
    ]
}

fn timed_keys(t: &FaultTable) -> [(&'static str, Option<Range<usize>>); 4] {
    [
        ("at", place(&t.at)),
        ("target", place(&t.target)),
        ("by", place(&t.by)),
        ("lose", place(&t.lose)),
    ]
}

fn misplaced<const N: usize>(
    kind: Kind,
    nature: &str,
    keys: [(&'static str, Option<Range<usize>>); N],
    problems: &mut Vec<Problem>,
) {
    for (key, span) in keys {
        let Some(span) = span else { continue };
        let help = match key {
            "at" | "from" | "until" => "by chance: from and until; at a time: at and lasts",
            "process" | "message" | "target" => "by chance: process, message; at a time: target",
            _ => "see the keys of a fault in `redeliver schema`",
        };
        problems.push(
            Problem::new(
                format!("`{key}` does not go with `{}`", kind.as_str()),
                span,
            )
            .label(format!("this kind {nature}"))
            .help(help),
        );
    }
}

/// Keys that a timed kind cannot do without, and those that it has no use for.
fn needs(kind: Kind, table: &FaultTable, problems: &mut Vec<Problem>) {
    let mut missing = |key: &str, example: &str| {
        problems.push(
            Problem::new(
                format!("`{}` needs `{key}`", kind.as_str()),
                table.kind.span(),
            )
            .help(format!("for example: {key} = {example}")),
        );
    };
    let clock = matches!(kind, Kind::ClockSkew | Kind::ClockJump);
    let loses = matches!(kind, Kind::LostConfirmed | Kind::FailOver);
    if matches!(kind, Kind::UnboundQueue | Kind::LostConfirmed) && table.target.is_none() {
        missing("target", "the name of a consumer, whose queue is meant");
    }
    if clock && table.by.is_none() {
        missing("by", "\"-5s\"");
    }
    if kind == Kind::LostConfirmed && table.lose.is_none() {
        missing("lose", "1");
    }
    for (key, span, fits) in [
        ("by", place(&table.by), clock),
        ("lose", place(&table.lose), loses),
    ] {
        if let Some(span) = span.filter(|_| !fits) {
            let what = format!("`{key}` does not go with `{}`", kind.as_str());
            problems.push(Problem::new(what, span).label("has no such amount"));
        }
    }
}

fn chance(kind: Kind, table: &FaultTable, problems: &mut Vec<Problem>) {
    pinned(kind, table, problems);
    let says_which = table.message.is_some() || table.limit.is_some() || table.call.is_some();
    if table.probability.is_none() && !says_which {
        problems.push(
            Problem::new(
                format!("`{}` has no probability", kind.as_str()),
                table.kind.span(),
            )
            .label("strikes calls by chance")
            .help("say how likely: probability = \"5%\"; or which: message, attempt, limit"),
        );
    }
    if let Some(seam) = &table.seam
        && !kind.seams().contains(&seam.get_ref().0)
    {
        let known: Vec<_> = kind.seams().iter().map(|seam| seam.as_str()).collect();
        problems.push(
            Problem::new(
                format!(
                    "`{}` does not happen at `{}`",
                    kind.as_str(),
                    seam.get_ref().0.as_str()
                ),
                seam.span(),
            )
            .help(format!("it happens at: {}", known.join(", "))),
        );
    }
    if let (Some(from), Some(until)) = (&table.from, &table.until)
        && from.get_ref().0 >= until.get_ref().0
    {
        problems.push(Problem::new("`until` is not after `from`", until.span()));
    }
    for (key, value) in [
        ("attempt", &table.attempt),
        ("limit", &table.limit),
        ("call", &table.call),
    ] {
        if let Some(value) = value.as_ref().filter(|v| *v.get_ref() == 0) {
            let what = format!("`{key}` is counted from 1");
            problems.push(Problem::new(what, value.span()));
        }
    }
}

/// What goes with exactly one call.
fn pinned(kind: Kind, table: &FaultTable, problems: &mut Vec<Problem>) {
    if let Some(after) = &table.after
        && !matches!(kind, Kind::Crash | Kind::Pause)
    {
        let what = format!("`after` does not go with `{}`", kind.as_str());
        problems.push(Problem::new(what, after.span()).label("only a crash or a pause has a side"));
    }
    let Some(call) = &table.call else { return };
    if let Some(probability) = &table.probability {
        let what = "`probability` does not go with `call`";
        problems.push(Problem::new(what, probability.span()).label("that call is struck for sure"));
    }
    for (key, missing) in [
        ("process", table.process.is_none()),
        ("seam", table.seam.is_none() && kind.seams().len() > 1),
    ] {
        if missing {
            let what = format!("`call` needs `{key}`");
            problems.push(Problem::new(what, call.span()).label("which call is that?"));
        }
    }
}

fn rule(kind: Kind, table: &FaultTable) -> Rule {
    let text = |value: &Option<Spanned<String>>| {
        value
            .as_ref()
            .map(|text| Arc::from(text.get_ref().as_str()))
    };
    let ppm = table
        .probability
        .as_ref()
        .map_or(MILLION, |p| p.get_ref().0);
    Rule {
        seam: table.seam.as_ref().map(|seam| seam.get_ref().0),
        process: text(&table.process),
        subject: text(&table.message),
        attempt: table.attempt.as_ref().map(|attempt| *attempt.get_ref()),
        call: table.call.as_ref().map(|call| *call.get_ref()),
        after: table.after.as_ref().map(|after| *after.get_ref()),
        from: table
            .from
            .as_ref()
            .map_or(0, |from| nanos(from.get_ref().0)),
        until: table
            .until
            .as_ref()
            .map_or(u64::MAX, |until| nanos(until.get_ref().0)),
        lasts: table.lasts.map_or(LASTS, |lasts| nanos(lasts.0)),
        limit: table
            .limit
            .as_ref()
            .map_or(u32::MAX, |limit| *limit.get_ref()),
        ..Rule::new(kind, ppm)
    }
}

fn event(kind: Kind, table: &FaultTable) -> Event {
    let at = table
        .at
        .as_ref()
        .map_or(Duration::ZERO, |at| at.get_ref().0);
    let lose = table
        .lose
        .as_ref()
        .map_or(0, |lose| i64::from(*lose.get_ref()));
    Event {
        kind,
        at: nanos(at),
        lasts: table.lasts.map_or(LASTS, |lasts| nanos(lasts.0)),
        target: table
            .target
            .as_ref()
            .map(|t| Arc::from(t.get_ref().as_str())),
        amount: table.by.as_ref().map_or(lose, |by| by.get_ref().0),
    }
}
