//! What clients see, in words that both arms share.

use std::collections::BTreeMap;
use std::fmt;

use lapin::types::{AMQPValue, FieldTable};
use redeliver_sim::broker::Scope;

use super::program::SLOTS;

/// A message as a client receives it. What the broker's clock made is left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Letter {
    pub(super) body: String,
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) redelivered: bool,
    pub(super) persistent: bool,
    pub(super) expiration: Option<String>,
    pub(super) headers: BTreeMap<String, String>,
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via '{}' '{}'", self.body, self.exchange, self.key)?;
        if self.redelivered {
            f.write_str(" redelivered")?;
        }
        if self.persistent {
            f.write_str(" persistent")?;
        }
        if let Some(expiration) = &self.expiration {
            write!(f, " expiration={expiration}")?;
        }
        self.headers
            .iter()
            .try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// The answer to a synchronous method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Also where the method has no answer.
    Done,
    /// A channel or connection was closed instead; an event says which.
    Refused,
    Declared {
        messages: u32,
        consumers: u32,
    },
    Deleted(u32),
    Purged(u32),
    Empty,
    Got {
        tag: u64,
        left: u32,
        letter: Letter,
    },
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Done => f.write_str("done"),
            Reply::Refused => f.write_str("refused"),
            Reply::Declared {
                messages,
                consumers,
            } => write!(f, "declared: {messages} messages, {consumers} consumers"),
            Reply::Deleted(messages) => write!(f, "deleted with {messages}"),
            Reply::Purged(messages) => write!(f, "purged of {messages}"),
            Reply::Empty => f.write_str("nothing there"),
            Reply::Got { left, letter, .. } => write!(f, "got {letter}, {left} left"),
        }
    }
}

/// Something a client hears without having asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// The channel; of a connection its first.
    pub(super) slot: usize,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Confirm {
        tag: u64,
        ack: bool,
        /// Of what was published, as far as it is known.
        body: String,
    },
    Return {
        code: u16,
        letter: Letter,
    },
    Delivery {
        consumer: String,
        tag: u64,
        letter: Letter,
    },
    Cancelled {
        consumer: String,
    },
    /// Code 0 is an end without a word.
    Closed {
        scope: Scope,
        code: u16,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.slot;
        match &self.what {
            What::Confirm { tag, ack: true, .. } => write!(f, "{slot}: ack {tag}"),
            What::Confirm {
                tag, ack: false, ..
            } => write!(f, "{slot}: nack {tag}"),
            What::Return { code, letter } => write!(f, "{slot}: returned {code} {letter}"),
            What::Delivery {
                consumer,
                tag,
                letter,
            } => write!(f, "{slot}: {consumer} #{tag} {letter}"),
            What::Cancelled { consumer } => write!(f, "{slot}: {consumer} cancelled"),
            What::Closed { scope, code } => write!(f, "{slot}: {scope:?} closed {code}"),
        }
    }
}

/// A delivery that a channel holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) tag: u64,
    /// `None` for `basic.get`.
    pub(super) consumer: Option<String>,
    pub(super) letter: Letter,
}

impl Held {
    /// The same delivery on the other arm, where its tag may be another.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.consumer == other.consumer && self.letter == other.letter
    }
}

/// What a client knows of its channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Channel {
    pub(super) held: Vec<Held>,
    /// The tag that was settled last.
    pub(super) settled: Option<u64>,
    /// Consumer tags, and whether they need no acks.
    pub(super) consumers: Vec<(String, bool)>,
    pub(super) published: u64,
    /// Publishes without a confirm, by tag, with their bodies.
    pub(super) unconfirmed: BTreeMap<u64, String>,
    pub(super) last_tag: u64,
}

/// What all clients of an arm know; kept from what they hear and do.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients {
    pub(super) slots: [Option<Channel>; SLOTS],
}

/// The channels of the connection that a channel belongs to.
pub(super) fn siblings(slot: usize) -> impl Iterator<Item = usize> {
    let connection = super::program::connection_of(slot);
    (0..SLOTS).filter(move |&other| super::program::connection_of(other) == connection)
}

/// The first channel of a connection.
pub(super) fn first_slot(connection: usize) -> usize {
    if connection == 0 { 0 } else { connection + 1 }
}

impl Clients {
    pub(super) fn channel(&mut self, slot: usize) -> Option<&mut Channel> {
        self.slots[slot].as_mut()
    }

    pub(super) fn hear(&mut self, event: &Event) {
        if let What::Closed { scope, .. } = event.what {
            match scope {
                Scope::Channel => self.slots[event.slot] = None,
                Scope::Connection => siblings(event.slot).for_each(|slot| self.slots[slot] = None),
            }
            return;
        }
        let Some(channel) = self.slots[event.slot].as_mut() else {
            return;
        };
        match &event.what {
            What::Confirm { tag, .. } => {
                channel.unconfirmed.remove(tag);
            }
            What::Delivery {
                consumer,
                tag,
                letter,
            } => {
                let no_ack = channel
                    .consumers
                    .iter()
                    .any(|(c, no_ack)| c == consumer && *no_ack);
                channel.last_tag = *tag;
                if !no_ack {
                    channel.held.push(Held {
                        tag: *tag,
                        consumer: Some(consumer.clone()),
                        letter: letter.clone(),
                    });
                }
            }
            What::Cancelled { consumer } => channel.consumers.retain(|(c, _)| c != consumer),
            What::Return { .. } | What::Closed { .. } => {}
        }
    }

    pub(super) fn got(&mut self, slot: usize, reply: &Reply, no_ack: bool) {
        if let (Some(channel), Reply::Got { tag, letter, .. }) = (self.channel(slot), reply) {
            channel.last_tag = *tag;
            if !no_ack {
                channel.held.push(Held {
                    tag: *tag,
                    consumer: None,
                    letter: letter.clone(),
                });
            }
        }
    }
}

fn show(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => format!("{text}"),
        AMQPValue::FieldArray(list) => {
            let list: Vec<String> = list.as_slice().iter().map(show).collect();
            format!("[{}]", list.join(" "))
        }
        AMQPValue::FieldTable(table) => {
            let entries: Vec<String> = headers(Some(table))
                .into_iter()
                // The time of a death: the broker's clock.
                .filter(|(name, _)| name != "time")
                .map(|(name, value)| format!("{name}:{value}"))
                .collect();
            format!("{{{}}}", entries.join(" "))
        }
        other => format!("{other:?}"),
    }
}

/// Headers as texts.
pub(super) fn headers(table: Option<&FieldTable>) -> BTreeMap<String, String> {
    let entries = table.into_iter().flatten();
    entries
        .map(|(name, value)| (name.to_string(), show(value)))
        .collect()
}
