//! Tables that pages of runs and of gates share.

use maud::{Markup, html};
use redeliver_sim::fault::{Event, Kind, Rule, Seam};

use crate::run::swarm::{self, Swarm};
use crate::scenario::Scenario;
use crate::verdict::Anomaly;
use crate::watch::reached::{Cell, Part, Reached};
use crate::words::{grouped, time};

/// Rows of a table at most.
const ROWS: usize = 50;

/// Broken promises, worst first as the checkers found them.
pub(super) fn anomalies(all: &[Anomaly]) -> Markup {
    html! {
        div .wide {
            table {
                thead { tr { th { "anomaly" } th { "seen" } th { "promise" } th { "message" } th { "checker" } } }
                tbody {
                    @for anomaly in all.iter().take(ROWS) {
                        tr {
                            td .violated { (anomaly.kind) }
                            td { (anomaly.seen) }
                            td { (anomaly.promise) }
                            td { code { (anomaly.message) } }
                            td { (anomaly.checker) }
                        }
                    }
                }
            }
        }
        @if let Some(more @ 1..) = all.len().checked_sub(ROWS) {
            p .dim { (more) " more." }
        }
    }
}

/// Names and numbers.
pub(super) fn counts(head: [&str; 2], counts: &[(&str, u64)]) -> Markup {
    html! {
        table {
            thead { tr { th { (head[0]) } th .n { (head[1]) } } }
            tbody {
                @for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
                    tr { td { (name) } td .n { (grouped(*count)) } }
                }
                @if counts.iter().all(|(_, count)| *count == 0) {
                    tr { td .dim { "none" } td {} }
                }
            }
        }
    }
}

/// Which fault has struck which stage how often. `relevant` are the cells that a rule of the
/// scenario is about: those are named where they were never struck.
pub(super) fn reached(reached: &Reached, never: &[Cell]) -> Markup {
    let mut lines: Vec<(Kind, bool, Seam)> = Vec::new();
    for cell in reached.cells() {
        let line = (cell.kind, cell.after, cell.seam);
        let struck = Part::ALL.into_iter().any(|part| {
            let cell = of(line, part);
            reached.count(cell) > 0 || never.contains(&cell)
        });
        if struck && !lines.contains(&line) {
            lines.push(line);
        }
    }
    html! {
        table {
            thead {
                tr {
                    th { "fault at seam" }
                    @for part in Part::ALL { th .n { (part.as_str()) } }
                }
            }
            tbody {
                @for line in &lines {
                    tr {
                        td {
                            (line.0.as_str()) @if line.1 { " (after it acted)" } " at " (line.2.as_str())
                        }
                        @for part in Part::ALL { (entry(reached, never, of(*line, part))) }
                    }
                }
            }
        }
        @if lines.is_empty() { p .dim { "No fault was there to strike." } }
    }
}

fn of((kind, after, seam): (Kind, bool, Seam), part: Part) -> Cell {
    Cell {
        kind,
        after,
        part,
        seam,
    }
}

fn entry(reached: &Reached, never: &[Cell], cell: Cell) -> Markup {
    match reached.count(cell) {
        0 if never.contains(&cell) => html! { td .n .never { "never" } },
        0 => html! { td .n .none { "·" } },
        count => html! { td .n { (grouped(count)) } },
    }
}

/// The faults of a seed, as its swarm has drawn them: what is on, how likely, and what is off.
pub(super) fn faults(scenario: &Scenario, seed: u64) -> Markup {
    let Swarm { rules, events } = swarm::draw(scenario, seed);
    html! {
        @if rules.is_empty() && events.is_empty() {
            p .dim { "None." }
        } @else {
            div .wide {
                table {
                    thead { tr { th { "fault" } th { "where" } th { "when" } th .n { "chance" } } }
                    tbody {
                        @for rule in rules.iter().take(ROWS) { (rule_row(rule)) }
                        @for event in events.iter().take(ROWS) { (event_row(event)) }
                    }
                }
            }
        }
        @if scenario.swarm {
            p .dim {
                "The seed has drawn " (rules.len() + events.len()) " of "
                (scenario.rules.len() + scenario.events.len()) " faults, with these chances."
            }
        }
    }
}

/// The faults that a scenario wants of real servers, how often each kind of them struck, and which
/// cannot be given there.
pub(super) fn given(
    scenario: &Scenario,
    struck: &[(&'static str, u64)],
    not_given: &[String],
) -> Markup {
    let rules = scenario.rules.iter().map(|rule| rule.kind);
    let all = rules.chain(scenario.events.iter().map(|event| event.kind));
    let mut kinds: Vec<Kind> = Vec::new();
    for kind in all {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let times = |kind: &Kind| {
        let found = struck.iter().find(|(name, _)| *name == kind.as_str());
        found.map_or(0, |(_, count)| *count)
    };
    let is_given = |kind: &Kind| not_given.iter().all(|name| name != kind.as_str());
    html! {
        @if kinds.is_empty() {
            p .dim { "None." }
        } @else {
            table {
                thead { tr { th { "fault of the scenario" } th .n { "struck" } } }
                tbody {
                    @for kind in &kinds {
                        tr {
                            td { (kind.as_str()) }
                            @match times(kind) {
                                0 if is_given(kind) => td .n .never { "never" },
                                0 => td .n .none { "not given" },
                                count => td .n { (grouped(count)) },
                            }
                        }
                    }
                }
            }
        }
    }
}

fn rule_row(rule: &Rule) -> Markup {
    let side = match rule.after {
        Some(true) => "after ",
        Some(false) => "before ",
        None => "",
    };
    let seam = rule.seam.map_or("any call", Seam::as_str);
    html! {
        tr {
            td { (rule.kind.as_str()) }
            td {
                (side) (seam)
                @if let Some(process) = &rule.process { " of " (process) }
                @if let Some(subject) = &rule.subject { " about " code { (subject) } }
                @if let Some(call) = rule.call { ", call " (call) }
            }
            td {
                @if rule.from > 0 || rule.until < u64::MAX { (time(rule.from)) " to " (time(rule.until)) }
                @if rule.kind.lasts() { " for " (time(rule.lasts)) }
            }
            td .n {
                @if rule.call.is_some() { "this call" }
                @else { (rule.ppm / 10_000) "." (format!("{:02}", rule.ppm / 100 % 100)) " %" }
            }
        }
    }
}

fn event_row(event: &Event) -> Markup {
    html! {
        tr {
            td { (event.kind.as_str()) }
            td { (event.target.as_deref().unwrap_or("all, or chosen by the seed")) }
            td { "at " (time(event.at)) @if event.lasts > 0 { " for " (time(event.lasts)) } }
            td .n { "once" }
        }
    }
}
