//! The model of the broker, and what its clients hear.

use std::collections::BTreeMap;

use bytes::Bytes;
use redeliver_sim::broker::{
    Bent, Broker, ChanId, Closed, ConnId, ConsumeOptions, Content, Delivery, ExchangeDeclare,
    ExchangeKind, Output, Profile, Properties, Publish, QueueDeclare, RestartKind, Scope,
};

use super::names::{Names, binding_arguments, expiration};
use super::op::{Numbered, Op, Target};
use super::program::{CONNECTIONS, ExchangeType, SLOTS, Verb, connection_of};
use super::real::Count;
use super::saw::{
    Channel, Clients, Event, Held, Letter, Reply, What, first_slot, headers, siblings,
};

/// One course the model may take.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) broker: Broker,
    connections: [Option<ConnId>; CONNECTIONS],
    channels: [Option<ChanId>; SLOTS],
    pub(super) clients: Clients,
    /// What was heard since the last step began.
    pub(super) events: Vec<Event>,
    pub(super) reply: Reply,
}

impl Model {
    pub(super) fn new(bent: Option<Bent>) -> Self {
        let mut broker = Broker::new(Profile::Rabbit3_10);
        broker.rules_mut().bent = bent;
        Self {
            broker,
            connections: [None; CONNECTIONS],
            channels: [None; SLOTS],
            clients: Clients::default(),
            events: Vec::new(),
            reply: Reply::Done,
        }
    }

    /// Opens the channel if it is not.
    pub(super) fn open(&mut self, slot: usize, confirms: bool) {
        if self.channels[slot].is_some() {
            return;
        }
        let at = connection_of(slot);
        let connection = match self.connections[at] {
            Some(connection) => connection,
            None => self.broker.connect(),
        };
        self.connections[at] = Some(connection);
        let Ok(channel) = self.broker.open_channel(connection) else {
            return;
        };
        if confirms {
            // It was just opened.
            let _ = self.broker.confirm_select(channel);
        }
        self.channels[slot] = Some(channel);
        self.clients.slots[slot] = Some(Channel::default());
    }

    /// Does it on that channel, which is open: each course the model may take from here.
    pub(super) fn act(self, slot: usize, op: &Op, names: &Names) -> Vec<Self> {
        if let Op::Cut(unheard) = op {
            return self.cut(slot, unheard, names);
        }
        let before = self.clone();
        let course = self.acted(slot, op, names);
        let over = course.connections[connection_of(slot)].is_none();
        match before.other_channel(slot).filter(|_| over) {
            // The rule of a connection's end: its channels end in any order.
            Some(other) => {
                let mut late = before;
                match op {
                    Op::CloseConnection => drop(late.broker.close_channel(other)),
                    _ => late.broker.sever_channel(other),
                }
                vec![course, late.acted(slot, op, names)]
            }
            None => vec![course],
        }
    }

    /// The other open channel of the connection.
    fn other_channel(&self, slot: usize) -> Option<ChanId> {
        let mut others = siblings(slot).filter(|&other| other != slot);
        others.find_map(|other| self.channels[other])
    }

    fn acted(mut self, slot: usize, op: &Op, names: &Names) -> Self {
        let Some(channel) = self.channels[slot] else {
            self.reply = Reply::Refused;
            return self;
        };
        self.reply = Reply::Done;
        match op {
            Op::CloseConnection => {
                let _ = self.broker.close_channel(channel);
                let _ = self.broker.close_connection(channel.conn);
                self.forget(slot);
            }
            Op::CloseChannel => {
                let closed = self.broker.close_channel(channel);
                self.reply = done(closed);
                self.channels[slot] = None;
                self.clients.slots[slot] = None;
            }
            Op::Publish(messages) => {
                for message in messages {
                    // An error is heard as an event.
                    let _ = self.broker.publish(channel, publish(message, names));
                }
            }
            Op::Settle {
                target,
                verb,
                multiple,
            } => self.settle(slot, channel, target, *verb, *multiple),
            _ => self.reply = self.ask(slot, channel, op, names),
        }
        self.listen();
        self
    }

    /// The broker ends and comes back. What the clients hear of it is not compared here.
    pub(super) fn restart(&mut self, kind: RestartKind) {
        for slot in 0..SLOTS {
            self.forget(slot);
        }
        self.broker.restart(kind);
        self.listen();
    }

    /// The connection is over, by its own side's doing.
    fn forget(&mut self, slot: usize) {
        self.connections[connection_of(slot)] = None;
        for slot in siblings(slot) {
            self.channels[slot] = None;
            self.clients.slots[slot] = None;
        }
    }

    /// The rule of a cut: of what was on its way the broker has read a part from the front, and
    /// the connection's channels end in any order.
    fn cut(self, slot: usize, unheard: &[Numbered], names: &Names) -> Vec<Self> {
        let Some(channel) = self.channels[slot] else {
            return vec![self];
        };
        let mut courses = Vec::new();
        for arrived in (0..=unheard.len()).rev() {
            for other_first in [false, true] {
                let other = self.other_channel(slot);
                if other_first && other.is_none() {
                    continue;
                }
                let mut course = self.clone();
                if let Some(other) = other.filter(|_| other_first) {
                    course.broker.sever_channel(other);
                }
                for message in &unheard[..arrived] {
                    let _ = course.broker.publish(channel, publish(message, names));
                }
                course.broker.sever_channel(channel);
                course.broker.sever(channel.conn);
                course.forget(slot);
                course.reply = Reply::Done;
                course.listen();
                courses.push(course);
            }
        }
        courses
    }

