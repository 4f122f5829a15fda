//! The page of a sizing: what each number costs, how long outages are survived, and where the present
//! and the recommended numbers stand.

use maud::{Markup, html};
use redeliver_sizing::case::{Case, Target};
use redeliver_sizing::closed::Retries;
use redeliver_sizing::evaluate::Expected;
use redeliver_sizing::model::Setting;
use redeliver_sizing::number::{Number, Value};
use redeliver_sizing::outages::Cell;
use redeliver_sizing::search::{Found, Sized};

use super::chart::Line;
use super::curve::{Curves, Mark};
use super::{shell, theme_button};
use crate::scenario::Scenario;
use crate::size::Question;
use crate::size::layers::Contradiction;
use crate::size::words::neighbour as neighbour_in_words;
use crate::size::words::{figure, name, share, time, with};

/// What the page shows.
#[derive(Debug)]
pub struct Sizing<'a> {
    /// Of which scenario.
    pub scenario: &'a Scenario,
    /// What was asked.
    pub question: &'a Question,
    /// What was found.
    pub found: &'a Found,
    /// For each number, what its values do, the others as recommended.
    pub curves: &'a [(Number, Vec<(Value, Expected)>)],
    /// Two numbers at once.
    pub grid: &'a Grid,
    /// Outages by length and load.
    pub outages: &'a [Cell],
    /// What the whole pipeline shows: figure, model, pipeline, and whether they agree.
    pub confirmed: &'a [(String, String, String, bool)],
    /// What contradicts what in the present numbers.
    pub contradictions: &'a [Contradiction],
    /// Outages without and with a retry budget: name, calls, the most calls, dead letters, backlog gone.
    pub amplification: &'a [[String; 5]],
    /// What each layer repeats: part, client, relay, broker, consumer, library, product, at the service.
    pub repeated: &'a [[String; 8]],
    /// How many settings were looked at, and for how long.
    pub effort: String,
}

/// What two numbers do at once, the others as recommended.
#[derive(Debug)]
pub struct Grid {
    /// The number of the columns, and its values.
    pub columns: (Number, Vec<f64>),
    /// The number of the rows.
    pub rows: (Number, Vec<f64>),
    /// Row by row: the targets that are missed, or none where the setting contradicts itself.
    pub missed: Vec<Vec<Option<Vec<Target>>>>,
}

/// What is above is cut off: twice of what is asked.
const TOP: f64 = 2.0;

/// The page.
pub fn render(sizing: &Sizing<'_>) -> String {
    let (found, scenario) = (sizing.found, &sizing.scenario.name);
    let body = html! {
        header {
            div {
                h1 { (scenario) " sized" }
                p .dim { (sizing.scenario.question) }
                p .dim { (sizing.effort) ", redeliver " (env!("CARGO_PKG_VERSION")) }
            }
            (theme_button())
        }
        @if !found.impossible.is_empty() {
            div .callout {
                @for (target, nearest) in &found.impossible {
                    p { "No numbers were found that meet " strong { (target.as_str()) } ": the nearest is "
                        (figure(*target, *nearest)) ", at most "
                        (figure(*target, sizing.question.case.targets.most(*target))) " is asked." }
                }
            }
        }
        h2 { "Numbers" }
        (numbers(sizing))
        h2 { "Outcomes" }
        (outcomes(sizing))
        @if !sizing.contradictions.is_empty() {
            h2 { "Contradictions between layers, with the present numbers" }
            (contradictions(sizing.contradictions))
        }
        h2 { "What each number costs" }
        p .dim {
            "Each target as a multiple of what is asked, cut off at two: below the dashed line it is met. \
             The green band is the range that meets all of them and contradicts nothing. The dotted line is \
             the present value, the solid line the recommended one."
        }
        div .curves {
            @for (number, curve) in sizing.curves {
                (costs(sizing, *number, curve))
            }
        }
        h2 { "Retries and outages" }
        (survival(sizing))
        (outages(sizing))
        @if !sizing.amplification.is_empty() {
            (amplification(sizing))
        }
        h2 { "Two numbers at once: " (name(sizing.grid.rows.0)) " and " (name(sizing.grid.columns.0)) }
        (grid(sizing))
        @if !sizing.confirmed.is_empty() {
            h2 { "Confirmed by the whole pipeline" }
            (confirmed(sizing.confirmed))
        }
    };
    shell(&format!("{scenario} sized"), &body, None)
}

