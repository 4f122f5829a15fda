//! What has to come out of a scenario.

use std::fmt;
use std::sync::Arc;

use redeliver_core::dead_letter::Reason;
use redeliver_sim::fault::Kind;

use crate::team::invariant::Invariant;
use crate::verdict::{Anomaly, AnomalyKind, Verdict};
use crate::watch::ends::Repeats;
use crate::watch::pickups::{Pickup, mechanisms};
use crate::watch::reached::Cell;
use crate::watch::reading::{Answer, FinalReading, Letter};

/// Expectations beside the promises that the checkers judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// [`Verdict::Valid`], or [`Verdict::Violated`] for what no pipeline can mend.
    pub verdict: Verdict,
    /// Where it is violated: the anomalies that have to appear among the seeds, and no others.
    pub anomalies: Vec<AnomalyKind>,
    /// Faults that have to strike somewhere among the seeds, or nothing was tested.
    pub reached: Vec<Reach>,
    /// Causes of second pick-ups that have to appear somewhere among the seeds.
    pub second_pickups: Vec<&'static str>,
    /// Dead letters at the end of each run: at least, at most.
    pub dead_letters: Option<(u64, u64)>,
    /// Hand-overs of work that another worker had begun, in each run, at most.
    pub max_second_pickups: Option<u64>,
    /// How often one event is handed to the broker by relays, at most.
    pub max_publishes_per_event: Option<u64>,
    /// How often one message comes to one consumer flagged as redelivered, at most.
    pub max_redeliveries: Option<u64>,
    /// How often the broker hands one message to one consumer, at most.
    pub max_deliveries: Option<u64>,
    /// Queries that give no rows at the end of each run.
    pub no_rows: Vec<Arc<str>>,
    /// Promises in Rust, beside the workload's own. A file cannot say them.
    pub invariants: Vec<Invariant>,
}

/// What the names of letters' reasons begin with.
pub(super) const LETTER: &str = "letter:";

/// Something that has to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Anywhere.
    Kind(Kind),
    /// At this stage.
    Cell(Cell),
    /// No fault: a dead letter that gives this reason.
    Letter(Reason),
}

impl Reach {
    /// What has to strike; none where that is no fault.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::Kind(kind) => Some(kind),
            Self::Cell(cell) => Some(cell.kind),
            Self::Letter(_) => None,
        }
    }

    /// A kind, a kind at a stage, or the reason of a letter.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(reason) = text.strip_prefix(LETTER) {
            return Reason::parse(reason).map(Self::Letter);
        }
        let kind = Kind::parse(text).map(Self::Kind);
        kind.or_else(|| Cell::parse(text).map(Self::Cell))
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => f.write_str(kind.as_str()),
            Self::Cell(cell) => cell.fmt(f),
            Self::Letter(reason) => write!(f, "{LETTER}{}", reason.as_str()),
        }
    }
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            verdict: Verdict::Valid,
            anomalies: Vec::new(),
            reached: Vec::new(),
            second_pickups: Vec::new(),
            dead_letters: None,
            max_second_pickups: None,
            max_publishes_per_event: None,
            max_redeliveries: None,
            max_deliveries: None,
            no_rows: Vec::new(),
            invariants: Vec::new(),
        }
    }
}

impl Expect {
    /// Whether something is asked of what was most often repeated.
    pub fn asks_for_repeats(&self) -> bool {
        let bounds = [
            self.max_publishes_per_event,
            self.max_redeliveries,
            self.max_deliveries,
        ];
        bounds.iter().any(Option::is_some)
    }

