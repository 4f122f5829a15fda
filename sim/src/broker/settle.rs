//! Acks, nacks and rejects.

use super::{
    Broker, ChanId, Closed,
    channel::{Held, Settle, Unacked},
    death::DeathReason,
    queue::{GiveBack, Message, QueueIx},
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
        let outstanding = &mut self.channel_mut(chan)?.outstanding;
        if !multiple {
            let Some(unacked) = outstanding.take(tag) else {
                return Err(self.unknown_tag(chan, tag));
            };
            self.settle_one(chan, unacked, how);
        } else if tag == 0 || outstanding.contains(tag) {
            let last = if tag == 0 { u64::MAX } else { tag };
            while let Some(unacked) = self.channel_mut(chan)?.outstanding.take_up_to(last) {
                self.settle_one(chan, unacked, how);
            }
        } else {
            return Err(self.unknown_tag(chan, tag));
        }
        self.take_back(chan);
        self.arm_channel_again(chan);
        Ok(())
    }

    fn unknown_tag(&mut self, chan: ChanId, tag: u64) -> Closed {
        let text = format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
        self.fail_channel(chan, 406, text)
    }

    fn settle_one(&mut self, chan: ChanId, unacked: Unacked, how: Settle) {
        self.release(chan, &unacked);
        let Unacked {
            queue: ix, message, ..
        } = unacked;
        if self.queue(ix).is_none() {
            // Its queue was deleted; the loss was noted then.
            return;
        }
        match how {
            Settle::Ack => self.ledger.stats.acked += 1,
            Settle::Requeue(how) => self.give_back(ix, message, how),
            Settle::Discard => self.die(ix, message, DeathReason::Rejected),
        }
    }

    /// Takes a delivery off the counts of its consumer, channel and queue.
    pub(super) fn release(&mut self, chan: ChanId, unacked: &Unacked) {
        let ix = unacked.queue;
        let mut freed = false;
        if let Some(at) = unacked.consumer {
            if let Ok(channel) = self.channel_mut(chan) {
                freed = !channel.has_room();
                channel.consumer_unacked -= 1;
            }
            if freed {
                self.touch_consumers_of(chan);
            }
            if let Some(consumer) = self.consumer_mut(at) {
                let full = !consumer.has_room();
                consumer.unacked -= 1;
                freed |= full;
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
    fn touch_consumers_of(&mut self, chan: ChanId) {
        let Some(channel) = self.channel_ref(chan) else {
            return;
        };
        for at in channel.consumers.clone() {
            if let Some(queue) = self.consumer(at).map(|consumer| consumer.queue) {
                self.touch(queue);
            }
        }
    }

    pub(super) fn give_back(&mut self, ix: QueueIx, message: Message, how: GiveBack) {
        let Some(queue) = self.queues[ix.0 as usize].as_mut() else {
            return;
        };
        self.ledger.stats.requeued += 1;
        if let Err(message) = queue.give_back(message, how, &self.rules) {
            self.die(ix, message, DeathReason::DeliveryLimit);
        }
        self.touch(ix);
    }
}
