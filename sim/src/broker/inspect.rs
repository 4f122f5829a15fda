//! Reading the broker from outside, and checking it.

use std::sync::Arc;

use amq_protocol_types::FieldTable;

use super::{
    Broker, Content, Loss, Stats,
    channel::Channel,
    queue::{Message, NEVER, Queue, QueueIx},
};

/// Where a message of a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageState {
    /// Waits to be delivered.
    Ready,
    /// With a client.
    Unacked,
    /// Dead, and kept until its dead-letter queue takes it (at-least-once).
    AwaitingDeadLetter,
}

/// A message of a queue, as an operator would see it.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    /// Properties and body.
    pub content: &'a Arc<Content>,
    /// The exchange it came through.
    pub exchange: &'a Arc<str>,
    /// The routing key it came with.
    pub routing_key: &'a Arc<str>,
    /// Where it is.
    pub state: MessageState,
    /// It has been delivered from this queue before.
    pub redelivered: bool,
    /// Quorum queues: returns that count towards the delivery limit.
    pub delivery_count: u32,
    /// When it expires at the head, in virtual nanoseconds; `u64::MAX` is never.
    pub expires_at_ns: u64,
}

fn view(message: &Message, state: MessageState) -> MessageView<'_> {
    MessageView {
        content: &message.content,
        exchange: &message.exchange,
        routing_key: &message.routing_key,
        state,
        redelivered: message.redelivered,
        delivery_count: message.delivery_count,
        expires_at_ns: message.expires_at,
    }
}

impl Broker {
    fn live_queues(&self) -> impl Iterator<Item = (QueueIx, &Queue)> {
        let slots = self.queues.iter().enumerate();
        slots.filter_map(|(slot, queue)| Some((QueueIx(slot as u32), queue.as_ref()?)))
    }

    fn live_channels(&self) -> impl Iterator<Item = &Channel> {
        self.connections
            .iter()
            .flatten()
            .flat_map(|conn| conn.channels.iter().flatten())
    }

    /// The bindings of a queue: exchange, binding key, arguments; by exchange name.
    pub fn bindings_of(&self, queue: &str) -> Vec<(Arc<str>, Arc<str>, FieldTable)> {
        let Some(ix) = self.queue_names.get(queue) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for exchange in self.exchanges.iter().flatten() {
            for binding in exchange.bindings().iter().filter(|b| b.queue == *ix) {
                let name = exchange.name.clone();
                found.push((name, binding.key.clone(), binding.arguments.clone()));
            }
        }
        found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        found
    }

