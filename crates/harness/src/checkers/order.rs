//! Ordered events keep their order.
//!
//! The outbox numbers the ordered events of one type and key from 1 without gaps. The relay does
//! not publish one before its predecessor is confirmed. In each consumer, one takes effect only
//! after every predecessor has ended: done, or given up.
//!
//! **When it may be judged.** At any time: an order that was broken stays broken, even if the
//! final state looks right. Therefore the handler runs are compared and not the final rows.
//!
//! **What is legal.** Messages that overtake each other on their way: a consumer that gets one
//! early parks it. Runs of a later event that leave no effect. A gap where an event was given up.
//! Two events of one idempotency key, which are one piece of work. Commits are seen in another
//! order than they happened when a client is slow to see them: so a run must begin after the
//! *run* before it has ended, which is certain, and not after its commit was seen.
//!
//! **What it cannot see.** A later run that begins between the end of the run before it and that
//! run's commit. Gaps in the numbering when rows of the outbox were removed.

use std::collections::BTreeMap;

use super::index::{End, Index, Run, Truth, Work};
use super::say::{About, At, Promise};
use super::{Checker, View};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::What;
use redeliver_core::event::Event;
use redeliver_core::ports::PublishOutcome;

const PROMISE: Promise = Promise {
    checker: "reordered",
    kind: AnomalyKind::Reordered,
    text: "Ordered events of one key are published and take effect in the order of their commits.",
};

/// Events of one key take effect in their order.
#[derive(Debug)]
pub struct Order;

/// What orders events: type and key.
type Scope<'a> = (&'a str, &'a str);

impl Checker for Order {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, _: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let mut scopes: BTreeMap<Scope<'_>, Vec<(u64, usize)>> = BTreeMap::new();
        for (at, known) in index.events.iter().enumerate() {
            if known.committed == Truth::Yes
                && let Some(sequence) = sequence(known.event)
            {
                scopes
                    .entry(scope(known.event))
                    .or_default()
                    .push((sequence, at));
            }
        }
        let mut found = Vec::new();
        if scopes.is_empty() {
            return found;
        }
        for events in scopes.values_mut() {
            events.sort_unstable();
            numbering(index, events, &mut found);
        }
        publishing(index, &scopes, &mut found);
        consuming(index, &scopes, &mut found);
        found
    }
}

fn scope(event: &Event) -> Scope<'_> {
    (&event.event_type, &event.key)
}

/// The number of an ordered event; none before the outbox has given it one.
fn sequence(event: &Event) -> Option<u64> {
    event.sequence.filter(|sequence| *sequence > 0)
}

fn about(event: &Event) -> About<'_> {
    About {
        message: &event.idempotency_key,
        id: Some(event.id),
        consumer: "",
    }
}

fn numbering(index: &Index<'_>, events: &[(u64, usize)], found: &mut Vec<Anomaly>) {
    for pair in events.windows(2) {
        let [(before, _), (sequence, at)] = *pair else {
            unreachable!("windows of two")
        };
        let event = index.events[at].event;
        let (name, key) = scope(event);
        if sequence == before {
            let seen = format!("two events {name} of {key} carry number {sequence}");
            found.push(PROMISE.broken(about(event), seen));
        } else if sequence != before + 1 && index.outbox_complete {
            let seen = format!(
                "the events {name} of {key} are numbered {before} and then {sequence}, with \
                 nothing in between"
            );
            found.push(PROMISE.broken(about(event), seen));
        }
    }
    if let Some((sequence @ 2.., at)) = events.first().copied()
        && index.outbox_complete
    {
        let event = index.events[at].event;
        let (name, key) = scope(event);
        let seen = format!("the events {name} of {key} begin with number {sequence}");
        found.push(PROMISE.broken(about(event), seen));
    }
}

/// Where an event was first published, and first confirmed.
#[derive(Clone, Copy, Default)]
struct Published {
    first: Option<usize>,
    confirmed: Option<usize>,
}