fn value_of(number: Number, value: Value) -> String {
    match value {
        None => "never".to_owned(),
        Some(count) if number.is_count() => format!("{count:.0}"),
        Some(seconds) => time(seconds),
    }
}

fn numbers(sizing: &Sizing<'_>) -> Markup {
    let found = sizing.found;
    let case = &sizing.question.case;
    let cost = |sized: &Sized, at: usize| {
        let neighbour = sized.neighbours.get(at);
        neighbour.map(|(at, outcome)| {
            let cost = neighbour_in_words(outcome, &found.expected, case);
            (value_of(sized.number, *at), cost)
        })
    };
    html! {
        div .wide { table {
            thead { tr {
                th { "number" } th .n { "now" } th .n { "recommended" } th .n { "lowest" } th .n { "highest" }
                th { "bound below by" } th { "bound above by" } th { "a fifth less" } th { "a fifth more" }
            } }
            tbody {
                @for sized in &found.numbers {
                    @let number = sized.number;
                    tr {
                        td { (name(number)) }
                        td .n { (value_of(number, sized.present)) }
                        td .n { strong { (value_of(number, sized.recommended)) } }
                        td .n { (value_of(number, sized.lowest)) }
                        td .n { (value_of(number, sized.highest)) }
                        (bound(sized, sized.below))
                        (bound(sized, sized.above))
                        @for at in [0, 1] {
                            td { @if let Some((value, cost)) = cost(sized, at) {
                                (cost) span .dim { " at " (value) }
                            } }
                        }
                    }
                }
            }
        } }
    }
}

fn bound(sized: &Sized, bound: Option<(Value, redeliver_sizing::search::Bound)>) -> Markup {
    html! {
        td {
            @match bound {
                _ if sized.fixed => "fixed",
                None => "",
                Some((value, bound)) => {
                    (bound.as_str()) span .dim { " at " (value_of(sized.number, value)) }
                }
            }
        }
    }
}

fn outcomes(sizing: &Sizing<'_>) -> Markup {
    let case = &sizing.question.case;
    let cell = |expected: &Expected, target: Target| {
        let (found, most) = (expected.of(target), case.targets.most(target));
        let class = if found.mean > most { "n violated" } else { "n" };
        html! { td class=(class) { (with(found, &|value| figure(target, value))) } }
    };
    html! {
        div .wide { table {
            thead { tr { th { "target" } th .n { "asked at most" } th .n { "now" } th .n { "recommended" } } }
            tbody {
                @for target in Target::ALL {
                    tr {
                        td { (named(target, case)) }
                        td .n { (figure(target, case.targets.most(target))) }
                        (cell(&sizing.found.present, target))
                        (cell(&sizing.found.expected, target))
                    }
                }
            }
        } }
    }
}

fn named(target: Target, case: &Case) -> String {
    match target {
        Target::Duplicates => {
            "messages whose handler runs again though it may have acted".to_owned()
        }
        Target::DeadLetters => "dead letters of failures that would have passed".to_owned(),
        Target::Recovery => "recovery after a crash, for 95 of 100".to_owned(),
        Target::Amplification => {
            "calls in the busiest part of an outage, for each message".to_owned()
        }
        Target::Latency => format!("arrival to effect, for {}", share(case.targets.quantile)),
    }
}

