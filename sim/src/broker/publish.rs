//! Publishing: routing, confirms, returns, refusals, and the alarm that stops reading.

use std::sync::Arc;

use super::{
    Bent, Broker, ChanId, Closed, ConfirmPath, ConnId, Content, LossReason, Output, Properties,
    Publish,
    access::Right,
    arguments::{MILLISECOND, Overflow, as_text},
    channel::Held,
    death::DeathReason,
    queue::{Feeder, Message, NEVER, QueueIx},
};
use amq_protocol_types::AMQPValue;

/// What queues do by their own clocks so close together may come in any order.
const AT_ONCE_NS: u64 = 50_000_000;

/// What a queue says to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Taken,
    Refused,
    /// Refused, but on its way to the dead-letter exchange.
    RefusedToDeadLetter,
}

impl Broker {
    /// `confirm.select`: publishes of this channel are confirmed, with tags from 1.
    pub fn confirm_select(&mut self, chan: ChanId) -> Result<(), Closed> {
        self.channel_mut(chan)?.confirms.get_or_insert(0);
        Ok(())
    }

    /// `basic.publish`. Returns the publish tag, 0 without confirms.
    ///
    /// During an alarm the first publish of a connection gets [`Output::Blocked`], and from then
    /// on the broker reads nothing from that connection until the alarm ends: publishes and acks
    /// are held in order (seen on 3.10.8). Synchronous methods are not held; the caller should
    /// keep them back while [`Broker::is_blocked`].
    pub fn publish(&mut self, chan: ChanId, publish: Publish) -> Result<u64, Closed> {
        let channel = self.channel_mut(chan)?;
        let tag = match &mut channel.confirms {
            Some(last) => {
                *last += 1;
                *last
            }
            None => 0,
        };
        if self.alarm {
            let conn = self.connection_mut(chan.conn)?;
            let publish = Box::new(publish);
            conn.held.push_back(Held::Publish { chan, tag, publish });
            if !std::mem::replace(&mut conn.blocked, true) {
                self.outputs.push(Output::Blocked { conn: chan.conn });
            }
            return Ok(tag);
        }
        let result = self.publish_now(chan, tag, publish);
        self.run();
        result.map(|()| tag)
    }

    /// Raises or clears a resource alarm. Connections that only consume do not notice it.
    pub fn block_publishers(&mut self, blocked: bool) {
        self.alarm = blocked;
        if blocked {
            return;
        }
        for at in 0..self.connections.len() {
            let conn = ConnId(at as u32);
            let Ok(connection) = self.connection_mut(conn) else {
                continue;
            };
            if !std::mem::take(&mut connection.blocked) {
                continue;
            }
            let held = std::mem::take(&mut connection.held);
            self.outputs.push(Output::Unblocked { conn });
            for frame in held {
                // Errors close the channel and come out as an output.
                let _ = match frame {
                    Held::Publish { chan, tag, publish } => self.publish_now(chan, tag, *publish),
                    Held::Settle {
                        chan,
                        tag,
                        multiple,
                        how,
                    } => self.settle_now(chan, tag, multiple, how),
                };
                self.run();
            }
        }
    }

    /// Whether the broker has stopped reading from this connection.
    pub fn is_blocked(&self, conn: ConnId) -> bool {
        let connection = self
            .connections
            .get(conn.0 as usize)
            .and_then(Option::as_ref);
        connection.is_some_and(|connection| connection.blocked)
    }

