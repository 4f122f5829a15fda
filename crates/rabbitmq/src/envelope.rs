//! Events as AMQP messages, and back.
//!
//! What operators look for stands where AMQP has a property for it (`message_id`, `type`,
//! `correlation_id`, `timestamp`); the rest stands in headers of our own. Attempts travel in such
//! a header too: from 4.0 RabbitMQ ignores an `x-death` that a client publishes.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::amqp::{
    AMQPValue, AmqpChannel, AmqpDelivery, AmqpError, FieldTable, Properties, Publish, Unwritten,
};
use redeliver_core::dead_letter::{DeadLetter, Reason};
use redeliver_core::event::{Event, Kind, Malformed, MalformedReason};
use redeliver_core::ports::Timestamp;

/// The header that carries the idempotency key.
pub const KEY: &str = "redeliver-key";
/// The header that carries the attempt.
pub const ATTEMPT: &str = "redeliver-attempt";
const KIND: &str = "redeliver-kind";
const VERSION: &str = "redeliver-version";
const BUSINESS_KEY: &str = "redeliver-business-key";
const WORKFLOW: &str = "redeliver-workflow";
const CAUSATION: &str = "redeliver-causation";
const SEQUENCE: &str = "redeliver-sequence";
const TIME: &str = "redeliver-time";
const TRACE: &str = "traceparent";
const FIRST_FAILURE: &str = "redeliver-first-failure";
const PARKED: &str = "redeliver-parked";
const EXCHANGE: &str = "redeliver-exchange";
const ROUTING_KEY: &str = "redeliver-routing-key";
const DEAD: &str = "redeliver-dead";

/// What travels with an event from delivery to delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Travel {
    /// The attempt that this message is.
    pub attempt: u32,
    /// When the first attempt failed.
    pub first_failure: Option<Timestamp>,
    /// How often it was parked.
    pub parked: u32,
    /// The exchange and routing key it was first published with, where this copy was not.
    pub origin: Option<(Arc<str>, Arc<str>)>,
}

impl Travel {
    /// Of a message that the relay publishes.
    pub const FRESH: Self = Self {
        attempt: 1,
        first_failure: None,
        parked: 0,
        origin: None,
    };
}

/// An event with what travels beside it: all that [`encode`] writes and [`decode`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The event.
    pub event: Arc<Event>,
    /// What travels beside it.
    pub travel: Travel,
}

impl Envelope {
    /// What decoding gives after encoding: times in whole microseconds.
    pub fn of(event: &Arc<Event>, travel: &Travel) -> Self {
        let whole = |at: Timestamp| Timestamp::from_micros(at.micros());
        let mut envelope = Self {
            event: event.clone(),
            travel: travel.clone(),
        };
        if whole(event.time) != event.time {
            envelope.event = Arc::new(Event {
                time: whole(event.time),
                ..Event::clone(event)
            });
        }
        envelope.travel.first_failure = travel.first_failure.map(whole);
        envelope
    }
}

impl Unwritten for Envelope {
    fn properties(&self) -> Properties {
        encode(&self.event, &self.travel).0
    }

    fn body(&self) -> &Bytes {
        &self.event.payload
    }

    fn subject(&self) -> (&str, u32) {
        (&self.event.idempotency_key, self.travel.attempt)
    }
}

/// Sends an event, as mandatory.
///
/// # Errors
/// As [`AmqpChannel::publish`].
pub async fn publish<C: AmqpChannel>(
    channel: &C,
    exchange: Arc<str>,
    routing_key: Arc<str>,
    event: &Arc<Event>,
    travel: &Travel,
) -> Result<C::Confirm, AmqpError> {
    if C::HANDS_ON {
        let envelope = Envelope::of(event, travel);
        debug_assert_eq!(
            encode(event, travel),
            encode(&envelope.event, &envelope.travel),
            "what is handed on is what would be written"
        );
        let envelope = Arc::new(envelope);
        return channel.publish_known(exchange, routing_key, envelope).await;
    }
    let (properties, body) = encode(event, travel);
    let message = Publish {
        exchange,
        routing_key,
        mandatory: true,
        properties,
        body,
    };
    channel.publish(message).await
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

static JSON: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("application/json"));

