//! What faults have reached: which kind has struck which stage of the pipeline.
//!
//! A stage is a part of the pipeline (the clients, the relays, the workers) with a seam at which
//! it touches the outside. A cell is a kind of fault at a stage. A cell that could have been
//! struck and never was names something that nothing was said about.

use std::collections::BTreeMap;
use std::fmt;

use redeliver_sim::fault::{Kind, Rule, Seam};
use redeliver_sim::reach::Place;

/// A part of the pipeline, by the names of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Whoever commits requests and events.
    Client,
    /// What publishes committed events.
    Relay,
    /// What handles them.
    Worker,
}

impl Part {
    /// All parts, in the order of the flow.
    pub const ALL: [Self; 3] = [Self::Client, Self::Relay, Self::Worker];

    /// Its name in scenario files and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Relay => "relay",
            Self::Worker => "worker",
        }
    }

    /// The part that a process belongs to.
    pub fn of(process: &str) -> Self {
        match process.rsplit_once('-').map(|(role, _)| role) {
            Some("client") => Self::Client,
            Some("relay") => Self::Relay,
            _ => Self::Worker,
        }
    }
}

/// A kind of fault at a stage: `crash-after@worker/commit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// What.
    pub kind: Kind,
    /// After the call took effect; only kinds that have two sides are ever after.
    pub after: bool,
    /// Whom.
    pub part: Part,
    /// At which call.
    pub seam: Seam,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = if self.after { "-after" } else { "" };
        let (kind, part, seam) = (self.kind.as_str(), self.part.as_str(), self.seam.as_str());
        write!(f, "{kind}{after}@{part}/{seam}")
    }
}

impl Cell {
    /// The reverse of its display.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, stage) = text.split_once('@')?;
        let (part, seam) = stage.split_once('/')?;
        let (kind, after) = match (Kind::parse(kind), kind.strip_suffix("-after")) {
            (Some(kind), _) => (kind, false),
            (None, Some(before)) => (Kind::parse(before).filter(|kind| kind.has_sides())?, true),
            (None, None) => return None,
        };
        let part = Part::ALL.into_iter().find(|known| known.as_str() == part)?;
        let seam = Seam::parse(seam).filter(|seam| kind.seams().contains(seam))?;
        Some(Self {
            kind,
            after,
            part,
            seam,
        })
    }

    /// All kinds and sides that can strike at a seam, before and after.
    pub fn kinds_at(seam: Seam) -> impl Iterator<Item = (Kind, bool)> {
        let at = move |kind: &&Kind| kind.seams().contains(&seam);
        let sides = |kind: &Kind| {
            let both = if kind.has_sides() { 2 } else { 1 };
            [(*kind, false), (*kind, true)].into_iter().take(both)
        };
        Kind::ALL.iter().filter(at).flat_map(sides)
    }
}

/// Calls by stage and strikes by cell, over any number of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    calls: BTreeMap<(Part, Seam), u64>,
    struck: BTreeMap<Cell, u64>,
}

impl Reached {
    /// What a run has reached.
    pub fn of(places: &[Place]) -> Self {
        let mut reached = Self::default();
        for place in places {
            let (part, seam) = (Part::of(&place.process), place.seam);
            *reached.calls.entry((part, seam)).or_default() += place.calls;
            for (kind, after, count) in &place.struck {
                let (kind, after) = (*kind, *after);
                let cell = Cell {
                    kind,
                    after,
                    part,
                    seam,
                };
                *reached.struck.entry(cell).or_default() += count;
            }
        }
        reached
    }

    /// Adds what other runs have reached.
    pub fn merge(&mut self, other: &Self) {
        for ((part, seam), count) in &other.calls {
            self.add_calls(*part, *seam, *count);
        }
        for (cell, count) in &other.struck {
            self.add_struck(*cell, *count);
        }
    }

    /// Adds calls of a part at a seam.
    pub fn add_calls(&mut self, part: Part, seam: Seam, count: u64) {
        *self.calls.entry((part, seam)).or_default() += count;
    }

    /// Adds strikes.
    pub fn add_struck(&mut self, cell: Cell, count: u64) {
        *self.struck.entry(cell).or_default() += count;
    }

