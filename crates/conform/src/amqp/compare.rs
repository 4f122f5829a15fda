//! Does a course of the model explain what the real clients heard?
//!
//! After each step everything has to be equal, but for what these rules leave open:
//!
//! - **Confirms** of a channel come in any order, and gathered as the broker likes: it waits for
//!   each queue in its own way. Which publish is confirmed, and how, is not open; nor is that a
//!   message comes back before it is confirmed.
//! - **Deliveries** are compared for each consumer. Queues are processes of their own, so how
//!   the deliveries of two consumers interleave is open, and with it which tag each has on a
//!   channel that both share. What is settled is therefore named by the delivery, not by its tag.
//! - **Cut connections**: of what was on its way, the broker has read any part from the front
//!   ([`Model::act`] gives a course for each).
//! - **Ends of connections**: the two channels of a connection end in any order (a course each).
//! - **Messages from two sides**: a queue that is fed by two processes in one step, say by a
//!   publish and by dead letters, may get them in any order. Where the model is not explained
//!   and says that this has happened, the program is not judged from there on.
//!   The same goes for dead letters that come while the queue's own head expires or has just done
//!   so, and for what comes back when that makes room on a channel which had none: whether its
//!   consumers are in their queues' rotation before or after that.
//! - **Cancelling the single active consumer** of a classic queue that has more for it than it may
//!   hold: the next one is served only when something else happens to the queue (seen on 3.10.8).
//!   The model serves it at once; programs with such queues cancel nothing.
//! - **Time to live 0**: a quorum queue lets such a message die by a timer, which the next one may
//!   outrun and push it out first. They are sent where all queues are classic, one in a step, and
//!   never before a cut.
//! - **Consumers without acks** of a quorum queue have a prefetch all the same: the queue waits for
//!   word that a delivery has left. They are not tried together with a prefetch, and no connection
//!   ends that has such a consumer on one channel and holds something on the other: the message
//!   may still be handed to that consumer, and comes back once more.
//! - **Exclusive queues**: whether what comes back to one is dead-lettered for want of room before
//!   it is deleted with its connection is open. Those with a length limit have no dead letters.
//! - **A new queue of an old name**: what is left of the old one and settled late may meet a
//!   message of the new one. None is declared while somebody holds something.
//! - **Ends of the broker**: what a kill leaves of acks that were not written yet is open, so that
//!   it is waited for; and what would die because it comes back, or expires, might do so before or
//!   after its dead letters' queue ends. One channel is left then, and queues with a limit have no
//!   dead letters. What the clients hear of the end is for conformance cases to show.
//! - **Time**: what expires does so in waits of its own, which are longer than the time a step
//!   may take. A program whose steps were slower than that is not judged.

use std::collections::BTreeMap;

use super::model::Model;
use super::program::SLOTS;
use super::real::Count;
use super::saw::{Event, Letter, Reply, What};

/// What the real clients saw in a step.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) reply: &'a Reply,
    pub(super) events: &'a [Event],
    pub(super) counts: &'a BTreeMap<String, Count>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Explained,
    /// Something that the model expects has not been heard yet.
    NotYet,
    /// Nothing that is still to come can make it right.
    Never,
}

/// What a channel hears, without what the rules leave open.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said<'a> {
    confirms: BTreeMap<u64, bool>,
    returns: Vec<(u16, &'a Letter)>,
    deliveries: BTreeMap<&'a str, Vec<&'a Letter>>,
    cancelled: Vec<&'a str>,
    closed: Vec<String>,
}

fn said(events: &[Event], slot: usize) -> Said<'_> {
    let mut said = Said::default();
    for event in events.iter().filter(|event| event.slot == slot) {
        match &event.what {
            What::Confirm { tag, ack, .. } => {
                said.confirms.insert(*tag, *ack);
            }
            What::Return { code, letter } => said.returns.push((*code, letter)),
            What::Delivery {
                consumer, letter, ..
            } => {
                said.deliveries.entry(consumer).or_default().push(letter);
            }
            What::Cancelled { consumer } => said.cancelled.push(consumer),
            What::Closed { scope, code } => said.closed.push(format!("{scope:?} {code}")),
        }
    }
    said.cancelled.sort_unstable();
    said
}

impl Said<'_> {
    /// Whether more of the same could still make it `whole`.
    fn begins(&self, whole: &Self) -> bool {
        let confirms = self.confirms.iter();
        let known = |consumer: &&str| whole.cancelled.contains(consumer);
        confirms
            .into_iter()
            .all(|(tag, ack)| whole.confirms.get(tag) == Some(ack))
            && whole.returns.starts_with(&self.returns)
            && self.cancelled.iter().all(known)
            && whole.closed.starts_with(&self.closed)
            && self.deliveries.iter().all(|(consumer, letters)| {
                let expected = whole.deliveries.get(consumer);
                expected.is_some_and(|expected| expected.starts_with(letters))
            })
    }
}

/// Whether that course explains it.
pub(super) fn judge(model: &Model, seen: &Seen<'_>) -> Verdict {
    if !same_reply(&model.reply, seen.reply) || !returns_first(seen.events) {
        return Verdict::Never;
    }
    let mut equal = true;
    for slot in 0..SLOTS {
        let (expected, heard) = (said(&model.events, slot), said(seen.events, slot));
        if !heard.begins(&expected) {
            return Verdict::Never;
        }
        equal &= heard == expected;
    }
    let counted = |(name, count): (&String, &Count)| model.count(name) == *count;
    if equal && seen.counts.iter().all(counted) {
        Verdict::Explained
    } else {
        Verdict::NotYet
    }
}

/// Tags may differ.
fn same_reply(model: &Reply, real: &Reply) -> bool {
    match (model, real) {
        (
            Reply::Got { left, letter, .. },
            Reply::Got {
                left: real_left,
                letter: real_letter,
                ..
            },
        ) => left == real_left && letter == real_letter,
        _ => model == real,
    }
}

/// Whether each message that came back did so before its confirm.
fn returns_first(events: &[Event]) -> bool {
    let mut confirmed = Vec::new();
    events.iter().all(|event| match &event.what {
        What::Confirm { body, .. } => {
            confirmed.push(body);
            true
        }
        What::Return { letter, .. } => !confirmed.contains(&&letter.body),
        _ => true,
    })
}

/// In words, for people.
pub(super) fn tell(
    reply: &Reply,
    events: &[Event],
    counts: impl Iterator<Item = (String, Count)>,
    prefix: &str,
) -> String {
    let mut parts = vec![reply.to_string()];
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| event.slot);
    parts.extend(events.iter().map(|event| event.to_string()));
    for (name, count) in counts {
        parts.push(match count {
            Some((ready, consumers)) => format!("{name}: {ready} ready, {consumers} consumers"),
            None => format!("{name}: missing"),
        });
    }
    parts.join("; ").replace(prefix, "")
}
