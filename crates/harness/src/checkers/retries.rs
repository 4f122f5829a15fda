//! Retries are bounded, by count and by time, and they wait.
//!
//! No attempt has a number above the policy's. No attempt begins again, under its own number or a
//! lower one, after its failure is on record; and none begins earlier than the failure before it
//! plus the shortest wait that jitter may choose. A retry is never put off to a time after the
//! total for retries. A failure for good is not retried.
//!
//! **When it may be judged.** At any time.
//!
//! **What is on record.** A delivery that was settled as a retry of attempt n+1: the pipeline
//! settles so only after the failure of attempt n is committed.
//!
//! **What is legal.** Runs that nobody could count: one that died with its process on the first
//! delivery of a message (later ones are counted before they begin), one whose message was parked
//! since the database did not take the record, one that began while another copy of its message
//! was still being worked on. All other failed runs of a message together are no more than the
//! attempts of the policy: that also bounds a pipeline that counts nothing. A run goes by what was
//! on record when its inbox row was read: of a process that stood still since then the session is
//! gone, and with it the lock on the row, which it learns at its end.
//!
//! **What it cannot see.** A retry that begins late because its message had to wait in a queue.
//! A failure whose settlement nobody saw. A naive pipeline that parks for the full time instead
//! of counting: it never settles, and is found by that. Whole bursts of retries. Of two copies of a
//! message in one process the one that excuses more is taken, so a run that ought to count may be
//! forgiven.

use std::time::Duration;

use super::index::{Index, Run, RunEnd, Work};
use super::say::{At, Promise};
use super::{Checker, View, rules};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::{Ended, Settled, What};
use redeliver_core::policy::Policy;
use redeliver_core::ports::Receipt;
use redeliver_core::ports::env::nanos;

const PROMISE: Promise = Promise {
    checker: "over_retried",
    kind: AnomalyKind::OverRetried,
    text: "Retries end, by count and by time, and none begins before its wait is over.",
};

/// Clocks and time-outs are rounded to milliseconds on the way.
const ROUNDING: u64 = 2_000_000;

/// Attempts keep to their number and their waits.
#[derive(Debug)]
pub struct Retries;

impl Checker for Retries {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for work in &index.works {
            let failed = |run: &usize| !index.runs[*run].ended_ok();
            let above = |run: &usize| index.runs[*run].on.attempt > view.policy.retry.attempts;
            if work.runs.len() > 1 || work.runs.iter().any(|run| failed(run) || above(run)) {
                let mut seen = Vec::new();
                timeline(view.policy, index, work, &mut seen);
                count(view.policy, index, work, &mut seen);
                let about = index.about(work);
                found.extend(seen.into_iter().map(|seen| PROMISE.broken(about, seen)));
            }
        }
        found
    }
}

/// The failures of a work that are on record so far.
#[derive(Default)]
struct Record {
    /// The highest attempt that has failed.
    number: u32,
    /// When the first record was seen.
    first: Option<u64>,
    /// No attempt begins before this.
    not_before: u64,
}

/// Walks through what runs read and through settlements in the order of the history.
fn timeline(policy: &Policy, index: &Index<'_>, work: &Work<'_>, seen: &mut Vec<String>) {
    let mut record = Record::default();
    let mut settled = work.settled.iter().copied().peekable();
    let mut runs: Vec<_> = work.runs.iter().map(|run| &index.runs[*run]).collect();
    runs.sort_by_key(|run| run.read);
    for run in runs {
        while let Some(place) = settled.next_if(|place| *place < run.read) {
            settlement(policy, index, work, place, &mut record, seen);
        }
        begun(policy, index.consumer_of(work), run, &record, seen);
    }
    for place in settled {
        settlement(policy, index, work, place, &mut record, seen);
    }
}

