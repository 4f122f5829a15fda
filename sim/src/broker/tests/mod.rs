//! One test for each behaviour, named after what it shows.

mod channels;
mod confirms;
mod dead_letters;
mod delivery;
mod quorum;
mod random;
mod restart;
mod routing;
mod time;

use std::sync::Arc;

use amq_protocol_types::{AMQPValue, FieldTable};

use super::*;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const S: u64 = 1_000 * MS;

pub(crate) fn int(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(crate) fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// A broker with one connection and one channel, checked after each step.
pub(crate) struct Rig {
    pub(crate) broker: Broker,
    pub(crate) conn: ConnId,
    pub(crate) chan: ChanId,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Rig::with(Profile::Rabbit3_10)
    }

    pub(crate) fn with(profile: Profile) -> Self {
        let mut broker = Broker::new(profile);
        let conn = broker.connect();
        let chan = broker.open_channel(conn).unwrap();
        Rig { broker, conn, chan }
    }

    pub(crate) fn client(&mut self) -> ChanId {
        let conn = self.broker.connect();
        self.broker.open_channel(conn).unwrap()
    }

    pub(crate) fn queue(&mut self, name: &str, arguments: &[(&str, AMQPValue)]) {
        let arguments = table(arguments);
        let declare = QueueDeclare {
            name: name.into(),
            durable: true,
            arguments,
            ..Default::default()
        };
        self.broker.queue_declare(self.chan, declare).unwrap();
    }

    pub(crate) fn quorum(&mut self, name: &str, arguments: &[(&str, AMQPValue)]) {
        let mut arguments = arguments.to_vec();
        arguments.push(("x-queue-type", text("quorum")));
        self.queue(name, &arguments);
    }

    /// Publishes bodies to a queue through the default exchange.
    pub(crate) fn send(&mut self, queue: &str, bodies: &[&str]) {
        for body in bodies {
            self.publish(message("", queue, body)).unwrap();
        }
        self.broker.check_invariants();
    }

    pub(crate) fn publish(&mut self, publish: Publish) -> Result<u64, Closed> {
        let result = self.broker.publish(self.chan, publish);
        self.broker.check_invariants();
        result
    }

    pub(crate) fn get(&mut self, queue: &str) -> Option<Delivery> {
        let delivery = self.broker.get(self.chan, queue, false).unwrap();
        self.broker.check_invariants();
        delivery
    }

    pub(crate) fn consume(&mut self, chan: ChanId, queue: &str, prefetch: u16) -> Arc<str> {
        self.broker.basic_qos(chan, prefetch, false).unwrap();
        self.broker
            .consume(chan, queue, "", ConsumeOptions::default())
            .unwrap()
    }

    pub(crate) fn outputs(&mut self) -> Vec<Output> {
        self.broker.check_invariants();
        self.broker.drain().collect()
    }

    /// What was delivered since last asked, as (consumer tag, body, redelivered).
    pub(crate) fn deliveries(&mut self) -> Vec<(ChanId, Delivery)> {
        let deliveries = self
            .outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Deliver { chan, delivery, .. } => Some((chan, delivery)),
                _ => None,
            });
        deliveries.collect()
    }

    pub(crate) fn bodies(&mut self) -> Vec<String> {
        self.deliveries()
            .iter()
            .map(|(_, delivery)| body(delivery))
            .collect()
    }

    /// (tag, ack) of the confirms since last asked.
    pub(crate) fn confirms(&mut self) -> Vec<(u64, bool)> {
        let confirms = self
            .outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Confirm { tag, ack, .. } => Some((tag, ack)),
                _ => None,
            });
        confirms.collect()
    }

    /// The bodies in a queue, in order.
    pub(crate) fn ready(&self, queue: &str) -> Vec<String> {
        let all = self.broker.queue_messages(queue);
        let ready = all.filter(|message| message.state == MessageState::Ready);
        ready
            .map(|m| String::from_utf8(m.content.body.to_vec()).unwrap())
            .collect()
    }

    pub(crate) fn depth(&self, queue: &str) -> (usize, usize) {
        self.broker.queue_depth(queue).unwrap()
    }

    pub(crate) fn lost(&self, reason: LossReason) -> u64 {
        self.broker.stats().lost(reason)
    }
}

pub(crate) fn message(exchange: &str, key: &str, body: &str) -> Publish {
    Publish {
        exchange: exchange.into(),
        routing_key: key.into(),
        properties: Properties {
            delivery_mode: Some(2),
            message_id: Some(body.into()),
            ..Default::default()
        },
        body: body.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.content.body.to_vec()).unwrap()
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Closed>) -> (Scope, u16) {
    let closed = result.unwrap_err();
    (closed.scope, closed.code)
}