    /// Stages with how often each was called, in their order.
    pub fn calls(&self) -> impl Iterator<Item = (Part, Seam, u64)> + '_ {
        let calls = self.calls.iter();
        calls.map(|((part, seam), count)| (*part, *seam, *count))
    }

    /// How often a cell was struck.
    pub fn count(&self, cell: Cell) -> u64 {
        self.struck.get(&cell).copied().unwrap_or(0)
    }

    /// Struck cells with how often, in their order.
    pub fn struck(&self) -> impl Iterator<Item = (Cell, u64)> + '_ {
        self.struck.iter().map(|(cell, count)| (*cell, *count))
    }

    /// Every cell that could have been struck: each kind at each stage where a call was made.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells: Vec<Cell> = self.struck.keys().copied().collect();
        for &(part, seam) in self.calls.keys() {
            cells.extend(Cell::kinds_at(seam).map(|(kind, after)| Cell {
                kind,
                after,
                part,
                seam,
            }));
        }
        cells.sort_unstable();
        cells.dedup();
        cells
    }

    /// Cells that some rule of a scenario is about and that were never struck.
    pub fn missed_by(&self, rules: &[Rule]) -> Vec<Cell> {
        let mut cells = self.missed();
        cells.retain(|cell| rules.iter().any(|rule| is_about(rule, *cell)));
        cells
    }

    /// The cells that never were.
    pub fn missed(&self) -> Vec<Cell> {
        let mut cells = self.cells();
        cells.retain(|cell| !self.struck.contains_key(cell));
        cells
    }

    /// Whether the part makes calls at the seam.
    fn is_stage(&self, part: Part, seam: Seam) -> bool {
        self.calls.contains_key(&(part, seam))
    }
}

fn is_about(rule: &Rule, cell: Cell) -> bool {
    let process = rule.process.as_deref();
    // A rule names a process by how it begins.
    let whole = |text: &str| match text.rsplit_once('-') {
        Some((_, number)) if number.parse::<u32>().is_ok() => Part::of(text),
        _ => Part::of(&format!("{text}-1")),
    };
    rule.kind == cell.kind
        && rule.seam.is_none_or(|seam| seam == cell.seam)
        && rule.after.is_none_or(|after| after == cell.after)
        && process.is_none_or(|text| whole(text) == cell.part)
}

/// The matrix for people: a line for each kind and seam, a column for each part. A dot stands
/// where the part makes no such call, a 0 where it was never struck.
pub fn matrix(reached: &Reached) -> String {
    let shown = |number: u64| crate::words::short(number);
    let mut lines: Vec<(Kind, bool, Seam)> = Vec::new();
    for cell in reached.cells() {
        let line = (cell.kind, cell.after, cell.seam);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let mut text = format!("{:<36}", "reached: fault at seam");
    for part in Part::ALL {
        text.push_str(&format!("{:>10}", part.as_str()));
    }
    for (kind, after, seam) in lines {
        let side = if after { "-after" } else { "" };
        let label = format!("{}{side} at {}", kind.as_str(), seam.as_str());
        text.push_str(&format!("\n{label:<36}"));
        for part in Part::ALL {
            let cell = Cell {
                kind,
                after,
                part,
                seam,
            };
            let entry = match reached.is_stage(part, seam) {
                true => shown(reached.count(cell)),
                false => "·".to_owned(),
            };
            text.push_str(&format!("{entry:>10}"));
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn place(process: &str, seam: Seam, struck: Vec<(Kind, bool, u64)>) -> Place {
        Place {
            process: Arc::from(process),
            seam,
            calls: 9,
            struck,
        }
    }

    #[test]
    fn cells_are_read_as_they_are_written() {
        for part in Part::ALL {
            for seam in Seam::ALL {
                for (kind, after) in Cell::kinds_at(*seam) {
                    let seam = *seam;
                    let cell = Cell {
                        kind,
                        after,
                        part,
                        seam,
                    };
                    assert_eq!(Cell::parse(&cell.to_string()), Some(cell));
                }
            }
        }
        for wrong in [
            "crash",
            "crash@worker",
            "lost-ack-after@worker/ack",
            "lost-ack@relay/commit",
        ] {
            assert_eq!(Cell::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_never_struck_is_named() {
        let places = [
            place("relay-1", Seam::Publish, vec![(Kind::Crash, true, 2)]),
            place("charge-card-2", Seam::Ack, vec![(Kind::LostAck, false, 1)]),
        ];
        let mut reached = Reached::of(&places);
        reached.merge(&Reached::of(&places));
        let missed: Vec<_> = reached.missed().iter().map(Cell::to_string).collect();
        let expected = [
            "lost-publish@relay/publish",
            "lost-confirm@relay/publish",
            "duplicate-publish@relay/publish",
            "late-publish@relay/publish",
            "crash@relay/publish",
            "crash@worker/ack",
            "crash-after@worker/ack",
            "pause@relay/publish",
            "pause@worker/ack",
            "pause-after@relay/publish",
            "pause-after@worker/ack",
            "rejected-publish@relay/publish",
            "unroutable-publish@relay/publish",
            "unanswered-publish@relay/publish",
        ];
        assert_eq!(missed, expected);
        let shown = matrix(&reached);
        assert!(shown.contains("crash-after at publish"), "{shown}");
        assert!(
            shown
                .lines()
                .any(|line| line.ends_with("·         4         ·")),
            "{shown}"
        );
    }
}
