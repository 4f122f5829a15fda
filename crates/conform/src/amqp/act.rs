//! What a step is on the real broker.

use lapin::protocol::basic::AMQPProperties;
use lapin::protocol::{AMQPClass, basic, exchange, queue};
use lapin::types::FieldTable;

use super::names::{Names, binding_arguments, exchange_type, expiration};
use super::op::{Numbered, Op, Target};
use super::program::{Verb, connection_of};
use super::real::{Answer, Real, letter};
use super::saw::Reply;
use super::wire::{Heard, close_channel};

impl Real {
    /// Does it on that channel, which is open.
    pub(super) fn act(&mut self, slot: usize, op: &Op, names: &Names) -> Reply {
        match op {
            Op::Publish(messages) => {
                self.publish(slot, messages, names);
                Reply::Done
            }
            Op::Cut(unheard) => {
                if !unheard.is_empty() {
                    self.watch(slot);
                }
                self.publish(slot, unheard, names);
                if let Some(wire) = self.forget(connection_of(slot)) {
                    wire.cut();
                }
                Reply::Done
            }
            Op::CloseConnection => {
                if let Some(wire) = self.forget(connection_of(slot)) {
                    wire.close();
                }
                Reply::Done
            }
            Op::CloseChannel => {
                let answer = self.call(slot, close_channel());
                self.forget_channel(slot);
                reply(answer)
            }
            Op::Settle {
                target,
                verb,
                multiple,
            } => {
                self.settle(slot, target, *verb, *multiple);
                Reply::Done
            }
            Op::Get { no_ack, .. } => {
                let reply = reply(self.call(slot, method(op, names)));
                self.clients.got(slot, &reply, *no_ack);
                reply
            }
            Op::Consume {
                consumer, no_ack, ..
            } => {
                // Before the answer: deliveries come right behind it.
                if let Some(channel) = self.clients.channel(slot) {
                    channel.consumers.push((consumer.clone(), *no_ack));
                }
                reply(self.call(slot, method(op, names)))
            }
            Op::Cancel { consumer } => {
                let reply = reply(self.call(slot, method(op, names)));
                if let Some(channel) = self.clients.channel(slot) {
                    channel.consumers.retain(|(tag, _)| tag != consumer);
                }
                reply
            }
            _ => reply(self.call(slot, method(op, names))),
        }
    }

    fn publish(&mut self, slot: usize, messages: &[Numbered], names: &Names) {
        for Numbered { message, body } in messages {
            let method = basic::Publish {
                exchange: names.via(message.to).as_str().into(),
                routing_key: names.key(message.key).as_str().into(),
                mandatory: message.mandatory,
                immediate: false,
            };
            let mode = if message.persistent { 2 } else { 1 };
            let mut properties = AMQPProperties::default().with_delivery_mode(mode);
            if let Some(expiration) = expiration(message.expiration) {
                properties = properties.with_expiration(expiration.into());
            }
            if let Some(headers) = names.headers(message) {
                properties = properties.with_headers(headers);
            }
            if let Some(channel) = self.clients.channel(slot) {
                channel.published += 1;
                channel.unconfirmed.insert(channel.published, body.clone());
            }
            if let Some((wire, number)) = self.wire(slot) {
                let method = AMQPClass::Basic(basic::AMQPMethod::Publish(method));
                wire.send_content(number, method, &properties, body.as_bytes());
            }
        }
    }

    fn settle(&mut self, slot: usize, target: &Target, verb: Verb, multiple: bool) {
        let Some(channel) = self.clients.channel(slot) else {
            return;
        };
        let delivery_tag = match target {
            Target::Held { tag, .. } => *tag,
            Target::Tag(tag) => *tag,
            Target::Again => channel.settled.unwrap_or_default(),
        };
        match target {
            Target::Held { tag, all } => {
                channel.settled = Some(*tag);
                channel.held.retain(|held| !all.contains(held));
            }
            Target::Tag(0) if multiple => channel.held.clear(),
            Target::Tag(_) | Target::Again => {}
        }
        let method = match verb {
            Verb::Ack => basic::AMQPMethod::Ack(basic::Ack {
                delivery_tag,
                multiple,
            }),
            Verb::Nack { requeue } => basic::AMQPMethod::Nack(basic::Nack {
                delivery_tag,
                multiple,
                requeue,
            }),
            Verb::Reject { requeue } => basic::AMQPMethod::Reject(basic::Reject {
                delivery_tag,
                requeue,
            }),
        };
        if let Some((wire, number)) = self.wire(slot) {
            wire.send(number, AMQPClass::Basic(method));
        }
    }
}

