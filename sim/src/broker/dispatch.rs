//! Serving queues: which consumer gets the next message.

use std::sync::Arc;

use amq_protocol_types::AMQPValue;

use super::{
    Act, Bent, Broker, ChanId, Content, Delivery, Output,
    channel::{Channel, Consumer, Unacked},
    death::DeathReason,
    queue::{ConsumerIx, Message, QueueIx},
};

impl Broker {
    /// Notes that the queue must be served before the call ends.
    pub(super) fn touch(&mut self, ix: QueueIx) {
        if let Some(queue) = self.queue_mut(ix)
            && !queue.dirty
        {
            queue.dirty = true;
            self.dirty.push_back(ix);
        }
    }

    /// Works off all that a call has set going. Worklists instead of recursion: a dead letter can
    /// push out another one. They come to a queue one by one, also to the one they come from: it
    /// hands on what it can of one before it looks at the next (seen on 3.10.8).
    pub(super) fn run(&mut self) {
        loop {
            if let Some(ix) = self.dirty.pop_front() {
                self.serve(ix);
            } else if let Some(dying) = self.dying.pop_front() {
                self.dead_letter(dying);
            } else {
                break;
            }
        }
        self.correct_timers();
    }

    /// Serves queues, and leaves what has died for later.
    pub(super) fn run_dirty(&mut self) {
        while let Some(ix) = self.dirty.pop_front() {
            self.serve(ix);
        }
    }

    /// Delivers what can be delivered, then applies length and time limits to what remains: a
    /// message for which a consumer is waiting neither counts nor expires, not even with a time
    /// to live of 0 (seen on 3.10.8). Only what comes back to a classic queue is subject to them
    /// before it is delivered again (seen on 3.10.8).
    fn serve(&mut self, ix: QueueIx) {
        let Some(queue) = self.queue_mut(ix) else {
            return;
        };
        queue.dirty = false;
        let got_back = std::mem::take(&mut queue.got_back);
        if got_back && !queue.is_quorum() {
            self.drop_heads(ix);
            self.expire_heads(ix, true);
        }
        loop {
            self.expire_heads(ix, false);
            if self.queue(ix).is_none_or(|queue| queue.ready_len() == 0) {
                break;
            }
            let next = self.next_consumer(ix);
            self.pass_over_before(ix, next);
            let Some(consumer) = next else {
                break;
            };
            let Some(message) = self.queue_mut(ix).and_then(|queue| queue.pop()) else {
                break;
            };
            self.deliver(ix, consumer, message);
        }
        self.drop_heads(ix);
        self.expire_heads(ix, true);
        let now = self.now;
        if let Some(queue) = self.queue_mut(ix) {
            queue.note_fullness(now);
        }
        self.arm_queue(ix);
    }

    /// Applies the length limit.
    fn drop_heads(&mut self, ix: QueueIx) {
        let (now, rules) = (self.now, self.rules);
        let mut dropped = Vec::new();
        while let Some(queue) = self.queue_mut(ix) {
            queue.note_fullness(now);
            if !queue.drops_head(&rules) {
                break;
            }
            let head = if rules.is_bent(Bent::DropsTheNewest) {
                queue.pop_newest()
            } else {
                queue.pop()
            };
            let Some(head) = head else { break };
            dropped.push(head);
        }
        // What a quorum queue drops at once, it sends away last one first (seen on 3.10.8).
        if self.queue(ix).is_some_and(|queue| queue.is_quorum()) {
            dropped.reverse();
        }
        for head in dropped {
            self.die(ix, head, DeathReason::MaxLen);
        }
    }

    pub(super) fn consumer(&self, ix: ConsumerIx) -> Option<&Consumer> {
        self.consumers[ix.0 as usize].as_ref()
    }

    pub(super) fn consumer_mut(&mut self, ix: ConsumerIx) -> Option<&mut Consumer> {
        self.consumers[ix.0 as usize].as_mut()
    }

    /// The consumer that is served next: of those with prefetch to spare the highest priority,
    /// and among these in turn (seen on 3.10.8, both queue types).
    pub(super) fn next_consumer(&self, ix: QueueIx) -> Option<ConsumerIx> {
        let queue = self.queue(ix)?;
        let forgets = self.rules.is_bent(Bent::ForgetsPriority);
        let mut best: Option<(i32, u64, ConsumerIx)> = None;
        for &at in &queue.consumers {
            if queue.args.single_active && queue.active != Some(at) {
                continue;
            }
            let Some(consumer) = self.consumer(at).filter(|consumer| consumer.has_room()) else {
                continue;
            };
            // A quorum queue takes no notice of a channel's limit (seen on 3.10.8).
            let room = |channel: &Channel| queue.is_quorum() || channel.has_room();
            if !self.channel_ref(consumer.chan).is_some_and(room) {
                continue;
            }
            let own = if forgets { 0 } else { consumer.priority };
            let better = best.is_none_or(|(priority, turn, _)| {
                own > priority || (own == priority && consumer.turn < turn)
            });
            if better {
                best = Some((own, consumer.turn, at));
            }
        }
        best.map(|(_, _, at)| at)
    }

