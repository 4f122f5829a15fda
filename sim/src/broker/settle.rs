//! Acks, nacks and rejects.

use std::sync::Arc;

use super::{
    Act, Bent, Broker, ChanId, Closed,
    channel::{Held, Settle, Unacked},
    death::DeathReason,
    queue::{ConsumerIx, Feeder, GiveBack, Message, QueueIx},
};

impl Broker {
    /// `basic.ack`. Tag 0 with `multiple` means everything outstanding, also when that is
    /// nothing; any other tag must be outstanding itself, or the channel is closed with 406 and
    /// all it holds comes back (seen on 3.10.8).
    pub fn ack(&mut self, chan: ChanId, tag: u64, multiple: bool) -> Result<(), Closed> {
        self.settle(chan, tag, multiple, Settle::Ack)
    }

    /// `basic.nack`. Without `requeue` the message is dead-lettered.
    pub fn nack(
        &mut self,
        chan: ChanId,
        tag: u64,
        multiple: bool,
        requeue: bool,
    ) -> Result<(), Closed> {
        let how = if requeue {
            Settle::Requeue(GiveBack::Nack)
        } else {
            Settle::Discard
        };
        self.settle(chan, tag, multiple, how)
    }

    /// `basic.reject`.
    pub fn reject(&mut self, chan: ChanId, tag: u64, requeue: bool) -> Result<(), Closed> {
        let how = if requeue {
            Settle::Requeue(GiveBack::Reject)
        } else {
            Settle::Discard
        };
        self.settle(chan, tag, false, how)
    }

    /// What one `basic.ack` (`requeue` is `None`) or `basic.nack` with `multiple` would do to just
    /// these deliveries, in this order. For comparisons with a broker whose deliveries of several
    /// consumers came in another order, so that the same ones have other tags there.
    pub fn settle_listed(
        &mut self,
        chan: ChanId,
        tags: &[u64],
        requeue: Option<bool>,
    ) -> Result<(), Closed> {
        let how = match requeue {
            None => Settle::Ack,
            Some(true) => Settle::Requeue(GiveBack::Nack),
            Some(false) => Settle::Discard,
        };
        let first = usize::from(self.rules.is_bent(Bent::SettlesOnlyOne));
        let first = tags.len().saturating_sub(1) * first;
        let mut all = Vec::new();
        for &tag in &tags[first..] {
            let Some(unacked) = self.channel_mut(chan)?.outstanding.take(tag) else {
                return Err(self.unknown_tag(chan, tag));
            };
            all.push(unacked);
        }
        self.settle_all(chan, all, how)?;
        self.run();
        Ok(())
    }

    fn settle(
        &mut self,
        chan: ChanId,
        tag: u64,
        multiple: bool,
        how: Settle,
    ) -> Result<(), Closed> {
        self.channel_mut(chan)?;
        let conn = self.connection_mut(chan.conn)?;
        if conn.blocked {
            conn.held.push_back(Held::Settle {
                chan,
                tag,
                multiple,
                how,
            });
            return Ok(());
        }
        let result = self.settle_now(chan, tag, multiple, how);
        self.run();
        result
    }

    pub(super) fn settle_now(
        &mut self,
        chan: ChanId,
        tag: u64,
        multiple: bool,
        how: Settle,
    ) -> Result<(), Closed> {
        let multiple = multiple && (tag == 0 || !self.rules.is_bent(Bent::SettlesOnlyOne));
        let outstanding = &mut self.channel_mut(chan)?.outstanding;
        let mut all = Vec::new();
        if !multiple {
            all.extend(outstanding.take(tag));
        } else if tag == 0 || outstanding.contains(tag) {
            let last = if tag == 0 { u64::MAX } else { tag };
            while let Some(unacked) = outstanding.take_up_to(last) {
                all.push(unacked);
            }
        }
        if all.is_empty() && !(multiple && tag == 0) {
            return Err(self.unknown_tag(chan, tag));
        }
        self.settle_all(chan, all, how)
    }

    fn settle_all(&mut self, chan: ChanId, all: Vec<Unacked>, how: Settle) -> Result<(), Closed> {
        let settled = all.iter().filter(|one| one.consumer.is_some()).count();
        self.settle_groups(chan, all, how);
        if self.channel_mut(chan)?.count_settled(settled) {
            self.touch_consumers_of(chan);
            // A queue hears of the room before or after it hears of what comes back: one is told
            // by the limiter, the other by the channel, and the first is the more urgent.
            if !matches!(how, Settle::Ack) && self.has_passed_over(chan) {
                self.mixed_at = Some(self.now);
            }
        }
        self.take_back(chan);
        self.arm_channel_again(chan);
        Ok(())
    }

