//! Which confirm belongs to which publish.
//!
//! lapin matches acks by delivery tag, but hands a returned message to whichever confirm is
//! resolved next, in hash order where one `multiple` ack covers several. With more than one
//! publish open, an unroutable message could then look confirmed, and a stored one returned.
//! So each publish carries a number in the `cluster-id` property (a relic of AMQP that brokers
//! pass on and nobody reads), a return is recognised by it, and an ack of a mandatory message
//! is believed only when its return cannot turn up any more.
//!
//! When is that? The broker sends a return before the ack of the same message. lapin queues
//! returns, and each ack or nack that it resolves takes the head of that queue.
//!
//! - An ack that took nothing found the queue empty, so the message's own return, if there is
//!   one, was taken by a publish that was resolved before. All those were begun by now; once
//!   they have been looked at, the return has been seen.
//! - An ack that took the return of another message says less: its own may still be queued. Let
//!   `S` be the publishes begun by now. Every return queued by now belongs to a message of `S`
//!   that is resolved after it, and takes one return then, unless the queue is empty. So when
//!   all of `S` are resolved, the queue was empty once or has moved past those returns. Whoever
//!   took them was begun by that moment; once these have been looked at, too, all is seen.
//!   Where the channel ends before, the message is in doubt.
//!
//! Where confirms are awaited batch by batch, these moments come with the end of the batch.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lapin::Confirmation as Resolved;
use lapin::message::BasicReturnMessage;
use tokio::sync::oneshot;

use crate::amqp::{AmqpError, Confirmation};

pub(super) type Answer = Result<Confirmation, AmqpError>;

/// An ack of a mandatory message that is not believed yet.
struct Held {
    number: u64,
    answer: oneshot::Sender<Answer>,
    /// All publishes below this number must be finished first.
    until: u64,
    /// It took the return of another message.
    burdened: bool,
}

/// What is known of the publishes of one channel.
pub(super) struct Book {
    begun: Arc<AtomicU64>,
    /// All publishes below this number are finished.
    floor: u64,
    /// Finished ones above it.
    finished: BTreeSet<u64>,
    /// Returns that were seen and not claimed yet.
    returned: HashMap<u64, (u16, String)>,
    /// Waiting for the first and for the second moment, in the order of `until`.
    held: [VecDeque<Held>; 2],
    /// A return may have been lost: acks of mandatory messages prove nothing any more.
    blind: bool,
    /// The channel has ended: returns that are still queued will not be seen.
    ended: bool,
}

impl Book {
    pub(super) fn new(begun: Arc<AtomicU64>) -> Self {
        Self {
            begun,
            floor: 0,
            finished: BTreeSet::new(),
            returned: HashMap::new(),
            held: Default::default(),
            blind: false,
            ended: false,
        }
    }

    pub(super) fn resolved(
        &mut self,
        number: u64,
        mandatory: bool,
        answer: oneshot::Sender<Answer>,
        resolved: Result<Resolved, AmqpError>,
    ) {
        // A receiver that is gone wants no answer.
        match resolved {
            Ok(Resolved::Ack(back)) => {
                let taken = back.and_then(|message| self.came_back(&message));
                if mandatory {
                    let until = self.begun.load(Ordering::Acquire);
                    self.held[0].push_back(Held {
                        number,
                        answer,
                        until,
                        burdened: taken.is_some_and(|taken| taken != number),
                    });
                } else {
                    let _ = answer.send(Ok(Confirmation::Ack));
                }
            }
            Ok(Resolved::Nack(back)) => {
                if let Some(message) = back {
                    self.came_back(&message);
                }
                let _ = answer.send(Ok(Confirmation::Nack));
            }
            Ok(Resolved::NotRequested) => drop(answer),
            Err(error) => {
                self.ended = true;
                let _ = answer.send(Err(error));
            }
        }
        self.finished(number);
    }

    /// lapin's confirm of this publish is lost.
    pub(super) fn abandoned(&mut self, number: u64) {
        self.blind = true;
        self.finished(number);
    }

    /// Notes a return; gives the number of its publish.
    fn came_back(&mut self, message: &BasicReturnMessage) -> Option<u64> {
        let mark = message.properties.cluster_id().as_ref();
        let number = mark.and_then(|mark| mark.as_str().parse().ok());
        match number {
            Some(number) => {
                let why = (message.reply_code, message.reply_text.to_string());
                self.returned.insert(number, why);
            }
            // Not to be expected: every publish in confirm mode carries its number.
            None => self.blind = true,
        }
        number
    }

    /// Nothing more is to be expected of this publish.
    pub(super) fn finished(&mut self, number: u64) {
        self.finished.insert(number);
        while self.finished.remove(&self.floor) {
            self.floor += 1;
        }
        self.answer_held();
    }

    fn answer_held(&mut self) {
        while let Some(mut held) = pop_due(&mut self.held[0], self.floor) {
            if held.burdened && !self.returned.contains_key(&held.number) {
                held.until = self.begun.load(Ordering::Acquire);
                self.held[1].push_back(held);
            } else {
                self.answer(held);
            }
        }
        while let Some(held) = pop_due(&mut self.held[1], self.floor) {
            self.answer(held);
        }
    }

