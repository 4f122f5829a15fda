//! Why a run failed: what it needed, and when it was settled.
//!
//! A fault is necessary where the run is without the anomaly once that fault is taken away. A
//! failure is settled where nothing that is still to come can avert it: runs that share their past
//! with the failing one, and go on by another seed, fail all the same.

use redeliver_sim::choice::{Choices, name};
use redeliver_sim::fault::{Event, Rule};

use super::{Shrunk, Simulate, Target};
use crate::run::result::RunResult;
use crate::scenario::Scenario;
use crate::story;
use crate::watch::trace::TraceLine;

/// Moments at most at which the rest is drawn anew.
const MOMENTS: usize = 24;

/// What part of the runs has to fail for the failure to count as settled.
const SETTLED: (u32, u32) = (9, 10);

/// Why a run failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Requests that the small run has left.
    pub messages: usize,
    /// Whether fewer might do: the small run could not be made as small as it gets.
    pub unfinished: bool,
    /// Its faults.
    pub needed: Vec<Needed>,
    /// Moments of the run as it was found.
    pub moments: Vec<Moment>,
}

impl Explanation {
    /// Explains a recorded run by its small one, with `draws` runs for each moment.
    pub fn of(
        simulate: Simulate<'_>,
        scenario: &Scenario,
        run: &RunResult,
        (small, target): (&Shrunk, Target),
        draws: u32,
    ) -> Self {
        Self {
            messages: small.messages(),
            unfinished: small.unfinished,
            needed: needed(simulate, small, target),
            moments: match draws {
                0 => Vec::new(),
                draws => moments(simulate, scenario, run, target, draws),
            },
        }
    }
}

/// A fault that a small run has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// What strikes, where.
    pub fault: String,
    /// Without it the anomaly is not seen.
    pub necessary: bool,
}

/// What becomes of a run if everything from a moment on is drawn anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When, in virtual nanoseconds: just after what happened then.
    pub at: u64,
    /// What happened.
    pub what: String,
    /// Runs that fail in the same way.
    pub failing: u32,
    /// Of so many.
    pub of: u32,
}

impl Moment {
    /// Whether (nearly) all fail.
    pub fn is_settled(&self) -> bool {
        self.failing * SETTLED.1 >= self.of * SETTLED.0
    }
}

/// The faults of a small run, each taken away in turn.
pub fn needed(simulate: Simulate<'_>, shrunk: &Shrunk, target: Target) -> Vec<Needed> {
    let scenario = &shrunk.scenario;
    let seed = shrunk.run.seed;
    let shows = |scenario: &Scenario| target.is_shown_by(&simulate(scenario, seed, false));
    let rules = (0..scenario.rules.len()).map(|at| {
        let mut without = scenario.clone();
        let rule = without.rules.remove(at);
        (describe_rule(&rule), without)
    });
    let events = (0..scenario.events.len()).map(|at| {
        let mut without = scenario.clone();
        let event = without.events.remove(at);
        (describe_event(&event), without)
    });
    let all = rules.chain(events);
    all.map(|(fault, without)| Needed {
        fault,
        necessary: !shows(&without),
    })
    .collect()
}

/// The moments of a recorded run's story, each with the share of runs that still fail if the rest
/// is drawn anew, `draws` times.
pub fn moments(
    simulate: Simulate<'_>,
    scenario: &Scenario,
    run: &RunResult,
    target: Target,
    draws: u32,
) -> Vec<Moment> {
    let messages = story::chosen(&run.anomalies).map(|anomaly| anomaly.messages());
    let lines = told(&run.trace, &messages.unwrap_or_default());
    let choices = Choices::new(run.seed);
    lines
        .into_iter()
        .map(|line| {
            // What happens at this very moment still belongs to the past.
            let at = line.at + 1;
            let fails = |i: &u32| {
                let other = choices.pure(&[name("reseed"), at, u64::from(*i)]);
                let scenario = Scenario {
                    reseed: Some((at, other)),
                    ..scenario.clone()
                };
                target.is_shown_by(&simulate(&scenario, run.seed, false))
            };
            Moment {
                at: line.at,
                what: format!("{} {}", line.actor, words(line)),
                failing: u32::try_from((0..draws).filter(fails).count()).unwrap_or(u32::MAX),
                of: draws,
            }
        })
        .collect()
}

