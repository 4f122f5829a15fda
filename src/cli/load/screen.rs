//! A load run on the whole terminal, while it goes on.

use std::io::{IsTerminal, Stderr, stderr, stdout};
use std::sync::{Mutex, PoisonError};

use ratatui::Frame;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table};

use super::{Format, out};
use redeliver_harness::load::figures::{Figures, Second};
use redeliver_harness::load::offer::Rate;
use redeliver_harness::watch::legs::Leg;
use redeliver_harness::words::{grouped, latency};

/// The terminal, as long as the run has it.
pub(super) struct Screen {
    terminal: Mutex<Terminal<CrosstermBackend<Stderr>>>,
    coloured: bool,
}

impl Screen {
    /// Takes the terminal, where there is one for people to look at. Keys do what they always do:
    /// Ctrl-C ends the run.
    pub(super) fn take(format: Format) -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let seen = stdout().is_terminal() && stderr().is_terminal();
        if format != Format::Human || dumb || !seen {
            return None;
        }
        execute!(stderr(), EnterAlternateScreen, Hide).ok()?;
        let restore = || {
            // Where this fails there is nobody to tell.
            let _ = execute!(stderr(), LeaveAlternateScreen, Show);
        };
        out::hold(restore);
        let made = Terminal::new(CrosstermBackend::new(stderr()));
        // Not every terminal begins its second screen empty.
        let cleared = made.and_then(|mut terminal| terminal.clear().map(|()| terminal));
        let Ok(terminal) = cleared else {
            out::release();
            return None;
        };
        Some(Self {
            terminal: Mutex::new(terminal),
            coloured: out::is_coloured(&stderr()),
        })
    }

    /// Shows the figures.
    pub(super) fn show(&self, figures: &Figures) {
        let notes = out::last_held(NOTES.into());
        let mut terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner);
        let look = Look {
            coloured: self.coloured,
        };
        // A terminal that went away ends nothing.
        let _ = terminal.draw(|frame| look.draw(frame, figures, &notes));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        out::release();
    }
}

/// Lines at the bottom.
const NOTES: u16 = 3;
/// Seconds of the past.
const PAST: usize = 120;

/// How it looks.
struct Look {
    coloured: bool,
}

