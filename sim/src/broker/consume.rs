//! Consumers: prefetch, consume, cancel, get.

use std::sync::Arc;

use super::{
    Bent, Broker, ChanId, Closed, ConsumeOptions, Delivery, Output,
    access::Right,
    channel::{Consumer, Settle},
    queue::{ConsumerIx, GiveBack, QueueIx},
};

impl Broker {
    /// `basic.qos`. With `global` it limits the channel as a whole, otherwise each consumer that
    /// starts from now on, and the channel no more (seen on 3.10.8); 0 is no limit.
    pub fn basic_qos(&mut self, chan: ChanId, prefetch: u16, global: bool) -> Result<(), Closed> {
        let channel = self.channel_mut(chan)?;
        if !global {
            channel.consumer_prefetch = prefetch.into();
        }
        let limit = if global { prefetch.into() } else { 0 };
        if channel.channel_prefetch != limit {
            channel.limit(limit);
            self.take_back(chan);
            self.touch_consumers_of(chan);
            self.run();
        }
        Ok(())
    }

    /// `basic.consume`. Returns the consumer tag, which the broker makes up if it is empty.
    pub fn consume(
        &mut self,
        chan: ChanId,
        queue: &str,
        consumer_tag: &str,
        options: ConsumeOptions,
    ) -> Result<Arc<str>, Closed> {
        self.channel_mut(chan)?;
        self.check_access(chan, Right::Read, ("queue", queue))?;
        let ix = self.usable_queue(chan, queue)?;
        self.check_consume(chan, ix, consumer_tag, options)?;
        let tag: Arc<str> = if consumer_tag.is_empty() {
            self.generated_names += 1;
            format!("amq.ctag-{}", self.generated_names).into()
        } else {
            consumer_tag.into()
        };
        let at = ConsumerIx(self.consumers.len() as u32);
        let channel = self.channel_mut(chan)?;
        channel.consumers.push(at);
        let more = u32::from(self.rules.is_bent(Bent::PrefetchesOneMore));
        let channel = self.channel_mut(chan)?;
        let prefetch = match channel.consumer_prefetch {
            0 => 0,
            limit => limit + more,
        };
        self.consumer_tags.push(tag.clone());
        self.consumers.push(Some(Consumer {
            chan,
            tag: tag.clone(),
            queue: ix,
            no_ack: options.no_ack,
            exclusive: options.exclusive,
            priority: options.priority,
            prefetch,
            unacked: 0,
            turn: 0,
            passed_over: None,
        }));
        if let Some(queue) = self.queue_mut(ix) {
            queue.consumers.push(at);
            queue.active.get_or_insert(at);
        }
        self.end_turn(ix, at);
        self.touch(ix);
        self.run();
        Ok(tag)
    }

    fn check_consume(
        &mut self,
        chan: ChanId,
        ix: QueueIx,
        tag: &str,
        options: ConsumeOptions,
    ) -> Result<(), Closed> {
        let channel = self.channel_mut(chan)?;
        let (mine, limited) = (channel.consumers.clone(), channel.channel_prefetch > 0);
        let taken = |&at: &ConsumerIx| self.consumer(at).is_some_and(|c| &*c.tag == tag);
        if mine.iter().any(taken) {
            let text = format!("NOT_ALLOWED - attempt to reuse consumer tag '{tag}'");
            return Err(self.fail_connection(chan.conn, 530, text));
        }
        let Some(queue) = self.queue(ix) else {
            return Ok(());
        };
        let name = queue.name.clone();
        if limited && queue.is_quorum() {
            // Seen on 3.10.8.
            let text = format!(
                "NOT_IMPLEMENTED - queue '{name}' in vhost '/' does not support global qos"
            );
            return Err(self.fail_connection(chan.conn, 540, text));
        }
        let exclusive = |&at: &ConsumerIx| self.consumer(at).is_some_and(|c| c.exclusive);
        // Seen on 3.10.8: a quorum queue does not look at the flag, and a classic one with a
        // single active consumer never grants it.
        let refused = !queue.is_quorum()
            && if queue.args.single_active {
                options.exclusive
            } else {
                (options.exclusive && !queue.consumers.is_empty())
                    || queue.consumers.iter().any(exclusive)
            };
        if refused {
            let text = format!("ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use");
            return Err(self.fail_channel(chan, 403, text));
        }
        Ok(())
    }