/// The first moment from which on the failure is settled, with the one before it.
pub fn settled(moments: &[Moment]) -> Option<(Option<&Moment>, &Moment)> {
    let open = moments.iter().rposition(|moment| !moment.is_settled());
    let at = open.map_or(0, |open| open + 1);
    let before = open.map(|open| &moments[open]);
    moments.get(at).map(|moment| (before, moment))
}

/// What is told of a run: what happened to its message, and the faults among it.
fn told<'a>(trace: &'a [TraceLine], messages: &[&str]) -> Vec<&'a TraceLine> {
    let mut lines: Vec<&TraceLine> = Vec::new();
    // One line for each moment: its fault, or what came first.
    let lines_of = story::lines_of(trace, messages).into_iter();
    for line in lines_of.filter(|line| !story::is_routine(line)) {
        match lines.last_mut() {
            Some(last) if last.at == line.at => {
                if line.what == "fault" {
                    *last = line;
                }
            }
            _ => lines.push(line),
        }
    }
    let all = lines.len();
    if all > MOMENTS {
        // The whole span, evenly.
        let chosen = (0..MOMENTS).map(|i| lines[i * (all - 1) / (MOMENTS - 1)]);
        lines = chosen.collect();
    }
    lines
}

fn words(line: &TraceLine) -> String {
    let mut words = line.what.to_owned();
    if line.what == "fault" || line.subject.is_empty() {
        words = format!("{words} {}", line.detail);
    } else {
        words = format!("{words} {}", line.subject);
    }
    words.trim_end().to_owned()
}

/// A pinned fault in words.
pub fn describe_rule(rule: &Rule) -> String {
    let mut text = rule.kind.as_str().to_owned();
    match rule.after {
        Some(true) => text.push_str(" just after"),
        Some(false) => text.push_str(" just before"),
        None => text.push_str(" at"),
    }
    match (rule.call, rule.seam) {
        (Some(call), Some(seam)) => {
            text.push_str(&format!(" the {} {} call", ordinal(call), seam.as_str()));
        }
        _ => text.push_str(" a call"),
    }
    if let Some(process) = &rule.process {
        text.push_str(&format!(" of {process}"));
    }
    if let Some(subject) = &rule.subject {
        text.push_str(&format!(" about {subject}"));
    }
    if let Some(attempt) = rule.attempt {
        text.push_str(&format!(", attempt {attempt}"));
    }
    text
}

/// A fault at a time in words.
pub fn describe_event(event: &Event) -> String {
    let seconds = std::time::Duration::from_nanos(event.at).as_secs_f64();
    let target = event.target.as_deref().unwrap_or("all");
    format!("{} of {target} at {seconds:.3} s", event.kind.as_str())
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (1, rest) if rest != 11 => "st",
        (2, rest) if rest != 12 => "nd",
        (3, rest) if rest != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_open_moment_ends_what_could_have_gone_otherwise() {
        let moment = |at, failing| Moment {
            at,
            what: String::new(),
            failing,
            of: 20,
        };
        let all = [moment(1, 2), moment(2, 20), moment(3, 4), moment(4, 19)];
        let (before, from) = settled(&all).expect("it is settled");
        assert_eq!((before.map(|m| m.at), from.at), (Some(3), 4));
        assert_eq!(settled(&all[..1]), None);
        assert_eq!(
            settled(&all[1..2]).map(|(b, m)| (b.is_none(), m.at)),
            Some((true, 2))
        );
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 21].map(ordinal).join(" "),
            "1st 2nd 3rd 4th 11th 12th 21st"
        );
    }
}