/// Each target over the values of a number.
fn costs(sizing: &Sizing<'_>, number: Number, curve: &[(Value, Expected)]) -> Markup {
    let case = &sizing.question.case;
    let lines = Target::ALL.map(|target| {
        let points = curve.iter().filter_map(|(value, expected)| {
            let part = expected.of(target).mean / case.targets.most(target).max(1e-12);
            Some(((*value)?, part.min(TOP)))
        });
        Line {
            name: target.as_str().to_owned(),
            points: points.collect(),
        }
    });
    let sized = sizing.found.numbers.iter().find(|it| it.number == number);
    let marks = sized.map_or(Vec::new(), |sized| {
        let present = sized.present.map(|at| Mark { at, name: "now" });
        let best = sized.recommended.map(|at| Mark {
            at,
            name: if sized.present == sized.recommended {
                ""
            } else {
                "new"
            },
        });
        present.into_iter().chain(best).collect()
    });
    let chart = Curves {
        title: &name(number),
        lines: &lines,
        marks: &marks,
        range: sized.and_then(|it| Some((it.lowest?, it.highest?))),
        limit: Some(1.0),
        top: TOP,
        ticks: &curve.iter().filter_map(|it| it.0).collect::<Vec<_>>(),
        x_text: &|value| value_of(number, Some(value)),
        y_text: &|value| format!("{value:.0}x"),
    };
    chart.render()
}

/// The share of messages that an outage ends, by its length.
fn survival(sizing: &Sizing<'_>) -> Markup {
    let lengths: Vec<f64> = (0..=80)
        .map(|n| 10.0 * 1.13f64.powi(n))
        .take_while(|it| *it <= 172_800.0)
        .collect();
    let line = |name: &str, setting: &Setting| {
        let retries = Retries::of(setting);
        let points = lengths
            .iter()
            .map(|lasts| (*lasts, retries.lost_to_outage(*lasts)));
        Line {
            name: name.to_owned(),
            points: points.collect(),
        }
    };
    let lines = [
        line("now", &sizing.question.present),
        line("recommended", &sizing.found.recommended),
    ];
    let chart = Curves {
        title: "Messages of an outage whose tries all fall into it, by its length",
        lines: &lines,
        marks: &[],
        range: None,
        limit: None,
        top: 1.0,
        ticks: &[10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0],
        x_text: &|seconds| time(seconds),
        y_text: &|value| share(value),
    };
    html! {
        p .dim { "If a call fails at once; calculated, not simulated." }
        div .curves { (chart.render()) }
    }
}

/// Recovery over length and load.
fn outages(sizing: &Sizing<'_>) -> Markup {
    let mut loads: Vec<f64> = sizing.outages.iter().map(|it| it.load).collect();
    loads.sort_by(f64::total_cmp);
    loads.dedup();
    let mut lengths: Vec<f64> = sizing.outages.iter().map(|it| it.lasts).collect();
    lengths.sort_by(f64::total_cmp);
    lengths.dedup();
    let at = |lasts: f64, load: f64| {
        sizing
            .outages
            .iter()
            .find(|it| it.lasts == lasts && it.load == load)
    };
    html! {
        h3 { "After an outage, by its length and by load, with the recommended numbers" }
        p .dim { "In what time its backlog is gone, and how many of its messages end in the dead letters." }
        div .wide { table .heat {
            thead { tr {
                th { "outage" }
                @for load in &loads { th { (load) "x the load" } }
            } }
            tbody {
                @for lasts in &lengths {
                    tr {
                        th { (time(*lasts)) }
                        @for load in &loads {
                            @match at(*lasts, *load) {
                                Some(cell) => {
                                    td style=(heat(badness(cell))) {
                                        (drained(cell)) br; span .dim { (share(cell.seen.dead.mean)) " dead" }
                                    }
                                }
                                None => { td {} }
                            }
                        }
                    }
                }
            }
        } }
    }
}

fn contradictions(all: &[Contradiction]) -> Markup {
    html! {
        @for Contradiction { name, sentence, story } in all {
            details {
                summary { strong { (name) } ": " (sentence) }
                table {
                    tbody {
                        @for (at, what) in story {
                            tr { td .n { (at) } td { (what) } }
                        }
                    }
                }
            }
        }
    }
}

