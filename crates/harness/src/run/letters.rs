//! Dead letters for which nothing accounts.
//!
//! A letter is accounted for by poison that the scenario planted, by its expectation of dead
//! letters, or by a fault. Whether a fault accounts for it is found as `explain` finds what a
//! failure needs: the faults are taken away, and the same seed is run again. A work that ends in
//! the dead letters there too was not brought there by a fault.
//!
//! One thing a fault never accounts for. All faults pass, so none is a reason to give a message up
//! for good at its first failure: a run that ends as poison while a fault strikes it has taken a
//! failure that passes for one that stays (a serialization failure for the end, say).

use std::collections::{BTreeMap, BTreeSet};

use super::result::RunResult;
use crate::scenario::Scenario;
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::ends::Unplanned;
use crate::watch::trace::TraceLine;
use crate::words::grouped;
use redeliver_core::dead_letter::Reason;

/// The name in reports.
pub const CHECKER: &str = "unexplained-letter";

const PROMISE: &str = "Each dead letter has a cause: planned poison, an expectation of the \
                       scenario, or a fault that used up its attempts.";

/// Letters of one consumer that nothing accounts for, and why it is said of them.
struct Accused<'a> {
    letters: Vec<&'a Unplanned>,
    because: String,
}

/// Adds an anomaly for each consumer with letters that nothing accounts for. `again` runs the same
/// seed under another scenario; the flag says whether to keep its trace.
pub fn account(
    run: &mut RunResult,
    scenario: &Scenario,
    again: impl Fn(&Scenario, bool) -> RunResult,
) {
    excuse_bystanders(run, scenario);
    if run.unplanned.is_empty() {
        return;
    }
    let found = {
        let faultless = scenario.rules.is_empty() && scenario.events.is_empty();
        let mut accused = match faultless {
            true => without_faults(run, &run.unplanned, "no fault is there to account for it"),
            false => {
                let bare = again(&scenario.without_faults(), false);
                let because = "without its faults the same seed ends there too";
                without_faults(run, &bare.unplanned, because)
            }
        };
        if !faultless && run.unplanned.iter().any(is_poison) {
            // A recorded run is the same run with its trace.
            let recorded = (run.trace.is_empty()).then(|| again(scenario, true).trace);
            taken_for_good(run, recorded.as_ref().unwrap_or(&run.trace), &mut accused);
        }
        tell(&accused)
    };
    run.anomalies.extend(found);
    run.judge();
}

/// What dies with its process as often as a planted killer takes it along is given up like the
/// killer itself: that one accounts for it.
fn excuse_bystanders(run: &mut RunResult, scenario: &Scenario) {
    if scenario.poison.killer > 0 {
        let killed = Reason::KilledWorker.as_str();
        run.unplanned.retain(|letter| letter.reason != killed);
    }
}

/// The same for a run on real servers, which cannot be made again without its faults: letters
/// before which no fault had struck.
pub fn account_for_real(run: &mut RunResult, scenario: &Scenario) {
    excuse_bystanders(run, scenario);
    let first = run.trace.iter().find(|line| line.what == "fault");
    let first = first.map_or(u64::MAX, |line| line.at);
    let unstruck = |letter: &&Unplanned| match letter.last_run {
        Some((_, end)) => end < first,
        None => first == u64::MAX,
    };
    let mut accused: BTreeMap<&str, Accused<'_>> = BTreeMap::new();
    for letter in run.unplanned.iter().filter(unstruck) {
        add(&mut accused, letter, || {
            "no fault had struck by then".to_owned()
        });
    }
    gave_up_on_a_call(run, &mut accused);
    let found = tell(&accused);
    run.anomalies.extend(found);
    run.judge();
}

fn add<'a>(
    accused: &mut BTreeMap<&'a str, Accused<'a>>,
    letter: &'a Unplanned,
    because: impl FnOnce() -> String,
) {
    let entry = accused.entry(&letter.consumer).or_insert_with(|| Accused {
        letters: Vec::new(),
        because: because(),
    });
    entry.letters.push(letter);
}

