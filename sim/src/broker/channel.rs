//! Channels and connections as the broker keeps them.

use std::{collections::VecDeque, sync::Arc};

use super::{
    queue::{ConsumerIx, GiveBack, Message, NEVER, QueueIx},
    types::{ChanId, Publish},
};

/// A delivery that waits for its ack.
#[derive(Clone, Debug)]
pub(super) struct Unacked {
    pub(super) chan: ChanId,
    pub(super) tag: u64,
    pub(super) queue: QueueIx,
    /// `None` for `basic.get`.
    pub(super) consumer: Option<ConsumerIx>,
    pub(super) delivered_at: u64,
    pub(super) message: Message,
}

/// The unacked deliveries of a channel, by tag. Tags rise by one, so a ring of slots with holes
/// finds any of them at once; the first slot is never a hole.
#[derive(Clone, Debug, Default)]
pub(super) struct Outstanding {
    first: u64,
    slots: VecDeque<Option<Unacked>>,
}

impl Outstanding {
    pub(super) fn push(&mut self, tag: u64, unacked: Unacked) {
        if self.slots.is_empty() {
            self.first = tag;
        }
        let next = self.first + self.slots.len() as u64;
        assert!(next <= tag, "delivery tags rise");
        // Tags of deliveries that need no ack leave holes.
        self.slots.extend((next..tag).map(|_| None));
        self.slots.push_back(Some(unacked));
    }

    fn slot(&self, tag: u64) -> Option<usize> {
        let slot = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        (slot < self.slots.len()).then_some(slot)
    }

    pub(super) fn contains(&self, tag: u64) -> bool {
        self.slot(tag)
            .is_some_and(|slot| self.slots[slot].is_some())
    }

    pub(super) fn take(&mut self, tag: u64) -> Option<Unacked> {
        let slot = self.slot(tag)?;
        let unacked = self.slots[slot].take()?;
        self.trim();
        Some(unacked)
    }

    /// Takes the oldest if its tag is at most `last`.
    pub(super) fn take_up_to(&mut self, last: u64) -> Option<Unacked> {
        if self.slots.is_empty() || self.first > last {
            return None;
        }
        let first = self.first;
        self.take(first)
    }

    fn trim(&mut self) {
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Oldest first, with tags.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Unacked)> + Clone {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, unacked)| Some((self.first + slot as u64, unacked.as_ref()?)))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) opened_at: u64,
    /// The last publish tag, once confirms are on.
    pub(super) confirms: Option<u64>,
    pub(super) last_tag: u64,
    pub(super) outstanding: Outstanding,
    /// For consumers that start from now on (seen on 3.10.8: existing ones keep theirs).
    pub(super) consumer_prefetch: u32,
    pub(super) channel_prefetch: u32,
    /// What counts against it: see [`Channel::limit`].
    volume: i64,
    pub(super) consumers: Vec<ConsumerIx>,
    pub(super) timer_at: u64,
}

impl Channel {
    pub(super) fn new(now: u64) -> Self {
        Channel {
            opened_at: now,
            confirms: None,
            last_tag: 0,
            outstanding: Outstanding::default(),
            consumer_prefetch: 0,
            channel_prefetch: 0,
            volume: 0,
            consumers: Vec::new(),
            timer_at: NEVER,
        }
    }

    pub(super) fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// Sets the channel-wide prefetch. A limiter starts with all that is unacked then, also with
    /// what was got and what came from quorum queues, which it later does not count (seen on
    /// 3.10.8; `rabbit_limiter`, `rabbit_channel:notify_limiter`).
    pub(super) fn limit(&mut self, prefetch: u32) {
        if prefetch == 0 {
            self.volume = 0;
        } else if self.channel_prefetch == 0 {
            self.volume = self.outstanding.iter().count() as i64;
        }
        self.channel_prefetch = prefetch;
    }

    /// A classic queue has sent a consumer a delivery that wants an ack.
    pub(super) fn count_delivery(&mut self) {
        self.volume += i64::from(self.channel_prefetch > 0);
    }

    /// So many deliveries to consumers, of any queue, were settled together. Gives whether there
    /// is room again.
    pub(super) fn count_settled(&mut self, settled: usize) -> bool {
        let full = !self.has_room();
        // One that is at 0 stays there, but one above it may fall below.
        if self.channel_prefetch > 0 && self.volume != 0 {
            self.volume -= settled as i64;
        }
        full && self.has_room()
    }

    pub(super) fn has_room(&self) -> bool {
        self.channel_prefetch == 0 || self.volume < i64::from(self.channel_prefetch)
    }
}

/// What a client does with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settle {
    Ack,
    Requeue(GiveBack),
    Discard,
}

/// A frame that was sent while the broker does not read from its connection.
#[derive(Clone, Debug)]
pub(super) enum Held {
    Publish {
        chan: ChanId,
        tag: u64,
        /// Boxed: it is by far the larger, and alarms are rare.
        publish: Box<Publish>,
    },
    Settle {
        chan: ChanId,
        tag: u64,
        multiple: bool,
        how: Settle,
    },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    /// Its account; `None` may do everything.
    pub(super) user: Option<Arc<str>>,
    pub(super) channels: Vec<Option<Channel>>,
    /// It published during an alarm: nothing it sends is read.
    pub(super) blocked: bool,
    pub(super) held: VecDeque<Held>,
}

#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub(super) chan: ChanId,
    pub(super) tag: Arc<str>,
    pub(super) queue: QueueIx,
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    pub(super) priority: i32,
    pub(super) prefetch: u32,
    pub(super) unacked: u32,
    /// When it was last served or had room again: the least goes first.
    pub(super) turn: u64,
    /// A classic queue has passed it over because it had no room; the turn of that.
    pub(super) passed_over: Option<u64>,
}

impl Consumer {
    pub(super) fn has_room(&self) -> bool {
        self.no_ack || self.prefetch == 0 || self.unacked < self.prefetch
    }
}
