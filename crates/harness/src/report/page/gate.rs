//! The page of a gate: every scenario, what was broken, and what faults have reached.

use std::time::Duration;

use maud::{Markup, html};

use super::{badge, copied, shell, tables, theme_button};
use crate::report::{NOT_COVERED, Tally, ends, reached};
use crate::verdict::{AnomalyKind, Judgement, Verdict};
use crate::words::{counted, grouped, ratio, time};

/// What a gate came to.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// One for each scenario.
    pub tallies: &'a [Tally],
    /// Over all.
    pub judgement: &'a Judgement,
    /// The story of each scenario that is violated.
    pub stories: &'a [Option<String>],
    /// The file beside this page that shows the violated run of each scenario.
    pub pages: &'a [Option<String>],
    /// What became of the canaries, in words.
    pub canaries: &'a str,
    /// For all of it.
    pub wall: Duration,
    /// It was ended early.
    pub interrupted: bool,
    /// The commit of the code under test; empty if unknown.
    pub commit: &'a str,
}

/// The page.
pub fn render(gate: &Gate<'_>) -> String {
    let count = |verdict: Verdict| {
        let of = gate.tallies.iter().map(Tally::verdict);
        of.filter(|of| *of == verdict).count()
    };
    let seeds: u64 = gate.tallies.iter().map(|tally| tally.seeds).sum();
    let messages: u64 = gate.tallies.iter().map(|tally| tally.messages).sum();
    let (struck, never) = reached(gate.tallies);
    let body = html! {
        header {
            div {
                h1 { "Gate " (badge(gate.judgement.verdict)) }
                @for why in &gate.judgement.because { p .inconclusive { (why) } }
                p .dim {
                    (counted(seeds, "run")) " of " (counted(gate.tallies.len() as u64, "scenario")) " with "
                    (grouped(messages)) " messages, " (time(nanos(gate.wall)))
                    @if gate.interrupted { "; it was ended early" }
                    @if !gate.commit.is_empty() { ", commit " code { (gate.commit) } }
                }
            }
            (theme_button())
        }
        p {
            span .violated { (count(Verdict::Violated)) " violated" } ", "
            span .inconclusive { (count(Verdict::Inconclusive)) " inconclusive" } ", "
            span .valid { (count(Verdict::Valid)) " valid" } "; " (gate.canaries) "."
        }
        p { "Of all messages: " (ends(gate.tallies).describe()) "." }
        (broken(gate))
        (scenarios(gate))
        h2 { "What faults have reached" }
        @if !never.is_empty() {
            p { "Could have been struck by a rule of some scenario and never was: "
                @for (i, cell) in never.iter().enumerate() { @if i > 0 { ", " } code { (cell) } }
            }
        }
        (tables::reached(&struck, &never))
        p .dim { (NOT_COVERED) }
    };
    shell(&format!("gate: {}", gate.judgement.verdict), &body, None)
}

/// A file beside this page, as a link names it.
fn href(file: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let mut link = String::new();
    for byte in file.bytes() {
        match plain(byte) {
            true => link.push(char::from(byte)),
            false => link.push_str(&format!("%{byte:02X}")),
        }
    }
    link
}

fn nanos(wall: Duration) -> u64 {
    u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX)
}

/// Violated scenarios with their stories, and how often each class of anomaly was seen.
fn broken(gate: &Gate<'_>) -> Markup {
    let kinds: Vec<(&str, u64)> = AnomalyKind::ALL
        .into_iter()
        .map(|kind| {
            let violations = gate.tallies.iter().flat_map(|tally| &tally.violations);
            let all = violations.flat_map(|violation| &violation.anomalies);
            let count = all.filter(|anomaly| anomaly.kind == kind).count();
            (kind.as_str(), count as u64)
        })
        .collect();
    let all = gate.tallies.iter().zip(gate.stories).zip(gate.pages);
    html! {
        @if gate.judgement.verdict == Verdict::Violated || kinds.iter().any(|(_, count)| *count > 0) {
            h2 { "Broken promises" }
            (tables::counts(["anomaly", "in the kept runs"], &kinds))
        }
        @for (i, ((tally, story), page)) in all.enumerate() {
            @if let Some(story) = story {
                details {
                    summary {
                        strong { (tally.scenario.name) } ": " (grouped(tally.violated)) " of "
                        (grouped(tally.seeds)) " seeds are violated"
                        @if let Some(page) = page { " · " a href=(href(page)) { "open the run" } }
                    }
                    (copied(&format!("story-{i}"), story))
                }
            }
        }
    }
}

fn scenarios(gate: &Gate<'_>) -> Markup {
    html! {
        h2 { "Scenarios" }
        div .wide {
            table {
                thead {
                    tr {
                        th { "scenario" } th { "verdict" } th .n { "seeds" } th .n { "from" }
                        th .n { "messages" } th .n { "virtual" } th .n { "virtual:real" }
                        th .n { "anomalies" } th .n { "faults" }
                    }
                }
                tbody {
                    @for (tally, page) in gate.tallies.iter().zip(gate.pages) { (row(tally, page.as_deref())) }
                }
            }
        }
    }
}

fn row(tally: &Tally, page: Option<&str>) -> Markup {
    let judgement = tally.judgement();
    let virtual_ns = u64::try_from(tally.virtual_ns).unwrap_or(u64::MAX);
    let faults: u64 = tally.faults.iter().map(|(_, count)| count).sum();
    let name = &tally.scenario.name;
    html! {
        tr {
            td {
                @if let Some(page) = page { a href=(href(page)) { (name) } } @else { (name) }
                @if !tally.scenario.question.is_empty() { div .dim { (tally.scenario.question) } }
                @if let Some(why) = judgement.why() { div .inconclusive { (why) } }
                div .dim { (tally.ends.describe()) }
                @if let Some(known) = tally.known() { div .dim { "known: " (known) } }
                @if !tally.scenario.allow.is_empty() {
                    div .dim { "allowed: " @for check in &tally.scenario.allow { (check.as_str()) " " } }
                }
            }
            td { (badge(judgement.verdict)) }
            td .n { (grouped(tally.seeds)) }
            td .n { (tally.first_seed) }
            td .n { (grouped(tally.messages)) }
            td .n { (time(virtual_ns)) }
            td .n { (ratio(virtual_ns, tally.wall)) }
            td .n { (grouped(tally.anomalies)) }
            td .n { (grouped(faults)) }
        }
    }
}