    fn publish_now(&mut self, chan: ChanId, tag: u64, publish: Publish) -> Result<(), Closed> {
        // Frames of a channel that has been closed meanwhile are ignored.
        self.channel_mut(chan)?;
        let Publish {
            exchange,
            routing_key,
            mandatory,
            mut properties,
            body,
        } = publish;
        self.check_access(chan, Right::Write, ("exchange", &exchange))?;
        let slot = self.check_exchange(chan, &exchange)?;
        self.check_topic(chan, Right::Write, slot, &routing_key)?;
        let size = body.len();
        if size > self.rules.max_message_size {
            let max = self.rules.max_message_size;
            let text = format!(
                "PRECONDITION_FAILED - message size {size} is larger than configured max size {max}"
            );
            return Err(self.fail_channel(chan, 406, text));
        }
        let ttl_ns = match expiration(&properties) {
            Ok(ttl) => ttl,
            Err(text) => return Err(self.fail_channel(chan, 406, text)),
        };
        self.ledger.stats.published += 1;
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        let bcc = strip_bcc(&mut properties);
        let hidden = bcc.as_deref().unwrap_or_default();
        self.route(slot, &routing_key, &properties, hidden, &mut targets);
        let content = Arc::new(Content { properties, body });
        let ack = if targets.is_empty() {
            self.unroutable(chan, mandatory, exchange, routing_key, content);
            Some(ConfirmPath::Unroutable)
        } else {
            let message = Message {
                content,
                exchange,
                routing_key,
                deaths: None,
                bcc,
                ttl_ns,
                position: 0,
                expires_at: NEVER,
                delivery_count: 0,
                acquired_count: 0,
                redelivered: false,
            };
            self.enqueue(chan, &targets, message)
        };
        self.targets = targets;
        self.confirm(chan, tag, ack);
        Ok(())
    }

    /// The slot of the exchange, `None` for the default one.
    fn check_exchange(&mut self, chan: ChanId, name: &str) -> Result<Option<usize>, Closed> {
        if name.is_empty() {
            return Ok(None);
        }
        let Some(slot) = self.exchange_names.get(name).copied() else {
            return Err(self.no_such("exchange", chan, name));
        };
        if self.exchanges[slot]
            .as_ref()
            .is_some_and(|exchange| exchange.internal)
        {
            let text = format!(
                "ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '/'"
            );
            return Err(self.fail_channel(chan, 403, text));
        }
        Ok(Some(slot))
    }

    fn unroutable(
        &mut self,
        chan: ChanId,
        mandatory: bool,
        exchange: Arc<str>,
        routing_key: Arc<str>,
        content: Arc<Content>,
    ) {
        if mandatory && !self.rules.is_bent(Bent::ForgetsToReturn) {
            self.ledger.stats.returned += 1;
            let (code, text) = (312, "NO_ROUTE");
            self.outputs.push(Output::Return {
                chan,
                code,
                text,
                exchange,
                routing_key,
                content,
            });
        } else {
            self.ledger
                .lose(self.now, LossReason::Unroutable, &exchange, &content);
        }
    }

    /// One confirm for a publish: a nack if any queue refused, although the others keep their
    /// copies (seen on 3.10.8), so publishing again duplicates there.
    fn enqueue(
        &mut self,
        chan: ChanId,
        targets: &[QueueIx],
        message: Message,
    ) -> Option<ConfirmPath> {
        let mut path = Some(ConfirmPath::Unroutable);
        let persistent = message.content.properties.is_persistent();
        let mut message = Some(message);
        for (at, &ix) in targets.iter().enumerate() {
            let last = at + 1 == targets.len();
            let copy = if last {
                message.take()
            } else {
                message.clone()
            };
            let Some(copy) = copy else { break };
            let kind = match self.queue(ix) {
                Some(queue) if queue.is_quorum() => ConfirmPath::Quorum,
                Some(queue) if queue.durable && persistent => ConfirmPath::Persistent,
                _ => ConfirmPath::Transient,
            };
            match self.offer(ix, copy, Feeder::Channel(chan)) {
                Offer::Taken => path = path.map(|path| path.max(kind)),
                Offer::Refused | Offer::RefusedToDeadLetter => path = None,
            }
        }
        path
    }

    /// Puts a copy into a queue unless the queue is full and refuses.
    pub(super) fn offer(&mut self, ix: QueueIx, message: Message, from: Feeder) -> Offer {
        let now = self.now;
        if let Some(of) = from.queue()
            && self.queue(of).is_some_and(|queue| queue.is_quorum())
        {
            self.quorum_letter_at = Some(now);
        }
        let Some(queue) = self.queues[ix.0 as usize].as_mut() else {
            return Offer::Refused;
        };
        // Also what is refused might have found room a moment earlier or later.
        let (at, before) = std::mem::replace(&mut queue.fed_by, (now, from));
        let other_queue = from.queue().is_some_and(|of| of != ix);
        let others = match before {
            Feeder::Nobody => false,
            Feeder::Holder => at == now && other_queue,
            before => at == now && before != from,
        };
        let own = from.queue().is_some() && queue.expires_about(now, AT_ONCE_NS);
        if others || own {
            self.mixed_at = Some(now);
        }
        if queue.refuses(message.content.body.len(), from, now) {
            if queue.args.overflow != Overflow::RejectPublishDlx {
                return Offer::Refused;
            }
            self.ledger.stats.enqueued += 1;
            self.die(ix, message, DeathReason::MaxLen);
            return Offer::RefusedToDeadLetter;
        }
        queue.push(message, now);
        self.ledger.stats.enqueued += 1;
        self.touch(ix);
        Offer::Taken
    }

