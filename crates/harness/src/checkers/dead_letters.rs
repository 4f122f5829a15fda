//! The books of the dead are kept.
//!
//! Every dead letter is a committed event, or one of the malformed messages that were sent, byte for
//! byte; it lies with the consumer that gave it up, and its story is true and bounded. All copies of a
//! letter tell the same story. Every inbox row that is dead has its letter and says so, and every letter
//! its row. What was given up has not taken effect. What was poisonous from the start is there.
//!
//! **When it may be judged.** Letters and their stories at any time; whether one is missing only
//! in a settled run.
//!
//! **What is legal.** Several copies of one letter: its process may have died between the confirm
//! and the mark. A letter without a story, where the broker itself put it there. A letter without
//! an inbox row from a consumer without an inbox, or of a message that could not be read, so that
//! nothing could be noted under its key. An attempt that never began: what is delivered again is counted
//! first, since it may be what killed the last process, and then it may find another copy at work.
//!
//! **What it cannot see.** Whether an error text is true. The run behind a story where the failure
//! lay outside a run (in the database, or in the second half of an outside handler). Which of the
//! malformed messages a letter without event was.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::index::{End, Index, Truth, Work};
use super::say::{About, At, Count, Promise};
use super::{Checker, View, rules};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::history::{Ended, Seen, Settled, What};
use crate::watch::reading::{Letter, STRANGER};
use redeliver_core::dead_letter::{DeadLetter, MAX_ERROR_BYTES, Reason};
use redeliver_core::event::{Event, MalformedReason};
use redeliver_core::inbox::InboxState;
use redeliver_core::policy::Policy;
use redeliver_core::ports::env::nanos;

const PROMISE: Promise = Promise {
    checker: "misfiled",
    kind: AnomalyKind::Misfiled,
    text: "What is given up lies in its consumer's dead letters with its true story, \
           and nothing else does.",
};

/// So long it may take to note that a letter was published.
const NOTED: u64 = 10_000_000_000;

/// Each letter has its story, and its story is right.
#[derive(Debug)]
pub struct DeadLetters;

impl Checker for DeadLetters {
    fn name(&self) -> &'static str {
        PROMISE.checker
    }

    fn check(&self, view: &View<'_>, index: &Index<'_>) -> Vec<Anomaly> {
        let mut found = Vec::new();
        unaddressed(view, index, &mut found);
        for work in &index.works {
            let mut seen = Vec::new();
            if !work.letters.is_empty() {
                letters(view, index, work, &mut seen);
            }
            row(view, index, work, &mut seen);
            let about = index.about(work);
            found.extend(seen.into_iter().map(|seen| PROMISE.broken(about, seen)));
        }
        if view.settled {
            poison(view, index, &mut found);
        }
        found
    }
}

/// Letters without an event, or with one that belongs to no work.
fn unaddressed(view: &View<'_>, index: &Index<'_>, found: &mut Vec<Anomaly>) {
    let none = view
        .reading
        .letters
        .iter()
        .filter(|letter| letter.event.is_none());
    let none = none.count() as u64;
    if (view.settled && none < view.malformed) || (view.malformed == 0 && none > 0) {
        let seen = format!(
            "{} without an event ought to be there, and {none} are",
            Count(view.malformed, "dead letter"),
        );
        found.push(PROMISE.broken(About::default(), seen));
    }
    if let Some(lost) = without_bytes(view) {
        let seen = format!(
            "a dead letter of {} without an event has not the bytes of any message that was sent: {}",
            lost.consumer,
            shown(lost.raw.as_deref().unwrap_or_default())
        );
        found.push(PROMISE.broken(About::default(), seen));
    }
    let mut accused = BTreeSet::new();
    for letter in &view.reading.letters {
        let Some(event) = &letter.event else { continue };
        let phantom = match index.event(event.id) {
            Some(known) => known.committed == Truth::No,
            None => index.within_retention,
        };
        let about = About {
            message: &event.idempotency_key,
            id: Some(event.id),
            consumer: &letter.consumer,
        };
        let (key, consumer) = (&event.idempotency_key, &letter.consumer);
        if phantom && accused.insert((consumer, event.id)) {
            let seen = format!("{key} is dead in {consumer}, and its event never committed");
            found.push(PROMISE.broken(about, seen));
        } else if index.consumer_id(consumer).is_none() {
            let seen = format!("{key} is dead in {consumer}, which is no consumer");
            found.push(PROMISE.broken(about, seen));
        }
    }
}

