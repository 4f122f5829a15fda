//! Queue arguments: what they mean, which queue type takes them, and when two sets are alike.

use std::sync::Arc;

use amq_protocol_types::{AMQPValue, FieldTable};

/// Nanoseconds in a millisecond, the unit of every AMQP time.
pub(super) const MILLISECOND: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum QueueKind {
    #[default]
    Classic,
    Quorum,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Overflow {
    #[default]
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}

/// The delivery limit a queue asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DeliveryLimit {
    /// The profile's default.
    #[default]
    Default,
    /// None at all: -1, understood from 4.0.
    Off,
    At(u32),
}

/// The arguments of `queue.declare`, parsed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct QueueArgs {
    pub(super) kind: QueueKind,
    pub(super) message_ttl_ns: Option<u64>,
    pub(super) expires_ns: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) overflow: Overflow,
    pub(super) dead_letter_exchange: Option<Arc<str>>,
    pub(super) dead_letter_key: Option<Arc<str>>,
    pub(super) at_least_once: bool,
    pub(super) delivery_limit: DeliveryLimit,
    pub(super) single_active: bool,
    pub(super) consumer_timeout_ns: Option<u64>,
}

pub(super) fn as_text(value: &AMQPValue) -> Option<Arc<str>> {
    match value {
        AMQPValue::LongString(text) => str::from_utf8(text.as_bytes()).ok().map(Arc::from),
        AMQPValue::ShortString(text) => Some(Arc::from(text.as_str())),
        _ => None,
    }
}

pub(super) fn as_int(value: &AMQPValue) -> Option<i64> {
    Some(match *value {
        AMQPValue::ShortShortInt(n) => n.into(),
        AMQPValue::ShortShortUInt(n) => n.into(),
        AMQPValue::ShortInt(n) => n.into(),
        AMQPValue::ShortUInt(n) => n.into(),
        AMQPValue::LongInt(n) => n.into(),
        AMQPValue::LongUInt(n) => n.into(),
        AMQPValue::LongLongInt(n) => n,
        _ => return None,
    })
}

fn as_count(value: &AMQPValue) -> Option<u64> {
    as_int(value).and_then(|n| u64::try_from(n).ok())
}

fn as_millis(value: &AMQPValue) -> Option<u64> {
    as_count(value)?.checked_mul(MILLISECOND)
}

/// Arguments that a queue type ignores as far as this model goes, but takes.
const ACCEPTED: [&str; 6] = [
    "x-queue-mode",
    "x-queue-version",
    "x-queue-master-locator",
    "x-queue-leader-locator",
    "x-quorum-initial-group-size",
    "x-max-in-memory-length",
];

impl QueueArgs {
    /// Parses the table; the error is the name of the argument that is refused (406).
    pub(super) fn parse(table: &FieldTable, queue_timeout: bool) -> Result<Self, String> {
        let mut args = QueueArgs::default();
        for (name, value) in table {
            let name = name.as_str();
            if args.set(name, value).is_none() {
                return Err(name.to_owned());
            }
        }
        // A version that does not know an argument ignores it.
        if !queue_timeout {
            args.consumer_timeout_ns = None;
        }
        args.check(table)?;
        Ok(args)
    }

    fn set(&mut self, name: &str, value: &AMQPValue) -> Option<()> {
        match name {
            "x-queue-type" => {
                self.kind = match &*as_text(value)? {
                    "classic" => QueueKind::Classic,
                    "quorum" => QueueKind::Quorum,
                    _ => return None,
                }
            }
            "x-message-ttl" => self.message_ttl_ns = Some(as_millis(value)?),
            "x-expires" => self.expires_ns = Some(as_millis(value).filter(|&ns| ns > 0)?),
            "x-max-length" => self.max_length = Some(as_count(value)?),
            "x-max-length-bytes" => self.max_bytes = Some(as_count(value)?),
            "x-overflow" => {
                self.overflow = match &*as_text(value)? {
                    "drop-head" => Overflow::DropHead,
                    "reject-publish" => Overflow::RejectPublish,
                    "reject-publish-dlx" => Overflow::RejectPublishDlx,
                    _ => return None,
                }
            }
            "x-dead-letter-exchange" => self.dead_letter_exchange = Some(as_text(value)?),
            "x-dead-letter-routing-key" => self.dead_letter_key = Some(as_text(value)?),
            "x-dead-letter-strategy" => {
                self.at_least_once = match &*as_text(value)? {
                    "at-least-once" => true,
                    "at-most-once" => false,
                    _ => return None,
                }
            }
            "x-delivery-limit" => {
                self.delivery_limit = match as_int(value)? {
                    -1 => DeliveryLimit::Off,
                    n => DeliveryLimit::At(u32::try_from(n).ok()?),
                }
            }
            "x-single-active-consumer" => match value {
                AMQPValue::Boolean(on) => self.single_active = *on,
                _ => return None,
            },
            "x-consumer-timeout" => self.consumer_timeout_ns = Some(as_millis(value)?),
            // Not modelled, and so not silently accepted.
            "x-max-priority" => return None,
            name if ACCEPTED.contains(&name) => {}
            // RabbitMQ ignores arguments it does not know.
            _ => {}
        }
        Some(())
    }

    fn check(&mut self, table: &FieldTable) -> Result<(), String> {
        if self.dead_letter_key.is_some() && self.dead_letter_exchange.is_none() {
            return Err("x-dead-letter-routing-key".to_owned());
        }
        if self.kind == QueueKind::Classic {
            // Seen on 3.10.8 for the strategy: a classic queue refuses what it cannot do.
            for name in ["x-dead-letter-strategy", "x-delivery-limit"] {
                if table.contains_key(name) {
                    return Err(name.to_owned());
                }
            }
        } else {
            // Seen on 3.10.8: a quorum queue treats reject-publish-dlx as drop-head.
            if self.overflow == Overflow::RejectPublishDlx {
                self.overflow = Overflow::DropHead;
            }
            // Seen on 3.10.8: at-least-once without reject-publish falls back in silence.
            if self.overflow != Overflow::RejectPublish || self.dead_letter_exchange.is_none() {
                self.at_least_once = false;
            }
        }
        Ok(())
    }

    /// The first argument in which the two differ: what a redeclaration is refused for.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let checks = [
            (self.kind == other.kind, "x-queue-type"),
            (self.message_ttl_ns == other.message_ttl_ns, "x-message-ttl"),
            (self.expires_ns == other.expires_ns, "x-expires"),
            (self.max_length == other.max_length, "x-max-length"),
            (self.max_bytes == other.max_bytes, "x-max-length-bytes"),
            (self.overflow == other.overflow, "x-overflow"),
            (
                self.dead_letter_exchange == other.dead_letter_exchange,
                "x-dead-letter-exchange",
            ),
            (
                self.dead_letter_key == other.dead_letter_key,
                "x-dead-letter-routing-key",
            ),
            (
                self.at_least_once == other.at_least_once,
                "x-dead-letter-strategy",
            ),
            (
                self.delivery_limit == other.delivery_limit,
                "x-delivery-limit",
            ),
            (
                self.single_active == other.single_active,
                "x-single-active-consumer",
            ),
            (
                self.consumer_timeout_ns == other.consumer_timeout_ns,
                "x-consumer-timeout",
            ),
        ];
        checks.iter().find(|(same, _)| !same).map(|&(_, name)| name)
    }
}
