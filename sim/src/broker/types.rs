//! What goes into the broker and what comes out: ids, declarations, messages, outputs.

use std::any::Any;
use std::{error, fmt, sync::Arc};

use crate::choice::name;
use amq_protocol_types::{AMQPValue, FieldTable, ShortString};
use bytes::Bytes;

/// A connection. Never reused within one broker, so an output that was in flight when its
/// connection died cannot be taken for one of a later connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u32);

/// A channel of a connection; numbers start at 1 and are not reused until 65 535 were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChanId {
    /// The connection the channel belongs to.
    pub conn: ConnId,
    /// The channel number within its connection.
    pub number: u16,
}

/// The basic properties of a message (AMQP 0-9-1, class `basic`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<ShortString>,
    /// MIME encoding of the body.
    pub content_encoding: Option<ShortString>,
    /// 2 is persistent; anything else is transient.
    pub delivery_mode: Option<u8>,
    /// Carried, not acted upon.
    pub priority: Option<u8>,
    /// Carried, not acted upon.
    pub correlation_id: Option<ShortString>,
    /// Carried, not acted upon.
    pub reply_to: Option<ShortString>,
    /// Time to live in milliseconds, as decimal digits; anything else is a 406.
    pub expiration: Option<ShortString>,
    /// The publisher's id of this message; ledgers quote it.
    pub message_id: Option<ShortString>,
    /// Seconds since the epoch, as the publisher set it.
    pub timestamp: Option<u64>,
    /// The AMQP property `type`.
    pub kind: Option<ShortString>,
    /// Carried; not compared with the connection's user.
    pub user_id: Option<ShortString>,
    /// Carried, not acted upon.
    pub app_id: Option<ShortString>,
    /// Application headers; `CC` and `BCC` take part in routing.
    pub headers: Option<FieldTable>,
    /// Not part of the message: see [`Aside`].
    pub aside: Aside,
}

/// What a message means to those who know its type.
pub type Meaning = dyn Any + Send + Sync;

/// What a publisher in this process says beside the bytes, so that the receiver need not decode
/// them: a cache of what they mean. It must not depend on headers that begin with `x-`, which
/// are the broker's to add.
#[derive(Clone, Default)]
pub struct Aside {
    /// What the bytes mean, for whoever knows its type.
    pub known: Option<Arc<Meaning>>,
    /// Writes the properties of a message whose publisher has left them out.
    write: Option<fn(&Meaning) -> Properties>,
    /// Subject and attempt, for the keys of choices.
    pub(crate) subject: Option<(u64, u32)>,
}

/// A cache is no part of what it caches.
impl PartialEq for Aside {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Aside").field(&self.known.is_some()).finish()
    }
}

impl Properties {
    /// Of a persistent message that means `known`, about `subject` at its attempt. `write` says
    /// what stands in the properties for whoever reads them; most messages are only carried. It
    /// must give neither an expiration nor `CC` nor `BCC`.
    pub fn unwritten(
        known: Arc<Meaning>,
        write: fn(&Meaning) -> Self,
        (subject, attempt): (&str, u32),
    ) -> Self {
        Self {
            delivery_mode: Some(2),
            aside: Aside {
                known: Some(known),
                write: Some(write),
                subject: Some((name(subject), attempt)),
            },
            ..Self::default()
        }
    }

    /// With everything in its place, as a client reads it. [`Aside`] stays, but for `known` to be
    /// written again.
    #[must_use]
    pub fn written(&self) -> Self {
        let aside = Aside {
            write: None,
            ..self.aside.clone()
        };
        match (&self.aside.known, self.aside.write) {
            (Some(known), Some(write)) => Self {
                aside,
                ..write(&**known)
            },
            _ => self.clone(),
        }
    }

    /// Whether the message asks to survive a restart on a classic queue.
    pub fn is_persistent(&self) -> bool {
        self.delivery_mode == Some(2)
    }

    /// The header of that name.
    pub fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.headers
            .as_ref()
            .and_then(|table| table.inner().get(name))
    }
}

/// What a message is made of. Shared: routing and delivering never copy it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Properties and headers.
    pub properties: Properties,
    /// The payload.
    pub body: Bytes,
}

/// `exchange.declare`.
#[derive(Clone, Debug, Default)]
pub struct ExchangeDeclare {
    /// Name; names that begin with `amq.` are reserved.
    pub name: Arc<str>,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether clients are refused (403) when they publish to it.
    pub internal: bool,
    /// Only ask whether it exists (404 if not).
    pub passive: bool,
    /// Where messages go that this exchange routes nowhere.
    pub alternate: Option<Arc<str>>,
}

/// How an exchange routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExchangeKind {
    /// Routing key equals binding key.
    #[default]
    Direct,
    /// Every bound queue.
    Fanout,
    /// Words separated by dots; `*` is one word, `#` any number.
    Topic,
    /// Binding arguments against message headers (`x-match`: all, any, all-with-x, any-with-x).
    Headers,
    /// By a hash of the routing key; the binding key is the weight of the queue. A plugin.
    ConsistentHash,
}

