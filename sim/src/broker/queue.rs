//! One queue: what is ready, in which order, and where a message goes that comes back.

use std::{collections::VecDeque, sync::Arc};

use super::{
    arguments::{DeliveryLimit, Overflow, QueueArgs, QueueKind},
    death::Deaths,
    rules::{Bent, Rules},
    types::{ChanId, ConnId, Content},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueueIx(pub(super) u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConsumerIx(pub(super) u32);

/// A copy of a message in one queue. Owned by exactly one place: a queue, a channel's unacked
/// deliveries, or the dead-letter worker.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) content: Arc<Content>,
    pub(super) exchange: Arc<str>,
    pub(super) routing_key: Arc<str>,
    pub(super) deaths: Option<Box<Deaths>>,
    /// The keys of its `BCC` header, which nobody sees and which route its dead letters, too.
    pub(super) bcc: Option<Arc<[Arc<str>]>>,
    /// The message's own time to live; the queue's is applied on enqueueing.
    pub(super) ttl_ns: Option<u64>,
    /// Rises along a queue; a classic queue sorts by it.
    pub(super) position: u64,
    pub(super) expires_at: u64,
    /// Quorum: returns that count towards the delivery limit.
    pub(super) delivery_count: u32,
    /// Quorum: every time it was handed out and came back.
    pub(super) acquired_count: u32,
    pub(super) redelivered: bool,
}

/// Who puts messages into a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feeder {
    Nobody,
    Channel(ChanId),
    /// A queue, with its dead letters.
    Queue(QueueIx),
    /// The same at least once: its worker publishes as a client does, and waits for confirms.
    Worker(QueueIx),
    /// Whoever held a message and gave it back.
    Holder,
}

impl Feeder {
    /// The queue whose dead letters these are.
    pub(super) fn queue(self) -> Option<QueueIx> {
        match self {
            Self::Queue(of) | Self::Worker(of) => Some(of),
            _ => None,
        }
    }
}

/// How a message comes back to its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GiveBack {
    Nack,
    Reject,
    /// Channel or connection gone.
    Loss,
    /// 4.3: taken from a consumer that held it too long.
    Timeout,
}

/// A dead letter of an at-least-once queue that not all its targets have accepted.
#[derive(Clone, Debug)]
pub(super) struct Awaiting {
    /// The dead-lettered copy.
    pub(super) message: Message,
    pub(super) rejected: bool,
    /// Queues that have it already.
    pub(super) accepted: Vec<QueueIx>,
}

#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) name: Arc<str>,
    pub(super) durable: bool,
    pub(super) exclusive: Option<ConnId>,
    pub(super) auto_delete: bool,
    pub(super) args: QueueArgs,
    /// Quorum: returned messages, served before all others.
    pub(super) returns: VecDeque<Message>,
    pub(super) ready: VecDeque<Message>,
    pub(super) ready_bytes: u64,
    pub(super) unacked: usize,
    pub(super) consumers: Vec<ConsumerIx>,
    /// The single active consumer, on queues that have one.
    pub(super) active: Option<ConsumerIx>,
    pub(super) turns: u64,
    /// Quorum with reject-publish: the channels and the workers of dead letters that have published,
    /// and from when on each knows that the queue is full.
    pub(super) publishers: Vec<(Feeder, u64)>,
    /// The word that it has room again goes out when this becomes true.
    pub(super) has_much_room: bool,
    pub(super) awaiting: VecDeque<Awaiting>,
    pub(super) retry_at: u64,
    /// Since when nobody uses it (`x-expires`).
    pub(super) idle_since: u64,
    pub(super) dirty: bool,
    /// Something came back since it was last served.
    pub(super) got_back: bool,
    /// Who last put a message in, and when.
    pub(super) fed_by: (u64, Feeder),
    /// When its head last expired.
    pub(super) expired_at: Option<u64>,
    pub(super) timer_at: u64,
    next_position: u64,
}

pub(super) const NEVER: u64 = u64::MAX;

impl Queue {
    pub(super) fn new(name: Arc<str>, args: QueueArgs, now: u64) -> Self {
        Queue {
            name,
            durable: false,
            exclusive: None,
            auto_delete: false,
            args,
            returns: VecDeque::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            unacked: 0,
            consumers: Vec::new(),
            active: None,
            turns: 0,
            publishers: Vec::new(),
            has_much_room: true,
            awaiting: VecDeque::new(),
            retry_at: NEVER,
            idle_since: now,
            dirty: false,
            got_back: false,
            fed_by: (0, Feeder::Nobody),
            expired_at: None,
            timer_at: NEVER,
            next_position: 0,
        }
    }