fn begun(policy: &Policy, consumer: &str, run: &Run<'_>, record: &Record, seen: &mut Vec<String>) {
    let (attempt, cap) = (run.on.attempt, policy.retry.attempts);
    let this = || {
        let (number, process, at) = (run.number, run.process, At(run.started_at));
        format!("run {number} by {process}, attempt {attempt} of {consumer}, began at {at}")
    };
    if attempt > cap {
        seen.push(format!("{}; {cap} attempts are the most", this()));
    }
    if record.number > 0 && attempt <= record.number {
        let (this, failed) = (this(), record.number);
        seen.push(format!(
            "{this}, though the failure of attempt {failed} was on record"
        ));
    } else if run.started_at.saturating_add(ROUNDING) < record.not_before {
        let (this, until, failed) = (this(), At(record.not_before), record.number);
        seen.push(format!(
            "{this}; after the failure of attempt {failed} none begins before {until}"
        ));
    }
}

/// Takes note of a settlement, if it puts a failed attempt on record.
fn settlement(
    policy: &Policy,
    index: &Index<'_>,
    work: &Work<'_>,
    place: usize,
    record: &mut Record,
    seen: &mut Vec<String>,
) {
    let entry = index.entry(place);
    let What::Settled { how, receipt, .. } = &entry.what else {
        unreachable!("the index keeps places of settlements");
    };
    let Settled::Retry { attempt, delay } = how else {
        return;
    };
    let (failed, retry) = (attempt.saturating_sub(1), &policy.retry);
    let shortest = nanos(rules::shortest_wait(retry, failed));
    let this = || {
        let (process, at) = (&entry.process, At(entry.at));
        format!("at {at} {process} put it back for attempt {attempt}")
    };
    let attempted = |end: RunEnd<'_>| end.place < place && !end.is_of_batch();
    let ended = |run: &&Run<'_>| run.on.attempt == failed && run.end.is_some_and(attempted);
    let runs = || work.runs.iter().map(|run| &index.runs[*run]).filter(ended);
    let own = || runs().filter(|run| run.process == &entry.process);
    let ends = |run: &Run<'_>| run.end.map(|end| end.at);

    if *attempt > retry.attempts {
        seen.push(format!(
            "{}; {} attempts are the most",
            this(),
            retry.attempts
        ));
    }
    if delay.saturating_add(ROUNDING) < shortest {
        let (this, delay, shortest) = (this(), At(*delay), At(shortest));
        seen.push(format!(
            "{this} after {delay}; {shortest} is the shortest wait"
        ));
    }
    let poison = |run: &Run<'_>| {
        run.end
            .is_some_and(|end| matches!(end.how, Ended::Poison(_)))
    };
    // What an earlier delivery found out counts only if it was put on record; this one may have
    // failed before its handler could run.
    let here = |run: &&Run<'_>| is_of(index, work, run, *receipt);
    let mut here = own().filter(here).peekable();
    if here.peek().is_some() && here.all(poison) {
        seen.push(format!("{}, though it had failed for good", this()));
    }
    let since = record.first.zip(own().filter_map(ends).min());
    let elapsed = since.map_or(0, |(first, end)| end.saturating_sub(first));
    if elapsed.saturating_add(*delay) > nanos(retry.total).saturating_add(ROUNDING) {
        let (this, delay, total) = (this(), At(*delay), At(nanos(retry.total)));
        seen.push(format!(
            "{this} after {delay}, {} after its first failure; {total} is the total for retries",
            At(elapsed)
        ));
    }
    record.first.get_or_insert(entry.at);
    record.number = record.number.max(failed);
    if let Some(end) = runs().filter_map(ends).min() {
        record.not_before = record.not_before.max(end.saturating_add(shortest));
    }
}

/// What became of a run that did not end well.
enum Fate {
    /// Still running, or ended well, or its message was acked.
    Nothing,
    /// Its process saw no more of it.
    Died,
    /// Put on record, at this place.
    Recorded(usize),
    /// Parked in good order: the database did not take the record, or another worker took over.
    Parked(usize),
}

