//! From a program's small numbers to names and tables of arguments, the same for both arms.

use lapin::types::{AMQPValue, FieldArray, FieldTable};

use super::program::{
    Again, ExchangeShape, ExchangeType, Expiration, Key, Kind, Message, Overflow, Program,
    QueueShape, TTL_MS, Via, WORDS,
};

/// How many tables of binding arguments there are.
pub(super) const ARGUMENTS: usize = 6;
/// How many tables of message headers there are.
pub(super) const HEADERS: usize = 4;

/// The names of one program: unique on the server.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) prefix: String,
    queues: usize,
    exchanges: usize,
}

pub(super) fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn number(value: impl Into<i64>) -> AMQPValue {
    AMQPValue::LongLongInt(value.into())
}

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

impl Names {
    pub(super) fn new(prefix: String, program: &Program) -> Self {
        Self {
            prefix,
            queues: program.queues.len(),
            exchanges: program.exchanges.len(),
        }
    }

    /// Which queue of the program is meant.
    pub(super) fn queue_at(&self, queue: usize) -> usize {
        queue % self.queues.max(1)
    }

    pub(super) fn exchange_at(&self, exchange: usize) -> usize {
        exchange % self.exchanges.max(1)
    }

    pub(super) fn queue(&self, queue: usize) -> String {
        format!("{}q{}", self.prefix, self.queue_at(queue))
    }

    pub(super) fn missing(&self) -> String {
        format!("{}missing", self.prefix)
    }

    /// Also where the program has no exchange: then it does not exist.
    pub(super) fn exchange(&self, exchange: usize) -> String {
        format!("{}x{}", self.prefix, self.exchange_at(exchange))
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.queues).map(|queue| self.queue(queue))
    }

    pub(super) fn exchanges(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.exchanges).map(|exchange| self.exchange(exchange))
    }

    pub(super) fn via(&self, via: Via) -> String {
        match via {
            Via::Default => String::new(),
            Via::Exchange(_) if self.exchanges == 0 => String::new(),
            Via::Exchange(exchange) => self.exchange(exchange),
            Via::Missing => self.missing(),
        }
    }

    pub(super) fn key(&self, key: Key) -> String {
        match key {
            Key::Word(word) => WORDS[word % WORDS.len()].to_owned(),
            Key::Queue(queue) => self.queue(queue),
        }
    }

    /// Arguments of `queue.declare`.
    pub(super) fn queue_arguments(&self, shape: &QueueShape) -> FieldTable {
        let mut arguments = Vec::new();
        if shape.kind == Kind::Quorum {
            arguments.push(("x-queue-type", long("quorum")));
        }
        if shape.ttl {
            arguments.push(("x-message-ttl", number(TTL_MS)));
        }
        if let Some(max) = shape.max_length {
            arguments.push(("x-max-length", number(max)));
        }
        if let Some(overflow) = shape.overflow {
            let word = match overflow {
                Overflow::DropHead => "drop-head",
                Overflow::RejectPublish => "reject-publish",
                Overflow::RejectPublishDlx => "reject-publish-dlx",
            };
            arguments.push(("x-overflow", long(word)));
        }
        if let Some(dead) = shape.dead_letters {
            arguments.push(("x-dead-letter-exchange", long(&self.via(dead.to))));
            if let Some(key) = dead.key {
                arguments.push(("x-dead-letter-routing-key", long(&self.key(key))));
            }
        }
        if let Some(limit) = shape.delivery_limit {
            arguments.push(("x-delivery-limit", number(limit)));
        }
        if shape.single_active {
            arguments.push(("x-single-active-consumer", AMQPValue::Boolean(true)));
        }
        table(&arguments)
    }

    /// Arguments of `exchange.declare`.
    pub(super) fn exchange_arguments(&self, shape: &ExchangeShape) -> FieldTable {
        match shape.alternate {
            Some(alternate) => table(&[("alternate-exchange", long(&self.exchange(alternate)))]),
            None => FieldTable::default(),
        }
    }

    /// Headers of a message.
    pub(super) fn headers(&self, message: &Message) -> Option<FieldTable> {
        let one = [("h", number(1)), ("g", number(2)), ("x-h", number(1))];
        let mut entries: Vec<_> = match message.headers % HEADERS {
            0 => Vec::new(),
            1 => one[..1].to_vec(),
            2 => one[..2].to_vec(),
            _ => one[1..].to_vec(),
        };
        for (name, keys) in [("CC", &message.cc), ("BCC", &message.bcc)] {
            if !keys.is_empty() {
                let keys: Vec<_> = keys.iter().map(|&key| long(&self.key(key))).collect();
                entries.push((name, AMQPValue::FieldArray(FieldArray::from(keys))));
            }
        }
        (!entries.is_empty()).then(|| table(&entries))
    }
}

