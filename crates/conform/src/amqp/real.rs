//! The real broker, and what its clients hear.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use lapin::protocol::basic::AMQPProperties;
use lapin::protocol::{AMQPClass, basic, channel, connection, exchange, queue};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use redeliver_sim::broker::Scope;

use super::PATIENCE;
use super::names::Names;
use super::program::{CONNECTIONS, SLOTS, connection_of};
use super::saw::{Channel, Clients, Event, Letter, What, first_slot, headers, siblings};
use super::wire::{Heard, Wire, close_channel, lost};
use crate::Failure;

/// Ready messages and consumers of a queue; `None` where the broker knows none of that name.
pub(super) type Count = Option<(u32, u32)>;

/// The clients of the real broker.
pub(super) struct Real {
    uri: AMQPUri,
    wires: [Option<Wire>; CONNECTIONS],
    /// The numbers of the open channels.
    numbers: [Option<u16>; SLOTS],
    next_number: u16,
    pub(super) clients: Clients,
    /// What was heard since the last step began.
    pub(super) events: Vec<Event>,
    /// Asks what no client of a program asks.
    observer: Wire,
    observing: u16,
    /// A queue that only tells whether a channel is still there.
    sentinel: String,
}

/// An answer to a synchronous method.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are methods, moved once"
)]
pub(super) enum Answer {
    Method(Heard),
    /// The channel or the connection was closed instead.
    Closed,
}

pub(super) fn passive_exchange() -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
        exchange: "amq.direct".into(),
        kind: "direct".into(),
        passive: true,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: FieldTable::default(),
    }))
}

fn open() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))
}

impl Real {
    pub(super) fn connect(uri: AMQPUri, lane: &str) -> Result<Self, Failure> {
        let observer = Wire::connect(&uri)?;
        let mut real = Self {
            uri,
            wires: [const { None }; CONNECTIONS],
            numbers: [None; SLOTS],
            next_number: 0,
            clients: Clients::default(),
            events: Vec::new(),
            observer,
            observing: 0,
            sentinel: format!("{lane}sentinel"),
        };
        real.observe()?;
        real.post_sentinel()?;
        Ok(real)
    }