/// What outages make of the load on the service, and which layer repeats what.
fn amplification(sizing: &Sizing<'_>) -> Markup {
    html! {
        h3 { "Load on the service in an outage, without and with a retry budget" }
        div .wide { table {
            thead { tr {
                th { "" } th .n { "calls a message" } th .n { "at most" } th .n { "dead letters" }
                th .n { "backlog gone" }
            } }
            tbody {
                @for [name, calls, most, dead, drained] in sizing.amplification {
                    tr {
                        td { (name) } td .n { (calls) } td .n { (most) } td .n { (dead) } td .n { (drained) }
                    }
                }
            }
        } }
        @if !sizing.repeated.is_empty() {
            h3 { "What each layer repeats, in the whole pipeline" }
            p .dim {
                "How often each does what it has to do once; their product is what would reach the service if \
                 inbox and idempotency keys recognised nothing. Clients and relays are recognised by the inbox."
            }
            div .wide { table {
                thead { tr {
                    th { "" } th .n { "client" } th .n { "relay" } th .n { "broker" } th .n { "consumer" }
                    th .n { "client library" } th .n { "product" } th .n { "at the service" }
                } }
                tbody {
                    @for row in sizing.repeated {
                        tr { @for (at, cell) in row.iter().enumerate() {
                            @if at == 0 { td { (cell) } } @else { td .n { (cell) } }
                        } }
                    }
                }
            } }
        }
    }
}

fn drained(cell: &Cell) -> String {
    match (cell.seen.drained, cell.never) {
        (Some(drained), _) => time(drained.mean),
        (None, Some(never)) => format!("never: {}", never.as_str()),
        (None, None) => format!("over {}", time(cell.looked_at())),
    }
}

/// From 0 (gone as soon as the outage) to 1.
fn badness(cell: &Cell) -> f64 {
    let late = match cell.seen.drained {
        Some(drained) => (drained.mean / cell.looked_at()).min(1.0) * 0.7,
        None => 1.0,
    };
    late.max(cell.seen.dead.mean.sqrt())
}

/// A background from green to red.
fn heat(badness: f64) -> String {
    let red = (badness.clamp(0.0, 1.0) * 100.0).round();
    format!(
        "background: color-mix(in srgb, color-mix(in srgb, var(--bad) {red}%, var(--ok)) 28%, transparent)"
    )
}

/// Two numbers at once.
fn grid(sizing: &Sizing<'_>) -> Markup {
    let grid = sizing.grid;
    let mark = |row: f64, column: f64| {
        let is = |setting: &Setting| {
            grid.rows.0.get(setting) == Some(row) && grid.columns.0.get(setting) == Some(column)
        };
        match (is(&sizing.found.recommended), is(&sizing.question.present)) {
            (true, _) => "★ ",
            (false, true) => "○ ",
            (false, false) => "",
        }
    };
    html! {
        p .dim {
            "The targets that are missed, the other numbers as recommended. ★ is the recommended point, ○ the \
             present one; a dash is a setting that contradicts itself."
        }
        div .wide { table .heat {
            thead { tr {
                th { (name(grid.rows.0)) " ╲ " (name(grid.columns.0)) }
                @for value in &grid.columns.1 { th { (value_of(grid.columns.0, Some(*value))) } }
            } }
            tbody {
                @for (row, cells) in grid.rows.1.iter().zip(&grid.missed) {
                    tr {
                        th { (value_of(grid.rows.0, Some(*row))) }
                        @for (column, missed) in grid.columns.1.iter().zip(cells) {
                            @match missed {
                                None => { td .dim { (mark(*row, *column)) "–" } }
                                Some(missed) => {
                                    td style=(heat(missed.len() as f64 / 3.0)) {
                                        (mark(*row, *column))
                                        @if missed.is_empty() { "all met" }
                                        @for (i, target) in missed.iter().enumerate() {
                                            @if i > 0 { ", " }
                                            (target.as_str())
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        } }
    }
}

fn confirmed(rows: &[(String, String, String, bool)]) -> Markup {
    html! {
        div .wide { table {
            thead { tr { th { "" } th .n { "model" } th .n { "pipeline" } th { "" } } }
            tbody {
                @for (name, model, pipeline, agree) in rows {
                    tr {
                        td { (name) } td .n { (model) } td .n { (pipeline) }
                        td class=(if *agree { "valid" } else { "violated" }) {
                            (if *agree { "agree" } else { "differ" })
                        }
                    }
                }
            }
        } }
    }
}