/// Arguments of a binding; only a headers exchange looks at them.
pub(super) fn binding_arguments(which: usize) -> FieldTable {
    let matching = |how: &str| ("x-match", long(how));
    match which % ARGUMENTS {
        0 => FieldTable::default(),
        1 => table(&[matching("all"), ("h", number(1))]),
        2 => table(&[matching("any"), ("h", number(1)), ("g", number(3))]),
        3 => table(&[("h", AMQPValue::Void)]),
        4 => table(&[matching("all"), ("x-h", number(7)), ("g", number(2))]),
        _ => table(&[matching("any-with-x"), ("x-h", number(1))]),
    }
}

pub(super) fn expiration(expiration: Expiration) -> Option<String> {
    match expiration {
        Expiration::None => None,
        Expiration::Short => Some(TTL_MS.to_string()),
        Expiration::Zero => Some("0".to_owned()),
        Expiration::Bad => Some("soon".to_owned()),
    }
}

pub(super) fn exchange_type(kind: ExchangeType) -> &'static str {
    match kind {
        ExchangeType::Direct => "direct",
        ExchangeType::Fanout => "fanout",
        ExchangeType::Topic => "topic",
        ExchangeType::Headers => "headers",
    }
}

/// A queue as it is declared once more.
pub(super) fn otherwise(shape: &QueueShape, what: usize) -> QueueShape {
    let mut shape = *shape;
    match what % 8 {
        0 => shape.ttl = !shape.ttl,
        1 => shape.max_length = Some(shape.max_length.map_or(1, |max| max + 1)),
        2 => {
            shape.overflow = match shape.overflow {
                Some(Overflow::RejectPublish) => None,
                _ => Some(Overflow::RejectPublish),
            };
        }
        3 => {
            shape.dead_letters = match shape.dead_letters {
                Some(_) => None,
                None => Some(super::program::DeadLetters {
                    to: Via::Default,
                    key: None,
                }),
            };
        }
        4 => shape.single_active = !shape.single_active,
        5 => {
            shape.kind = match shape.kind {
                Kind::Classic => Kind::Quorum,
                Kind::Quorum => Kind::Classic,
            };
        }
        6 => shape.durable = !shape.durable,
        _ => shape.auto_delete = !shape.auto_delete,
    }
    shape
}

/// Arguments that no new queue may have.
pub(super) fn bad_arguments(which: usize) -> FieldTable {
    let quorum = ("x-queue-type", long("quorum"));
    match which % 6 {
        0 => table(&[("x-delivery-limit", number(1))]),
        1 => table(&[("x-dead-letter-routing-key", long("a"))]),
        2 => table(&[("x-message-ttl", number(-1))]),
        3 => table(&[("x-overflow", long("spill"))]),
        4 => table(&[quorum, ("x-max-length", long("many"))]),
        _ => table(&[("x-queue-type", long("quick"))]),
    }
}

/// The name and the shape with which a queue is declared, and whether passively.
pub(super) fn redeclared(
    names: &Names,
    shape: &QueueShape,
    queue: usize,
    how: Again,
) -> (String, QueueShape, FieldTable, bool) {
    let name = names.queue(queue);
    let arguments = |shape: &QueueShape| names.queue_arguments(shape);
    match how {
        Again::Same => (name, *shape, arguments(shape), false),
        Again::Passive => (name, *shape, FieldTable::default(), true),
        Again::Otherwise(what) => {
            let other = otherwise(shape, what);
            (name, other, arguments(&other), false)
        }
        Again::Missing => (names.missing(), *shape, FieldTable::default(), true),
        Again::Bad(which) => {
            let plain = QueueShape {
                durable: true,
                exclusive: false,
                auto_delete: false,
                ..*shape
            };
            (names.missing(), plain, bad_arguments(which), false)
        }
    }
}