    /// Judges one run by what was most often repeated in it.
    pub fn judge_repeats(&self, repeats: &Repeats) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for (max, repeated, promise, what) in [
            (
                self.max_publishes_per_event,
                &repeats.published,
                "The scenario bounds how often an event is handed to the broker.",
                "was handed to the broker",
            ),
            (
                self.max_redeliveries,
                &repeats.redelivered,
                "The scenario bounds how often a message comes as redelivered.",
                "came as redelivered",
            ),
            (
                self.max_deliveries,
                &repeats.delivered,
                "The scenario bounds how often the broker hands a message over.",
                "was delivered",
            ),
        ] {
            if let (Some(max), Some(most)) = (max, repeated)
                && most.times > max
            {
                let (key, consumer, times) = (&most.key, &most.consumer, most.times);
                let to = match consumer.is_empty() {
                    true => String::new(),
                    false => format!(" to {consumer}"),
                };
                found.push(Anomaly {
                    message: key.clone(),
                    consumer: consumer.clone(),
                    ..unmet(
                        promise,
                        format!("{key} {what}{to} {times} times, at most {max}"),
                    )
                });
            }
        }
        found
    }

    /// Judges one run by its dead letters and second pick-ups. Letters are missing only in a run
    /// that has settled: before that they may be on their way.
    pub fn judge(
        &self,
        reading: &FinalReading,
        settled: bool,
        pickups: &[Pickup<'_>],
    ) -> Vec<Anomaly> {
        let mut found = Vec::new();
        let dead = reading.dead();
        if let Some((min, max)) = self.dead_letters
            && (dead > max || (settled && dead < min))
        {
            found.push(unmet(
                "The scenario says how many dead letters there are at the end.",
                format!(
                    "there are {dead} dead letters, and {min} to {max} are expected{}",
                    shown_letters(&reading.letters)
                ),
            ));
        }
        let count = pickups.len() as u64;
        if let Some(max) = self.max_second_pickups.filter(|max| count > *max) {
            let causes = mechanisms(pickups).into_iter();
            let causes: Vec<_> = causes.map(|(cause, n)| format!("{cause} {n}")).collect();
            let mut keys: Vec<_> = pickups.iter().map(|pickup| pickup.key).collect();
            keys.sort_unstable();
            keys.dedup();
            let more = if keys.len() > SHOWN { ", …" } else { "" };
            keys.truncate(SHOWN);
            found.push(unmet(
                "The scenario bounds how often work that one worker began is handed to another.",
                format!(
                    "{count} second pick-ups ({}), at most {max}: of {}{more}",
                    causes.join(", "),
                    keys.join(", ")
                ),
            ));
        }
        found
    }
}

/// The first letters, each with its reason and what it tells.
fn shown_letters(letters: &[Letter]) -> String {
    let shown = letters.iter().take(SHOWN).map(|letter| {
        let event = letter.event.as_ref();
        let key = event.map_or("bytes that are no event", |e| &*e.idempotency_key);
        let told = letter.story.as_ref().map_or(String::new(), |story| {
            format!(" after attempt {}, {}", story.attempts, story.error)
        });
        format!("; {key} in {}: {}{told}", letter.consumer, letter.reason())
    });
    let mut text: String = shown.collect();
    if let Some(more @ 1..) = letters.len().checked_sub(SHOWN) {
        text.push_str(&format!("; {more} more"));
    }
    text
}

/// What a query gave that was to give no rows.
pub fn unwanted_rows(answers: &[Answer]) -> Vec<Anomaly> {
    let unwanted = answers.iter().filter_map(|answer| {
        let seen = match &answer.rows {
            Ok(rows) if rows.is_empty() => return None,
            Ok(rows) => {
                let shown: Vec<_> = rows.iter().take(SHOWN).map(|row| as_text(row)).collect();
                let more = rows.len().saturating_sub(SHOWN);
                let more = match more {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("`{}` gives {}{more}", answer.sql, shown.join(", "))
            }
            Err(why) => format!("`{}` cannot be asked: {why}", answer.sql),
        };
        Some(Anomaly {
            checker: "no-rows",
            ..unmet("The query gives no rows at the end of a run.", seen)
        })
    });
    unwanted.collect()
}

/// Rows of a query, letters or keys that are shown.
const SHOWN: usize = 3;

/// A row as people read it.
fn as_text(row: &[Option<String>]) -> String {
    let values = row.iter().map(|value| value.as_deref().unwrap_or("null"));
    format!("({})", values.collect::<Vec<_>>().join(", "))
}

fn unmet(promise: &'static str, seen: String) -> Anomaly {
    Anomaly::broken("expectation", promise, seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many dead letters.
    fn dead(count: usize) -> FinalReading {
        FinalReading {
            letters: vec![Letter::default(); count],
            ..FinalReading::default()
        }
    }

    fn pickup(mechanism: &'static str) -> Pickup<'static> {
        let key = "order-1";
        Pickup { mechanism, key }
    }

    #[test]
    fn bounds_are_inclusive() {
        let expect = Expect {
            dead_letters: Some((1, 2)),
            max_second_pickups: Some(1),
            ..Expect::default()
        };
        assert!(expect.judge(&dead(1), true, &[pickup("lease")]).is_empty());
        assert!(expect.judge(&dead(2), true, &[]).is_empty());
        let pickups = [pickup("lease"), pickup("requeued")];
        let found = expect.judge(&dead(3), true, &pickups);
        assert_eq!(found.len(), 2);
        let seen = "2 second pick-ups (lease 1, requeued 1), at most 1: of order-1";
        assert_eq!(found[1].seen, seen);
    }

    #[test]
    fn letters_are_missing_only_at_rest() {
        let expect = Expect {
            dead_letters: Some((1, 2)),
            ..Expect::default()
        };
        assert_eq!(expect.judge(&dead(0), true, &[]).len(), 1);
        assert!(expect.judge(&dead(0), false, &[]).is_empty());
        assert_eq!(expect.judge(&dead(3), false, &[]).len(), 1);
    }
}
