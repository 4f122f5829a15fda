//! Exchanges: which queues a routing key reaches.

use std::sync::Arc;

use amq_protocol_types::{AMQPValue, FieldTable};

use super::{
    arguments::as_text,
    names::Names,
    queue::QueueIx,
    types::{ExchangeKind, Properties},
};
use crate::choice::name;

#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) queue: QueueIx,
    pub(super) key: Arc<str>,
    pub(super) arguments: FieldTable,
}

#[derive(Clone)]
pub(super) struct Exchange {
    pub(super) name: Arc<str>,
    pub(super) kind: ExchangeKind,
    pub(super) durable: bool,
    pub(super) internal: bool,
    pub(super) alternate: Option<Arc<str>>,
    bindings: Vec<Binding>,
    /// The bindings of a direct exchange by key, in the order in which they were made.
    by_key: Names<Vec<QueueIx>>,
}

fn add(queue: QueueIx, to: &mut Vec<QueueIx>) {
    if !to.contains(&queue) {
        to.push(queue);
    }
}

impl Exchange {
    pub(super) fn new(name: Arc<str>, kind: ExchangeKind) -> Self {
        Exchange {
            name,
            kind,
            durable: true,
            internal: false,
            alternate: None,
            bindings: Vec::new(),
            by_key: Names::default(),
        }
    }

    /// All bindings, in the order in which they were made.
    pub(super) fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// Binding twice is binding once.
    pub(super) fn bind(&mut self, binding: Binding) {
        let same = |other: &Binding| {
            other.queue == binding.queue
                && other.key == binding.key
                && other.arguments == binding.arguments
        };
        if self.bindings.iter().any(same) {
            return;
        }
        if self.kind == ExchangeKind::Direct {
            add(
                binding.queue,
                self.by_key.entry_or_default(binding.key.clone()),
            );
        }
        self.bindings.push(binding);
    }

    /// Keeps the bindings of which `keep` holds.
    pub(super) fn retain(&mut self, keep: impl Fn(&Binding) -> bool) {
        self.bindings.retain(keep);
        self.by_key.clear();
        if self.kind == ExchangeKind::Direct {
            for binding in &self.bindings {
                add(
                    binding.queue,
                    self.by_key.entry_or_default(binding.key.clone()),
                );
            }
        }
    }

    /// The queue of that key: each has as many buckets as its binding key says.
    fn by_hash(&self, key: &str) -> Option<QueueIx> {
        let weight = |binding: &Binding| binding.key.parse::<u32>().unwrap_or(0);
        let buckets = self.bindings.iter().map(weight).sum();
        let mut bucket = jump(name(key), buckets)?;
        let found = self.bindings.iter().find(|binding| {
            let before = bucket;
            bucket = bucket.saturating_sub(weight(binding));
            before < weight(binding)
        });
        found.map(|binding| binding.queue)
    }

    /// Adds the queues that this key and these headers reach, each once, in binding order.
    pub(super) fn route(&self, key: &str, properties: &Properties, to: &mut Vec<QueueIx>) {
        if self.kind == ExchangeKind::Direct {
            for &queue in self.by_key.get(key).into_iter().flatten() {
                add(queue, to);
            }
            return;
        }
        if self.kind == ExchangeKind::ConsistentHash {
            to.extend(self.by_hash(key).filter(|queue| !to.contains(queue)));
            return;
        }
        for binding in &self.bindings {
            let matches = match self.kind {
                ExchangeKind::Direct | ExchangeKind::Fanout | ExchangeKind::ConsistentHash => true,
                ExchangeKind::Topic => topic_matches(&binding.key, key),
                ExchangeKind::Headers => {
                    headers_match(&binding.arguments, properties.written().headers.as_ref())
                }
            };
            if matches {
                add(binding.queue, to);
            }
        }
    }
}

/// The bucket of a hash (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm"):
/// a further bucket takes its share of the keys and moves no others.
fn jump(mut hash: u64, buckets: u32) -> Option<u32> {
    let (mut bucket, mut next) = (None, 0);
    while next < buckets {
        bucket = Some(next);
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let draw = (hash >> 33) + 1;
        next = u32::try_from((u64::from(next) + 1) * (1 << 31) / draw).unwrap_or(u32::MAX);
    }
    bucket
}

/// Whether a topic pattern takes a key: `*` is exactly one word, `#` any number of words.
pub(super) fn topic_matches(pattern: &str, key: &str) -> bool {
    /// The first word and the rest; no text is no words.
    fn split(text: Option<&str>) -> Option<(&str, Option<&str>)> {
        text.map(|text| match text.split_once('.') {
            Some((word, rest)) => (word, Some(rest)),
            None => (text, None),
        })
    }
    fn matches(pattern: Option<&str>, key: Option<&str>) -> bool {
        match split(pattern) {
            None => key.is_none(),
            Some(("#", rest)) => {
                matches(rest, key) || split(key).is_some_and(|(_, key)| matches(pattern, key))
            }
            Some((word, rest)) => split(key)
                .is_some_and(|(first, key)| (word == "*" || word == first) && matches(rest, key)),
        }
    }
    let words = |text| Some(text).filter(|text: &&str| !text.is_empty());
    matches(words(pattern), words(key))
}

/// Whether a headers binding takes a message. Arguments that begin with `x-` count only with
/// `all-with-x` and `any-with-x` (documented, 3.10).
fn headers_match(arguments: &FieldTable, headers: Option<&FieldTable>) -> bool {
    let mode = arguments.inner().get("x-match").and_then(as_text);
    let mode = mode.as_deref().unwrap_or("all");
    let with_x = mode.ends_with("-with-x");
    let mut wanted = arguments.into_iter().filter(|(name, _)| {
        let name = name.as_str();
        name != "x-match" && (with_x || !name.starts_with("x-"))
    });
    let has = |name: &str, value: &AMQPValue| {
        let found = headers.and_then(|headers| headers.inner().get(name));
        // A binding value without content asks only for the header's presence.
        found.is_some_and(|found| *value == AMQPValue::Void || found == value)
    };
    if mode.starts_with("any") {
        wanted.any(|(name, value)| has(name.as_str(), value))
    } else {
        wanted.all(|(name, value)| has(name.as_str(), value))
    }
}
