//! A step, made concrete: which delivery, which consumer, which message.

use super::names::{Names, redeclared};
use super::program::{
    Again, Binding, ExchangeShape, ExchangeType, Expiration, Kind, Message, Program, QueueShape,
    SLOTS, Step, Verb, Which,
};
use super::saw::{Clients, Held, siblings};
use lapin::types::FieldTable;

/// A message with its number.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    pub(super) message: Message,
    pub(super) body: String,
}

/// What is settled.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// This delivery, and with `multiple` those before it, oldest first.
    Held { tag: u64, all: Vec<Held> },
    /// This tag, which is not a delivery's.
    Tag(u64),
    /// The tag that was settled last, on each arm its own.
    Again,
}

#[derive(Clone, Debug)]
pub(super) struct Redeclare {
    pub(super) name: String,
    pub(super) shape: QueueShape,
    pub(super) arguments: FieldTable,
    pub(super) passive: bool,
}

/// What both arms do.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Publish(Vec<Numbered>),
    Get {
        queue: String,
        no_ack: bool,
    },
    Consume {
        queue: String,
        consumer: String,
        no_ack: bool,
        exclusive: bool,
        priority: i32,
    },
    Qos {
        prefetch: u16,
        global: bool,
    },
    Settle {
        target: Target,
        verb: Verb,
        multiple: bool,
    },
    Cancel {
        consumer: String,
    },
    CloseChannel,
    CloseConnection,
    Cut(Vec<Numbered>),
    DeclareQueue(Redeclare),
    DeclareExchange {
        name: String,
        shape: ExchangeShape,
        passive: bool,
    },
    Bind(Binding),
    Unbind(Binding),
    DeleteQueue(String),
    DeleteExchange(String),
    Purge(String),
}

/// Counts what gets a name or a number as the program runs.
#[derive(Debug, Default)]
pub(super) struct Counter {
    messages: usize,
    consumers: usize,
}

impl Counter {
    fn number(&mut self, message: &Message) -> Numbered {
        self.messages += 1;
        Numbered {
            message: message.clone(),
            body: format!("m{}", self.messages),
        }
    }
}

/// What everything of the program is declared with at its beginning.
pub(super) fn preparation(program: &Program, names: &Names) -> Vec<Op> {
    let exchanges = program.exchanges.iter().enumerate();
    let exchanges = exchanges.map(|(at, &shape)| Op::DeclareExchange {
        name: names.exchange(at),
        shape,
        passive: false,
    });
    let queues = program.queues.iter().enumerate().map(|(at, shape)| {
        let (name, shape, arguments, passive) = redeclared(names, shape, at, Again::Same);
        Op::DeclareQueue(Redeclare {
            name,
            shape,
            arguments,
            passive,
        })
    });
    let bindings = program
        .bindings
        .iter()
        .filter(|_| !program.exchanges.is_empty());
    let bindings = bindings.map(|&binding| Op::Bind(binding));
    exchanges.chain(queues).chain(bindings).collect()
}

