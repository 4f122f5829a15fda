//! What the broker did with a message, for those who watch it.
//!
//! Clients see only their own side: what was handed to them, and what they asked for. A message
//! that expired, was pushed out or found no way to a dead-letter queue is seen by nobody. Acts are
//! noted only where somebody watches ([`Broker::watch`]), and nothing depends on them; losses are
//! in the ledger always.

use std::sync::Arc;

use super::{
    Broker, ChanId, Content, LossReason,
    death::DeathReason,
    queue::{GiveBack, Message, QueueIx},
};

/// How a message came back to its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// Its consumer gave it back.
    GivenBack,
    /// Its consumer's channel or connection is gone.
    ChannelGone,
    /// Its consumer held it too long (4.3: the channel stays).
    TimedOut,
}

impl From<GiveBack> for Return {
    fn from(how: GiveBack) -> Self {
        match how {
            GiveBack::Nack | GiveBack::Reject => Self::GivenBack,
            GiveBack::Loss => Self::ChannelGone,
            GiveBack::Timeout => Self::TimedOut,
        }
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Handed to a consumer, or to `get`.
    HandedOut {
        /// To which channel.
        chan: ChanId,
        /// Under which delivery tag.
        tag: u64,
        /// Flagged as redelivered.
        redelivered: bool,
    },
    /// Acked, and gone.
    Acked {
        /// By which channel.
        chan: ChanId,
        /// The delivery tag.
        tag: u64,
    },
    /// Back in its queue.
    Returned {
        /// By or from which channel.
        chan: ChanId,
        /// The delivery tag it had.
        tag: u64,
        /// How.
        how: Return,
    },
    /// Dead, and in these queues now.
    DeadLettered {
        /// Why it died.
        reason: DeathReason,
        /// Where it is.
        to: Vec<Arc<str>>,
    },
    /// Dead, and kept in its queue until its dead-letter queues take it (at least once).
    Waits {
        /// Why it died.
        reason: DeathReason,
    },
    /// Gone, and nobody was told.
    Lost(LossReason),
}

/// An act, with what it was done to.
#[derive(Clone, Debug)]
pub struct Noted {
    /// The queue (for [`LossReason::Unroutable`]: the exchange) where it happened.
    pub place: Arc<str>,
    /// The message.
    pub content: Arc<Content>,
    /// What was done.
    pub act: Act,
}

/// Acts since they were last taken; nothing is kept where nobody watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Acts {
    watched: bool,
    noted: Vec<Noted>,
    /// Losses of the ledger that were noted already.
    losses: usize,
}

impl Broker {
    /// Notes acts from here on.
    pub fn watch(&mut self) {
        self.acts.watched = true;
    }

    /// What was done since this was last asked for. A loss comes behind what led to it.
    pub fn take_acts(&mut self) -> Vec<Noted> {
        let mut noted = std::mem::take(&mut self.acts.noted);
        if self.acts.watched {
            let new = self.ledger.losses.iter().skip(self.acts.losses);
            noted.extend(new.map(|loss| Noted {
                place: loss.place.clone(),
                content: loss.content.clone(),
                act: Act::Lost(loss.reason),
            }));
            self.acts.losses = self.ledger.losses.len();
        }
        noted
    }

    /// Notes what was done to a message of a queue.
    pub(super) fn note(&mut self, ix: QueueIx, message: &Message, act: impl FnOnce() -> Act) {
        if !self.acts.watched {
            return;
        }
        if let Some(queue) = self.queues[ix.0 as usize].as_ref() {
            self.acts.noted.push(Noted {
                place: queue.name.clone(),
                content: message.content.clone(),
                act: act(),
            });
        }
    }

    /// The names of queues, for an act.
    pub(super) fn names_of(&self, queues: &[QueueIx]) -> Vec<Arc<str>> {
        let names = queues.iter().filter_map(|ix| self.queue(*ix));
        names.map(|queue| queue.name.clone()).collect()
    }
}
