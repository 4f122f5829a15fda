//! A diagram for terminals: a column for each lane, a line for each step.

use std::fmt::Write;

use super::{Diagram, During, Kind, Role, Tone, short_key};

/// Columns a lane takes.
const LANE: usize = 3;

/// Lines at most; what is between the first and the last half is left out.
const LINES: usize = 200;

/// The steps of some messages and of what led to them, or all of them where there is no message.
/// `whole` leaves nothing out.
pub fn render(diagram: &Diagram, messages: &[&str], whole: bool) -> String {
    let steps = diagram.about(messages);
    let canvas = Canvas {
        diagram,
        lanes: diagram.touched(&steps),
    };
    let mut text = canvas.head();
    let gap = match whole {
        true => 0,
        false => steps.len().saturating_sub(LINES),
    };
    let many = messages.len() != 1;
    let mut busy = Busy::new(diagram);
    for (i, at) in steps.iter().enumerate() {
        if gap > 0 && (LINES / 2..LINES / 2 + gap).contains(&i) {
            if i == LINES / 2 {
                let _ = writeln!(text, "{:>14}… {gap} steps left out; --trace shows all", "");
            }
            continue;
        }
        busy.come_to(*at);
        text.push_str(canvas.line(*at, many, &busy).trim_end());
        text.push('\n');
    }
    text.push_str(LEGEND);
    text
}

const LEGEND: &str = concat!(
    "  ● done  ✗ failed  ? in doubt  ! fault  ★ effect  ◆ violated\n",
    "  ┃ handler or call  ┊ stands still; a gap: does not run\n",
);

struct Canvas<'a> {
    diagram: &'a Diagram,
    /// Those that are shown.
    lanes: Vec<usize>,
}

impl Canvas<'_> {
    /// Names of lanes as a staircase.
    fn head(&self) -> String {
        let mut text = String::new();
        for (column, lane) in self.lanes.iter().enumerate() {
            let bars = format!("│{}", " ".repeat(LANE - 1)).repeat(column);
            let _ = writeln!(text, "{:>14}{bars}{}", "", self.diagram.lanes[*lane].name);
        }
        text
    }

    fn line(&self, at: usize, many: bool, busy: &Busy) -> String {
        let step = &self.diagram.steps[at];
        let mut cells: Vec<char> = Vec::with_capacity(self.lanes.len() * LANE);
        for lane in &self.lanes {
            cells.push(self.idle(*lane, busy));
            cells.extend([' '; LANE - 1]);
        }
        for arrow in self.arrows_into(at) {
            self.draw(&mut cells, arrow.0, arrow.1);
        }
        if let Some(column) = self.column(step.lane) {
            cells[column] = glyph(step.kind, step.tone);
        }
        let mark = match step.kind {
            Kind::Fault => '!',
            Kind::Violation => '◆',
            _ => ' ',
        };
        let (s, us) = (step.at / 1_000_000_000, step.at / 1_000 % 1_000_000);
        let drawn: String = cells.into_iter().collect();
        let mut text = format!("{mark} {s:>4}.{us:06} {drawn} {}", step.label);
        if let Some(message) = step.message.filter(|_| many) {
            let _ = write!(text, "  {}", short_key(&self.diagram.messages[message]));
        }
        if let (Kind::Violation, false) = (step.kind, step.detail.is_empty()) {
            let _ = write!(text, ": {}", step.detail);
        }
        text
    }

    fn column(&self, lane: usize) -> Option<usize> {
        let place = self.lanes.iter().position(|shown| *shown == lane);
        place.map(|place| place * LANE)
    }

    fn arrows_into(&self, at: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let all = &self.diagram.arrows;
        let first = all.partition_point(|arrow| arrow.to.1 < at);
        let here = all[first..]
            .iter()
            .take_while(move |arrow| arrow.to.1 == at);
        here.map(|arrow| (arrow.from.0, arrow.to.0))
    }

    fn draw(&self, cells: &mut [char], from: usize, to: usize) {
        let (Some(from), Some(to)) = (self.column(from), self.column(to)) else {
            return;
        };
        let (low, high) = (from.min(to), from.max(to));
        for (place, cell) in cells.iter_mut().enumerate().take(high).skip(low + 1) {
            *cell = match place % LANE {
                0 => '┼',
                _ => '─',
            };
        }
        match from < to {
            true => cells[high - 1] = '▶',
            false => cells[low + 1] = '◀',
        }
    }

    /// A lane on which nothing happens now.
    fn idle(&self, lane: usize, busy: &Busy) -> char {
        match busy.with(lane) {
            Some(During::Down) => ' ',
            Some(During::Paused) => '┊',
            Some(During::Handler | During::Call) => '┃',
            None if self.diagram.lanes[lane].role == Role::World => '·',
            None => '│',
        }
    }
}

/// What each lane is busy with, step by step.
struct Busy {
    /// Begins and ends: step, lane, what, and whether it begins. In the order of steps.
    changes: Vec<(usize, usize, During, bool)>,
    next: usize,
    counts: Vec<[u32; 4]>,
}

impl Busy {
    fn new(diagram: &Diagram) -> Self {
        let mut changes = Vec::with_capacity(diagram.spans.len() * 2);
        for span in &diagram.spans {
            // It shows on the lines between its ends, if there are any.
            if span.to.is_some_and(|to| to <= span.from + 1) {
                continue;
            }
            changes.push((span.from + 1, span.lane, span.what, true));
            if let Some(to) = span.to {
                changes.push((to, span.lane, span.what, false));
            }
        }
        changes.sort_unstable();
        Self {
            changes,
            next: 0,
            counts: vec![[0; 4]; diagram.lanes.len()],
        }
    }

    fn come_to(&mut self, at: usize) {
        while let Some((step, lane, what, begins)) = self.changes.get(self.next)
            && *step <= at
        {
            let count = &mut self.counts[*lane][*what as usize];
            *count = match begins {
                true => *count + 1,
                false => count.saturating_sub(1),
            };
            self.next += 1;
        }
    }

    /// What outranks the rest there.
    fn with(&self, lane: usize) -> Option<During> {
        const ALL: [During; 4] = [During::Down, During::Paused, During::Handler, During::Call];
        let counts = &self.counts[lane];
        ALL.into_iter().find(|what| counts[*what as usize] > 0)
    }
}

fn glyph(kind: Kind, tone: Tone) -> char {
    match (kind, tone) {
        (Kind::Fault, _) => '!',
        (Kind::Violation, _) => '◆',
        (Kind::Effect, _) => '★',
        (_, Tone::Failed) => '✗',
        (_, Tone::Doubt) => '?',
        _ => '●',
    }
}