    /// The names of all queues, in the order of their declaration.
    pub fn queue_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.live_queues().map(|(_, queue)| &queue.name)
    }

    /// Ready and unacked messages of a queue; `None` if there is no such queue.
    pub fn queue_depth(&self, name: &str) -> Option<(usize, usize)> {
        let queue = self.queue(*self.queue_names.get(name)?)?;
        Some((queue.ready_len(), queue.unacked))
    }

    /// How many consumers a queue has; `None` if there is no such queue.
    pub fn consumer_count(&self, name: &str) -> Option<usize> {
        Some(self.queue(*self.queue_names.get(name)?)?.consumers.len())
    }

    /// How many consumers `queue.declare` says that a queue has; `None` if there is no such queue.
    pub fn declared_consumers(&self, name: &str) -> Option<usize> {
        let ix = *self.queue_names.get(name)?;
        self.queue(ix).map(|_| self.reported_consumers(ix))
    }

    /// What `queue.declare` counts. Seen on 3.10.8: a quorum queue counts whoever holds messages,
    /// so each delivery to `get` and each cancelled consumer that has not settled all, but none of
    /// those that wait behind a single active consumer.
    pub(super) fn reported_consumers(&self, ix: QueueIx) -> usize {
        let Some(queue) = self.queue(ix) else {
            return 0;
        };
        if !queue.is_quorum() {
            return queue.consumers.len();
        }
        let consuming = if queue.args.single_active {
            usize::from(queue.active.is_some())
        } else {
            queue.consumers.len()
        };
        let held = self
            .live_channels()
            .flat_map(|channel| channel.outstanding.iter());
        let held = held.filter(|(_, unacked)| unacked.queue == ix);
        let (mut gets, mut cancelled) = (0, Vec::new());
        for (_, unacked) in held {
            match unacked.consumer {
                None => gets += 1,
                Some(at) if self.consumer(at).is_none() && !cancelled.contains(&at) => {
                    cancelled.push(at);
                }
                Some(_) => {}
            }
        }
        consuming + gets + cancelled.len()
    }

    /// All messages of a queue: ready ones in the order in which they would be served, then those
    /// that wait for a dead-letter queue, then the unacked. Empty if there is no such queue.
    pub fn queue_messages(&self, name: &str) -> impl Iterator<Item = MessageView<'_>> {
        let ix = self.queue_names.get(name).copied();
        let queue = ix.and_then(|ix| self.queue(ix));
        let ready = queue
            .into_iter()
            .flat_map(|queue| queue.returns.iter().chain(&queue.ready))
            .map(|message| view(message, MessageState::Ready));
        let awaiting = queue
            .into_iter()
            .flat_map(|queue| &queue.awaiting)
            .map(|awaiting| view(&awaiting.message, MessageState::AwaitingDeadLetter));
        let unacked = self
            .live_channels()
            .flat_map(|channel| channel.outstanding.iter())
            .filter(move |(_, unacked)| queue.is_some() && Some(unacked.queue) == ix)
            .map(|(_, unacked)| view(&unacked.message, MessageState::Unacked));
        ready.chain(awaiting).chain(unacked)
    }

    /// When the messages of all queues expire, in virtual nanoseconds and in no order; also those
    /// behind others, which nothing happens to until they get to the head, and those that somebody
    /// holds and may give back.
    pub fn expiries(&self) -> impl Iterator<Item = u64> {
        let ready = self.live_queues().flat_map(|(_, queue)| queue.expiries());
        let connections = self.connections.iter().flatten();
        let channels = connections.flat_map(|connection| connection.channels.iter().flatten());
        let held = channels.flat_map(|channel| channel.outstanding.iter());
        let held = held.map(|(_, unacked)| unacked.message.expires_at);
        ready.chain(held.filter(|&at| at < NEVER))
    }

    /// When some queue last heard from two sides at once: messages from two channels, or dead
    /// letters of another queue while something else came or came back, or while its own head
    /// expired; or that something comes back and that a channel has room again. They are
    /// processes of their own, so a real broker might have done this in another order.
    pub fn last_mixed_ns(&self) -> Option<u64> {
        self.mixed_at
    }

    /// When a quorum queue last sent a dead letter. It does so once the command that caused it is
    /// written down, of which a client that waits for no confirm hears nothing.
    pub fn last_quorum_letter_ns(&self) -> Option<u64> {
        self.quorum_letter_at
    }

    /// Counters since the broker was made.
    pub fn stats(&self) -> &Stats {
        &self.ledger.stats
    }

    /// What was lost without anyone being told, oldest first. Bounded by
    /// [`Limits::ledger_entries`](super::Limits::ledger_entries).
    pub fn losses(&self) -> &[Loss] {
        &self.ledger.losses
    }

    /// Losses beyond the bound of the list: counted in [`Stats`], not listed.
    pub fn unlisted_losses(&self) -> u64 {
        self.ledger.unlisted
    }

    /// Checks everything that holds between two calls. Costs a walk over the whole broker.
    ///
    /// # Panics
    ///
    /// When something does not hold.
    pub fn check_invariants(&self) {
        assert!(
            self.dying.is_empty() && self.dirty.is_empty(),
            "work left over"
        );
        for (ix, queue) in self.live_queues() {
            self.check_queue(ix, queue);
        }
        for channel in self.live_channels() {
            self.check_channel(channel);
        }
        self.check_conservation();
        if let Some(at) = self.next_deadline() {
            assert!(
                at > self.now,
                "a deadline at {at} was missed, now {}",
                self.now
            );
        }
    }

    fn check_queue(&self, ix: QueueIx, queue: &Queue) {
        let name = &queue.name;
        let unacked = self
            .live_channels()
            .flat_map(|channel| channel.outstanding.iter());
        let unacked = unacked.filter(|(_, unacked)| unacked.queue == ix).count();
        assert_eq!(queue.unacked, unacked, "unacked of {name}");
        let all = || queue.returns.iter().chain(&queue.ready);
        let bytes: u64 = all().map(|message| message.content.body.len() as u64).sum();
        assert_eq!(queue.ready_bytes, bytes, "bytes of {name}");
        let sorted = queue
            .ready
            .iter()
            .is_sorted_by(|a, b| a.position < b.position);
        assert!(sorted, "positions of {name} rise");
        assert!(
            queue.is_quorum() || queue.returns.is_empty(),
            "{name} has no returns"
        );
        assert!(!queue.drops_head(&self.rules), "{name} is over its length");
        let head = queue.head().map(|message| message.expires_at);
        assert!(
            head.is_none_or(|at| at > self.now),
            "the head of {name} has expired"
        );
        let idle = queue.ready_len() > 0 && self.next_consumer(ix).is_some();
        assert!(!idle, "{name} has both a message and a consumer with room");
        assert_eq!(
            queue.awaiting.is_empty(),
            queue.retry_at == u64::MAX,
            "retry of {name}"
        );
        let active = queue.active.is_none_or(|at| queue.consumers.contains(&at));
        assert!(
            active,
            "the active consumer of {name} is one of its consumers"
        );
        assert!(
            queue.deadline() >= queue.timer_at,
            "{name} has a timer for its deadline"
        );
        for &at in &queue.consumers {
            assert_eq!(self.consumer(at).map(|consumer| consumer.queue), Some(ix));
        }
    }

    fn check_channel(&self, channel: &Channel) {
        let held = || channel.outstanding.iter();
        assert!(
            held().all(|(tag, _)| tag >= 1 && tag <= channel.last_tag),
            "tags in range"
        );
        for &at in &channel.consumers {
            let consumer = self.consumer(at).expect("a channel's consumer exists");
            let mine = held()
                .filter(|(_, unacked)| unacked.consumer == Some(at))
                .count();
            assert_eq!(
                consumer.unacked as usize, mine,
                "unacked of {}",
                consumer.tag
            );
            let limit = consumer.prefetch;
            assert!(
                limit == 0 || consumer.unacked <= limit,
                "prefetch of {}",
                consumer.tag
            );
        }
    }

    /// Every copy that entered a queue is somewhere, once.
    fn check_conservation(&self) {
        let stats = self.stats();
        let present: usize = self
            .live_queues()
            .map(|(_, queue)| queue.ready_len() + queue.unacked + queue.awaiting.len())
            .sum();
        let gone = stats.acked + stats.dead_lettered + stats.copies_lost;
        assert_eq!(
            stats.enqueued,
            gone + present as u64,
            "copies are conserved: {stats:?}"
        );
        assert_eq!(
            self.losses().len() as u64 + self.unlisted_losses(),
            self.ledger.total_losses(),
            "every loss is in the ledger"
        );
    }
}
