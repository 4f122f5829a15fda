//! What the broker sends, on its way to the clients, and what becomes of connections.

use std::sync::Arc;
use std::task::Waker;

use super::{
    Confirmed, DELIVER, Error, Incoming, NOTICE, SITE_CONFIRM, SITE_DELIVER, SITE_NOTICE,
    UNROUTABLE,
};
use crate::broker::{Broker, ChanId, ConfirmPath, ConnId, Delivery, Output};
use crate::choice::{Key, Site};
use crate::fault::{Kind, Seam};
use crate::latency::Latency;
use crate::process::ProcessId;
use crate::world::World;

impl World {
    /// Calls the broker, then sees to what it sends.
    pub fn broker<R>(&mut self, call: impl FnOnce(&mut Broker) -> R) -> R {
        let now = self.now();
        self.net.broker.set_now(now);
        let result = call(&mut self.net.broker);
        self.forward_outputs();
        result
    }

    pub(super) fn forward_outputs(&mut self) {
        self.trace_broker();
        let mut outputs = std::mem::take(&mut self.net.outputs);
        self.net.broker.take_outputs(&mut outputs);
        for output in outputs.drain(..) {
            self.forward(output);
        }
        self.net.outputs = outputs;
        self.schedule_tick();
    }

    /// Sees to it that the broker's next deadline is met. A deadline that has moved away is
    /// noticed when its time comes and costs nothing but that look.
    fn schedule_tick(&mut self) {
        let Some(at) = self.net.broker.next_deadline() else {
            return;
        };
        if self.net.tick.is_some_and(|planned| planned <= at) {
            return;
        }
        self.net.tick = Some(at);
        self.at(at, move |w| {
            if w.net.tick == Some(at) {
                w.net.tick = None;
            }
            let now = w.now();
            if w.net.broker.next_deadline().is_some_and(|due| due <= now) {
                w.broker(|b| b.advance(now));
            } else {
                w.schedule_tick();
            }
        });
    }

    fn forward(&mut self, output: Output) {
        match output {
            Output::Confirm {
                chan,
                tag,
                ack,
                path,
                ..
            } => self.forward_confirm(chan, tag, ack, path),
            Output::Return {
                chan, code, text, ..
            } => {
                if let Some(channel) = self.net.channel(chan) {
                    channel.returned = Some((code, text));
                }
            }
            Output::Deliver {
                chan,
                consumer_tag,
                delivery,
            } => {
                self.forward_delivery(chan, consumer_tag, delivery);
            }
            Output::ConsumerCancelled { chan, tag } => self.forward_cancel(chan, tag),
            Output::ChannelClosed { chan, code, text } => {
                self.arrive(chan.conn, 0, move |w| {
                    w.close_channel_at_client(chan, Error::Channel(code, text));
                });
            }
            Output::ConnectionClosed { conn, code, text } => {
                self.net.connection(conn).dark = true;
                self.arrive(conn, 0, move |w| {
                    w.lose_at_client(conn, format!("{code} {text}"))
                });
            }
            Output::Unblocked { conn } => {
                let waiters = std::mem::take(&mut self.net.connection(conn).waiters);
                waiters.into_iter().for_each(Waker::wake);
            }
            Output::Blocked { .. } => {}
        }
    }

    fn forward_confirm(&mut self, chan: ChanId, tag: u64, ack: bool, path: ConfirmPath) {
        let latency = match path {
            ConfirmPath::Unroutable => UNROUTABLE,
            ConfirmPath::Transient => Latency::micros(150, 400, 1_500, 8_000),
            ConfirmPath::Persistent => Latency::micros(500, 3_000, 12_000, 80_000),
            ConfirmPath::Quorum => Latency::micros(500, 2_000, 9_000, 60_000),
        };
        let component = self.net.connections[chan.conn.0 as usize].process;
        let Some(channel) = self.net.channel(chan) else {
            return;
        };
        let result = match (ack, channel.returned.take()) {
            (true, Some((code, text))) => Confirmed::Returned(code, text),
            (true, None) => Confirmed::Ack,
            (false, _) => Confirmed::Nack,
        };
        let slot = channel.confirms.entry(tag).or_default();
        let (subject, attempt) = (slot.subject, slot.attempt);
        let after = self.latency(latency, SITE_CONFIRM, component, subject, attempt);
        let at = self.now() + after;
        // Confirms are not monotone: each comes when its own message is safe.
        self.at(at, move |w| {
            w.confirm_at_client(chan, tag, result);
        });
    }

    fn forward_delivery(&mut self, chan: ChanId, tag: Arc<str>, delivery: Delivery) {
        let process = self.net.connections[chan.conn.0 as usize].process;
        let (subject, attempt) = self.net.subject_of(&delivery.content.properties);
        let mut after = self.latency(DELIVER, SITE_DELIVER, process, subject, attempt);
        if let Some(strike) = self.strike_for(Seam::Deliver, process, subject, attempt) {
            match strike.kind {
                Kind::LostDelivery => {
                    // At a time of its own: the broker is in the middle of a call here.
                    let conn = chan.conn;
                    let now = self.now();
                    self.at(now, move |w| w.sever(conn));
                    return;
                }
                _ => after += strike.lasts,
            }
        }
        self.arrive(chan.conn, after, move |w| {
            w.hand_over(chan, &tag, Incoming::Delivery(delivery));
        });
    }