    /// `basic.cancel`. What the consumer holds stays with the channel and may still be acked; an
    /// unknown tag is no error (seen on 3.10.8).
    pub fn cancel(&mut self, chan: ChanId, consumer_tag: &str) -> Result<(), Closed> {
        let mine = self.channel_mut(chan)?.consumers.clone();
        let named = |&at: &ConsumerIx| self.consumer(at).is_some_and(|c| &*c.tag == consumer_tag);
        if let Some(at) = mine.into_iter().find(named)
            && let Some(ix) = self.remove_consumer(at)
        {
            if self.rules.is_bent(Bent::CancelGivesBack) {
                self.give_back_of(chan, at);
            }
            self.run();
            self.delete_if_abandoned(ix);
        }
        Ok(())
    }

    fn give_back_of(&mut self, chan: ChanId, at: ConsumerIx) {
        let Some(channel) = self.channel_ref(chan) else {
            return;
        };
        let held = channel.outstanding.iter();
        let held = held.filter(|(_, unacked)| unacked.consumer == Some(at));
        let tags: Vec<u64> = held.map(|(tag, _)| tag).collect();
        for tag in tags {
            // It was just there.
            let _ = self.settle_now(chan, tag, false, Settle::Requeue(GiveBack::Nack));
        }
    }

    /// Takes a consumer off its channel and queue. On a single-active queue the next one in line
    /// takes over at once, even while the old one holds messages (seen on 3.10.8).
    pub(super) fn remove_consumer(&mut self, at: ConsumerIx) -> Option<QueueIx> {
        let consumer = self.consumers[at.0 as usize].take()?;
        if let Ok(channel) = self.channel_mut(consumer.chan) {
            channel.consumers.retain(|&other| other != at);
        }
        let now = self.now;
        let ix = consumer.queue;
        let queue = self.queue_mut(ix)?;
        queue.consumers.retain(|&other| other != at);
        queue.idle_since = now;
        if queue.active == Some(at) {
            let rest = queue.consumers.clone();
            // A quorum queue takes the next in line whatever its priority (seen on 3.10.8).
            let quorum = queue.is_quorum();
            let first = |at: ConsumerIx| match self.consumer(at) {
                Some(consumer) if !quorum => consumer.priority,
                _ => 0,
            };
            let best = rest.iter().map(|&at| first(at)).max();
            let next = rest.into_iter().find(|&at| Some(first(at)) == best);
            self.queue_mut(ix)?.active = next;
        }
        self.touch(ix);
        Some(ix)
    }

    pub(super) fn cancel_from_broker(&mut self, at: ConsumerIx) {
        let Some(consumer) = self.consumer(at) else {
            return;
        };
        let (chan, tag) = (consumer.chan, consumer.tag.clone());
        self.outputs.push(Output::ConsumerCancelled { chan, tag });
        self.remove_consumer(at);
    }

    /// `basic.get`. Prefetch does not apply to it (seen on 3.10.8). A quorum queue with a single
    /// active consumer refuses it.
    pub fn get(
        &mut self,
        chan: ChanId,
        queue: &str,
        no_ack: bool,
    ) -> Result<Option<Delivery>, Closed> {
        self.channel_mut(chan)?;
        self.check_access(chan, Right::Read, ("queue", queue))?;
        let ix = self.usable_queue(chan, queue)?;
        let now = self.now;
        if self
            .queue(ix)
            .is_some_and(|queue| queue.is_quorum() && queue.args.single_active)
        {
            // Seen on 3.10.8.
            let text = format!(
                "RESOURCE_LOCKED - cannot obtain access to locked queue '{queue}' in vhost '/'. \
                 basic.get operations are not supported by quorum queues with single active \
                 consumer"
            );
            return Err(self.fail_channel(chan, 405, text));
        }
        self.expire_heads(ix, true);
        let message = self.queue_mut(ix).and_then(|queue| {
            queue.idle_since = now;
            queue.pop()
        });
        let mut delivery =
            message.and_then(|message| self.hand_out(ix, chan, None, no_ack, message));
        // Seen on 3.10.8: a quorum queue counts what has expired behind it, too, unless the message
        // is settled by this.
        if no_ack || self.queue(ix).is_some_and(|queue| !queue.is_quorum()) {
            self.expire_heads(ix, true);
        }
        if let (Some(delivery), Some(queue)) = (&mut delivery, self.queue(ix)) {
            delivery.message_count = queue.ready_len() as u32;
        }
        self.touch(ix);
        self.run();
        Ok(delivery)
    }
}