fn publishing(
    index: &Index<'_>,
    scopes: &BTreeMap<Scope<'_>, Vec<(u64, usize)>>,
    found: &mut Vec<Anomaly>,
) {
    let mut published: BTreeMap<(Scope<'_>, u64), Published> = BTreeMap::new();
    for place in &index.publishes {
        if let What::Publish { event, outcome, .. } = &index.entry(*place).what
            && let Some(sequence) = sequence(event)
        {
            let known = published.entry((scope(event), sequence)).or_default();
            known.first.get_or_insert(*place);
            if *outcome == PublishOutcome::Confirmed {
                known.confirmed.get_or_insert(*place);
            }
        }
    }
    for (scope, events) in scopes {
        for pair in events.windows(2) {
            let [(before, _), (sequence, at)] = *pair else {
                unreachable!("windows of two")
            };
            let of = |n| published.get(&(*scope, n)).copied().unwrap_or_default();
            let (head, follower) = (of(before), of(sequence));
            let Some(first) = follower.first.filter(|_| before != sequence) else {
                continue;
            };
            if head.confirmed.is_some_and(|confirmed| confirmed < first) {
                continue;
            }
            let (event, entry) = (index.events[at].event, index.entry(first));
            let (key, process, when) = (scope.1, &entry.process, At(entry.at));
            let seen = format!(
                "{process} published number {sequence} of {key} at {when}, before number {before} \
                 was confirmed"
            );
            found.push(PROMISE.broken(about(event), seen));
        }
    }
}

/// Per consumer: the works of a scope in the order of their numbers.
fn consuming(
    index: &Index<'_>,
    scopes: &BTreeMap<Scope<'_>, Vec<(u64, usize)>>,
    found: &mut Vec<Anomaly>,
) {
    // A work that two events ask for stands at the first of them.
    let mut first: BTreeMap<usize, u64> = BTreeMap::new();
    let mut lines: BTreeMap<(usize, Scope<'_>), Vec<(u64, usize)>> = BTreeMap::new();
    for (at, work) in index.works.iter().enumerate() {
        for event in work.events.iter().map(|event| &index.events[*event]) {
            if event.committed == Truth::Yes
                && let Some(sequence) = sequence(event.event)
                && scopes.contains_key(&scope(event.event))
            {
                let lowest = first.entry(at).or_insert(u64::MAX);
                *lowest = (*lowest).min(sequence);
                let line = lines
                    .entry((work.consumer, scope(event.event)))
                    .or_default();
                line.push((sequence, at));
            }
        }
    }
    for line in lines.values_mut() {
        line.retain(|(sequence, at)| first.get(at) == Some(sequence));
        line.sort_unstable();
        consumed(index, line, found);
    }
}

/// What the predecessors of an event did so far.
#[derive(Default)]
struct Before<'i, 'a> {
    /// One that has not ended.
    open: Option<u64>,
    /// The latest run that began, with its number in the order.
    begun: Option<(u64, &'i Run<'a>)>,
    /// The run that took effect last.
    effective: Option<(u64, &'i Run<'a>)>,
}

fn consumed(index: &Index<'_>, line: &[(u64, usize)], found: &mut Vec<Anomaly>) {
    let mut before = Before::default();
    for (sequence, at) in line {
        let work = &index.works[*at];
        let run = effective(index, work);
        if let Some(run) = run
            && let Some(seen) = out_of_turn(index, work, (*sequence, run), &before)
        {
            found.push(PROMISE.broken(index.about(work), seen));
        }
        if index.end(work) == End::None {
            before.open.get_or_insert(*sequence);
        }
        // By what a run goes by, its inbox row: of a process that stood still since it asked for
        // that row the session is gone, and what it begins then has no effect.
        let runs = work.runs.iter().map(|run| &index.runs[*run]);
        if let Some(last) = runs.max_by_key(|run| run.read)
            && before
                .begun
                .is_none_or(|(_, latest)| latest.read < last.read)
        {
            before.begun = Some((*sequence, last));
        }
        if let Some(run) = run {
            before.effective = Some((*sequence, run));
        }
    }
}

/// The run whose effects were committed; of a work that is done without a commit that was seen,
/// its last good run.
fn effective<'i, 'a>(index: &'i Index<'a>, work: &Work<'a>) -> Option<&'i Run<'a>> {
    let commits = work.commits.iter().map(|at| &index.commits[*at]);
    let mut effects = commits.filter(|c| c.truth == Truth::Yes && !c.effects.is_empty());
    if let Some(run) = effects.find_map(|commit| commit.run) {
        return Some(&index.runs[run]);
    }
    if index.end(work) != End::Done {
        return None;
    }
    let runs = work.runs.iter().rev().map(|run| &index.runs[*run]);
    runs.into_iter().find(|run| run.ended_ok())
}

fn out_of_turn(
    index: &Index<'_>,
    work: &Work<'_>,
    (sequence, run): (u64, &Run<'_>),
    before: &Before<'_, '_>,
) -> Option<String> {
    let key = index.key_of(work);
    let this = format!(
        "{key} (number {sequence}) took effect in {} by run {}, begun at {}",
        index.consumer_of(work),
        run.number,
        At(run.started_at)
    );
    if let Some(open) = before.open {
        return Some(format!(
            "{this}, though number {open} before it has not ended"
        ));
    }
    if let Some((number, late)) = before.begun
        && late.read > run.start
    {
        let (late, at) = (late.number, At(late.started_at));
        return Some(format!(
            "{this}; run {late} of number {number} began after it, at {at}"
        ));
    }
    if let Some((number, last)) = before.effective
        && let Some(end) = last.end.filter(|end| end.place > run.start)
    {
        let (last, at) = (last.number, At(end.at));
        return Some(format!(
            "{this}, while run {last} of number {number} went on until {at}"
        ));
    }
    None
}