    /// A classic queue takes a consumer out of the rotation only when it comes to it in vain; until
    /// then one that was full and has room again keeps its place (seen on 3.10.8). A quorum queue
    /// takes it out as soon as it is full.
    fn pass_over_before(&mut self, ix: QueueIx, next: Option<ConsumerIx>) {
        let Some(queue) = self.queue(ix).filter(|queue| !queue.is_quorum()) else {
            return;
        };
        let place = |at: ConsumerIx| {
            self.consumer(at)
                .map(|c| (std::cmp::Reverse(c.priority), c.turn))
        };
        let end = next.and_then(place);
        let before = |at: &ConsumerIx| match end {
            _ if queue.args.single_active => queue.active == Some(*at) && next != Some(*at),
            None => true,
            end => place(*at) < end,
        };
        let mut passed: Vec<ConsumerIx> = queue.consumers.iter().copied().filter(before).collect();
        passed.sort_by_key(|&at| place(at));
        for at in passed {
            let Some(queue) = self.queue_mut(ix) else {
                return;
            };
            queue.turns += 1;
            let turn = queue.turns;
            if let Some(consumer) = self.consumer_mut(at) {
                consumer.passed_over.get_or_insert(turn);
            }
        }
    }

    /// Takes the consumers of a channel that have room again back into their rotations, in the
    /// order in which they were passed over.
    pub(super) fn take_back(&mut self, chan: ChanId) {
        let Some(channel) = self.channel_ref(chan).filter(|channel| channel.has_room()) else {
            return;
        };
        let passed = channel.consumers.iter().filter_map(|&at| {
            let consumer = self.consumer(at).filter(|consumer| consumer.has_room())?;
            Some((consumer.passed_over?, at, consumer.queue))
        });
        let mut passed: Vec<_> = passed.collect();
        passed.sort_unstable();
        for (_, at, ix) in passed {
            if let Some(consumer) = self.consumer_mut(at) {
                consumer.passed_over = None;
            }
            self.end_turn(ix, at);
        }
    }

    /// Whether a consumer of the channel was passed over for want of room.
    pub(super) fn has_passed_over(&self, chan: ChanId) -> bool {
        let waits = |&at: &ConsumerIx| self.consumer(at).is_some_and(|c| c.passed_over.is_some());
        let channel = self.channel_ref(chan);
        channel.is_some_and(|channel| channel.consumers.iter().any(waits))
    }

    /// Sends the consumer to the end of the rotation.
    pub(super) fn end_turn(&mut self, ix: QueueIx, at: ConsumerIx) {
        let Some(queue) = self.queue_mut(ix) else {
            return;
        };
        queue.turns += 1;
        let turn = queue.turns;
        if let Some(consumer) = self.consumer_mut(at) {
            consumer.turn = turn;
        }
    }

    fn deliver(&mut self, ix: QueueIx, at: ConsumerIx, message: Message) {
        self.end_turn(ix, at);
        let Some(consumer) = self.consumer_mut(at) else {
            return;
        };
        let (chan, no_ack) = (consumer.chan, consumer.no_ack);
        let consumer_tag = consumer.tag.clone();
        if !no_ack {
            consumer.unacked += 1;
        }
        let consumer = Some(at);
        if let Some(delivery) = self.hand_out(ix, chan, consumer, no_ack, message) {
            self.outputs.push(Output::Deliver {
                chan,
                consumer_tag,
                delivery,
            });
        }
    }

    /// Gives a message a delivery tag and makes it the channel's.
    pub(super) fn hand_out(
        &mut self,
        ix: QueueIx,
        chan: ChanId,
        consumer: Option<ConsumerIx>,
        no_ack: bool,
        message: Message,
    ) -> Option<Delivery> {
        let content = self.presented(ix, &message, consumer.is_none());
        let stats = &mut self.ledger.stats;
        stats.delivered += 1;
        stats.redelivered += u64::from(message.redelivered);
        let now = self.now;
        let classic = !self.queue(ix)?.is_quorum();
        let channel = self.channel_mut(chan).ok()?;
        let delivery = Delivery {
            tag: channel.next_tag(),
            redelivered: message.redelivered,
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
            content,
            message_count: 0,
        };
        let (tag, redelivered) = (delivery.tag, delivery.redelivered);
        self.note(ix, &message, || Act::HandedOut {
            chan,
            tag,
            redelivered,
        });
        if no_ack {
            self.ledger.stats.acked += 1;
            self.note(ix, &message, || Act::Acked { chan, tag });
            return Some(delivery);
        }
        let channel = self.channel_mut(chan).ok()?;
        if consumer.is_some() && classic {
            channel.count_delivery();
        }
        let unacked = Unacked {
            chan,
            tag,
            queue: ix,
            consumer,
            delivered_at: now,
            message,
        };
        channel.outstanding.push(tag, unacked);
        self.queue_mut(ix)?.unacked += 1;
        self.arm_channel_again(chan);
        Some(delivery)
    }

    /// The content as a client sees it. A quorum queue shows how often the message came back:
    /// with `consume` from the first time on, with `get` on 3.10 also as 0 (seen on 3.10.8).
    fn presented(&self, ix: QueueIx, message: &Message, get: bool) -> Arc<Content> {
        let quorum = self.queue(ix).is_some_and(|queue| queue.is_quorum());
        let zero = get && self.rules.get_shows_zero_count;
        let acquired = self.rules.acquired_count && message.acquired_count > 0;
        if !quorum || (message.delivery_count == 0 && !zero && !acquired) {
            return message.content.clone();
        }
        let mut content = Content {
            properties: message.content.properties.written(),
            body: message.content.body.clone(),
        };
        let headers = content.properties.headers.get_or_insert_default();
        if message.delivery_count > 0 || zero {
            let count = AMQPValue::LongLongInt(message.delivery_count.into());
            headers.insert("x-delivery-count".into(), count);
        }
        if acquired {
            let count = AMQPValue::LongLongInt(message.acquired_count.into());
            headers.insert("x-acquired-count".into(), count);
        }
        Arc::new(content)
    }
}