/// A letter without an event that is none of the malformed messages either.
fn without_bytes<'a>(view: &View<'a>) -> Option<&'a Letter> {
    let sent = |raw: &Bytes| raw.starts_with(STRANGER.as_bytes());
    let mut letters = view.reading.letters.iter();
    letters.find(|letter| letter.event.is_none() && !letter.raw.as_ref().is_some_and(sent))
}

/// The beginning of some bytes, as text.
fn shown(bytes: &[u8]) -> String {
    match &bytes[..bytes.len().min(40)] {
        [] => "it is empty".to_owned(),
        bytes => format!("{:?}", String::from_utf8_lossy(bytes)),
    }
}

/// It never got as far as the inbox: nothing is noted under its key.
fn unreadable(story: &DeadLetter) -> bool {
    let classes = [MalformedReason::Envelope, MalformedReason::TooLarge];
    story.reason == Reason::Malformed && classes.iter().any(|c| c.as_str() == &*story.class)
}

/// The letters of one work.
fn letters(view: &View<'_>, index: &Index<'_>, work: &Work<'_>, seen: &mut Vec<String>) {
    let (key, consumer) = (index.key_of(work), index.consumer_of(work));
    let stories = || {
        let told = work
            .letters
            .iter()
            .filter_map(|l| Some((*l, l.story.as_ref()?)));
        told.filter(|(_, story)| !unreadable(story))
    };
    let dead = matches!(
        work.inbox.map(|row| &row.state),
        Some(InboxState::Dead { .. })
    );
    let can_have_row = work
        .letters
        .iter()
        .any(|l| l.story.as_ref().is_none_or(|s| !unreadable(s)));
    if index.keeps_inbox[work.consumer] && can_have_row && !dead && !work.saved_dead {
        let state = match work.inbox.map(|row| &row.state) {
            Some(InboxState::Done { .. }) => "its inbox has it as done",
            Some(_) => "its inbox has it as still to do",
            None => "its inbox does not know it",
        };
        seen.push(format!(
            "{key} is in the dead letters of {consumer}, and {state}"
        ));
    }
    if let Some((letter, story)) = stories().next() {
        untrue(view, index, work, (letter, story), seen);
        if let Some((_, other)) = stories().find(|(_, other)| *other != story) {
            seen.push(format!(
                "two dead letters of {key} in {consumer} tell two stories: {} after {}, and {} \
                 after {}",
                story.reason.as_str(),
                Count(story.attempts.into(), "attempt"),
                other.reason.as_str(),
                Count(other.attempts.into(), "attempt"),
            ));
        }
        if let Some(InboxState::Dead { story: noted, .. }) = work.inbox.map(|row| &row.state)
            && (noted.reason, noted.attempts) != (story.reason, story.attempts)
        {
            seen.push(format!(
                "the dead letter of {key} in {consumer} says {}, its inbox says {}",
                story.reason.as_str(),
                noted.reason.as_str()
            ));
        }
    }
}

/// What is wrong with a story.
fn untrue(
    view: &View<'_>,
    index: &Index<'_>,
    work: &Work<'_>,
    (letter, story): (&Letter, &DeadLetter),
    seen: &mut Vec<String>,
) {
    let key = index.key_of(work);
    if let Some(event) = &letter.event {
        address(letter, story, event, seen);
    }
    if story.first_failure > story.last_failure {
        seen.push(format!(
            "the dead letter of {key} says that it failed last before it failed first"
        ));
    }
    if story.error.len() > MAX_ERROR_BYTES {
        let long = story.error.len();
        seen.push(format!(
            "the dead letter of {key} has an error of {long} bytes"
        ));
    }
    let claims = format!(
        "the dead letter of {key} says {} after {}",
        story.reason.as_str(),
        Count(story.attempts.into(), "attempt")
    );
    if let Some(but) = contradiction(view.policy, story) {
        seen.push(format!("{claims}; {but}"));
    } else if let Some(but) =
        unseen(index, work, story).or_else(|| unspent(view, index, work, story))
    {
        seen.push(format!("{claims}; {but}"));
    }
}

