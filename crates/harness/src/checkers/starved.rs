//! No message waits while a worker that could take it is idle.
//!
//! From the commit of an event to the first attempt at it passes what the outbox, the relay and the
//! broker need, and the time in which all workers of its consumer are busy. A consumer that sleeps
//! out the backoff of one message with others in its hands, whose prefetch was lowered and never
//! raised again, or of whose workers one idles for ever, lets messages wait longer than that: it is
//! stuck in slow motion, and comes to its end all the same.
//!
//! **When it may be judged.** Of messages that no fault touched: none was at work between their
//! commit and their first attempt, nor so shortly before that its traces were still felt
//! (`rules::aftermath`).
//!
//! **What is legal.** To wait while all workers of the process are busy that makes the attempt in the
//! end: it may have the message in hand, prefetched, where nobody sees it, and the broker gives it to
//! no other. A handler counts as busy for as long as the longest successful run of its consumer took,
//! or until the last answer of an outside service, and no longer, unless its limit ended it or a
//! service did not answer: one that sleeps while it holds its message is not at work. A quarter of a
//! second for each delivery that a process takes in between. An event of an ordered key waits behind
//! its predecessor, and is left out. Where the broker takes messages away from handlers within their
//! limit, or from processes that have too many of them in hand, nobody can say who is busy.
//!
//! **What it cannot see.** A worker that idles while nothing waits. A handler that sleeps after it has
//! given a call up that was not answered.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::index::{Index, Run, Truth, Work};
use super::say::{About, At, Count, Promise};
use super::{Checker, View, rules};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::What;
use redeliver_core::policy::Policy;
use redeliver_core::ports::env::nanos;

const PROMISE: Promise = Promise {
    checker: "starved",
    kind: AnomalyKind::Stuck,
    text: "A message does not wait for its first attempt while workers that could take it idle.",
};

/// What a process may need between two handlers: a commit, an ack, the next delivery.
const PER_DELIVERY: u64 = 250_000_000;

/// What a broker and a network may need.
const TRANSIT: Duration = Duration::from_secs(5);

/// A handler is taken to be busy for so long at least.
const LEAST_BUSY: u64 = 1_000_000_000;

/// No message waits while workers idle.
#[derive(Debug)]
pub struct Starved;

impl Checker for Starved {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let mut found = Vec::new();
        if !can_tell(view.policy) {
            return found;
        }
        for consumer in 0..index.consumers.len() {
            let waits = waits(view, index, consumer);
            if waits.is_empty() {
                continue;
            }
            let mut shifts = Shifts::default();
            shifts.add(view, index, consumer, |name| name);
            let judged = judge(view, (index.consumers[consumer], waits), shifts);
            found.extend(judged);
        }
        found
    }

    fn spans_parts(&self) -> bool {
        true
    }
}

/// Where the broker takes messages away from handlers within their limit, nobody can say who is busy.
pub(super) fn can_tell(policy: &Policy) -> bool {
    let consumer = &policy.consumer;
    let turns = u32::from(consumer.prefetch.div_ceil(consumer.workers.max(1)));
    let taken = |timeout| timeout < consumer.handler_limit * turns;
    !policy.consumer_timeout.is_some_and(taken)
}

/// How long a message may take on its way although nobody holds it up.
fn transit(view: &View<'_>) -> u64 {
    let relay = &view.policy.relay;
    nanos(relay.poll * 2 + relay.confirm_timeout + TRANSIT)
}

/// Messages of a consumer that waited longer than their way takes, with no fault near.
pub(super) fn waits(view: &View<'_>, index: &Index<'_>, consumer: usize) -> Vec<Wait> {
    let transit = transit(view);
    let works = index.works.iter().filter(|work| work.consumer == consumer);
    let waits = works.filter_map(|work| {
        let (from, run) = waited(index, work)?;
        let to = run.started_at;
        let long = to - from > transit && !is_disturbed(view, from, to);
        long.then(|| Wait {
            key: Arc::from(index.key_of(work)),
            id: index.event_of(work).map(|event| event.id),
            from,
            to,
            process: run.process.clone(),
        })
    });
    waits.collect()
}

