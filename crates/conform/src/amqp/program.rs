//! What a program is made of.
//!
//! Queues, exchanges and channels are small indexes, taken modulo what there is: every program
//! makes sense, and so does every smaller one.

use std::fmt;

/// Channels of a program: two of the first connection, one of each of two others.
pub(super) const SLOTS: usize = 4;
/// Connections of a program.
pub(super) const CONNECTIONS: usize = 3;

/// The connection of a channel.
pub(super) fn connection_of(slot: usize) -> usize {
    slot.saturating_sub(1)
}

/// A program.
#[derive(Clone)]
pub struct Program {
    /// Declared at the beginning, by the first channel.
    pub(super) queues: Vec<QueueShape>,
    /// Declared before the queues.
    pub(super) exchanges: Vec<ExchangeShape>,
    /// Made after both.
    pub(super) bindings: Vec<Binding>,
    /// Which channels are in confirm mode.
    pub(super) confirms: [bool; SLOTS],
    pub(super) steps: Vec<Step>,
}

impl fmt::Debug for Program {
    /// A line for each part, also with `{:#?}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, exchange) in self.exchanges.iter().enumerate() {
            writeln!(f, "exchange {at}: {exchange:?}", exchange = Line(exchange))?;
        }
        for (at, queue) in self.queues.iter().enumerate() {
            writeln!(f, "queue {at}: {:?}", Line(queue))?;
        }
        for binding in &self.bindings {
            writeln!(f, "bound: {:?}", Line(binding))?;
        }
        writeln!(f, "confirms: {:?}", Line(&self.confirms))?;
        for (at, step) in self.steps.iter().enumerate() {
            writeln!(f, "{at}. {:?}", Line(step))?;
        }
        Ok(())
    }
}

/// Never pretty-printed over several lines.
struct Line<'a, T>(&'a T);

impl<T: fmt::Debug> fmt::Debug for Line<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format_args!("{:?}", self.0))
    }
}

/// A queue's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Classic,
    Quorum,
}

/// How long what expires lives, in milliseconds: longer than steps take, so that what expires
/// does so in a wait.
pub(super) const TTL_MS: u32 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueShape {
    pub(super) kind: Kind,
    /// Quorum queues always are.
    pub(super) durable: bool,
    /// Classic queues only.
    pub(super) exclusive: bool,
    /// Classic queues only.
    pub(super) auto_delete: bool,
    pub(super) ttl: bool,
    pub(super) max_length: Option<u8>,
    pub(super) overflow: Option<Overflow>,
    pub(super) dead_letters: Option<DeadLetters>,
    /// Quorum queues only.
    pub(super) delivery_limit: Option<u8>,
    pub(super) single_active: bool,
}

/// Where dead letters go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeadLetters {
    pub(super) to: Via,
    pub(super) key: Option<Key>,
}

/// An exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Default,
    Exchange(usize),
    Missing,
}

/// A routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// One of [`WORDS`].
    Word(usize),
    /// The name of a queue.
    Queue(usize),
}

/// Routing keys; as binding keys of topic exchanges also patterns.
pub(super) const WORDS: [&str; 9] = ["a", "b", "a.b", "", "a.b.c", "*", "#", "a.*", "#.b"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExchangeType {
    Direct,
    Fanout,
    Topic,
    Headers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExchangeShape {
    pub(super) kind: ExchangeType,
    pub(super) internal: bool,
    pub(super) alternate: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) queue: usize,
    pub(super) exchange: usize,
    pub(super) key: Key,
    /// One of the tables in [`super::names`].
    pub(super) arguments: usize,
}

/// A message's own time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiration {
    None,
    Short,
    Zero,
    Bad,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) to: Via,
    pub(super) key: Key,
    pub(super) mandatory: bool,
    pub(super) persistent: bool,
    pub(super) expiration: Expiration,
    /// One of the tables in [`super::names`].
    pub(super) headers: usize,
    pub(super) cc: Vec<Key>,
    pub(super) bcc: Vec<Key>,
}

/// Which delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// That one of those the channel holds.
    Held(usize),
    /// Tag 0.
    Zero,
    /// A tag that was never given.
    Unknown,
    /// The tag that was settled last.
    Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Ack,
    Nack { requeue: bool },
    Reject { requeue: bool },
}

/// How something is declared once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    Same,
    Passive,
    /// With another value in one place.
    Otherwise(usize),
    /// Passively, by a name that nothing has.
    Missing,
    /// A new one, with arguments that are refused.
    Bad(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Publish {
        chan: usize,
        message: Message,
        times: usize,
    },
    Get {
        chan: usize,
        queue: usize,
        no_ack: bool,
    },
    Consume {
        chan: usize,
        queue: usize,
        no_ack: bool,
        exclusive: bool,
        priority: i32,
    },
    Qos {
        chan: usize,
        prefetch: u16,
        global: bool,
    },
    Settle {
        chan: usize,
        which: Which,
        verb: Verb,
        multiple: bool,
    },
    Cancel {
        chan: usize,
        consumer: usize,
    },
    CloseChannel {
        chan: usize,
    },
    CloseConnection {
        chan: usize,
    },
    /// Cuts the connection while messages are on their way.
    Cut {
        chan: usize,
        unheard: Vec<Message>,
    },
    DeclareQueue {
        chan: usize,
        queue: usize,
        how: Again,
    },
    DeclareExchange {
        chan: usize,
        exchange: usize,
        how: Again,
    },
    Bind {
        chan: usize,
        binding: Binding,
    },
    Unbind {
        chan: usize,
        binding: Binding,
    },
    DeleteQueue {
        chan: usize,
        queue: usize,
    },
    DeleteExchange {
        chan: usize,
        exchange: usize,
    },
    Purge {
        chan: usize,
        queue: usize,
    },
    /// Until what can expire has expired.
    Wait,
    /// The broker is restarted in order, or killed and started.
    Restart {
        kill: bool,
    },
}

impl Step {
    /// The channel that acts.
    pub(super) fn slot(&self) -> Option<usize> {
        match *self {
            Step::Publish { chan, .. }
            | Step::Get { chan, .. }
            | Step::Consume { chan, .. }
            | Step::Qos { chan, .. }
            | Step::Settle { chan, .. }
            | Step::Cancel { chan, .. }
            | Step::CloseChannel { chan }
            | Step::CloseConnection { chan }
            | Step::Cut { chan, .. }
            | Step::DeclareQueue { chan, .. }
            | Step::DeclareExchange { chan, .. }
            | Step::Bind { chan, .. }
            | Step::Unbind { chan, .. }
            | Step::DeleteQueue { chan, .. }
            | Step::DeleteExchange { chan, .. }
            | Step::Purge { chan, .. } => Some(chan % SLOTS),
            Step::Wait | Step::Restart { .. } => None,
        }
    }
}