    pub(super) fn is_quorum(&self) -> bool {
        self.args.kind == QueueKind::Quorum
    }

    /// It was to go with its last consumer, which has gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.auto_delete && self.consumers.is_empty()
    }

    pub(super) fn ready_len(&self) -> usize {
        self.returns.len() + self.ready.len()
    }

    pub(super) fn head(&self) -> Option<&Message> {
        self.returns.front().or_else(|| self.ready.front())
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = match self.returns.pop_front() {
            Some(message) => message,
            None => self.ready.pop_front()?,
        };
        self.ready_bytes -= message.content.body.len() as u64;
        Some(message)
    }

    /// Takes the newest ready message.
    pub(super) fn pop_newest(&mut self) -> Option<Message> {
        let message = match self.ready.pop_back() {
            Some(message) => message,
            None => self.returns.pop_back()?,
        };
        self.ready_bytes -= message.content.body.len() as u64;
        Some(message)
    }

    /// Takes the head if its time is up: past `now`, or at it when `inclusive`. Only the head
    /// expires, on both queue types (seen on 3.10.8).
    pub(super) fn pop_expired(&mut self, now: u64, inclusive: bool) -> Option<Message> {
        let expires_at = self.head()?.expires_at;
        let over = expires_at < now || (inclusive && expires_at == now);
        if !over {
            return None;
        }
        self.expired_at = Some(now);
        self.pop()
    }

    /// Whether its head expires, or one has expired, so near to that.
    pub(super) fn expires_about(&self, now: u64, within: u64) -> bool {
        let soon = |head: &Message| head.expires_at < now + within;
        self.head().is_some_and(soon) || self.expired_at.is_some_and(|at| at + within > now)
    }

    /// When its messages expire.
    pub(super) fn expiries(&self) -> impl Iterator<Item = u64> {
        let ready = self.ready.iter().map(|message| message.expires_at);
        ready.filter(|&at| at < NEVER)
    }

    pub(super) fn push(&mut self, mut message: Message, now: u64) {
        let ttl = match (self.args.message_ttl_ns, message.ttl_ns) {
            (Some(queue), Some(own)) => Some(queue.min(own)),
            (queue, own) => queue.or(own),
        };
        message.expires_at = ttl.map_or(NEVER, |ttl| now.saturating_add(ttl));
        message.redelivered = false;
        message.delivery_count = 0;
        message.acquired_count = 0;
        self.append(message);
    }

    fn append(&mut self, mut message: Message) {
        self.next_position += 1;
        message.position = self.next_position;
        self.ready_bytes += message.content.body.len() as u64;
        self.ready.push_back(message);
    }

    /// Puts a message back; an `Err` has used up its deliveries.
    ///
    /// Seen on 3.10.8: a classic queue restores the original position, whatever the order of the
    /// nacks. A quorum queue with a delivery limit serves what came back first, in the order in
    /// which it came; without a limit a nacked message goes to the very end, one that was lost
    /// with its channel still to the front.
    pub(super) fn give_back(
        &mut self,
        mut message: Message,
        how: GiveBack,
        rules: &Rules,
    ) -> Result<(), Message> {
        message.redelivered = !rules.is_bent(Bent::ForgetsRedelivery);
        self.got_back = true;
        let other_end = rules.is_bent(Bent::RequeuesAtTheOtherEnd);
        if !self.is_quorum() && other_end {
            self.append(message);
            return Ok(());
        }
        if !self.is_quorum() {
            self.ready_bytes += message.content.body.len() as u64;
            let at = self
                .ready
                .partition_point(|other| other.position < message.position);
            self.ready.insert(at, message);
            return Ok(());
        }
        message.acquired_count += 1;
        let limit = self.delivery_limit(rules);
        let counts = match how {
            GiveBack::Nack => rules.nack_raises_count,
            GiveBack::Reject | GiveBack::Loss => true,
            GiveBack::Timeout => false,
        };
        message.delivery_count += u32::from(counts);
        let more = u32::from(rules.is_bent(Bent::DeliversOnceTooOften));
        if limit.is_some_and(|limit| counts && message.delivery_count > limit + more) {
            return Err(message);
        }
        let first = limit.is_some() || matches!(how, GiveBack::Loss | GiveBack::Timeout);
        if first != other_end {
            self.ready_bytes += message.content.body.len() as u64;
            self.returns.push_back(message);
        } else {
            self.append(message);
        }
        Ok(())
    }

    pub(super) fn delivery_limit(&self, rules: &Rules) -> Option<u32> {
        match self.args.delivery_limit {
            DeliveryLimit::Default => rules.default_delivery_limit,
            DeliveryLimit::Off => None,
            DeliveryLimit::At(limit) => Some(limit),
        }
    }

    /// Whether this many ready messages and bytes are more than allowed. Unacked ones do not
    /// count (seen on 3.10.8).
    fn exceeds(&self, messages: u64, bytes: u64) -> bool {
        self.args.max_length.is_some_and(|max| messages > max)
            || self.args.max_bytes.is_some_and(|max| bytes > max)
    }

    pub(super) fn is_over(&self) -> bool {
        self.exceeds(self.ready_len() as u64, self.ready_bytes)
    }

    pub(super) fn drops_head(&self, rules: &Rules) -> bool {
        let unacked = if rules.is_bent(Bent::CountsUnackedAsReady) && self.ready_len() > 0 {
            self.unacked
        } else {
            0
        };
        let counted = (self.ready_len() + unacked) as u64;
        self.args.overflow == Overflow::DropHead && self.exceeds(counted, self.ready_bytes)
    }

    /// Whether a publish of that size is refused.
    ///
    /// A classic queue is exact (seen on 3.10.8). A quorum queue tells each channel that
    /// publishes to it once it is over the limit, and until the word reaches them they go on: a
    /// burst of 8 on a limit of 3 was accepted whole, a paced publisher got 4 in (seen on
    /// 3.10.8). Here the word arrives when time moves on. A channel that publishes for the first
    /// time is told at once, and only if the queue is over its limit at that moment. Dead letters
    /// are never refused, but where they come at least once: their worker is a publisher like any
    /// other (seen on 3.10.8: of eight that came one by one a limit of 2 took 3, of eight that came
    /// at once all).
    pub(super) fn refuses(&mut self, body: usize, from: Feeder, now: u64) -> bool {
        if self.args.overflow == Overflow::DropHead {
            return false;
        }
        if !self.is_quorum() {
            return self.exceeds(self.ready_len() as u64 + 1, self.ready_bytes + body as u64);
        }
        if !matches!(from, Feeder::Channel(_) | Feeder::Worker(_)) {
            return false;
        }
        let known = self.publishers.iter().find(|(feeder, _)| *feeder == from);
        let refused_from = known.map(|&(_, at)| at).unwrap_or_else(|| {
            let at = if self.is_over() { now } else { NEVER };
            self.publishers.push((from, at));
            at
        });
        refused_from <= now
    }

    /// After all that could be delivered has been: a message for which a consumer waits never
    /// fills a queue. The word is taken back at 80 % of the limit (source of 3.10.8).
    pub(super) fn note_fullness(&mut self, now: u64) {
        if !self.is_quorum() || self.args.overflow != Overflow::RejectPublish {
            return;
        }
        let low = |max: Option<u64>, value: u64| max.is_none_or(|max| value <= max * 8 / 10);
        let much_room = low(self.args.max_length, self.ready_len() as u64)
            && low(self.args.max_bytes, self.ready_bytes);
        let had_much_room = std::mem::replace(&mut self.has_much_room, much_room);
        if self.is_over() {
            for (_, refused_from) in &mut self.publishers {
                *refused_from = (*refused_from).min(now + 1);
            }
        } else if much_room && !had_much_room {
            for (_, refused_from) in &mut self.publishers {
                *refused_from = NEVER;
            }
        }
    }

    /// When something next happens to this queue by itself.
    pub(super) fn deadline(&self) -> u64 {
        let head = self.head().map_or(NEVER, |message| message.expires_at);
        let unused = match self.args.expires_ns {
            Some(ns) if self.consumers.is_empty() => self.idle_since.saturating_add(ns),
            _ => NEVER,
        };
        head.min(self.retry_at).min(unused)
    }
}