impl Look {
    fn colour(&self, colour: Color) -> Style {
        match self.coloured {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, figures: &Figures, notes: &[String]) {
        let rows = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(9),
            Constraint::Fill(1),
            Constraint::Length(NOTES),
        ]);
        let [title, progress, top, bottom, rest] = rows.areas(frame.area());
        frame.render_widget(self.title(figures), title);
        frame.render_widget(self.progress(figures), progress);
        let halves = Layout::horizontal([Constraint::Length(32), Constraint::Fill(1)]);
        let [rates, times] = halves.areas(top);
        self.rates(frame, figures, rates);
        frame.render_widget(self.times(figures), times);
        let [waiting, standing] = halves.areas(bottom);
        frame.render_widget(self.waiting(figures), waiting);
        frame.render_widget(self.standing(figures), standing);
        let notes: Vec<Line<'_>> = notes.iter().map(|note| Line::raw(note.as_str())).collect();
        frame.render_widget(Paragraph::new(notes), rest);
    }

    fn title(&self, figures: &Figures) -> Line<'static> {
        let start = &figures.start;
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let what = format!(
            " of {} at {}, seed {}",
            start.workload,
            Rate(start.rate),
            start.seed
        );
        Line::from(vec![
            Span::styled(start.scenario.clone(), bold),
            Span::raw(what),
        ])
    }

    fn progress(&self, figures: &Figures) -> Gauge<'static> {
        let at = figures.now.saturating_sub(figures.begin);
        let lasts = figures.start.lasts.max(1);
        let clock = |nanos: u64| {
            let seconds = nanos / 1_000_000_000;
            format!("{:02}:{:02}", seconds / 60, seconds % 60)
        };
        let label = match at < lasts {
            true => format!("{} of {}", clock(at), clock(lasts)),
            false => format!("{}: all is sent, the rest is waited for", clock(at)),
        };
        Gauge::default()
            .gauge_style(self.colour(Color::Blue))
            .ratio((at as f64 / lasts as f64).min(1.0))
            .label(label)
    }

    fn rates(&self, frame: &mut Frame<'_>, figures: &Figures, area: Rect) {
        let block = Block::bordered().title("a second");
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let [table, graph] =
            Layout::vertical([Constraint::Fill(1), Constraint::Length(2)]).areas(inner);
        let at = figures.now.saturating_sub(figures.begin) / 1_000_000_000;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        // The last second that is over.
        let past = &figures.seconds[..at.min(figures.seconds.len())];
        let last = past.last().copied().unwrap_or_default();
        let rows = [
            ("offered", last.offered, "confirmed", last.confirmed),
            ("sent", last.sent, "delivered", last.delivered),
            ("done", last.workflows, "works done", last.done),
            ("retried", last.retried, "given up", last.dead),
        ];
        let cell = |number: u64| Text::from(grouped(number)).right_aligned();
        let rows = rows.map(|(one, many, other, more)| {
            Row::new([Text::from(one), cell(many), Text::from(other), cell(more)])
        });
        let widths = [7, 5, 10, 5].map(Constraint::Length);
        frame.render_widget(Table::new(rows, widths), table);
        let done: Vec<u64> = past[past.len().saturating_sub(PAST)..]
            .iter()
            .map(|it: &Second| it.workflows)
            .collect();
        let shown = done.len().saturating_sub(usize::from(graph.width));
        let graph_of = Sparkline::default()
            .data(&done[shown..])
            .style(self.colour(Color::Green));
        frame.render_widget(graph_of, graph);
    }

    fn times(&self, figures: &Figures) -> Table<'static> {
        let legs = [
            Leg::EndToEnd,
            Leg::EndToEndRetried,
            Leg::Request,
            Leg::CommitToPublished,
            Leg::PublishedToDelivered,
            Leg::Handler,
        ];
        let rows = legs.map(|leg| {
            let at = |what: fn(redeliver_harness::watch::latencies::Times<'_>) -> u64| {
                let times = figures.latencies.of(leg);
                let text = times.map_or("-".to_owned(), |times| latency(what(times)));
                Text::from(text).right_aligned()
            };
            Row::new([
                Text::from(leg.as_str()),
                at(|times| times.quantile(500_000)),
                at(|times| times.quantile(990_000)),
                at(|times| times.max()),
            ])
        });
        let widths = [
            Constraint::Min(22),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(8),
        ];
        let head = ["leg", "p50", "p99", "longest"];
        let head = head.iter().enumerate().map(|(at, name)| match at {
            0 => Text::from(*name),
            _ => Text::from(*name).right_aligned(),
        });
        Table::new(rows, widths)
            .header(Row::new(head.collect::<Vec<_>>()))
            .column_spacing(1)
            .block(Block::bordered().title("times"))
    }

    fn waiting(&self, figures: &Figures) -> Table<'static> {
        let legs = figures.legs();
        let counts = figures.counts();
        let mut rows = vec![
            ("requests open".to_owned(), grouped(legs.open_workflows())),
            ("without a commit".to_owned(), grouped(legs.uncommitted())),
            ("handlers".to_owned(), grouped(legs.in_handlers())),
            ("retries".to_owned(), grouped(counts.retried)),
            ("redeliveries".to_owned(), grouped(counts.redeliveries)),
            ("dead letters".to_owned(), grouped(counts.dead)),
        ];
        if let Some(seen) = figures.gauges.last() {
            let oldest = latency(seen.oldest_ms * 1_000_000);
            rows.insert(0, ("outbox".to_owned(), grouped(seen.outbox)));
            rows.insert(1, ("its oldest".to_owned(), oldest));
            // Dead letters are counted above.
            let queues = seen.queues.iter();
            for (queue, ready) in queues.filter(|(queue, _)| !queue.ends_with(".dead")) {
                rows.push((queue.to_string(), grouped(*ready)));
            }
        }
        let rows = rows
            .into_iter()
            .map(|(name, number)| Row::new([Text::from(name), Text::from(number).right_aligned()]));
        let widths = [Constraint::Fill(1), Constraint::Length(9)];
        Table::new(rows, widths).block(Block::bordered().title("waiting"))
    }

    fn standing(&self, figures: &Figures) -> Table<'static> {
        let alarm = self.colour(Color::Red).add_modifier(Modifier::BOLD);
        let mut rows: Vec<Row<'static>> = Vec::new();
        for it in figures.standing() {
            let row = Row::new([
                Text::from(it.place.to_string()),
                Text::from(grouped(it.workflows)).right_aligned(),
                Text::from(grouped(it.stuck)).right_aligned(),
                Text::from(latency(it.longest)).right_aligned(),
            ]);
            rows.push(if it.stuck > 0 { row.style(alarm) } else { row });
        }
        for (kind, given) in &figures.struck {
            let seen = figures.witnessed.get(kind).copied().unwrap_or(0);
            let told = format!("fault {kind}");
            let row = Row::new([
                Text::from(told),
                Text::from(grouped(*given)).right_aligned(),
                Text::from(format!("{} seen", grouped(seen))).right_aligned(),
            ]);
            rows.push(row.style(self.colour(Color::Yellow)));
        }
        let widths = [
            Constraint::Fill(1),
            Constraint::Length(7),
            Constraint::Length(9),
            Constraint::Length(8),
        ];
        let head = ["workflows", "all", "stuck", "longest"];
        let head = head.iter().enumerate().map(|(at, name)| match at {
            0 => Text::from(*name),
            _ => Text::from(*name).right_aligned(),
        });
        Table::new(rows, widths)
            .header(Row::new(head.collect::<Vec<_>>()))
            .block(Block::bordered().title("under way"))
    }
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;
    use redeliver_core::topology::Topology;

    use super::*;

    fn drawn(width: u16, height: u16, coloured: bool) -> String {
        let start = redeliver_harness::watch::file::Start {
            scenario: "calm-day".to_owned(),
            workload: "orders".to_owned(),
            rate: 20_000,
            lasts: 60_000_000_000,
            seed: 1,
            ..redeliver_harness::watch::file::Start::default()
        };
        let mut figures = Figures::new(start, &Topology::default());
        figures.now = 12_500_000_000;
        figures.seconds = (0..13)
            .map(|at| Second {
                offered: 20,
                sent: 20,
                workflows: at,
                ..Second::default()
            })
            .collect();
        figures.struck.insert("crash", 2);
        figures.witnessed.insert("crash", 1);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
        let look = Look { coloured };
        let notes = ["broker-kill of broker: it is back".to_owned()];
        let draw = |frame: &mut Frame<'_>| look.draw(frame, &figures, &notes);
        terminal.draw(draw).expect("in memory");
        terminal.backend().to_string()
    }

    #[test]
    fn a_terminal_of_eighty_columns_shows_everything() {
        insta::assert_snapshot!(drawn(80, 24, false));
    }

    #[test]
    fn a_narrow_terminal_is_no_reason_to_panic() {
        for (width, height) in [(1, 1), (20, 5), (40, 12), (200, 60)] {
            drawn(width, height, true);
        }
    }
}