    fn answer(&mut self, held: Held) {
        let verdict = match self.returned.remove(&held.number) {
            Some((code, text)) => Ok(Confirmation::Returned { code, text }),
            None if self.blind || (self.ended && held.burdened) => {
                let text = "acked, but it may have been returned, and the return was lost";
                Err(AmqpError::Connection(text.to_owned()))
            }
            None => Ok(Confirmation::Ack),
        };
        let _ = held.answer.send(verdict);
    }
}

fn pop_due(held: &mut VecDeque<Held>, floor: u64) -> Option<Held> {
    held.pop_front_if(|first| first.until <= floor)
}

#[cfg(test)]
mod tests {
    use lapin::message::Delivery;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    fn returned(number: u64) -> BasicReturnMessage {
        let mut delivery = Delivery::mock(0, "".into(), "".into(), false, Vec::new());
        delivery.properties = delivery
            .properties
            .with_cluster_id(number.to_string().into());
        BasicReturnMessage {
            delivery,
            reply_code: 312,
            reply_text: "NO_ROUTE".into(),
        }
    }

    /// The broker and lapin: returns in any order but before the own ack, acks in any order,
    /// each taking the head of the queue of returns. Gives what each publish resolved to, in the
    /// order in which that happened, and how many were begun by then.
    fn resolve(unroutable: &[bool], order: &[(u16, u16)]) -> Vec<(u64, u64, Resolved)> {
        let mut steps: Vec<(u16, bool, u64)> = Vec::new();
        for (number, (&back, &(a, b))) in unroutable.iter().zip(order).enumerate() {
            if back {
                steps.push((a.min(b), false, number as u64));
            }
            steps.push((a.max(b), true, number as u64));
        }
        steps.sort_unstable();
        let mut queue = VecDeque::new();
        let (mut out, mut begun) = (Vec::new(), 0);
        for (_, ack, number) in steps {
            begun = begun.max(number + 1);
            if ack {
                out.push((
                    begun,
                    number,
                    Resolved::Ack(queue.pop_front().map(returned)),
                ));
            } else {
                queue.push_back(number);
            }
        }
        out
    }

    proptest! {
        /// Publishes begin while others resolve, and are looked at in another order than they
        /// resolved in; each verdict is true, and each comes.
        #[test]
        fn every_verdict_is_true(
            unroutable in prop::collection::vec(any::<bool>(), 1..24),
            order in prop::collection::vec((any::<u16>(), any::<u16>()), 24),
            look in prop::collection::vec(0..6_usize, 24),
            cut in prop::option::of(0..24_usize),
        ) {
            let count = unroutable.len();
            let resolved = resolve(&unroutable, &order);
            let begun = Arc::new(AtomicU64::new(0));
            let mut book = Book::new(begun.clone());
            let mut answers = BTreeMap::new();
            let mut waiting = Vec::new();
            let alive = cut.unwrap_or(count).min(count);
            let mut rest = resolved.into_iter();
            for (step, look) in look.into_iter().enumerate().take(count) {
                if let Some((top, number, answer)) = rest.next().filter(|_| step < alive) {
                    begun.fetch_max(top, Ordering::AcqRel);
                    waiting.push((number, answer));
                }
                while waiting.len() > look || (step + 1 >= alive && !waiting.is_empty()) {
                    let at = look % waiting.len();
                    let (number, answer) = waiting.swap_remove(at);
                    let (sender, receiver) = oneshot::channel();
                    answers.insert(number, receiver);
                    book.resolved(number, true, sender, Ok(answer));
                }
            }
            begun.store(count as u64, Ordering::Release);
            for number in 0..count as u64 {
                if let std::collections::btree_map::Entry::Vacant(open) = answers.entry(number) {
                    let (sender, receiver) = oneshot::channel();
                    open.insert(receiver);
                    let error = AmqpError::Connection("cut".to_owned());
                    book.resolved(number, true, sender, Err(error));
                }
            }
            for (number, mut answer) in answers {
                let answer = answer.try_recv().expect("every publish is answered");
                let back = unroutable[number as usize];
                match answer {
                    Ok(Confirmation::Ack) => prop_assert!(!back, "{number} was returned"),
                    Ok(Confirmation::Returned { .. }) => prop_assert!(back, "{number} was routed"),
                    Ok(Confirmation::Nack) => prop_assert!(false),
                    Err(_) => prop_assert!(alive < count, "{number} is in doubt without a cut"),
                }
            }
        }
    }

    #[test]
    fn after_an_abandoned_publish_no_ack_of_a_mandatory_message_is_believed() {
        let mut book = Book::new(Arc::new(AtomicU64::new(3)));
        book.abandoned(0);
        let (sender, mut mandatory) = oneshot::channel();
        book.resolved(1, true, sender, Ok(Resolved::Ack(None)));
        let (sender, mut plain) = oneshot::channel();
        book.resolved(2, false, sender, Ok(Resolved::Ack(None)));
        assert!(matches!(
            mandatory.try_recv(),
            Ok(Err(AmqpError::Connection(_)))
        ));
        assert_eq!(plain.try_recv(), Ok(Ok(Confirmation::Ack)));
    }
}