    /// Tells a consumer that nothing more comes, after what was sent to it before.
    pub(super) fn forward_cancel(&mut self, chan: ChanId, tag: Arc<str>) {
        self.arrive(chan.conn, 0, move |w| {
            w.hand_over(chan, &tag, Incoming::Cancelled)
        });
    }

    /// Lets something arrive at a client, not before what was sent to it earlier.
    pub(super) fn arrive(
        &mut self,
        conn: ConnId,
        after: u64,
        then: impl FnOnce(&mut Self) + 'static,
    ) {
        let now = self.now();
        let connection = self.net.connection(conn);
        let at = (now + after.max(100_000)).max(connection.last_arrival);
        connection.last_arrival = at;
        self.at(at, then);
    }

    fn hand_over(&mut self, chan: ChanId, tag: &Arc<str>, incoming: Incoming) {
        if self.net.connections[chan.conn.0 as usize].dark {
            return;
        }
        let delivered = matches!(incoming, Incoming::Delivery(_));
        let incoming = Some(incoming).filter(|_| delivered);
        if let Some(channel) = self.net.channel(chan)
            && let Some(subscription) = channel.subscriptions.get_mut(tag)
        {
            subscription.cancelled |= !delivered;
            subscription.inbox.extend(incoming);
            subscription.wakers.drain(..).for_each(Waker::wake);
            self.net.deliveries += u64::from(delivered);
        }
    }

    pub(super) fn close_channel_at_client(&mut self, chan: ChanId, error: Error) {
        let waiters = std::mem::take(&mut self.net.connection(chan.conn).waiters);
        waiters.into_iter().for_each(Waker::wake);
        let Some(channel) = self.net.channel(chan) else {
            return;
        };
        channel.closed.get_or_insert_with(|| error.clone());
        for slot in channel
            .confirms
            .values_mut()
            .filter(|slot| slot.result.is_none())
        {
            slot.result = Some(Err(error.clone()));
            slot.waker.take().into_iter().for_each(Waker::wake);
        }
        for subscription in channel.subscriptions.values_mut() {
            subscription.inbox.clear();
            subscription.wakers.drain(..).for_each(Waker::wake);
        }
    }

    pub(super) fn lose_at_client(&mut self, conn: ConnId, why: String) {
        let connection = self.net.connection(conn);
        connection.dark = true;
        connection.lost = Some(why.clone());
        connection.waiters.drain(..).for_each(Waker::wake);
        let numbers: Vec<u16> = connection.channels.keys().copied().collect();
        for number in numbers {
            self.close_channel_at_client(ChanId { conn, number }, Error::Connection(why.clone()));
        }
    }

    /// Cuts a connection: the broker knows at once, the client later.
    pub fn sever(&mut self, conn: ConnId) {
        if std::mem::replace(&mut self.net.connection(conn).dark, true) {
            return;
        }
        let process = self.net.connection(conn).process;
        self.broker(|b| b.sever(conn));
        let after = self.latency(NOTICE, SITE_NOTICE, process, 0, 0);
        let at = self.now() + after;
        self.at(at, move |w| {
            w.lose_at_client(conn, "connection reset by peer".to_owned())
        });
    }

    /// The connections of a process that the client believes to be open.
    pub fn connections_of(&self, prefix: &str) -> Vec<ConnId> {
        let all = self.net.connections.iter().enumerate();
        all.filter(|(_, c)| !c.dark && self.process_name(c.process).starts_with(prefix))
            .map(|(i, _)| ConnId(i as u32))
            .collect()
    }

    pub(crate) fn cut_connections_of(&mut self, process: ProcessId) {
        for i in 0..self.net.connections.len() {
            let connection = &mut self.net.connections[i];
            if connection.process == process && !std::mem::replace(&mut connection.dark, true) {
                connection.channels.clear();
                self.broker(|b| b.sever(ConnId(i as u32)));
            }
        }
    }

    /// Takes the broker down until a time.
    pub fn broker_down(&mut self, kind: crate::broker::RestartKind, until: u64) {
        self.net.down_until = until;
        self.broker(|b| b.restart(kind));
    }

    /// Keeps processes whose name starts with `prefix` from the broker for a while.
    pub fn partition(&mut self, prefix: &Arc<str>, until: u64) {
        self.net.partitions.push((prefix.clone(), until));
        for conn in self.connections_of(prefix) {
            // Nothing comes through; heartbeats end the connection on both sides.
            self.net.connection(conn).dark = true;
            let at = self.now() + 10_000_000_000;
            self.at(at, move |w| {
                w.broker(|b| b.sever(conn));
                w.lose_at_client(conn, "missed heartbeats".to_owned());
            });
        }
    }

    pub(super) fn broker_unreachable(&self, process: ProcessId) -> bool {
        let (now, process_name) = (self.now(), &self.processes[process.0 as usize].name);
        let cut = |p: &(Arc<str>, u64)| p.1 > now && process_name.starts_with(&*p.0);
        self.net.down_until > now || (!self.is_healed() && self.net.partitions.iter().any(cut))
    }

    pub(crate) fn latency(
        &mut self,
        latency: Latency,
        site: Site,
        process: ProcessId,
        subject: u64,
        attempt: u32,
    ) -> u64 {
        let component = self.process_key(process);
        latency.at(self.choices().draw(Key {
            site,
            component,
            subject,
            attempt,
        }))
    }
}
