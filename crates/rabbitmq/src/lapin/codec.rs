//! Between lapin's messages and the port's.

use std::sync::Arc;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::ShortString;

use crate::amqp::{AmqpDelivery, AmqpError, ExchangeKind, Properties};

/// A short string: 255 bytes at most. The broker would close the connection with 502.
pub fn short(text: &str) -> Result<ShortString, AmqpError> {
    ShortString::try_new(text).map_err(|e| AmqpError::Channel {
        code: 502,
        text: format!("not sent: {e}"),
    })
}

pub fn exchange_kind(kind: ExchangeKind) -> lapin::ExchangeKind {
    match kind {
        ExchangeKind::Direct => lapin::ExchangeKind::Direct,
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        ExchangeKind::Headers => lapin::ExchangeKind::Headers,
        ExchangeKind::ConsistentHash => lapin::ExchangeKind::Custom("x-consistent-hash".into()),
    }
}

pub(super) fn to_lapin(properties: Properties) -> Result<BasicProperties, AmqpError> {
    let mut out = BasicProperties::default();
    if let Some(text) = properties.content_type {
        out = out.with_content_type(short(&text)?);
    }
    if let Some(mode) = properties.delivery_mode {
        out = out.with_delivery_mode(mode);
    }
    if let Some(text) = properties.message_id {
        out = out.with_message_id(short(&text)?);
    }
    if let Some(text) = properties.correlation_id {
        out = out.with_correlation_id(short(&text)?);
    }
    if let Some(seconds) = properties.timestamp {
        out = out.with_timestamp(seconds);
    }
    if let Some(text) = properties.kind {
        out = out.with_type(short(&text)?);
    }
    if let Some(text) = properties.app_id {
        out = out.with_app_id(short(&text)?);
    }
    if !properties.headers.inner().is_empty() {
        out = out.with_headers(properties.headers);
    }
    Ok(out)
}

fn shared(text: &ShortString) -> Arc<str> {
    Arc::from(text.as_str())
}

pub(super) fn delivery(from: Delivery) -> AmqpDelivery {
    let properties = &from.properties;
    let text = |value: &Option<ShortString>| value.as_ref().map(shared);
    AmqpDelivery {
        tag: from.delivery_tag,
        redelivered: from.redelivered,
        exchange: shared(&from.exchange),
        routing_key: shared(&from.routing_key),
        properties: Properties {
            content_type: text(properties.content_type()),
            delivery_mode: *properties.delivery_mode(),
            message_id: text(properties.message_id()),
            correlation_id: text(properties.correlation_id()),
            timestamp: *properties.timestamp(),
            kind: text(properties.kind()),
            app_id: text(properties.app_id()),
            headers: properties.headers().clone().unwrap_or_default(),
        },
        body: Bytes::from(from.data),
    }
}
