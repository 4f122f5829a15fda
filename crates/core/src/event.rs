//! Events: what is said, by whom it may be heard, and how it is told apart from its copies.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ports::env::Timestamp;

/// Largest payload that can be emitted, in bytes. Events carry facts and keys; what is larger
/// belongs into a store, with its key in the event.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// Who an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// For whoever listens: none, one or many queues.
    Fact,
    /// For exactly one consumer. A command bound to two queues is refused at start.
    Command,
}

impl Kind {
    /// The word for it in headers and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fact => "fact",
            Self::Command => "command",
        }
    }

    /// The reverse of [`Kind::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "fact" => Some(Self::Fact),
            "command" => Some(Self::Command),
            _ => None,
        }
    }
}

/// A type of event: what its payload is and how it travels.
///
/// ```
/// use redeliver_core::event::{Kind, Message};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct OrderPlaced { order: String, cents: u64 }
///
/// impl Message for OrderPlaced {
///     const TYPE: &'static str = "order.placed";
///     const KIND: Kind = Kind::Fact;
///     fn key(&self) -> String { self.order.clone() }
/// }
/// ```
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its name, `domain.what_happened`; also its routing key. The part before the first dot
    /// names the exchange, one per domain.
    const TYPE: &'static str;
    /// Fact or command.
    const KIND: Kind;
    /// The version of its payload's shape, from 1.
    const VERSION: u16 = 1;
    /// Whether events of one [`Message::key`] reach their consumer in the order of their
    /// commits. Later ones then wait behind a failing one.
    const ORDERED: bool = false;

    /// The business key: the order, the account, the customer that it is about.
    fn key(&self) -> String;

    /// The workflow that it belongs to; its business key unless said otherwise.
    fn workflow(&self) -> String {
        self.key()
    }

    /// Turns the payload of an older `version` into one of the current shape; `None` where that
    /// version is not understood (the event then goes to the dead letters).
    fn upcast(version: u16, payload: serde_json::Value) -> Option<serde_json::Value> {
        let _ = (version, payload);
        None
    }
}

/// One event as it travels. Cloned by `Arc`, never changed after it was put into the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Identity of this event, UUID v7; the same on every publish and delivery of it.
    pub id: Uuid,
    /// What makes two events the same piece of work. Chosen by the producer, stable across its
    /// own retries; the inbox knows work by it.
    pub idempotency_key: Arc<str>,
    /// Fact or command.
    pub kind: Kind,
    /// [`Message::TYPE`].
    pub event_type: Arc<str>,
    /// [`Message::VERSION`].
    pub version: u16,
    /// [`Message::key`].
    pub key: Arc<str>,
    /// [`Message::workflow`].
    pub workflow: Arc<str>,
    /// The first event of the chain that led here.
    pub correlation: Uuid,
    /// The event whose handling emitted this one.
    pub causation: Option<Uuid>,
    /// When it was emitted, by the producer's clock.
    pub time: Timestamp,
    /// W3C `traceparent`, handed on unchanged.
    pub trace: Option<Arc<str>>,
    /// For ordered events: number within type and key, from 1, without gaps. 0 before the outbox
    /// has numbered it.
    pub sequence: Option<u64>,
    /// JSON.
    pub payload: Bytes,
}

impl Event {
    /// The scope within which ordered events are numbered.
    pub fn order_scope(&self) -> String {
        [&*self.event_type, "/", &*self.key].concat()
    }

    /// Decodes the payload, upcasting an older version.
    ///
    /// # Errors
    /// [`Malformed`] with the reason: another type, a version that is not understood, or a
    /// payload of another shape.
    pub fn decode<M: Message>(&self) -> Result<M, Malformed> {
        let fail = |reason: MalformedReason, detail: String| Malformed {
            reason,
            detail,
            message_id: Some(self.id),
        };
        if *self.event_type != *M::TYPE {
            return Err(fail(
                MalformedReason::UnknownType,
                self.event_type.to_string(),
            ));
        }
        if self.version == M::VERSION {
            return serde_json::from_slice(&self.payload)
                .map_err(|e| fail(MalformedReason::Payload, e.to_string()));
        }
        let unknown = || {
            let text = format!("{} v{} (known: v{})", M::TYPE, self.version, M::VERSION);
            fail(MalformedReason::UnknownVersion, text)
        };
        if self.version > M::VERSION {
            return Err(unknown());
        }
        let old = serde_json::from_slice(&self.payload)
            .map_err(|e| fail(MalformedReason::Payload, e.to_string()))?;
        let new = M::upcast(self.version, old).ok_or_else(unknown)?;
        serde_json::from_value(new).map_err(|e| fail(MalformedReason::Payload, e.to_string()))
    }
}

/// The exchange of an event type: its domain.
pub fn exchange_of(event_type: &str) -> &str {
    event_type.split('.').next().unwrap_or(event_type)
}

/// An event with its address, as it stands in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The event.
    pub event: Arc<Event>,
    /// The exchange to publish to.
    pub exchange: Arc<str>,
    /// The routing key to publish with.
    pub routing_key: Arc<str>,
}

/// Why received bytes are not an event that can be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MalformedReason {
    /// A property or header is missing or has another type.
    Envelope,
    /// No handler of this queue knows the type.
    UnknownType,
    /// The version is newer than this consumer, or older than it can upcast.
    UnknownVersion,
    /// The payload is not JSON of the expected shape.
    Payload,
    /// Larger than the limit.
    TooLarge,
}

impl MalformedReason {
    /// The word for it in headers and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Envelope => "malformed-envelope",
            Self::UnknownType => "unknown-type",
            Self::UnknownVersion => "unknown-version",
            Self::Payload => "malformed-payload",
            Self::TooLarge => "too-large",
        }
    }
}

/// A message that cannot be handled, whatever is tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct Malformed {
    /// What is wrong.
    pub reason: MalformedReason,
    /// In detail, without the payload itself.
    pub detail: String,
    /// Its id where that could be read.
    pub message_id: Option<Uuid>,
}