    /// The broker has ended and comes back: everybody's connections are over.
    pub(super) fn connect_again(&mut self, until: Instant) -> Result<(), Failure> {
        for connection in 0..CONNECTIONS {
            self.forget(connection);
        }
        self.events.clear();
        loop {
            match Wire::connect(&self.uri) {
                Ok(observer) => {
                    self.observer = observer;
                    break;
                }
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        self.observing = 0;
        self.observe()?;
        self.post_sentinel()
    }

    /// Opens a channel for the observer.
    fn observe(&mut self) -> Result<(), Failure> {
        self.observing += 1;
        self.observer.send(self.observing, open());
        self.observer.read().map_err(lost)?;
        Ok(())
    }

    fn post_sentinel(&mut self) -> Result<(), Failure> {
        let mut arguments = FieldTable::default();
        // Whatever becomes of this process, the broker is rid of it some day.
        arguments.insert("x-expires".into(), 600_000_i32.into());
        let declare = queue::Declare {
            queue: self.sentinel.as_str().into(),
            passive: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments,
        };
        let declare = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
        self.observer.send(self.observing, declare);
        self.observer.read().map_err(lost)?;
        Ok(())
    }

    /// From now on the broker's side of that channel is seen to end.
    pub(super) fn watch(&mut self, slot: usize) {
        let consume = basic::Consume {
            queue: self.sentinel.as_str().into(),
            consumer_tag: "sentinel".into(),
            no_local: false,
            no_ack: true,
            exclusive: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.call(slot, AMQPClass::Basic(basic::AMQPMethod::Consume(consume)));
    }

    /// Whether no watched channel is left.
    pub(super) fn all_gone(&mut self) -> Result<bool, Failure> {
        let name = self.sentinel.clone();
        Ok(self
            .count(&name)?
            .is_none_or(|(_, consumers)| consumers == 0))
    }

    pub(super) fn is_open(&self, slot: usize) -> bool {
        self.numbers[slot].is_some()
    }

    pub(super) fn wire(&mut self, slot: usize) -> Option<(&mut Wire, u16)> {
        let number = self.numbers[slot]?;
        Some((self.wires[connection_of(slot)].as_mut()?, number))
    }

    /// Opens the channel if it is not.
    pub(super) fn open(&mut self, slot: usize, confirms: bool) -> Result<(), Failure> {
        if self.is_open(slot) {
            return Ok(());
        }
        let connection = connection_of(slot);
        if self.wires[connection].is_none() {
            self.wires[connection] = Some(Wire::connect(&self.uri)?);
        }
        // Never the number of an earlier one: what is still said of that is then not heard as
        // said of this.
        self.next_number = self.next_number % 2_000 + 1;
        self.numbers[slot] = Some(self.next_number);
        self.clients.slots[slot] = Some(Channel::default());
        let mut answer = self.call(slot, open());
        if confirms && matches!(answer, Answer::Method(_)) {
            let select = lapin::protocol::confirm::Select { nowait: false };
            let select = lapin::protocol::confirm::AMQPMethod::Select(select);
            answer = self.call(slot, AMQPClass::Confirm(select));
        }
        match answer {
            Answer::Method(_) => Ok(()),
            Answer::Closed => Err(Failure("a channel cannot be opened".to_owned())),
        }
    }

    /// Asks, and hears what is said until the answer comes.
    pub(super) fn call(&mut self, slot: usize, method: AMQPClass) -> Answer {
        if let Some((wire, number)) = self.wire(slot) {
            wire.send(number, method);
        }
        self.answer(slot)
    }

    /// Hears what is said until an answer on that channel comes.
    pub(super) fn answer(&mut self, slot: usize) -> Answer {
        while let Some((wire, number)) = self.wire(slot) {
            match wire.read() {
                Ok(heard) => {
                    if let Some(heard) = self.hear(connection_of(slot), heard)
                        && heard.channel == number
                    {
                        return Answer::Method(heard);
                    }
                }
                Err(error) => self.broke(connection_of(slot), &error),
            }
        }
        Answer::Closed
    }

    fn push(&mut self, slot: usize, what: What) {
        let event = Event { slot, what };
        self.clients.hear(&event);
        self.events.push(event);
    }

    /// The connection ended without a word.
    fn broke(&mut self, connection: usize, error: &io::Error) {
        tracing::debug!(%error, connection, "a connection broke");
        self.forget(connection);
        let (scope, code) = (Scope::Connection, 0);
        self.push(first_slot(connection), What::Closed { scope, code });
    }

    /// The connection is over, for whatever reason.
    pub(super) fn forget(&mut self, connection: usize) -> Option<Wire> {
        for slot in siblings(first_slot(connection)) {
            self.numbers[slot] = None;
            self.clients.slots[slot] = None;
        }
        self.wires[connection].take()
    }

    /// The channel is over, in order.
    pub(super) fn forget_channel(&mut self, slot: usize) {
        self.numbers[slot] = None;
        self.clients.slots[slot] = None;
    }

    /// Notes what is no answer; gives back what is.
    fn hear(&mut self, connection: usize, heard: Heard) -> Option<Heard> {
        use connection::AMQPMethod as OfConnection;
        if let AMQPClass::Connection(OfConnection::Close(close)) = &heard.method {
            let code = close.reply_code;
            if let Some(wire) = &mut self.wires[connection] {
                let ok = OfConnection::CloseOk(connection::CloseOk {});
                wire.send(0, AMQPClass::Connection(ok));
                // It may be gone already.
                let _ = wire.flush();
            }
            self.forget(connection);
            let scope = Scope::Connection;
            self.push(first_slot(connection), What::Closed { scope, code });
            return None;
        }
        let mut here = siblings(first_slot(connection));
        let slot = here.find(|&slot| self.numbers[slot] == Some(heard.channel))?;
        if let AMQPClass::Channel(channel::AMQPMethod::Close(close)) = &heard.method {
            let code = close.reply_code;
            if let Some(wire) = &mut self.wires[connection] {
                let ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
                wire.send(heard.channel, AMQPClass::Channel(ok));
                // Only now does the broker give back all that the channel held.
                let _ = wire.flush();
            }
            self.numbers[slot] = None;
            let scope = Scope::Channel;
            self.push(slot, What::Closed { scope, code });
            return None;
        }
        self.hear_basic(slot, heard)
    }

    fn hear_basic(&mut self, slot: usize, heard: Heard) -> Option<Heard> {
        use basic::AMQPMethod::{Ack, Cancel, Deliver, Nack, Return};
        let AMQPClass::Basic(method) = &heard.method else {
            return Some(heard);
        };
        match method {
            Ack(ack) => self.confirmed(slot, ack.delivery_tag, ack.multiple, true),
            Nack(nack) => self.confirmed(slot, nack.delivery_tag, nack.multiple, false),
            Return(back) => {
                let address = (back.exchange.as_str(), back.routing_key.as_str());
                let letter = letter(address, false, &heard);
                let code = back.reply_code;
                self.push(slot, What::Return { code, letter });
            }
            Deliver(deliver) => {
                let address = (deliver.exchange.as_str(), deliver.routing_key.as_str());
                let letter = letter(address, deliver.redelivered, &heard);
                let consumer = deliver.consumer_tag.to_string();
                let tag = deliver.delivery_tag;
                self.push(
                    slot,
                    What::Delivery {
                        consumer,
                        tag,
                        letter,
                    },
                );
            }
            Cancel(cancel) => {
                let consumer = cancel.consumer_tag.to_string();
                self.push(slot, What::Cancelled { consumer });
            }
            _ => return Some(heard),
        }
        None
    }

    /// A confirm of several is taken apart: how they are gathered is a matter of timing.
    fn confirmed(&mut self, slot: usize, tag: u64, multiple: bool, ack: bool) {
        let Some(channel) = self.clients.channel(slot) else {
            return;
        };
        let first = if multiple { 0 } else { tag };
        let last = if multiple && tag == 0 { u64::MAX } else { tag };
        let mut open = channel.unconfirmed.range(first..=last);
        let mut meant: Vec<(u64, String)> = open.by_ref().map(|(&t, b)| (t, b.clone())).collect();
        if meant.is_empty() {
            // Of nothing that is open: that is for the comparison to say.
            meant.push((tag, String::new()));
        }
        for (tag, body) in meant {
            self.push(slot, What::Confirm { tag, ack, body });
        }
    }

    /// A round trip on each open channel, the acting one first: what the broker's side of a
    /// channel was told before it, is heard after it.
    pub(super) fn round_trip(&mut self, acting: Option<usize>) {
        if let Some(slot) = acting.filter(|&slot| self.is_open(slot)) {
            self.call(slot, passive_exchange());
        }
        let others = || (0..SLOTS).filter(|&slot| Some(slot) != acting);
        let mut asked = [false; SLOTS];
        for slot in others() {
            if let Some((wire, number)) = self.wire(slot) {
                wire.send(number, passive_exchange());
                asked[slot] = wire.flush().is_ok();
            }
        }
        for slot in others().filter(|&slot| asked[slot]) {
            // The first channel of a connection may have heard of the second's answer.
            if connection_of(slot) != 0 {
                self.answer(slot);
            }
        }
        self.answer_both([0, 1].map(|slot| asked[slot] && Some(slot) != acting));
    }

    /// Two channels share the first connection, and their answers may come in any order.
    fn answer_both(&mut self, mut waiting: [bool; 2]) {
        while let Some(wire) = self.wires[0].as_mut().filter(|_| waiting != [false; 2]) {
            match wire.read() {
                Ok(heard) => {
                    if let Some(heard) = self.hear(0, heard) {
                        for (slot, waits) in waiting.iter_mut().enumerate() {
                            *waits &= self.numbers[slot] != Some(heard.channel);
                        }
                    }
                }
                Err(error) => self.broke(0, &error),
            }
            for (slot, waits) in waiting.iter_mut().enumerate() {
                *waits &= self.numbers[slot].is_some();
            }
        }
    }

    /// What `queue.declare` says of a queue, asked by a client that takes no part.
    ///
    /// A quorum queue that does not answer the broker within 250 ms is said to be empty (source
    /// of 3.10.8), so an answer that took so long is not believed.
    pub(super) fn count(&mut self, name: &str) -> Result<Count, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            let asked = Instant::now();
            let count = self.count_once(name)?;
            if asked.elapsed() < Duration::from_millis(200) || asked > until {
                return Ok(count);
            }
        }
    }

    fn count_once(&mut self, name: &str) -> Result<Count, Failure> {
        let declare = queue::Declare {
            queue: name.into(),
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        let declare = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
        self.observer.send(self.observing, declare);
        match self.observer.read().map_err(lost)?.method {
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => {
                Ok(Some((ok.message_count, ok.consumer_count)))
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                let ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
                self.observer.send(self.observing, AMQPClass::Channel(ok));
                self.observe()?;
                // 404, or 405 for one that is another's.
                Ok((close.reply_code != 404).then_some((0, 0)))
            }
            other => Err(Failure(format!("{name} cannot be counted: {other:?}"))),
        }
    }

    /// Ends the program's channels and deletes what it declared.
    pub(super) fn clean(&mut self, names: &Names, exclusive: bool) -> Result<(), Failure> {
        for slot in 0..SLOTS {
            if self.is_open(slot) {
                self.call(slot, close_channel());
                self.forget_channel(slot);
            }
        }
        for connection in 0..CONNECTIONS {
            if exclusive && let Some(wire) = self.forget(connection) {
                wire.close();
            }
        }
        for name in names.queues().chain([names.missing()]) {
            self.delete(AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
                queue: name.as_str().into(),
                if_unused: false,
                if_empty: false,
                nowait: false,
            })))?;
        }
        for name in names.exchanges() {
            self.delete(AMQPClass::Exchange(exchange::AMQPMethod::Delete(
                exchange::Delete {
                    exchange: name.as_str().into(),
                    if_unused: false,
                    nowait: false,
                },
            )))?;
        }
        self.events.clear();
        Ok(())
    }

    /// Deletes, if necessary in the end: an exclusive queue goes some time after its connection.
    fn delete(&mut self, delete: AMQPClass) -> Result<(), Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.observer.send(self.observing, delete.clone());
            let heard = self.observer.read().map_err(lost)?;
            let AMQPClass::Channel(said) = heard.method else {
                return Ok(());
            };
            let ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
            self.observer.send(self.observing, AMQPClass::Channel(ok));
            self.observe()?;
            if Instant::now() > until {
                return Err(Failure(format!("cannot clean up: {said:?}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn close(mut self) {
        for wire in self.wires.iter_mut().filter_map(Option::take) {
            wire.close();
        }
        self.observer.close();
    }
}

/// A message as it was heard.
pub(super) fn letter((exchange, key): (&str, &str), redelivered: bool, heard: &Heard) -> Letter {
    let none = (AMQPProperties::default(), Vec::new());
    let (properties, body) = heard.content.as_ref().unwrap_or(&none);
    Letter {
        body: String::from_utf8_lossy(body).into_owned(),
        exchange: exchange.to_owned(),
        key: key.to_owned(),
        redelivered,
        persistent: *properties.delivery_mode() == Some(2),
        expiration: properties.expiration().as_ref().map(ToString::to_string),
        headers: properties
            .headers()
            .as_ref()
            .map_or_else(BTreeMap::new, |table| headers(Some(table))),
    }
}