    /// Seen on 3.10.8: what is settled together is handed to the queues in groups, one for each
    /// delivery to `get`, then one for each consumer in the order of the tags; a queue works off
    /// a group before it sees the next.
    fn settle_groups(&mut self, chan: ChanId, mut all: Vec<Unacked>, how: Settle) {
        let alone = |one: &Unacked| one.consumer.is_none();
        let same = |a: &Unacked, b: &Unacked| a.queue == b.queue && a.consumer == b.consumer;
        if all.is_sorted_by(|a, b| same(a, b) && !alone(a)) {
            for unacked in all {
                self.settle_one(unacked, how);
            }
            return;
        }
        // Stable: within a group and among those of `get` the oldest goes first.
        all.sort_by_cached_key(|one| {
            let queue = self.queue(one.queue).map(|queue| queue.name.clone());
            (queue, one.consumer.map(|at| self.consumer_tag(at)))
        });
        for group in all
            .into_iter()
            .fold(Vec::<Vec<Unacked>>::new(), |mut groups, one| {
                match groups.last_mut() {
                    Some(group) if same(&group[0], &one) && !alone(&one) => group.push(one),
                    _ => groups.push(vec![one]),
                }
                groups
            })
        {
            let quorum = self.queue(group[0].queue).is_some_and(|q| q.is_quorum());
            for unacked in group {
                self.settle_one(unacked, how);
            }
            self.take_back(chan);
            if quorum {
                // Its dead letters go when the command is written down, and by then the other
                // queues have heard of their groups (seen on 3.10.8).
                self.run_dirty();
            } else {
                self.run();
            }
        }
    }

    pub(super) fn consumer_tag(&self, at: ConsumerIx) -> Arc<str> {
        self.consumer_tags[at.0 as usize].clone()
    }

    fn unknown_tag(&mut self, chan: ChanId, tag: u64) -> Closed {
        let text = format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
        self.fail_channel(chan, 406, text)
    }

    fn settle_one(&mut self, unacked: Unacked, how: Settle) {
        self.release(&unacked);
        let Unacked {
            chan,
            tag,
            queue: ix,
            message,
            consumer,
            ..
        } = unacked;
        if self.queue(ix).is_none() {
            // Its queue was deleted; the loss was noted then.
            return;
        }
        match how {
            Settle::Ack => {
                self.ledger.stats.acked += 1;
                self.note(ix, &message, || Act::Acked { chan, tag });
            }
            Settle::Requeue(how) => {
                let how_back = how.into();
                self.note(ix, &message, || Act::Returned {
                    chan,
                    tag,
                    how: how_back,
                });
                let died = self.give_back(ix, message, how);
                if died
                    && self.rules.over_limit_widens_prefetch
                    && let Some(consumer) = consumer.and_then(|at| self.consumer_mut(at))
                    && consumer.prefetch > 0
                {
                    consumer.prefetch += 1;
                }
            }
            Settle::Discard => self.die(ix, message, DeathReason::Rejected),
        }
    }

    /// Takes a delivery off the counts of its consumer and its queue.
    pub(super) fn release(&mut self, unacked: &Unacked) {
        let ix = unacked.queue;
        let mut freed = false;
        if let Some(at) = unacked.consumer {
            if let Some(consumer) = self.consumer_mut(at) {
                let full = !consumer.has_room();
                consumer.unacked -= 1;
                freed = full;
            }
            if freed && self.queue(ix).is_some_and(|queue| queue.is_quorum()) {
                self.end_turn(ix, at);
            }
        }
        if let Some(queue) = self.queue_mut(ix) {
            queue.unacked -= 1;
            if freed && queue.ready_len() > 0 {
                self.touch(ix);
            }
        }
    }

    /// The channel has room again: each of its consumers may go on.
    pub(super) fn touch_consumers_of(&mut self, chan: ChanId) {
        let Some(channel) = self.channel_ref(chan) else {
            return;
        };
        for at in channel.consumers.clone() {
            if let Some(queue) = self.consumer(at).map(|consumer| consumer.queue) {
                self.touch(queue);
            }
        }
    }

    /// Whether it has used up its deliveries.
    pub(super) fn give_back(&mut self, ix: QueueIx, message: Message, how: GiveBack) -> bool {
        let Some(queue) = self.queues[ix.0 as usize].as_mut() else {
            return false;
        };
        let (at, before) = std::mem::replace(&mut queue.fed_by, (self.now, Feeder::Holder));
        if at == self.now && before.queue().is_some_and(|of| of != ix) {
            self.mixed_at = Some(self.now);
        }
        self.ledger.stats.requeued += 1;
        let over = queue.give_back(message, how, &self.rules).err();
        let died = over.is_some();
        if let Some(message) = over {
            self.die(ix, message, DeathReason::DeliveryLimit);
        }
        self.touch(ix);
        died
    }
}