/// Makes a step concrete by what its clients know. `None`: there is nothing to do for it.
pub(super) fn concrete(
    step: &Step,
    program: &Program,
    names: &Names,
    clients: &Clients,
    counter: &mut Counter,
) -> Option<Op> {
    let channel = step.slot().and_then(|slot| clients.slots[slot].as_ref());
    Some(match *step {
        Step::Publish {
            ref message, times, ..
        } => {
            let alone = message.expiration == Expiration::Zero;
            if alone
                && program
                    .queues
                    .iter()
                    .any(|queue| queue.kind == Kind::Quorum)
            {
                return None;
            }
            let times = if alone { 1 } else { times };
            Op::Publish((0..times).map(|_| counter.number(message)).collect())
        }
        Step::Get { queue, no_ack, .. } => Op::Get {
            queue: names.queue(queue),
            no_ack,
        },
        Step::Consume {
            queue,
            no_ack,
            exclusive,
            priority,
            ..
        } => {
            counter.consumers += 1;
            let consumer = format!("c{}", counter.consumers);
            Op::Consume {
                queue: names.queue(queue),
                consumer,
                no_ack: no_ack && !waits_for_room(program, names.queue_at(queue)),
                exclusive,
                priority,
            }
        }
        Step::Qos {
            prefetch, global, ..
        } => Op::Qos { prefetch, global },
        Step::Settle {
            which,
            verb,
            multiple,
            ..
        } => {
            let multiple = multiple && !matches!(verb, Verb::Reject { .. });
            let held = channel.map_or(&[][..], |channel| &channel.held);
            let last = channel.map_or(0, |channel| channel.last_tag);
            let target = match which {
                Which::Held(_) if held.is_empty() => return None,
                Which::Held(nth) => {
                    let nth = nth % held.len();
                    let first = if multiple { 0 } else { nth };
                    let all = held[first..=nth].to_vec();
                    Target::Held {
                        tag: held[nth].tag,
                        all,
                    }
                }
                Which::Zero => Target::Tag(0),
                Which::Unknown => Target::Tag(last + 100),
                Which::Again => {
                    channel?.settled?;
                    Target::Again
                }
            };
            Op::Settle {
                target,
                verb,
                multiple,
            }
        }
        // What comes of it there is not in the model.
        Step::Cancel { .. }
            if program
                .queues
                .iter()
                .any(|q| q.single_active && q.kind == Kind::Classic) =>
        {
            return None;
        }
        Step::Cancel { consumer, .. } => {
            let consumers = channel.map_or(&[][..], |channel| &channel.consumers);
            let at = consumer % consumers.len().max(1);
            let consumer = consumers.get(at).map_or("nobody", |(tag, _)| tag);
            Op::Cancel {
                consumer: consumer.to_owned(),
            }
        }
        Step::CloseChannel { .. } => Op::CloseChannel,
        Step::CloseConnection { chan } | Step::Cut { chan, .. }
            if may_pass_on(clients, chan % SLOTS) =>
        {
            return None;
        }
        Step::CloseConnection { .. } => Op::CloseConnection,
        // With consumers on the connection there would be too many courses to tell apart.
        Step::Cut { chan, .. } if consumes(clients, chan % SLOTS) => Op::Cut(Vec::new()),
        Step::Cut { ref unheard, .. } => Op::Cut(
            unheard
                .iter()
                .filter(|message| message.expiration != Expiration::Zero)
                .map(|message| counter.number(message))
                .collect(),
        ),
        Step::DeclareQueue { queue, how, .. } => {
            let shape = program.queues.get(names.queue_at(queue))?;
            let held = clients.slots.iter().flatten().any(|c| !c.held.is_empty());
            if held && may_have_gone(program, names, queue) {
                return None;
            }
            let (name, shape, arguments, passive) = redeclared(names, shape, queue, how);
            Op::DeclareQueue(Redeclare {
                name,
                shape,
                arguments,
                passive,
            })
        }
        Step::DeclareExchange { exchange, how, .. } => {
            declare_exchange(program, names, exchange, how)?
        }
        Step::Bind { binding, .. } => Op::Bind(binding),
        Step::Unbind { binding, .. } => Op::Unbind(binding),
        Step::DeleteQueue { queue, .. } => Op::DeleteQueue(names.queue(queue)),
        Step::DeleteExchange { exchange, .. } => Op::DeleteExchange(names.exchange(exchange)),
        Step::Purge { queue, .. } => Op::Purge(names.queue(queue)),
        Step::Wait | Step::Restart { .. } => return None,
    })
}

/// Whether consumers without acks of that queue may have to wait for room.
fn waits_for_room(program: &Program, queue: usize) -> bool {
    let quorum = program.queues.get(queue).map(|queue| queue.kind) == Some(Kind::Quorum);
    let limits = |step: &Step| matches!(step, Step::Qos { prefetch: 1.., .. });
    quorum && program.steps.iter().any(limits)
}

/// Whether declaring that queue once more may make a new one.
fn may_have_gone(program: &Program, names: &Names, queue: usize) -> bool {
    let at = names.queue_at(queue);
    let goes = |shape: &QueueShape| shape.auto_delete || shape.exclusive;
    let deletes = |step: &Step| matches!(*step, Step::DeleteQueue { queue, .. } if names.queue_at(queue) == at);
    program.queues.get(at).is_some_and(goes) || program.steps.iter().any(deletes)
}

/// Whether a channel of that connection has a consumer.
fn consumes(clients: &Clients, slot: usize) -> bool {
    let mut channels = siblings(slot).filter_map(|slot| clients.slots[slot].as_ref());
    channels.any(|channel| !channel.consumers.is_empty())
}