fn uuid_text(id: Uuid) -> Arc<str> {
    Arc::from(&*id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

fn int(value: u32) -> AMQPValue {
    AMQPValue::LongInt(i32::try_from(value).unwrap_or(i32::MAX))
}

fn micros(at: Timestamp) -> AMQPValue {
    AMQPValue::LongLongInt(at.micros())
}

/// Encodes an event. The payload is shared, not copied.
pub fn encode(event: &Event, travel: &Travel) -> (Properties, Bytes) {
    let mut headers = FieldTable::default();
    let mut put = |name: &str, value| {
        headers.insert(name.into(), value);
    };
    put(KEY, text(&event.idempotency_key));
    put(KIND, text(event.kind.as_str()));
    put(VERSION, int(u32::from(event.version)));
    put(BUSINESS_KEY, text(&event.key));
    put(WORKFLOW, text(&event.workflow));
    put(TIME, micros(event.time));
    put(ATTEMPT, int(travel.attempt));
    if let Some(causation) = event.causation {
        let mut buffer = Uuid::encode_buffer();
        put(
            CAUSATION,
            text(causation.hyphenated().encode_lower(&mut buffer)),
        );
    }
    if let Some(sequence) = event.sequence {
        put(
            SEQUENCE,
            AMQPValue::LongLongInt(i64::try_from(sequence).unwrap_or(i64::MAX)),
        );
    }
    if let Some(trace) = &event.trace {
        put(TRACE, text(trace));
    }
    if let Some(first) = travel.first_failure {
        put(FIRST_FAILURE, micros(first));
    }
    if travel.parked > 0 {
        put(PARKED, int(travel.parked));
    }
    if let Some((exchange, routing_key)) = &travel.origin {
        put(EXCHANGE, text(exchange));
        put(ROUTING_KEY, text(routing_key));
    }
    let properties = Properties {
        content_type: Some(JSON.clone()),
        delivery_mode: Some(2),
        message_id: Some(uuid_text(event.id)),
        correlation_id: Some(uuid_text(event.correlation)),
        timestamp: Some(event.time.millis() / 1_000),
        kind: Some(event.event_type.clone()),
        app_id: None,
        headers,
    };
    (properties, event.payload.clone())
}

/// Decodes what a delivery says beside its event; fit for any message.
pub fn travel_of(delivery: &AmqpDelivery) -> Travel {
    let headers = &delivery.properties.headers;
    let count = |name| get_int(headers, name).and_then(|n| u32::try_from(n).ok());
    let origin = get_text(headers, EXCHANGE).zip(get_text(headers, ROUTING_KEY));
    Travel {
        attempt: count(ATTEMPT).unwrap_or(1).max(1),
        first_failure: get_int(headers, FIRST_FAILURE).map(Timestamp::from_micros),
        parked: count(PARKED).unwrap_or(0),
        origin: origin.map(|(exchange, key)| (Arc::from(exchange), Arc::from(key))),
    }
}

/// Decodes an event.
///
/// # Errors
/// [`Malformed`] names the first property or header that is missing or has another type.
pub fn decode(delivery: &AmqpDelivery, max_payload: usize) -> Result<Event, Malformed> {
    let properties = &delivery.properties;
    let headers = &properties.headers;
    let message_id = properties
        .message_id
        .as_deref()
        .and_then(|id| Uuid::parse_str(id).ok());
    let malformed = |reason, detail: String| Malformed {
        reason,
        detail,
        message_id,
    };
    let missing = |what: &str| {
        malformed(
            MalformedReason::Envelope,
            format!("{what} is missing or has another type"),
        )
    };
    let need = |name| get_text(headers, name).ok_or_else(|| missing(name));
    if delivery.body.len() > max_payload {
        let size = delivery.body.len();
        let what = format!("payload of {size} bytes, {max_payload} are allowed");
        return Err(malformed(MalformedReason::TooLarge, what));
    }
    let id = message_id.ok_or_else(|| missing("message_id"))?;
    let uuid = |text: Option<&str>| text.and_then(|text| Uuid::parse_str(text).ok());
    let version = get_int(headers, VERSION).and_then(|v| u16::try_from(v).ok());
    Ok(Event {
        id,
        idempotency_key: Arc::from(need(KEY)?),
        kind: Kind::parse(need(KIND)?).ok_or_else(|| missing(KIND))?,
        event_type: properties.kind.clone().ok_or_else(|| missing("type"))?,
        version: version.ok_or_else(|| missing(VERSION))?,
        key: Arc::from(need(BUSINESS_KEY)?),
        workflow: Arc::from(need(WORKFLOW)?),
        correlation: uuid(properties.correlation_id.as_deref()).unwrap_or(id),
        causation: uuid(get_text(headers, CAUSATION)),
        time: get_int(headers, TIME).map_or(Timestamp(0), Timestamp::from_micros),
        trace: get_text(headers, TRACE).map(Arc::from),
        sequence: get_int(headers, SEQUENCE).and_then(|n| u64::try_from(n).ok()),
        payload: delivery.body.clone(),
    })
}

/// Adds the story of a dead letter to a message's headers.
pub fn add_story(properties: &mut Properties, story: &DeadLetter) {
    let mut put = |name: &str, value| {
        properties
            .headers
            .insert(format!("{DEAD}-{name}").into(), value);
    };
    put("reason", text(story.reason.as_str()));
    put("class", text(&story.class));
    put("error", text(&story.error));
    put("attempts", int(story.attempts));
    put("first-failure", micros(story.first_failure));
    put("last-failure", micros(story.last_failure));
    put("consumer", text(&story.consumer));
    put("queue", text(&story.queue));
    put("exchange", text(&story.exchange));
    put("routing-key", text(&story.routing_key));
    put("worker", text(&story.worker));
}

/// Reads the story of a dead letter; none where the message carries none.
pub fn story_of(delivery: &AmqpDelivery) -> Option<DeadLetter> {
    let headers = &delivery.properties.headers;
    let word = |name: &str| get_text(headers, &format!("{DEAD}-{name}"));
    let shared = |name: &str| word(name).map(Arc::from);
    let number = |name: &str| get_int(headers, &format!("{DEAD}-{name}"));
    Some(DeadLetter {
        reason: Reason::parse(word("reason")?)?,
        class: shared("class")?,
        error: word("error")?.to_owned(),
        attempts: u32::try_from(number("attempts")?).ok()?,
        first_failure: Timestamp::from_micros(number("first-failure")?),
        last_failure: Timestamp::from_micros(number("last-failure")?),
        consumer: shared("consumer")?,
        queue: shared("queue")?,
        exchange: shared("exchange")?,
        routing_key: shared("routing-key")?,
        worker: shared("worker")?,
    })
}

/// How the broker itself gave a message up: the newest entry of its `x-death`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// `rejected`, `expired`, `maxlen` or `delivery_limit`, as the broker writes it.
    pub reason: Arc<str>,
    /// The queue in which it died.
    pub queue: Arc<str>,
}

/// Reads how the broker gave a message up last; none where it never did.
pub fn death_of(delivery: &AmqpDelivery) -> Option<Death> {
    let headers = &delivery.properties.headers;
    let AMQPValue::FieldArray(deaths) = headers.inner().get("x-death")? else {
        return None;
    };
    let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else {
        return None;
    };
    Some(Death {
        reason: Arc::from(get_text(last, "reason")?),
        queue: Arc::from(get_text(last, "queue")?),
    })
}

fn get_text<'a>(headers: &'a FieldTable, name: &str) -> Option<&'a str> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn get_int(headers: &FieldTable, name: &str) -> Option<i64> {
    Some(match headers.inner().get(name)? {
        AMQPValue::ShortShortInt(n) => i64::from(*n),
        AMQPValue::ShortInt(n) => i64::from(*n),
        AMQPValue::LongInt(n) => i64::from(*n),
        AMQPValue::LongLongInt(n) => *n,
        AMQPValue::LongUInt(n) => i64::from(*n),
        _ => return None,
    })
}

/// Milliseconds for a TTL argument.
pub(super) fn ttl(delay: Duration) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX))
}
