//! Time: expiry, unused queues, consumer timeouts, dead letters to try again.
//!
//! Timers live in one heap. An entry is corrected when it comes to the top, not when its queue or
//! channel changes, so ordinary traffic pays a comparison. The top itself is corrected before a
//! call returns: `next_deadline` never names a time at which nothing happens, for a cancelled
//! timer must not move virtual time.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    Act, Broker, ChanId, ConsumerTimeout,
    arguments::QueueKind,
    channel::{Channel, Unacked},
    death::DeathReason,
    queue::{GiveBack, NEVER, QueueIx},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TimerKey {
    Queue(QueueIx),
    Channel(ChanId),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(u64, TimerKey)>>);

impl Broker {
    /// Sets the time. Fires what is due until then, so nothing can be overtaken.
    ///
    /// # Panics
    ///
    /// When time goes back.
    pub fn set_now(&mut self, now_ns: u64) {
        if now_ns != self.now {
            self.advance(now_ns);
        }
    }

    /// When the broker next does something by itself, in virtual nanoseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Fires everything due up to and at `now_ns`, each at its own time.
    ///
    /// # Panics
    ///
    /// When time goes back.
    pub fn advance(&mut self, now_ns: u64) {
        assert!(
            now_ns >= self.now,
            "time goes back: {} to {now_ns}",
            self.now
        );
        while let Some(&Reverse((at, key))) = self.timers.0.peek() {
            if at > now_ns {
                break;
            }
            self.timers.0.pop();
            self.now = self.now.max(at);
            match key {
                TimerKey::Queue(ix) => self.fire_queue(ix),
                TimerKey::Channel(chan) => self.fire_channel(chan),
            }
            self.run();
        }
        self.now = now_ns;
    }

    pub(super) fn arm_queue(&mut self, ix: QueueIx) {
        let Some(queue) = self.queues[ix.0 as usize].as_mut() else {
            return;
        };
        let at = queue.deadline();
        if at < queue.timer_at {
            queue.timer_at = at;
            self.timers.0.push(Reverse((at, TimerKey::Queue(ix))));
        }
    }

    /// After a delivery was handed out or settled. While all queues share one timeout, the oldest
    /// delivery is due first and what is armed is never too late, so nothing is computed.
    pub(super) fn arm_channel_again(&mut self, chan: ChanId) {
        let armed = self
            .channel_ref(chan)
            .is_none_or(|channel| channel.timer_at != NEVER);
        if self.own_timeouts || !armed {
            self.arm_channel(chan);
        }
    }

    fn arm_channel(&mut self, chan: ChanId) {
        let at = self.channel_deadline(chan);
        let Ok(channel) = self.channel_mut(chan) else {
            return;
        };
        if at < channel.timer_at {
            channel.timer_at = at;
            self.timers.0.push(Reverse((at, TimerKey::Channel(chan))));
        }
    }

    /// Throws away or moves entries at the top until the top is a true deadline.
    pub(super) fn correct_timers(&mut self) {
        while let Some(&Reverse((at, key))) = self.timers.0.peek() {
            let (armed, actual) = match key {
                TimerKey::Queue(ix) => match self.queue(ix) {
                    Some(queue) => (queue.timer_at, queue.deadline()),
                    None => (NEVER, NEVER),
                },
                TimerKey::Channel(chan) => match self.channel_ref(chan) {
                    Some(channel) => (channel.timer_at, self.channel_deadline(chan)),
                    None => (NEVER, NEVER),
                },
            };
            if armed == at && actual == at {
                return;
            }
            self.timers.0.pop();
            if armed == at {
                self.disarm(key);
                self.rearm(key);
            }
        }
    }

    fn disarm(&mut self, key: TimerKey) {
        match key {
            TimerKey::Queue(ix) => {
                if let Some(queue) = self.queue_mut(ix) {
                    queue.timer_at = NEVER;
                }
            }
            TimerKey::Channel(chan) => {
                if let Ok(channel) = self.channel_mut(chan) {
                    channel.timer_at = NEVER;
                }
            }
        }
    }

    fn rearm(&mut self, key: TimerKey) {
        match key {
            TimerKey::Queue(ix) => self.arm_queue(ix),
            TimerKey::Channel(chan) => self.arm_channel(chan),
        }
    }

    fn fire_queue(&mut self, ix: QueueIx) {
        self.disarm(TimerKey::Queue(ix));
        let now = self.now;
        let Some(queue) = self.queue(ix) else { return };
        let retry = queue.retry_at <= now;
        let unused = queue.args.expires_ns.is_some_and(|ns| {
            queue.consumers.is_empty() && queue.idle_since.saturating_add(ns) <= now
        });
        if unused {
            self.delete_queue(ix);
            return;
        }
        if retry {
            self.retry_dead_letters(ix);
        }
        self.touch(ix);
    }