/// Whether one of them waited although workers idled, by all that its consumer did.
pub(super) fn judge<N>(
    view: &View<'_>,
    (consumer, waits): (&str, Vec<Wait>),
    shifts: Shifts<N>,
) -> Option<Anomaly>
where
    N: Clone + Ord + Borrow<str>,
{
    let transit = transit(view);
    let crew = Crew::of(view.policy, shifts);
    let mut starved = waits.into_iter().filter_map(|wait| {
        let full = crew.full(&wait.process, wait.from, wait.to);
        let between = crew.deliveries(wait.from, wait.to) * PER_DELIVERY;
        let between = between / u64::from(view.processes.max(1));
        let idle = (wait.to - wait.from).saturating_sub(transit + full + between);
        (idle > 0).then_some((wait, full))
    });
    // One is enough: the others wait for the same reason.
    let (wait, full) = starved.next()?;
    let more = match starved.count() as u64 {
        0 => String::new(),
        more => format!("; {} as well", Count(more, "more message")),
    };
    let seen = format!(
        "{} waited {} from its commit to the first attempt of {consumer}; for {} of that all \
         workers of {} were busy, and {} is what its way takes{more}",
        wait.key,
        At(wait.to - wait.from),
        At(full),
        wait.process,
        At(transit),
    );
    let about = About {
        message: &wait.key,
        id: wait.id,
        consumer,
    };
    Some(PROMISE.broken(about, seen))
}

/// From the commit of a message's event to its first attempt.
#[derive(Debug)]
pub(super) struct Wait {
    key: Arc<str>,
    id: Option<Uuid>,
    pub(super) from: u64,
    to: u64,
    /// The process that made the attempt.
    process: Arc<str>,
}

/// When the event of a work was committed, and its first attempt.
fn waited<'i, 'a>(index: &'i Index<'a>, work: &Work<'_>) -> Option<(u64, &'i Run<'a>)> {
    let event = index.events.get(*work.events.first()?)?;
    if event.committed != Truth::Yes || event.event.sequence.is_some() {
        return None;
    }
    let from = index.entry(event.commit?).at;
    let run = &index.runs[*work.runs.first()?];
    (run.started_at >= from).then_some((from, run))
}

fn is_disturbed(view: &View<'_>, from: u64, to: u64) -> bool {
    let after = nanos(rules::aftermath(view.policy));
    let touches = |(at, until): &(u64, u64)| *at <= to && until.saturating_add(after) >= from;
    view.disturbed.iter().any(touches)
}

/// For how long something held, as time goes on.
#[derive(Default)]
struct Spans {
    /// From each of these times on: whether it holds, and for how long it did before.
    steps: Vec<(u64, bool, u64)>,
}

impl Spans {
    /// From then on it holds, or does not. In the order of time.
    fn note(&mut self, at: u64, holds: bool) {
        let (since, held, sum) = self.steps.last().copied().unwrap_or_default();
        let sum = sum + if held { at - since } else { 0 };
        self.steps.push((at, holds, sum));
    }

    fn until(&self, time: u64) -> u64 {
        let place = self.steps.partition_point(|(at, ..)| *at <= time);
        let Some((at, holds, sum)) = place.checked_sub(1).map(|place| self.steps[place]) else {
            return 0;
        };
        sum + if holds { time - at } else { 0 }
    }

    fn between(&self, from: u64, to: u64) -> u64 {
        self.until(to) - self.until(from)
    }
}

/// Until when a run waited for outside services: for the last answer, or to its end where none came.
fn called_until(index: &Index<'_>, run: &Run<'_>) -> Option<u64> {
    let (mut open, mut last) = (0_u32, None);
    for call in index.calls_of(run) {
        open = match call.seen {
            None => open + 1,
            Some(_) => open.saturating_sub(1),
        };
        last = Some(call.at);
    }
    match open {
        0 => last,
        _ => run.end.map(|end| end.at),
    }
}