/// Whether a connection that ends may pass on what one channel holds to a consumer without acks
/// of its other one.
fn may_pass_on(clients: &Clients, slot: usize) -> bool {
    let channels = || siblings(slot).filter_map(|slot| clients.slots[slot].as_ref());
    channels().count() > 1
        && channels().any(|channel| !channel.held.is_empty())
        && channels().any(|channel| channel.consumers.iter().any(|(_, no_ack)| *no_ack))
}

fn declare_exchange(program: &Program, names: &Names, exchange: usize, how: Again) -> Option<Op> {
    let mut shape = *program.exchanges.get(names.exchange_at(exchange))?;
    let mut name = names.exchange(exchange);
    match how {
        Again::Same | Again::Passive | Again::Bad(_) => {}
        Again::Missing => name = names.missing(),
        Again::Otherwise(what) => match what % 3 {
            0 => shape.internal = !shape.internal,
            1 => {
                shape.alternate = match shape.alternate {
                    Some(_) => None,
                    None => Some(0),
                };
            }
            _ => {
                shape.kind = match shape.kind {
                    ExchangeType::Direct => ExchangeType::Fanout,
                    _ => ExchangeType::Direct,
                };
            }
        },
    }
    let passive = matches!(how, Again::Passive | Again::Missing);
    Some(Op::DeclareExchange {
        name,
        shape,
        passive,
    })
}

impl Op {
    /// The name under which a success counts; by queue type where it matters.
    pub(super) fn name(&self, kind: impl Fn(&str) -> Option<Kind>) -> Option<&'static str> {
        use Kind::{Classic, Quorum};
        Some(match self {
            Op::Publish(_) => "publish",
            Op::Get { queue, .. } => match kind(queue)? {
                Classic => "get (classic)",
                Quorum => "get (quorum)",
            },
            Op::Consume { queue, .. } => match kind(queue)? {
                Classic => "consume (classic)",
                Quorum => "consume (quorum)",
            },
            Op::Qos { global: true, .. } => "qos (channel)",
            Op::Qos { global: false, .. } => "qos (consumer)",
            Op::Settle { verb, multiple, .. } => match (verb, multiple) {
                (Verb::Ack, false) => "ack",
                (Verb::Ack, true) => "ack (multiple)",
                (Verb::Nack { requeue: true }, false) => "nack (requeue)",
                (Verb::Nack { requeue: true }, true) => "nack (requeue, multiple)",
                (Verb::Nack { requeue: false }, false) => "nack (discard)",
                (Verb::Nack { requeue: false }, true) => "nack (discard, multiple)",
                (Verb::Reject { requeue: true }, _) => "reject (requeue)",
                (Verb::Reject { requeue: false }, _) => "reject (discard)",
            },
            Op::Cancel { .. } => "cancel",
            Op::CloseChannel => "close channel",
            Op::CloseConnection => "close connection",
            Op::Cut(unheard) if unheard.is_empty() => "cut",
            Op::Cut(_) => "cut (publishing)",
            Op::DeclareQueue(Redeclare { passive: true, .. }) => "declare queue (passive)",
            Op::DeclareQueue(Redeclare { shape, .. }) => match shape.kind {
                Classic => "declare queue (classic)",
                Quorum => "declare queue (quorum)",
            },
            Op::DeclareExchange { passive: true, .. } => "declare exchange (passive)",
            Op::DeclareExchange { .. } => "declare exchange",
            Op::Bind(_) => "bind",
            Op::Unbind(_) => "unbind",
            Op::DeleteQueue(_) => "delete queue",
            Op::DeleteExchange(_) => "delete exchange",
            Op::Purge(_) => "purge",
        })
    }
}

/// Every name that [`Op::name`] gives, and the waits.
pub(super) const OPERATIONS: &[&str] = &[
    "publish",
    "get (classic)",
    "get (quorum)",
    "consume (classic)",
    "consume (quorum)",
    "qos (channel)",
    "qos (consumer)",
    "ack",
    "ack (multiple)",
    "nack (requeue)",
    "nack (requeue, multiple)",
    "nack (discard)",
    "nack (discard, multiple)",
    "reject (requeue)",
    "reject (discard)",
    "cancel",
    "close channel",
    "close connection",
    "cut",
    "cut (publishing)",
    "declare queue (passive)",
    "declare queue (classic)",
    "declare queue (quorum)",
    "declare exchange (passive)",
    "declare exchange",
    "bind",
    "unbind",
    "delete queue",
    "delete exchange",
    "purge",
    "wait",
];