    fn settle(
        &mut self,
        slot: usize,
        channel: ChanId,
        target: &Target,
        verb: Verb,
        multiple: bool,
    ) {
        let Some(clients) = self.clients.channel(slot) else {
            return;
        };
        let tags = match target {
            Target::Tag(tag) => {
                if *tag == 0 && multiple {
                    clients.held.clear();
                }
                vec![*tag]
            }
            Target::Again => vec![clients.settled.unwrap_or_default()],
            Target::Held { all, .. } => take_like(clients, all),
        };
        // The same deliveries may have come in another order, and so have other tags.
        let prefix = match target {
            Target::Held { .. } if multiple => {
                let last = tags.iter().copied().max().unwrap_or(0);
                let rest = clients.held.iter().map(|held| held.tag);
                tags.is_sorted() && rest.min().is_none_or(|first| first > last)
            }
            _ => true,
        };
        match tags.last() {
            Some(&last) if prefix => settle_one(&mut self.broker, channel, last, verb, multiple),
            _ => {
                let requeue = match verb {
                    Verb::Ack => None,
                    Verb::Nack { requeue } | Verb::Reject { requeue } => Some(requeue),
                };
                // An error is heard as an event.
                let _ = self.broker.settle_listed(channel, &tags, requeue);
            }
        }
    }

    fn ask(&mut self, slot: usize, channel: ChanId, op: &Op, names: &Names) -> Reply {
        let broker = &mut self.broker;
        match op {
            Op::Get { queue, no_ack } => {
                let got = broker.get(channel, queue, *no_ack);
                let reply = got.map_or(Reply::Refused, |got| got.map_or(Reply::Empty, got_reply));
                self.clients.got(slot, &reply, *no_ack);
                reply
            }
            Op::Consume {
                queue,
                consumer,
                no_ack,
                exclusive,
                priority,
            } => {
                if let Some(clients) = self.clients.channel(slot) {
                    clients.consumers.push((consumer.clone(), *no_ack));
                }
                let options = ConsumeOptions {
                    exclusive: *exclusive,
                    no_ack: *no_ack,
                    priority: *priority,
                };
                done(broker.consume(channel, queue, consumer, options))
            }
            Op::Qos { prefetch, global } => done(broker.basic_qos(channel, *prefetch, *global)),
            Op::Cancel { consumer } => {
                let cancelled = done(broker.cancel(channel, consumer));
                if let Some(clients) = self.clients.channel(slot) {
                    clients.consumers.retain(|(tag, _)| tag != consumer);
                }
                cancelled
            }
            _ => ask_topology(broker, channel, op, names),
        }
    }

    /// Takes what the broker has said.
    pub(super) fn listen(&mut self) {
        let outputs: Vec<Output> = self.broker.drain().collect();
        for output in outputs {
            let Some(event) = self.event(output) else {
                continue;
            };
            if let What::Closed { scope, .. } = event.what {
                match scope {
                    Scope::Channel => self.channels[event.slot] = None,
                    Scope::Connection => {
                        self.connections[connection_of(event.slot)] = None;
                        siblings(event.slot).for_each(|slot| self.channels[slot] = None);
                    }
                }
            }
            self.clients.hear(&event);
            self.events.push(event);
        }
    }

    fn event(&self, output: Output) -> Option<Event> {
        let slot_of = |chan: ChanId| self.channels.iter().position(|&one| one == Some(chan));
        let (slot, what) = match output {
            Output::Confirm { chan, tag, ack, .. } => {
                let body = String::new();
                (slot_of(chan)?, What::Confirm { tag, ack, body })
            }
            Output::Return {
                chan,
                code,
                exchange,
                routing_key,
                content,
                ..
            } => {
                let letter = letter((&exchange, &routing_key), false, &content);
                (slot_of(chan)?, What::Return { code, letter })
            }
            Output::Deliver {
                chan,
                consumer_tag,
                delivery,
            } => {
                let consumer = consumer_tag.to_string();
                let tag = delivery.tag;
                let letter = delivered(&delivery);
                (
                    slot_of(chan)?,
                    What::Delivery {
                        consumer,
                        tag,
                        letter,
                    },
                )
            }
            Output::ConsumerCancelled { chan, tag } => {
                let consumer = tag.to_string();
                (slot_of(chan)?, What::Cancelled { consumer })
            }
            Output::ChannelClosed { chan, code, .. } => {
                let scope = Scope::Channel;
                (slot_of(chan)?, What::Closed { scope, code })
            }
            Output::ConnectionClosed { conn, code, .. } => {
                let at = self.connections.iter().position(|&one| one == Some(conn))?;
                let scope = Scope::Connection;
                (first_slot(at), What::Closed { scope, code })
            }
            Output::Blocked { .. } | Output::Unblocked { .. } => return None,
        };
        Some(Event { slot, what })
    }

