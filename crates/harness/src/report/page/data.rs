//! Diagrams as data for the script of a page: columns of numbers, with every text once.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::diagram::{Diagram, During, Kind, Tone};

/// One diagram.
#[derive(Serialize)]
pub(super) struct Data<'a> {
    lanes: Vec<(&'a str, &'static str)>,
    keys: Vec<&'a str>,
    labels: Vec<&'a str>,
    details: Vec<&'a str>,
    at: Vec<u64>,
    /// Faults that last: step and end, in a row.
    lasting: Vec<u64>,
    lane: Vec<usize>,
    kind: Vec<u8>,
    tone: Vec<u8>,
    message: Vec<i64>,
    label: Vec<usize>,
    detail: Vec<usize>,
    /// Lane and step of the beginning, lane and step of the end, tone; all in a row.
    arrows: Vec<usize>,
    /// Lane, first step, last step or -1, what; all in a row.
    spans: Vec<i64>,
    /// The message that is shown first, or -1 for all.
    focus: i64,
}

/// Texts, each with its number.
#[derive(Default)]
struct Texts<'a> {
    all: Vec<&'a str>,
    numbers: BTreeMap<&'a str, usize>,
}

impl<'a> Texts<'a> {
    fn number(&mut self, text: &'a str) -> usize {
        *self.numbers.entry(text).or_insert_with(|| {
            self.all.push(text);
            self.all.len() - 1
        })
    }
}

impl<'a> Data<'a> {
    pub(super) fn of(diagram: &'a Diagram, focus: &str) -> Self {
        let (mut labels, mut details) = (Texts::default(), Texts::default());
        let steps = &diagram.steps;
        let place = |of: Option<usize>| of.map_or(-1, |of| i64::try_from(of).unwrap_or(-1));
        let focus = diagram.messages.iter().position(|key| **key == *focus);
        Self {
            lanes: diagram
                .lanes
                .iter()
                .map(|lane| (&*lane.name, lane.role.as_str()))
                .collect(),
            keys: diagram.messages.iter().map(|key| &**key).collect(),
            at: steps.iter().map(|step| step.at).collect(),
            lasting: (0u64..)
                .zip(steps)
                .filter(|(_, step)| step.until > step.at)
                .flat_map(|(at, step)| [at, step.until])
                .collect(),
            lane: steps.iter().map(|step| step.lane).collect(),
            kind: steps.iter().map(|step| kind(step.kind)).collect(),
            tone: steps.iter().map(|step| tone(step.tone)).collect(),
            message: steps.iter().map(|step| place(step.message)).collect(),
            label: steps.iter().map(|s| labels.number(&s.label)).collect(),
            detail: steps.iter().map(|s| details.number(&s.detail)).collect(),
            labels: labels.all,
            details: details.all,
            arrows: diagram
                .arrows
                .iter()
                .flat_map(|arrow| {
                    let ((a, b), (c, d)) = (arrow.from, arrow.to);
                    [a, b, c, d, usize::from(tone(arrow.tone))]
                })
                .collect(),
            spans: diagram
                .spans
                .iter()
                .flat_map(|span| {
                    let (lane, from) = (place(Some(span.lane)), place(Some(span.from)));
                    [lane, from, place(span.to), during(span.what)]
                })
                .collect(),
            focus: place(focus),
        }
    }
}

/// The order is that of `KINDS` in the script.
fn kind(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 0,
        Kind::Publish => 1,
        Kind::Deliver => 2,
        Kind::Settle => 3,
        Kind::Start => 4,
        Kind::End => 5,
        Kind::Call => 6,
        Kind::Answer => 7,
        Kind::Effect => 8,
        Kind::Process => 9,
        Kind::Fault => 10,
        Kind::Heal => 11,
        Kind::Violation => 12,
        Kind::Broker => 13,
    }
}

/// The order is that of `TONES`.
fn tone(tone: Tone) -> u8 {
    match tone {
        Tone::Plain => 0,
        Tone::Failed => 1,
        Tone::Doubt => 2,
    }
}

/// The order is that of `DURING`.
fn during(what: During) -> i64 {
    match what {
        During::Handler => 0,
        During::Call => 1,
        During::Down => 2,
        During::Paused => 3,
    }
}