fn address(letter: &Letter, story: &DeadLetter, event: &Arc<Event>, seen: &mut Vec<String>) {
    let exchange = rules::exchange_of(&event.event_type);
    let said = [
        ("consumer", &story.consumer, &*letter.consumer),
        ("queue", &story.queue, &*letter.consumer),
        ("routing key", &story.routing_key, &*event.event_type),
        ("exchange", &story.exchange, exchange),
    ];
    for (what, said, is) in said {
        if **said != *is {
            let key = &event.idempotency_key;
            seen.push(format!(
                "the dead letter of {key} names the {what} {said:?}; it is {is:?}"
            ));
        }
    }
}

/// Reason and numbers that cannot be true together.
fn contradiction(policy: &Policy, story: &DeadLetter) -> Option<String> {
    let (retry, attempts) = (&policy.retry, story.attempts);
    let cap = retry.attempts;
    match story.reason {
        Reason::AttemptsExhausted | Reason::KilledWorker if attempts != cap => {
            Some(format!("that takes {}", Count(cap.into(), "attempt")))
        }
        Reason::TimeExhausted => {
            let elapsed = story.last_failure.since(story.first_failure);
            let next = elapsed.saturating_add(rules::longest_wait(retry, attempts));
            let early = next < retry.total || attempts >= cap;
            let (elapsed, total) = (elapsed.as_nanos(), retry.total.as_nanos());
            let at = |n: u128| At(u64::try_from(n).unwrap_or(u64::MAX));
            early.then(|| format!("{} had passed of a total of {}", at(elapsed), at(total)))
        }
        _ if attempts > cap => Some(format!("{cap} are the most")),
        _ => None,
    }
}

/// A reason for which the history shows no run.
fn unseen(index: &Index<'_>, work: &Work<'_>, story: &DeadLetter) -> Option<String> {
    // The second half of an outside handler is no run of its own.
    let saves = work
        .commits
        .iter()
        .flat_map(|at| &index.commits[*at].effects.inbox);
    let outside = saves.into_iter().any(|saved| saved.state == "claimed");
    let runs = || work.runs.iter().map(|run| &index.runs[*run]);
    let of_it = || runs().filter(|run| run.on.attempt == story.attempts);
    let poison = |run: &super::index::Run<'_>| {
        run.end
            .is_some_and(|end| matches!(end.how, Ended::Poison(_)))
    };
    match story.reason {
        Reason::Poison if !outside && !of_it().any(poison) => {
            Some("no run of that attempt failed for good".to_owned())
        }
        Reason::AttemptsExhausted if &*story.class != "store" && of_it().next().is_none() => {
            Some(format!(
                "only {} of its handler began",
                Count(runs().count() as u64, "run")
            ))
        }
        _ => None,
    }
}

/// Deliveries that may have been counted and gave way to another copy before their handler began.
fn gave_way(index: &Index<'_>, work: &Work<'_>) -> usize {
    let again = work
        .deliveries
        .iter()
        .filter_map(|place| match &index.entry(*place).what {
            What::Delivered {
                receipt,
                redelivered: true,
                ..
            } => Some(*receipt),
            _ => None,
        });
    let settled = work.settled.iter();
    let parked: Vec<_> = settled
        .filter_map(|place| match &index.entry(*place).what {
            What::Settled {
                receipt,
                how: Settled::Park { .. },
                ..
            } => Some(*receipt),
            _ => None,
        })
        .collect();
    again.filter(|receipt| parked.contains(receipt)).count()
}