    fn confirm(&mut self, chan: ChanId, tag: u64, path: Option<ConfirmPath>) {
        if tag == 0 {
            return;
        }
        let ack = path.is_some() || self.rules.is_bent(Bent::ConfirmsWhatIsRefused);
        let stats = &mut self.ledger.stats;
        *(if ack {
            &mut stats.confirmed
        } else {
            &mut stats.refused
        }) += 1;
        let path = path.unwrap_or(ConfirmPath::Transient);
        self.outputs.push(Output::Confirm {
            chan,
            tag,
            multiple: false,
            ack,
            path,
        });
    }

    /// Adds the queues that a message reaches, by its key and those of its `CC` and `BCC` headers.
    /// An exchange (`None` is the default one) that routes it nowhere hands it to its alternate.
    pub(super) fn route(
        &self,
        exchange: Option<usize>,
        key: &str,
        properties: &Properties,
        bcc: &[Arc<str>],
        to: &mut Vec<QueueIx>,
    ) {
        let cc = match properties.headers {
            Some(_) if !self.rules.is_bent(Bent::ForgetsCopies) => copies(properties, "CC"),
            _ => Vec::new(),
        };
        let mut tried = Vec::new();
        let mut at = exchange;
        loop {
            self.route_key(at, key, properties, to);
            for key in cc.iter().chain(bcc) {
                self.route_key(at, key, properties, to);
            }
            let Some(slot) = at.filter(|slot| to.is_empty() && !tried.contains(slot)) else {
                return;
            };
            tried.push(slot);
            let alternate = self.exchanges[slot]
                .as_ref()
                .and_then(|e| e.alternate.as_deref());
            at = alternate.and_then(|name| self.exchange_names.get(name).copied());
            if at.is_none() {
                return;
            }
        }
    }

    fn route_key(
        &self,
        exchange: Option<usize>,
        key: &str,
        properties: &Properties,
        to: &mut Vec<QueueIx>,
    ) {
        let Some(slot) = exchange else {
            let named = self.queue_names.get(key).filter(|ix| !to.contains(ix));
            to.extend(named);
            return;
        };
        if let Some(exchange) = &self.exchanges[slot] {
            exchange.route(key, properties, to);
        }
    }
}

/// The message's own time to live.
pub(super) fn expiration(properties: &Properties) -> Result<Option<u64>, String> {
    let Some(text) = &properties.expiration else {
        return Ok(None);
    };
    let text = text.as_str();
    match text.parse::<u32>() {
        Ok(ms) => Ok(Some(u64::from(ms) * MILLISECOND)),
        Err(_) => Err(format!("PRECONDITION_FAILED - invalid expiration '{text}'")),
    }
}

/// The further routing keys in the header of that name.
pub(super) fn copies(properties: &Properties, name: &str) -> Vec<Arc<str>> {
    match properties.header(name) {
        Some(AMQPValue::FieldArray(keys)) => keys.as_slice().iter().filter_map(as_text).collect(),
        _ => Vec::new(),
    }
}

/// Nobody but the broker sees `BCC`.
fn strip_bcc(properties: &mut Properties) -> Option<Arc<[Arc<str>]>> {
    properties.header("BCC")?;
    let keys = copies(properties, "BCC");
    drop_header(properties, "BCC");
    Some(keys.into())
}

pub(super) fn drop_header(properties: &mut Properties, name: &str) {
    if let Some(headers) = &mut properties.headers {
        let mut map = headers.inner().clone();
        map.remove(name);
        *headers = map.into();
    }
}