/// The method of an operation that is one method with an answer.
fn method(op: &Op, names: &Names) -> AMQPClass {
    match op {
        Op::Get { .. } | Op::Consume { .. } | Op::Qos { .. } | Op::Cancel { .. } => {
            AMQPClass::Basic(of_basic(op))
        }
        Op::DeclareExchange { .. } | Op::DeleteExchange(_) => {
            AMQPClass::Exchange(of_exchange(op, names))
        }
        _ => AMQPClass::Queue(of_queue(op, names)),
    }
}

fn of_basic(op: &Op) -> basic::AMQPMethod {
    match op {
        Op::Get { queue, no_ack } => basic::AMQPMethod::Get(basic::Get {
            queue: queue.as_str().into(),
            no_ack: *no_ack,
        }),
        Op::Consume {
            queue,
            consumer,
            no_ack,
            exclusive,
            priority,
        } => {
            let mut arguments = FieldTable::default();
            if *priority != 0 {
                arguments.insert("x-priority".into(), (*priority).into());
            }
            basic::AMQPMethod::Consume(basic::Consume {
                queue: queue.as_str().into(),
                consumer_tag: consumer.as_str().into(),
                no_local: false,
                no_ack: *no_ack,
                exclusive: *exclusive,
                nowait: false,
                arguments,
            })
        }
        Op::Cancel { consumer } => basic::AMQPMethod::Cancel(basic::Cancel {
            consumer_tag: consumer.as_str().into(),
            nowait: false,
        }),
        other => {
            let (prefetch_count, global) = match other {
                Op::Qos { prefetch, global } => (*prefetch, *global),
                _ => (0, false),
            };
            basic::AMQPMethod::Qos(basic::Qos {
                prefetch_count,
                global,
            })
        }
    }
}

fn of_exchange(op: &Op, names: &Names) -> exchange::AMQPMethod {
    match op {
        Op::DeclareExchange {
            name,
            shape,
            passive,
        } => exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: name.as_str().into(),
            kind: exchange_type(shape.kind).into(),
            passive: *passive,
            durable: true,
            auto_delete: false,
            internal: shape.internal,
            nowait: false,
            arguments: names.exchange_arguments(shape),
        }),
        other => {
            let name = match other {
                Op::DeleteExchange(name) => name.as_str(),
                _ => "",
            };
            exchange::AMQPMethod::Delete(exchange::Delete {
                exchange: name.into(),
                if_unused: false,
                nowait: false,
            })
        }
    }
}

fn of_queue(op: &Op, names: &Names) -> queue::AMQPMethod {
    match op {
        Op::DeclareQueue(declare) => queue::AMQPMethod::Declare(queue::Declare {
            queue: declare.name.as_str().into(),
            passive: declare.passive,
            durable: declare.shape.durable,
            exclusive: declare.shape.exclusive,
            auto_delete: declare.shape.auto_delete,
            nowait: false,
            arguments: declare.arguments.clone(),
        }),
        Op::Bind(binding) => queue::AMQPMethod::Bind(queue::Bind {
            queue: names.queue(binding.queue).into(),
            exchange: names.exchange(binding.exchange).into(),
            routing_key: names.key(binding.key).into(),
            nowait: false,
            arguments: binding_arguments(binding.arguments),
        }),
        Op::Unbind(binding) => queue::AMQPMethod::Unbind(queue::Unbind {
            queue: names.queue(binding.queue).into(),
            exchange: names.exchange(binding.exchange).into(),
            routing_key: names.key(binding.key).into(),
            arguments: binding_arguments(binding.arguments),
        }),
        Op::Purge(name) => queue::AMQPMethod::Purge(queue::Purge {
            queue: name.as_str().into(),
            nowait: false,
        }),
        other => {
            let name = match other {
                Op::DeleteQueue(name) => name.as_str(),
                _ => "",
            };
            queue::AMQPMethod::Delete(queue::Delete {
                queue: name.into(),
                if_unused: false,
                if_empty: false,
                nowait: false,
            })
        }
    }
}

fn reply(answer: Answer) -> Reply {
    let Answer::Method(heard) = answer else {
        return Reply::Refused;
    };
    match &heard.method {
        AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => Reply::Declared {
            messages: ok.message_count,
            consumers: ok.consumer_count,
        },
        AMQPClass::Queue(queue::AMQPMethod::DeleteOk(ok)) => Reply::Deleted(ok.message_count),
        AMQPClass::Queue(queue::AMQPMethod::PurgeOk(ok)) => Reply::Purged(ok.message_count),
        AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_)) => Reply::Empty,
        AMQPClass::Basic(basic::AMQPMethod::GetOk(ok)) => got(ok, &heard),
        _ => Reply::Done,
    }
}

fn got(ok: &basic::GetOk, heard: &Heard) -> Reply {
    let address = (ok.exchange.as_str(), ok.routing_key.as_str());
    Reply::Got {
        tag: ok.delivery_tag,
        left: ok.message_count,
        letter: letter(address, ok.redelivered, heard),
    }
}