/// A reason that the runs of an undisturbed work do not bear out: so many failed ones, or so much
/// time between them.
fn unspent(
    view: &View<'_>,
    index: &Index<'_>,
    work: &Work<'_>,
    story: &DeadLetter,
) -> Option<String> {
    // Where a fault was at work, an attempt may have failed outside of its handler.
    let first = work.deliveries.first().map(|at| index.entry(*at).at)?;
    if &*story.class == "store" || view.disturbed.iter().any(|(_, until)| *until >= first) {
        return None;
    }
    // One that ended well has failed, too, where its commit did.
    let runs: Vec<_> = work.runs.iter().map(|run| &index.runs[*run]).collect();
    let numbers: BTreeSet<u32> = runs.iter().map(|run| run.on.attempt).collect();
    match story.reason {
        Reason::AttemptsExhausted | Reason::TimeExhausted
            if numbers.len() + gave_way(index, work) < story.attempts as usize =>
        {
            let count = Count(numbers.len() as u64, "attempt");
            Some(format!("only {count} began"))
        }
        Reason::TimeExhausted => {
            let ends = || runs.iter().filter_map(|run| Some(run.end?.at));
            let passed = ends().max()?.saturating_sub(ends().min()?);
            let (retry, total) = (&view.policy.retry, nanos(view.policy.retry.total));
            let next = nanos(rules::longest_wait(retry, story.attempts));
            let spent = passed.saturating_add(next).saturating_add(ROUNDING);
            (spent < total).then(|| {
                format!(
                    "its attempts failed within {}, of a total of {}",
                    At(passed),
                    At(total)
                )
            })
        }
        _ => None,
    }
}

/// Clocks and time-outs are rounded to milliseconds on the way.
const ROUNDING: u64 = 1_000_000_000;

/// The inbox row of one work, if it is dead.
fn row(view: &View<'_>, index: &Index<'_>, work: &Work<'_>, seen: &mut Vec<String>) {
    let Some(InboxState::Dead { .. }) = work.inbox.map(|row| &row.state) else {
        return;
    };
    let (key, consumer) = (index.key_of(work), index.consumer_of(work));
    if view.settled && work.letters.is_empty() {
        seen.push(format!(
            "{key} is dead in the inbox of {consumer} and has no dead letter"
        ));
    }
    if let Some((process, at)) = not_noted(view, index, work) {
        seen.push(format!(
            "{process} put {key} into the dead letters of {consumer} at {}, and nobody noted that: every \
             copy of the message is one more letter, and its row stays for ever",
            At(at)
        ));
    }
    let silent = |letter: &&Letter| letter.story.is_none() && letter.death.is_none();
    if !work.letters.is_empty() && work.letters.iter().all(silent) {
        seen.push(format!(
            "{key} was given up by {consumer}, and its dead letter tells no story: neither the \
             consumer's nor the broker's"
        ));
    }
    let commits = work.commits.iter().map(|at| &index.commits[*at]);
    let mut effects = commits.filter(|c| c.truth == Truth::Yes && !c.effects.is_empty());
    if let Some(commit) = effects.next() {
        seen.push(format!(
            "{key} was given up by {consumer}, but {} committed its effects at {}",
            commit.entry.process,
            At(commit.entry.at)
        ));
    }
}

/// Who published the letter of a row that is still without one, and when. Not shortly before the end,
/// nor where a fault may have kept it from being noted.
fn not_noted<'a>(view: &View<'_>, index: &Index<'a>, work: &Work<'_>) -> Option<(&'a str, u64)> {
    let Some(InboxState::Dead {
        published: false, ..
    }) = work.inbox.map(|row| &row.state)
    else {
        return None;
    };
    let end = view.until;
    let mut letters = work.settled.iter().filter_map(|place| {
        let entry = index.entry(*place);
        let published = matches!(
            &entry.what,
            What::Settled {
                how: Settled::DeadLetter(_),
                seen: Seen::Ok,
                ..
            }
        );
        published.then_some((&*entry.process, entry.at))
    });
    let (process, at) = letters.next()?;
    let disturbed = view.disturbed.iter().any(|(_, until)| *until >= at);
    (view.settled && !disturbed && end > at + NOTED).then_some((process, at))
}

/// What can never be handled has to be in the dead letters of every consumer that got it.
fn poison(view: &View<'_>, index: &Index<'_>, found: &mut Vec<Anomaly>) {
    if view.poison.is_empty() {
        return;
    }
    let keys: BTreeSet<&str> = view.poison.iter().map(|key| &**key).collect();
    let poisonous = |work: &&Work<'_>| work.expected && keys.contains(index.key_of(work));
    for work in index.works.iter().filter(poisonous) {
        if index.end(work) != End::Dead {
            let (key, consumer) = (index.key_of(work), index.consumer_of(work));
            let seen = format!(
                "{key} can never be handled and is not in the dead letters of {consumer}: {}",
                index.last_seen(work)
            );
            found.push(PROMISE.broken(index.about(work), seen));
        }
    }
}