/// What the workers of a consumer did.
#[derive(Debug)]
pub(super) struct Shifts<N> {
    runs: Vec<Shift<N>>,
    /// When deliveries came.
    delivered: Vec<u64>,
}

impl<N> Default for Shifts<N> {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            delivered: Vec::new(),
        }
    }
}

/// One run.
#[derive(Debug)]
struct Shift<N> {
    process: N,
    began: u64,
    /// `u64::MAX` where it was not seen to end.
    ended: u64,
    well: bool,
    /// Until when it waited for outside services.
    called: u64,
}

impl<N> Shifts<N> {
    /// Adds those of one consumer in an index; `name` makes a name out of one of its processes.
    pub(super) fn add<'a>(
        &mut self,
        view: &View<'a>,
        index: &Index<'a>,
        consumer: usize,
        mut name: impl FnMut(&'a str) -> N,
    ) {
        let of = index.consumers[consumer];
        for run in index.runs.iter().filter(|run| *run.on.consumer == *of) {
            self.runs.push(Shift {
                process: name(run.process),
                began: run.started_at,
                ended: run.end.map_or(u64::MAX, |end| end.at),
                well: run.ended_ok(),
                called: called_until(index, run).unwrap_or(0),
            });
        }
        let entries = view.history.entries.iter();
        let delivered = entries.filter(
            |entry| matches!(&entry.what, What::Delivered { consumer, .. } if **consumer == *of),
        );
        self.delivered.extend(delivered.map(|entry| entry.at));
    }
}

/// When all workers of a process were busy.
struct Crew<N> {
    busy: BTreeMap<N, Spans>,
    delivered: Vec<u64>,
}

impl<N: Clone + Ord + Borrow<str>> Crew<N> {
    fn of(policy: &Policy, shifts: Shifts<N>) -> Self {
        let consumer = &policy.consumer;
        let workers = usize::from(consumer.workers.min(consumer.prefetch));
        let limit = nanos(consumer.handler_limit);
        let mut at_work: BTreeMap<N, (usize, Spans)> = BTreeMap::new();
        for (at, begins, process) in changes(shifts.runs, limit) {
            let (busy, spans) = at_work.entry(process).or_default();
            *busy = if begins {
                *busy + 1
            } else {
                busy.saturating_sub(1)
            };
            spans.note(at, *busy >= workers);
        }
        let spans = at_work
            .into_iter()
            .map(|(process, (_, spans))| (process, spans));
        let mut delivered = shifts.delivered;
        delivered.sort_unstable();
        Self {
            busy: spans.collect(),
            delivered,
        }
    }

    fn full(&self, process: &str, from: u64, to: u64) -> u64 {
        let busy = self.busy.get(process);
        busy.map_or(0, |busy| busy.between(from, to))
    }

    fn deliveries(&self, from: u64, to: u64) -> u64 {
        let until = |time: u64| self.delivered.partition_point(|at| *at <= time) as u64;
        until(to) - until(from)
    }
}

/// Beginnings and ends of runs, in the order of time.
fn changes<N: Clone + Ord>(runs: Vec<Shift<N>>, limit: u64) -> Vec<(u64, bool, N)> {
    let well = runs.iter().filter(|run| run.well);
    let longest = well.map(|run| run.ended.saturating_sub(run.began)).max();
    let longest = longest.unwrap_or(0).max(LEAST_BUSY);
    let mut changes = Vec::with_capacity(runs.len() * 2);
    for run in runs {
        // One that its limit ends was at work as far as anybody can say.
        let most = match run.ended.saturating_sub(run.began) >= limit {
            true => longest.max(limit),
            false => longest,
        };
        let ended = run
            .ended
            .min(run.began.saturating_add(most).max(run.called));
        changes.push((run.began, true, run.process.clone()));
        changes.push((ended, false, run.process));
    }
    changes.sort_unstable();
    changes
}
