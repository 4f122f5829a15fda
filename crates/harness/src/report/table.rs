//! The table at the end of a gate, in 80 columns.
//!
//! What has no bound, the faults by kind first of all, stands below its row and wraps.

use std::fmt::Write;
use std::time::Duration;

use super::Tally;
use crate::verdict::{Judgement, Verdict};
use crate::words::{ratio, short, time, wrap};

const WIDTH: usize = 80;
const NAME: usize = 19;

/// One row of cells; the columns are 19, 6, 8, 7, 12, 9 and 12 wide.
struct Row<'a> {
    name: &'a str,
    cells: [String; 5],
    verdict: Cell,
}

enum Cell {
    Head,
    Verdict(Verdict),
}

/// Shows the tallies, with a sum below them. `wall` is the time of all of them together.
pub fn render(tallies: &[Tally], whole: &Judgement, wall: Duration, colour: bool) -> String {
    let head = ["seeds", "messages", "virtual", "virtual:real", "anomalies"];
    let times = |virtual_ns, wall| [time(virtual_ns), ratio(virtual_ns, wall)];
    rows(tallies, whole, wall, colour, head, times)
}

/// The same for runs on real servers, which have no virtual time.
pub fn render_real(tallies: &[Tally], whole: &Judgement, wall: Duration, colour: bool) -> String {
    let head = ["seeds", "messages", "time", "", "anomalies"];
    let times = |_, wall: Duration| [time(clamp(wall.as_nanos())), String::new()];
    rows(tallies, whole, wall, colour, head, times)
}

fn rows(
    tallies: &[Tally],
    whole: &Judgement,
    wall: Duration,
    colour: bool,
    head: [&str; 5],
    times: impl Fn(u64, Duration) -> [String; 2],
) -> String {
    let mut text = String::new();
    let head = Row {
        name: "scenario",
        cells: head.map(str::to_owned),
        verdict: Cell::Head,
    };
    head.write(&mut text, colour);
    rule(&mut text);
    for tally in tallies {
        let judgement = tally.judgement();
        let [took, ratio] = times(clamp(tally.virtual_ns), tally.wall);
        let row = Row {
            name: &tally.scenario.name,
            cells: [
                short(tally.seeds),
                short(tally.messages),
                took,
                ratio,
                short(tally.anomalies),
            ],
            verdict: Cell::Verdict(judgement.verdict),
        };
        row.write(&mut text, colour);
        notes(tally, &judgement, &mut text);
    }
    rule(&mut text);
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let virtual_ns = clamp(tallies.iter().map(|tally| tally.virtual_ns).sum());
    let [took, ratio] = times(virtual_ns, wall);
    let sum = Row {
        name: "all",
        cells: [
            short(sum(|tally| tally.seeds)),
            short(sum(|tally| tally.messages)),
            took,
            ratio,
            short(sum(|tally| tally.anomalies)),
        ],
        verdict: Cell::Verdict(whole.verdict),
    };
    sum.write(&mut text, colour);
    note(
        &mut text,
        "because:",
        words(whole.why().unwrap_or_default()),
    );
    if tallies.len() > 1 {
        note(&mut text, "ended:", words(super::ends(tallies).describe()));
    }
    coverage(tallies, &mut text);
    text
}

/// What faults have reached, and what they never did, over all scenarios.
fn coverage(tallies: &[Tally], text: &mut String) {
    let (reached, missed) = super::reached(tallies);
    let struck = reached.struck().count();
    let all = struck + missed.len();
    if all == 0 {
        return;
    }
    let _ = writeln!(
        text,
        "\nreached: {struck} of {all} faults at stages of the pipeline"
    );
    if !missed.is_empty() {
        let names: Vec<_> = missed.iter().map(ToString::to_string).collect();
        note(text, "never:", words(names.join(", ")));
    }
}