    pub(super) fn count(&self, name: &str) -> Count {
        let (ready, _) = self.broker.queue_depth(name)?;
        let consumers = self.broker.declared_consumers(name)?;
        Some((ready as u32, consumers as u32))
    }
}

/// Takes those deliveries out of what the channel holds; gives their tags here.
fn take_like(channel: &mut Channel, wanted: &[Held]) -> Vec<u64> {
    let mut tags = Vec::new();
    for one in wanted {
        if let Some(at) = channel.held.iter().position(|held| held.is_like(one)) {
            tags.push(channel.held.remove(at).tag);
        }
    }
    channel.settled = tags.last().copied();
    tags
}

fn settle_one(broker: &mut Broker, channel: ChanId, tag: u64, verb: Verb, multiple: bool) {
    // An error is heard as an event.
    let _ = match verb {
        Verb::Ack => broker.ack(channel, tag, multiple),
        Verb::Nack { requeue } => broker.nack(channel, tag, multiple, requeue),
        Verb::Reject { requeue } => broker.reject(channel, tag, requeue),
    };
}

fn done<T>(result: Result<T, Closed>) -> Reply {
    result.map_or(Reply::Refused, |_| Reply::Done)
}

fn ask_topology(broker: &mut Broker, channel: ChanId, op: &Op, names: &Names) -> Reply {
    match op {
        Op::DeclareQueue(declare) => {
            let declared = broker.queue_declare(
                channel,
                QueueDeclare {
                    name: declare.name.as_str().into(),
                    durable: declare.shape.durable,
                    passive: declare.passive,
                    exclusive: declare.shape.exclusive,
                    auto_delete: declare.shape.auto_delete,
                    arguments: declare.arguments.clone(),
                },
            );
            declared.map_or(Reply::Refused, |info| Reply::Declared {
                messages: info.messages,
                consumers: info.consumers,
            })
        }
        Op::DeclareExchange {
            name,
            shape,
            passive,
        } => done(broker.exchange_declare(
            channel,
            ExchangeDeclare {
                name: name.as_str().into(),
                kind: exchange_kind(shape.kind),
                durable: true,
                internal: shape.internal,
                passive: *passive,
                alternate: shape.alternate.map(|at| names.exchange(at).into()),
            },
        )),
        Op::Bind(binding) => done(broker.queue_bind(
            channel,
            &names.queue(binding.queue),
            &names.exchange(binding.exchange),
            &names.key(binding.key),
            binding_arguments(binding.arguments),
        )),
        Op::Unbind(binding) => done(broker.queue_unbind(
            channel,
            &names.queue(binding.queue),
            &names.exchange(binding.exchange),
            &names.key(binding.key),
            binding_arguments(binding.arguments),
        )),
        Op::DeleteQueue(name) => {
            let deleted = broker.queue_delete(channel, name);
            deleted.map_or(Reply::Refused, Reply::Deleted)
        }
        Op::Purge(name) => {
            let purged = broker.queue_purge(channel, name);
            purged.map_or(Reply::Refused, Reply::Purged)
        }
        Op::DeleteExchange(name) => done(broker.exchange_delete(channel, name)),
        _ => Reply::Done,
    }
}

fn exchange_kind(kind: ExchangeType) -> ExchangeKind {
    match kind {
        ExchangeType::Direct => ExchangeKind::Direct,
        ExchangeType::Fanout => ExchangeKind::Fanout,
        ExchangeType::Topic => ExchangeKind::Topic,
        ExchangeType::Headers => ExchangeKind::Headers,
    }
}

fn publish(Numbered { message, body }: &Numbered, names: &Names) -> Publish {
    Publish {
        exchange: names.via(message.to).into(),
        routing_key: names.key(message.key).into(),
        mandatory: message.mandatory,
        properties: Properties {
            delivery_mode: Some(if message.persistent { 2 } else { 1 }),
            expiration: expiration(message.expiration).map(Into::into),
            headers: names.headers(message),
            ..Properties::default()
        },
        body: Bytes::from(body.clone()),
    }
}

fn letter((exchange, key): (&str, &str), redelivered: bool, content: &Content) -> Letter {
    let properties = &content.properties;
    Letter {
        body: String::from_utf8_lossy(&content.body).into_owned(),
        exchange: exchange.to_owned(),
        key: key.to_owned(),
        redelivered,
        persistent: properties.is_persistent(),
        expiration: properties.expiration.as_ref().map(ToString::to_string),
        headers: properties
            .headers
            .as_ref()
            .map_or_else(BTreeMap::new, |table| headers(Some(table))),
    }
}

fn delivered(delivery: &Delivery) -> Letter {
    let address = (&*delivery.exchange, &*delivery.routing_key);
    letter(address, delivery.redelivered, &delivery.content)
}

fn got_reply(delivery: Delivery) -> Reply {
    Reply::Got {
        tag: delivery.tag,
        left: delivery.message_count,
        letter: delivered(&delivery),
    }
}
