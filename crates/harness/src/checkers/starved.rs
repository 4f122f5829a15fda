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
//! ([`rules::aftermath`]).
//!
//! **What is legal.** To wait for busy workers. A handler counts as busy for as long as the longest
//! successful run of its consumer took, and no longer: one that sleeps while it holds its message
//! is not at work. A quarter of a second for each delivery that a process takes in between. An
//! event of an ordered key waits behind its predecessor, and is left out. Where the broker takes
//! messages away from handlers within their limit, nobody can say who is busy.
//!
//! **What it cannot see.** A worker that idles while nothing waits. Handlers of which none ended
//! well.

use std::time::Duration;

use super::index::{Index, Run, Truth, Work};
use super::say::{At, Count, Promise};
use super::{Checker, View, rules};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::{Ended, What};
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
        let policy = view.policy;
        let taken = |timeout| timeout < policy.consumer.handler_limit;
        if policy.consumer_timeout.is_some_and(taken) {
            return found;
        }
        for consumer in 0..index.consumers.len() {
            consumer_of(view, index, consumer, &mut found);
        }
        found
    }
}

/// How long a message may take on its way although nobody holds it up.
fn transit(view: &View<'_>) -> u64 {
    let relay = &view.policy.relay;
    nanos(relay.poll * 2 + relay.confirm_timeout + TRANSIT)
}

fn consumer_of(view: &View<'_>, index: &Index<'_>, consumer: usize, found: &mut Vec<Anomaly>) {
    let transit = transit(view);
    let waits = index.works.iter().filter(|work| work.consumer == consumer);
    let mut waits = waits
        .filter_map(|work| Some((work, waited(index, work)?)))
        .filter(|(_, (from, to))| to - from > transit && !is_disturbed(view, *from, *to))
        .peekable();
    if waits.peek().is_none() {
        return;
    }
    let busy = Busy::of(view, index, consumer);
    let mut starved = waits.filter_map(|(work, (from, to))| {
        let (full, deliveries) = (busy.full(from, to), busy.deliveries(from, to));
        let between = deliveries * PER_DELIVERY / u64::from(view.processes.max(1));
        let idle = (to - from).saturating_sub(transit + full + between);
        (idle > 0).then_some((work, from, to, full))
    });
    // One is enough: the others wait for the same reason.
    let Some((work, from, to, full)) = starved.next() else {
        return;
    };
    let more = match starved.count() as u64 {
        0 => String::new(),
        more => format!("; {} as well", Count(more, "more message")),
    };
    let seen = format!(
        "{} waited {} from its commit to the first attempt of {}; for {} of that each of its workers \
         ({}) was busy, and {} is what its way takes{more}",
        index.key_of(work),
        At(to - from),
        index.consumer_of(work),
        At(full),
        busy.workers,
        At(transit),
    );
    found.push(PROMISE.broken(index.about(work), seen));
}

/// From the commit of a work's event to its first attempt.
fn waited(index: &Index<'_>, work: &Work<'_>) -> Option<(u64, u64)> {
    let event = index.events.get(*work.events.first()?)?;
    if event.committed != Truth::Yes || event.event.sequence.is_some() {
        return None;
    }
    let from = index.entry(event.commit?).at;
    let run = &index.runs[*work.runs.first()?];
    (run.started_at >= from).then_some((from, run.started_at))
}

fn is_disturbed(view: &View<'_>, from: u64, to: u64) -> bool {
    let after = nanos(rules::aftermath(view.policy));
    let touches = |(at, until): &(u64, u64)| *at <= to && until.saturating_add(after) >= from;
    view.disturbed.iter().any(touches)
}

/// When all workers of a consumer were busy, and when it took deliveries.
struct Busy {
    workers: usize,
    /// From each of these times on: how many are busy, and for how long all were before.
    steps: Vec<(u64, usize, u64)>,
    delivered: Vec<u64>,
}

impl Busy {
    fn of(view: &View<'_>, index: &Index<'_>, consumer: usize) -> Self {
        let name = index.consumers[consumer];
        let its = |run: &&Run<'_>| *run.on.consumer == *name;
        let runs: Vec<&Run<'_>> = index.runs.iter().filter(its).collect();
        let took = |run: &&&Run<'_>| {
            let end = run.end.filter(|end| *end.how == Ended::Ok)?;
            Some(end.at.saturating_sub(run.started_at))
        };
        let longest = runs.iter().filter_map(|run| took(&run)).max();
        let longest = longest.unwrap_or(0).max(LEAST_BUSY);
        let policy = &view.policy.consumer;
        let each = policy.workers.min(policy.prefetch);
        let workers = usize::from(each) * view.processes as usize;
        let mut changes: Vec<(u64, bool)> = Vec::with_capacity(runs.len() * 2);
        for run in runs {
            let end = run.end.map_or(u64::MAX, |end| end.at);
            changes.push((run.started_at, true));
            changes.push((end.min(run.started_at.saturating_add(longest)), false));
        }
        changes.sort_unstable();
        let (mut busy, mut full, mut last) = (0usize, 0u64, 0u64);
        let mut steps = Vec::with_capacity(changes.len());
        for (at, begins) in changes {
            full += if busy >= workers { at - last } else { 0 };
            last = at;
            busy = if begins {
                busy + 1
            } else {
                busy.saturating_sub(1)
            };
            steps.push((at, busy, full));
        }
        let entries = view.history.entries.iter();
        let delivered = entries.filter(
            |entry| matches!(&entry.what, What::Delivered { consumer, .. } if **consumer == *name),
        );
        Self {
            workers,
            steps,
            delivered: delivered.map(|entry| entry.at).collect(),
        }
    }

    /// For how long all were busy until then.
    fn full_until(&self, time: u64) -> u64 {
        let place = self.steps.partition_point(|(at, ..)| *at <= time);
        let Some((at, busy, full)) = place.checked_sub(1).map(|place| self.steps[place]) else {
            return 0;
        };
        full + if busy >= self.workers { time - at } else { 0 }
    }

    fn full(&self, from: u64, to: u64) -> u64 {
        self.full_until(to) - self.full_until(from)
    }

    fn deliveries(&self, from: u64, to: u64) -> u64 {
        let until = |time: u64| self.delivered.partition_point(|at| *at <= time) as u64;
        until(to) - until(from)
    }
}
