//! Charts over time, as SVG: lines over one axis, and bands where faults were at work.

use maud::{Markup, PreEscaped, html};

use crate::words::grouped;

/// The size of a chart, and the room beside and below its plot.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 22.0;

/// Colours that are told apart on a light and on a dark page.
const COLOURS: [&str; 6] = [
    "var(--dim)",
    "var(--accent)",
    "var(--effect)",
    "var(--doubt)",
    "var(--ok)",
    "var(--bad)",
];

/// A line: its name, and its points in seconds and in the chart's unit.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A time in which something was wrong.
#[derive(Clone, Debug)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) until: f64,
    pub(super) what: String,
}

/// What a chart shows.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// Behind the numbers of its axis.
    pub(super) unit: &'a str,
    pub(super) lines: &'a [Line],
    pub(super) bands: &'a [Band],
    /// Seconds that it shows, from the first request on.
    pub(super) seconds: f64,
}

/// A step of 1, 2 or 5 and zeros, so that so many fit.
fn tick(whole: f64, most: f64) -> f64 {
    let rough = (whole / most).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}

impl Chart<'_> {
    fn top(&self) -> f64 {
        let all = self.lines.iter().flat_map(|line| &line.points);
        all.map(|(_, value)| *value).fold(0.0, f64::max).max(1e-3)
    }

    fn x(&self, seconds: f64) -> f64 {
        let part = (seconds / self.seconds.max(1e-9)).clamp(0.0, 1.0);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64, top: f64) -> f64 {
        let part = (value / top).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }

    /// The chart with its legend.
    pub(super) fn render(&self) -> Markup {
        let step = tick(self.top(), 5.0);
        let top = (self.top() / step).ceil() * step;
        html! {
            h3 { (self.title) }
            p .legend {
                @for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
                    span style={ "color:" (colour) } { "■ " } (line.name) "  "
                }
            }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } width="100%" role="img" aria-label=(self.title) {
                (self.bands())
                (self.values(top, step))
                (self.times())
                @for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
                    polyline fill="none" stroke=(colour) stroke-width="1.6" points=(self.points(line, top)) {}
                }
            }
        }
    }

    fn points(&self, line: &Line, top: f64) -> String {
        let points = line.points.iter();
        let points =
            points.map(|(at, value)| format!("{:.1},{:.1}", self.x(*at), self.y(*value, top)));
        points.collect::<Vec<_>>().join(" ")
    }

    fn bands(&self) -> Markup {
        html! {
            @for band in self.bands {
                @let from = self.x(band.from);
                // A moment is to be seen, too.
                @let width = (self.x(band.until) - from).max(2.0);
                rect x=(format!("{from:.1}")) y=(TOP) width=(format!("{width:.1}"))
                    height=(HEIGHT - TOP - BOTTOM) fill="var(--fault)" opacity="0.18" {
                    title { (band.what) }
                }
            }
        }
    }

    fn values(&self, top: f64, step: f64) -> Markup {
        let many = (top / step).round() as u32;
        html! {
            @for i in 0..=many {
                @let value = f64::from(i) * step;
                @let y = self.y(value, top);
                line .lane x1=(LEFT) x2=(WIDTH - RIGHT) y1=(format!("{y:.1}")) y2=(format!("{y:.1}")) {}
                text .time x=(LEFT - 6.0) y=(format!("{:.1}", y + 4.0)) text-anchor="end" {
                    (number(value)) (PreEscaped(self.unit))
                }
            }
        }
    }

    fn times(&self) -> Markup {
        let step = tick(self.seconds, 10.0).max(1.0);
        let many = (self.seconds / step).floor() as u32;
        html! {
            @for i in 0..=many {
                @let at = f64::from(i) * step;
                text .time x=(format!("{:.1}", self.x(at))) y=(HEIGHT - 6.0) text-anchor="middle" {
                    (number(at)) " s"
                }
            }
        }
    }
}

/// A number of an axis.
fn number(value: f64) -> String {
    match value {
        v if v >= 10.0 || v == v.trunc() => grouped(v.round() as u64),
        v if v >= 1.0 => format!("{v:.1}"),
        v => format!("{v:.3}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        let steps = [(7.0, 5.0), (93.0, 5.0), (0.03, 5.0), (3_600.0, 10.0)];
        let steps = steps.map(|(whole, most)| tick(whole, most));
        assert_eq!(steps.map(number), ["2", "20", "0.01", "500"]);
    }
}