fn fate(policy: &Policy, index: &Index<'_>, work: &Work<'_>, run: &Run<'_>) -> Fate {
    let Some(end) = run.end else {
        return if run.died { Fate::Died } else { Fate::Nothing };
    };
    if *end.how == Ended::Ok || end.is_of_batch() {
        return Fate::Nothing;
    }
    // Of the deliveries that its process held, nobody knows which one it worked on: the most
    // favourable.
    let held = held(index, work, run);
    let settled = work.settled.iter().filter(|place| **place > end.place);
    let fates = settled.filter_map(|place| {
        let What::Settled { how, receipt, .. } = &index.entry(*place).what else {
            unreachable!("the index keeps places of settlements");
        };
        held.contains(receipt)
            .then(|| of_settlement(policy, how, *place))
    });
    fates.min_by_key(Fate::rank).unwrap_or(Fate::Died)
}

impl Fate {
    /// The lower, the less is counted.
    const fn rank(&self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Parked(_) => 1,
            Self::Died => 2,
            Self::Recorded(_) => 3,
        }
    }
}

fn of_settlement(policy: &Policy, how: &Settled, place: usize) -> Fate {
    let consumer = &policy.consumer;
    let in_order = |delay: u64| Duration::from_nanos(delay) >= consumer.park.min(consumer.lease);
    match how {
        Settled::Done | Settled::Kept => Fate::Nothing,
        Settled::Park { delay } if in_order(*delay) => Fate::Parked(place),
        Settled::Park { .. } | Settled::Retry { .. } | Settled::DeadLetter(_) => {
            Fate::Recorded(place)
        }
    }
}

/// Failed runs that had to be counted are no more than the attempts.
fn count(policy: &Policy, index: &Index<'_>, work: &Work<'_>, seen: &mut Vec<String>) {
    let cap = policy.retry.attempts;
    let mut counted: Vec<&Run<'_>> = Vec::new();
    // Of each number the place until which runs of it are still open.
    let mut open: Vec<(u32, usize)> = Vec::new();
    for run in work.runs.iter().map(|run| &index.runs[*run]) {
        let fate = fate(policy, index, work, run);
        let beside = open
            .iter()
            .any(|(n, until)| *n == run.on.attempt && *until > run.start);
        let until = match fate {
            Fate::Recorded(place) | Fate::Parked(place) => place,
            Fate::Nothing | Fate::Died => run.end.map_or(usize::MAX, |end| end.place),
        };
        open.push((run.on.attempt, until));
        let counts = match fate {
            Fate::Nothing | Fate::Parked(_) => false,
            // Such a delivery is counted before its handler begins, since its message may be what
            // killed the last process.
            Fate::Died => run.redelivered,
            Fate::Recorded(_) => true,
        };
        if counts && !beside {
            counted.push(run);
        }
    }
    if counted.len() > cap as usize
        && let (Some(first), Some(last)) = (counted.first(), counted.last())
    {
        seen.push(format!(
            "its handler failed {} times between {} and {}, the last time in run {} by {}; {cap} \
             attempts are the most",
            counted.len(),
            At(first.started_at),
            At(last.started_at),
            last.number,
            last.process
        ));
    }
}

/// Whether a run surely works on the delivery of this receipt: its process held no other.
fn is_of(index: &Index<'_>, work: &Work<'_>, run: &Run<'_>, this: Receipt) -> bool {
    *held(index, work, run) == [this]
}

/// The deliveries of a work that the process of a run had in hand when it began.
fn held(index: &Index<'_>, work: &Work<'_>, run: &Run<'_>) -> Vec<Receipt> {
    let receipt = |place: &usize| match &index.entry(*place).what {
        What::Delivered { receipt, .. } | What::Settled { receipt, .. } => Some(*receipt),
        _ => None,
    };
    let its = |place: &&usize| **place < run.start && index.entry(**place).process == *run.process;
    let settled: Vec<_> = (work.settled.iter().filter(its).filter_map(receipt)).collect();
    let delivered = work.deliveries.iter().filter(its).filter_map(receipt);
    delivered.filter(|held| !settled.contains(held)).collect()
}
