//! The story of a dead letter: the `x-death` table and its companions.

use std::sync::Arc;

use amq_protocol_types::{AMQPValue, FieldArray, FieldTable, ShortString};

use super::{
    arguments::{as_int, as_text},
    rules::{Bent, Rules},
    types::Properties,
};

/// Why a message was dead-lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeathReason {
    /// Rejected or nacked without requeue.
    Rejected,
    /// Its time to live ran out.
    Expired,
    /// The queue was over its length.
    MaxLen,
    /// It came back more often than the queue allows.
    DeliveryLimit,
}

impl DeathReason {
    /// The word used in `x-death`.
    pub const fn as_str(self) -> &'static str {
        match self {
            DeathReason::Rejected => "rejected",
            DeathReason::Expired => "expired",
            DeathReason::MaxLen => "maxlen",
            DeathReason::DeliveryLimit => "delivery_limit",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        use DeathReason::{DeliveryLimit, Expired, MaxLen, Rejected};
        [Rejected, Expired, MaxLen, DeliveryLimit]
            .into_iter()
            .find(|reason| reason.as_str() == word)
    }
}

/// One entry of `x-death`: all deaths in one queue for one reason.
#[derive(Clone, Debug)]
pub(super) struct Death {
    pub(super) queue: Arc<str>,
    pub(super) reason: DeathReason,
    pub(super) count: i64,
    /// Seconds since the epoch, of the first of them.
    pub(super) time: u64,
    pub(super) exchange: Arc<str>,
    pub(super) routing_keys: Vec<Arc<str>>,
    pub(super) original_expiration: Option<ShortString>,
}

/// Where a message died first.
#[derive(Clone, Debug)]
struct First {
    queue: Arc<str>,
    reason: Arc<str>,
    exchange: Arc<str>,
}

/// All deaths of a message, newest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Deaths {
    list: Vec<Death>,
    first: Option<First>,
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

impl Death {
    fn to_value(&self) -> AMQPValue {
        let keys: Vec<AMQPValue> = self.routing_keys.iter().map(|key| long(key)).collect();
        let mut table = FieldTable::default();
        table
            .insert("count".into(), AMQPValue::LongLongInt(self.count))
            .insert("reason".into(), long(self.reason.as_str()))
            .insert("queue".into(), long(&self.queue))
            .insert("time".into(), AMQPValue::Timestamp(self.time))
            .insert("exchange".into(), long(&self.exchange))
            .insert(
                "routing-keys".into(),
                AMQPValue::FieldArray(FieldArray::from(keys)),
            );
        if let Some(expiration) = &self.original_expiration {
            table.insert("original-expiration".into(), long(expiration.as_str()));
        }
        AMQPValue::FieldTable(table)
    }

    fn from_value(value: &AMQPValue) -> Option<Self> {
        let AMQPValue::FieldTable(table) = value else {
            return None;
        };
        let text = |name: &str| table.inner().get(name).and_then(as_text);
        let keys = match table.inner().get("routing-keys") {
            Some(AMQPValue::FieldArray(keys)) => {
                keys.as_slice().iter().filter_map(as_text).collect()
            }
            _ => Vec::new(),
        };
        Some(Death {
            queue: text("queue")?,
            reason: DeathReason::parse(&text("reason")?)?,
            count: table.inner().get("count").and_then(as_int).unwrap_or(1),
            time: match table.inner().get("time") {
                Some(AMQPValue::Timestamp(time)) => *time,
                _ => 0,
            },
            exchange: text("exchange").unwrap_or_default(),
            routing_keys: keys,
            original_expiration: text("original-expiration")
                .and_then(|text| ShortString::try_new(&*text).ok()),
        })
    }
}

impl Deaths {
    /// The deaths that a client published as headers.
    pub(super) fn from_headers(properties: &Properties) -> Self {
        let mut deaths = Deaths::default();
        if let Some(AMQPValue::FieldArray(list)) = properties.header("x-death") {
            deaths.list = list
                .as_slice()
                .iter()
                .filter_map(Death::from_value)
                .collect();
        }
        let text = |name: &str| properties.header(name).and_then(as_text);
        deaths.first = text("x-first-death-reason").map(|reason| First {
            reason,
            queue: text("x-first-death-queue").unwrap_or_default(),
            exchange: text("x-first-death-exchange").unwrap_or_default(),
        });
        deaths
    }

    /// Adds a death. Seen on 3.10.8: one entry for each queue and reason, moved to the front with
    /// its count raised; everything else in it stays as it was the first time. What is behind it
    /// is turned round each time: of three deaths the newest is followed by the oldest.
    pub(super) fn add(&mut self, death: Death, rules: &Rules) {
        if self.first.is_none() {
            self.first = Some(First {
                queue: death.queue.clone(),
                reason: death.reason.as_str().into(),
                exchange: death.exchange.clone(),
            });
        }
        let same = |old: &Death| old.queue == death.queue && old.reason == death.reason;
        let entry = match self.list.iter().position(same) {
            Some(at) => {
                let mut old = self.list.remove(at);
                old.count += i64::from(!rules.is_bent(Bent::CountsEveryDeathAsTheFirst));
                old
            }
            None => death,
        };
        if rules.turns_deaths_round {
            self.list.reverse();
        }
        self.list.insert(0, entry);
    }

    /// Why it died last.
    pub(super) fn last(&self) -> Option<DeathReason> {
        self.list.first().map(|death| death.reason)
    }

    /// Whether a message that reached `queue` again has been carried round by the broker alone.
    /// Such a message is dropped in silence; one rejection on the way breaks the cycle (seen on
    /// 3.10.8).
    pub(super) fn is_cycle(&self, queue: &str) -> bool {
        let Some(end) = self.list.iter().position(|death| &*death.queue == queue) else {
            return false;
        };
        self.list[..=end]
            .iter()
            .all(|death| death.reason != DeathReason::Rejected)
    }

    /// Writes the headers that tell of the deaths.
    pub(super) fn write(&self, headers: &mut FieldTable, rules: &Rules) {
        let list: Vec<AMQPValue> = self.list.iter().map(Death::to_value).collect();
        headers.insert(
            "x-death".into(),
            AMQPValue::FieldArray(FieldArray::from(list)),
        );
        if let Some(first) = &self.first {
            headers
                .insert("x-first-death-queue".into(), long(&first.queue))
                .insert("x-first-death-reason".into(), long(&first.reason))
                .insert("x-first-death-exchange".into(), long(&first.exchange));
        }
        if let Some(last) = self.list.first().filter(|_| rules.last_death_headers) {
            headers
                .insert("x-last-death-queue".into(), long(&last.queue))
                .insert("x-last-death-reason".into(), long(last.reason.as_str()))
                .insert("x-last-death-exchange".into(), long(&last.exchange));
        }
    }
}