/// Letters that lie there without faults too; where others of that consumer and reason do, all.
fn without_faults<'a>(
    run: &'a RunResult,
    bare: &[Unplanned],
    because: &str,
) -> BTreeMap<&'a str, Accused<'a>> {
    let same: BTreeSet<(&str, &str)> = bare.iter().map(|it| (&*it.consumer, &*it.key)).collect();
    let like: BTreeSet<(&str, &str)> = bare.iter().map(|it| (&*it.consumer, it.reason)).collect();
    let mut accused = BTreeMap::new();
    for letter in &run.unplanned {
        if same.contains(&(&*letter.consumer, &*letter.key)) {
            add(&mut accused, letter, || because.to_owned());
        }
    }
    for letter in &run.unplanned {
        let known = accused.contains_key(&*letter.consumer);
        if !known && like.contains(&(&*letter.consumer, letter.reason)) {
            add(&mut accused, letter, || {
                "without its faults other messages of the same seed end there for the same reason"
                    .to_owned()
            });
        }
    }
    accused
}

fn is_poison(letter: &Unplanned) -> bool {
    letter.reason == Reason::Poison.as_str()
}

/// Letters whose handler gave up for good in a run that a fault struck.
fn taken_for_good<'a>(
    run: &'a RunResult,
    trace: &[TraceLine],
    accused: &mut BTreeMap<&'a str, Accused<'a>>,
) {
    gave_up_on_a_call(run, accused);
    for letter in run.unplanned.iter().filter(|letter| is_poison(letter)) {
        let Some((start, end)) = letter.last_run else {
            continue;
        };
        let strikes = |line: &&TraceLine| {
            line.what == "fault" && *line.subject == *letter.key && (start..=end).contains(&line.at)
        };
        let known = accused.contains_key(&*letter.consumer);
        if let Some(strike) = trace.iter().find(strikes).filter(|_| !known) {
            add(accused, letter, || {
                format!(
                    "its handler took a failure that passes for one that stays: it gave up for \
                     good in a run that was struck by {}",
                    strike.detail
                )
            });
        }
    }
}

/// Letters whose handler gave up for good when a service did not answer, or could not act just then.
fn gave_up_on_a_call<'a>(run: &'a RunResult, accused: &mut BTreeMap<&'a str, Accused<'a>>) {
    for letter in run.unplanned.iter().filter(|letter| is_poison(letter)) {
        let Some(call) = &letter.failed_call else {
            continue;
        };
        let others =
            |known: &Accused<'_>| known.letters.iter().all(|other| other.key != letter.key);
        if accused.get(&*letter.consumer).is_none_or(others) {
            add(accused, letter, || {
                format!(
                    "its handler took a failure that passes for one that stays: it gave up for \
                     good in a run that was told `{call}`"
                )
            });
        }
    }
}

fn tell(accused: &BTreeMap<&str, Accused<'_>>) -> Vec<Anomaly> {
    let anomaly = |(consumer, accused): (&&str, &Accused<'_>)| {
        let Accused { letters, because } = accused;
        let first = letters.first()?;
        let (key, reason) = (&first.key, first.reason);
        let others = match letters.len() - 1 {
            0 => "is".to_owned(),
            1 => "and 1 more are".to_owned(),
            more => format!("and {} more are", grouped(more as u64)),
        };
        let told = first
            .told
            .as_ref()
            .map_or(String::new(), |(attempts, error)| {
                let plural = if *attempts == 1 { "" } else { "s" };
                format!(" after {attempts} attempt{plural} ({error})")
            });
        Some(Anomaly {
            kind: AnomalyKind::UnexplainedLetter,
            checker: CHECKER,
            message: first.key.clone(),
            message_id: first.id,
            consumer: first.consumer.clone(),
            promise: PROMISE,
            seen: format!(
                "{key} {others} in the dead letters of {consumer}: {reason}{told}; {because}"
            ),
            also: Vec::new(),
        })
    };
    accused.iter().filter_map(anomaly).collect()
}