    /// How long this delivery may stay unacked.
    fn patience(&self, unacked: &Unacked) -> Option<u64> {
        let queue = self.queue(unacked.queue);
        if self.rules.consumer_timeout == ConsumerTimeout::CancelsConsumer
            && queue.is_none_or(|queue| queue.args.kind == QueueKind::Classic)
        {
            return None;
        }
        queue
            .and_then(|queue| queue.args.consumer_timeout_ns)
            .or(self.limits.consumer_timeout_ns)
    }

    /// The first tick of the channel after its oldest delivery has been out for too long.
    fn channel_deadline(&self, chan: ChanId) -> u64 {
        let Some(channel) = self.channel_ref(chan) else {
            return NEVER;
        };
        let mut waiting = channel.outstanding.iter();
        let due = match self.rules.consumer_timeout {
            // Only the oldest is looked at (source of 3.10.8).
            ConsumerTimeout::ClosesChannel => waiting.next().and_then(|(_, oldest)| {
                Some(oldest.delivered_at.saturating_add(self.patience(oldest)?))
            }),
            ConsumerTimeout::CancelsConsumer => {
                let mut dues = waiting.filter_map(|(_, one)| {
                    Some(one.delivered_at.saturating_add(self.patience(one)?))
                });
                if self.own_timeouts {
                    dues.min()
                } else {
                    dues.next()
                }
            }
        };
        due.map_or(NEVER, |due| self.tick_after(channel, due))
    }

    fn tick_after(&self, channel: &Channel, due: u64) -> u64 {
        let tick = self.limits.channel_tick_ns.max(1);
        let ticks = (due - channel.opened_at) / tick + 1;
        channel.opened_at.saturating_add(ticks.saturating_mul(tick))
    }

    fn fire_channel(&mut self, chan: ChanId) {
        self.disarm(TimerKey::Channel(chan));
        match self.rules.consumer_timeout {
            ConsumerTimeout::ClosesChannel => {
                let oldest = self
                    .channel_ref(chan)
                    .and_then(|c| c.outstanding.iter().next());
                let patience = oldest.and_then(|(_, oldest)| self.patience(oldest));
                let text = format!(
                    "PRECONDITION_FAILED - delivery acknowledgement on channel {} timed out. \
                     Timeout value used: {} ms. This timeout value can be configured, see \
                     consumers doc guide to learn more",
                    chan.number,
                    patience.unwrap_or(0) / 1_000_000,
                );
                self.fail_channel(chan, 406, text);
            }
            ConsumerTimeout::CancelsConsumer => self.cancel_overdue(chan),
        }
    }

    /// 4.3: takes what is overdue back and cancels the consumers that held it.
    fn cancel_overdue(&mut self, chan: ChanId) {
        let Some(channel) = self.channel_ref(chan) else {
            return;
        };
        let overdue = |one: &Unacked| {
            self.patience(one)
                .is_some_and(|ns| one.delivered_at.saturating_add(ns) < self.now)
        };
        let all = channel.outstanding.iter();
        let guilty: Vec<_> = all.clone().filter(|(_, one)| overdue(one)).collect();
        let consumers: Vec<_> = guilty.iter().filter_map(|(_, one)| one.consumer).collect();
        let taken: Vec<u64> = all
            .filter(|(_, one)| overdue(one) || one.consumer.is_some_and(|c| consumers.contains(&c)))
            .map(|(tag, _)| tag)
            .collect();
        for tag in taken {
            let Ok(channel) = self.channel_mut(chan) else {
                return;
            };
            if let Some(unacked) = channel.outstanding.take(tag) {
                self.release(&unacked);
                let (chan, tag) = (unacked.chan, unacked.tag);
                self.note(unacked.queue, &unacked.message, || Act::Returned {
                    chan,
                    tag,
                    how: GiveBack::Timeout.into(),
                });
                self.give_back(unacked.queue, unacked.message, GiveBack::Timeout);
            }
        }
        for consumer in consumers {
            self.cancel_from_broker(consumer);
        }
        self.arm_channel(chan);
    }

    /// Drops heads whose time is up.
    pub(super) fn expire_heads(&mut self, ix: QueueIx, inclusive: bool) {
        let now = self.now;
        while let Some(queue) = self.queue_mut(ix) {
            let Some(message) = queue.pop_expired(now, inclusive) else {
                return;
            };
            self.ledger.stats.expired += 1;
            self.die(ix, message, DeathReason::Expired);
        }
    }
}
