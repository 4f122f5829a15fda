//! Charts over a chosen number or a length of time, as SVG: lines over an axis of equal ratios.

use maud::{Markup, html};

use super::chart::Line;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 24.0;
/// Marks nearer to each other than this would have their names on top of each other.
const NEAR: f64 = 30.0;

/// Colours that are told apart on a light and on a dark page.
const COLOURS: [&str; 5] = [
    "var(--accent)",
    "var(--bad)",
    "var(--effect)",
    "var(--doubt)",
    "var(--ok)",
];

/// A value that is marked.
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) name: &'static str,
}

/// What a chart shows.
pub(super) struct Curves<'a> {
    pub(super) title: &'a str,
    pub(super) lines: &'a [Line],
    pub(super) marks: &'a [Mark],
    /// The values that are possible.
    pub(super) range: Option<(f64, f64)>,
    /// Where a line is drawn across.
    pub(super) limit: Option<f64>,
    /// The top of the axis: what is above is drawn there.
    pub(super) top: f64,
    /// Where the axis may have its numbers; a few of them are taken.
    pub(super) ticks: &'a [f64],
    /// How values of both axes are written.
    pub(super) x_text: &'a dyn Fn(f64) -> String,
    pub(super) y_text: &'a dyn Fn(f64) -> String,
}

impl Curves<'_> {
    fn ends(&self) -> (f64, f64) {
        let all = self
            .lines
            .iter()
            .flat_map(|line| &line.points)
            .map(|it| it.0);
        let all = all.chain(self.marks.iter().map(|mark| mark.at));
        let positive = all.filter(|it| *it > 0.0);
        let (low, high) = positive.fold((f64::INFINITY, 0.0f64), |(low, high), at| {
            (low.min(at), high.max(at))
        });
        match low < high {
            true => (low, high),
            false => (high.max(1.0) / 2.0, high.max(1.0) * 2.0),
        }
    }

    fn x(&self, at: f64) -> f64 {
        let (low, high) = self.ends();
        let part = (at.max(low) / low).ln() / (high / low).ln();
        LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value / self.top).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }

    /// The chart with its legend.
    pub(super) fn render(&self) -> Markup {
        html! {
            figure .curve {
                h3 { (self.title) }
                @if self.lines.len() > 1 {
                    p .legend {
                        @for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
                            span style={ "color:" (colour) } { "■ " } (line.name) "  "
                        }
                    }
                }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } width="100%" role="img" aria-label=(self.title) {
                    (self.possible())
                    (self.axes())
                    @for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
                        polyline fill="none" stroke=(colour) stroke-width="1.8" points=(self.points(line)) {}
                    }
                    (self.marked())
                }
            }
        }
    }

    fn points(&self, line: &Line) -> String {
        let points = line.points.iter();
        let points = points.map(|(at, value)| format!("{:.1},{:.1}", self.x(*at), self.y(*value)));
        points.collect::<Vec<_>>().join(" ")
    }

    fn possible(&self) -> Markup {
        html! {
            @if let Some((low, high)) = self.range {
                @let (from, until) = (self.x(low), self.x(high));
                rect x=(format!("{:.1}", from - 2.0)) y=(TOP) width=(format!("{:.1}", until - from + 4.0))
                    height=(HEIGHT - TOP - BOTTOM) fill="var(--ok)" opacity="0.13" {
                    title { "possible: " ((self.x_text)(low)) " to " ((self.x_text)(high)) }
                }
            }
        }
    }

    fn axes(&self) -> Markup {
        let (low, high) = self.ends();
        let values = [0.0, self.top / 2.0, self.top];
        let within: Vec<f64> = self
            .ticks
            .iter()
            .copied()
            .filter(|it| (low..=high).contains(it))
            .collect();
        let wanted = [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| low * (high / low).powf(part));
        let near = |wanted: f64| {
            let apart = |at: f64| (at / wanted).ln().abs();
            within
                .iter()
                .copied()
                .min_by(|a, b| apart(*a).total_cmp(&apart(*b)))
        };
        let mut times: Vec<f64> = wanted.into_iter().filter_map(near).collect();
        times.dedup();
        html! {
            @for value in values {
                @let y = format!("{:.1}", self.y(value));
                line .lane x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
                text .time x=(LEFT - 5.0) y=(format!("{:.1}", self.y(value) + 4.0)) text-anchor="end" {
                    ((self.y_text)(value))
                }
            }
            @if let Some(limit) = self.limit {
                @let y = format!("{:.1}", self.y(limit));
                line x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) stroke="var(--bad)" stroke-dasharray="5 4" {
                    title { "asked" }
                }
            }
            @for at in times {
                text .time x=(format!("{:.1}", self.x(at))) y=(HEIGHT - 7.0) text-anchor="middle" {
                    ((self.x_text)(at))
                }
            }
        }
    }

    /// Names of marks that are near each other go apart.
    fn anchor(&self, at: f64) -> &'static str {
        let others = self.marks.iter().filter(|it| it.at != at);
        let apart = others.map(|it| self.x(at) - self.x(it.at));
        let near = apart.filter(|it| it.abs() < NEAR);
        match near.reduce(|a, b| if a.abs() < b.abs() { a } else { b }) {
            Some(apart) if apart < 0.0 => "end",
            Some(_) => "start",
            None => "middle",
        }
    }

    fn marked(&self) -> Markup {
        html! {
            @for (i, mark) in self.marks.iter().enumerate() {
                @let x = format!("{:.1}", self.x(mark.at));
                @let dash = if i == 0 { "2 3" } else { "none" };
                line x1=(x) x2=(x) y1=(TOP) y2=(HEIGHT - BOTTOM) stroke="var(--fg)" stroke-dasharray=(dash) {
                    title { (mark.name) ": " ((self.x_text)(mark.at)) }
                }
                text .time x=(x) y=(TOP - 6.0) text-anchor=(self.anchor(mark.at)) {
                    (mark.name)
                }
            }
        }
    }
}