fn clamp(ns: u128) -> u64 {
    u64::try_from(ns).unwrap_or(u64::MAX)
}

fn rule(text: &mut String) {
    text.push_str(&"-".repeat(WIDTH - 1));
    text.push('\n');
}

/// What stands below a row.
fn notes(tally: &Tally, judgement: &Judgement, text: &mut String) {
    let counts = |counts: &[(&'static str, u64)]| -> Vec<String> {
        let last = counts.len().saturating_sub(1);
        let comma = |i| if i == last { "" } else { "," };
        counts
            .iter()
            .enumerate()
            // A no-break space keeps kind and count on one line until the end of `note`.
            .map(|(i, (name, count))| {
                let name = name.replace(' ', "\u{a0}");
                format!("{name}\u{a0}{}{}", short(*count), comma(i))
            })
            .collect()
    };
    if tally.seeds > 0 {
        note(text, "ended:", words(tally.ends.describe()));
    }
    note(
        text,
        "times:",
        words(super::times::describe(&tally.latencies)),
    );
    note(text, "faults:", counts(&tally.faults_in_order()));
    let mechanisms: Vec<_> = tally
        .mechanisms
        .iter()
        .copied()
        .filter(|m| m.1 > 0)
        .collect();
    note(text, "second pick-ups:", counts(&mechanisms));
    let allow: Vec<_> = tally
        .scenario
        .allow
        .iter()
        .map(|check| check.as_str())
        .collect();
    note(text, "allowed:", words(allow.join(", ")));
    note(text, "known:", words(tally.known().unwrap_or_default()));
    if judgement.verdict == Verdict::Valid && tally.violated > 0 {
        let kinds: Vec<_> = tally
            .scenario
            .expect
            .anomalies
            .iter()
            .map(|k| k.as_str())
            .collect();
        note(text, "as expected:", words(kinds.join(", ")));
    }
    note(text, "because:", words(judgement.why().unwrap_or_default()));
}

fn words(text: String) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn note(text: &mut String, label: &str, words: Vec<String>) {
    if words.iter().all(String::is_empty) {
        return;
    }
    let indent = "  ".len();
    let all = std::iter::once(label.to_owned()).chain(words);
    for (i, line) in wrap(all, WIDTH - 1 - 2 * indent).iter().enumerate() {
        let indent = if i == 0 { indent } else { 2 * indent };
        let _ = writeln!(text, "{:indent$}{}", "", line.replace('\u{a0}', " "));
    }
}

impl Row<'_> {
    fn write(&self, text: &mut String, colour: bool) {
        let names = split_name(self.name);
        let [a, b, c, d, e] = &self.cells;
        let first = names.first().map_or("", String::as_str);
        let _ = write!(text, "{first:<NAME$} {a:>6} {b:>8} {c:>7} {d:>12} {e:>9} ");
        match self.verdict {
            Cell::Head => text.push_str("verdict"),
            Cell::Verdict(verdict) if colour => {
                let code = match verdict {
                    Verdict::Valid => 32,
                    Verdict::Inconclusive => 33,
                    Verdict::Violated => 31,
                };
                let _ = write!(text, "\u{1b}[{code}m{verdict}\u{1b}[0m");
            }
            Cell::Verdict(verdict) => text.push_str(verdict.as_str()),
        }
        text.push('\n');
        for name in names.iter().skip(1) {
            let _ = writeln!(text, "  {name}");
        }
    }
}

/// A long name in pieces, broken behind its hyphens.
fn split_name(name: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in name.split_inclusive('-') {
        let mut rest: Vec<char> = piece.chars().collect();
        match lines.last_mut() {
            Some(line) if line.chars().count() + rest.len() <= NAME - 2 => line.extend(rest),
            _ => {
                while rest.len() > NAME - 2 {
                    lines.push(rest.drain(..NAME - 2).collect());
                }
                lines.push(rest.into_iter().collect());
            }
        }
    }
    lines
}