/// `queue.declare`.
#[derive(Clone, Debug, Default)]
pub struct QueueDeclare {
    /// Name; empty asks the broker for one.
    pub name: Arc<str>,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Only ask whether it exists (404 if not).
    pub passive: bool,
    /// Only for this connection, and deleted with it.
    pub exclusive: bool,
    /// Deleted when its last consumer goes.
    pub auto_delete: bool,
    /// `x-queue-type`, `x-message-ttl`, `x-max-length` and so on.
    pub arguments: FieldTable,
}

/// The answer to `queue.declare`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    /// The name, which the broker may have chosen.
    pub name: Arc<str>,
    /// Ready messages.
    pub messages: u32,
    /// Consumers.
    pub consumers: u32,
}

/// `basic.publish`.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    /// Exchange; empty is the default exchange.
    pub exchange: Arc<str>,
    /// Routing key.
    pub routing_key: Arc<str>,
    /// Give the message back when it is routed nowhere.
    pub mandatory: bool,
    /// Properties and headers.
    pub properties: Properties,
    /// The payload.
    pub body: Bytes,
}

/// `basic.consume`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConsumeOptions {
    /// Refuse every other consumer of the queue; a quorum queue takes no notice of it.
    pub exclusive: bool,
    /// A delivery counts as acked when it is sent.
    pub no_ack: bool,
    /// `x-priority`: higher ones are served first while they have prefetch to spare.
    pub priority: i32,
}

/// A message handed to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Delivery tag, shared by consumers and `get` of one channel, from 1.
    pub tag: u64,
    /// It had been handed out from this queue before and came back.
    pub redelivered: bool,
    /// The exchange it was last published to (a dead letter: the dead-letter exchange).
    pub exchange: Arc<str>,
    /// The routing key of that publish.
    pub routing_key: Arc<str>,
    /// Properties and body.
    pub content: Arc<Content>,
    /// For `get`: ready messages left in the queue. 0 for a consumer's delivery.
    pub message_count: u32,
}

/// What a closing takes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One channel; its connection stays.
    Channel,
    /// The whole connection.
    Connection,
}

/// The broker closed a channel or a connection because of a call, or it was closed already (504).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// What was closed.
    pub scope: Scope,
    /// AMQP reply code.
    pub code: u16,
    /// AMQP reply text.
    pub text: String,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.scope {
            Scope::Channel => "channel",
            Scope::Connection => "connection",
        };
        write!(f, "{what} closed: {} {}", self.code, self.text)
    }
}

impl error::Error for Closed {}

/// What stood between a publish and its confirm, weakest first. The real broker confirms each of
/// these after a different wait, which is why confirms of one channel are not monotone: whoever
/// schedules them draws the latency from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfirmPath {
    /// Routed nowhere: confirmed at once, overtaking earlier tags (seen on 3.10.8).
    Unroutable,
    /// Once in the memory of its classic queues.
    Transient,
    /// Once a classic queue has synced it.
    Persistent,
    /// Once a majority of a quorum queue has it.
    Quorum,
}

/// What the broker sends, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// `basic.ack` or `basic.nack` of a publish. The model confirms one by one; coalescing into
    /// `multiple` is a matter of timing and belongs to whoever schedules the outputs.
    Confirm {
        /// The publishing channel.
        chan: ChanId,
        /// The publish tag.
        tag: u64,
        /// Whether every open tag up to this one is meant.
        multiple: bool,
        /// `false`: at least one queue refused. Other queues may have kept the message.
        ack: bool,
        /// What the confirm had to wait for.
        path: ConfirmPath,
    },
    /// `basic.return`; always before the confirm of the same publish.
    Return {
        /// The publishing channel.
        chan: ChanId,
        /// 312.
        code: u16,
        /// `NO_ROUTE`.
        text: &'static str,
        /// As published.
        exchange: Arc<str>,
        /// As published.
        routing_key: Arc<str>,
        /// As published.
        content: Arc<Content>,
    },
    /// `basic.deliver`.
    Deliver {
        /// The consumer's channel.
        chan: ChanId,
        /// The consumer.
        consumer_tag: Arc<str>,
        /// The message.
        delivery: Delivery,
    },
    /// `basic.cancel` from the broker.
    ConsumerCancelled {
        /// The consumer's channel, which stays open.
        chan: ChanId,
        /// The consumer.
        tag: Arc<str>,
    },
    /// The broker closed a channel. Exactly once for each; the call at fault also returns it.
    ChannelClosed {
        /// The channel.
        chan: ChanId,
        /// AMQP reply code.
        code: u16,
        /// AMQP reply text.
        text: String,
    },
    /// The broker closed a connection, or (code 0) died without a word.
    ConnectionClosed {
        /// The connection.
        conn: ConnId,
        /// AMQP reply code.
        code: u16,
        /// AMQP reply text.
        text: String,
    },
    /// `connection.blocked`: sent when a connection publishes during an alarm.
    Blocked {
        /// The connection.
        conn: ConnId,
    },
    /// `connection.unblocked`.
    Unblocked {
        /// The connection.
        conn: ConnId,
    },
}

/// How the node went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartKind {
    /// Connections are told (320), then the node stops and starts.
    Graceful,
    /// The process is killed. The machine, and so the page cache, survives.
    Kill,
}
