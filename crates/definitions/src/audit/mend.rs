//! Commands to copy, and all that is needed as definitions to import.

use serde_json::{Map, Value, json};

use crate::definitions::{Binding, Definitions, Exchange, Policy, Queue};
use crate::existing::Existing;
use redeliver_core::event::exchange_of;
use redeliver_core::topology::Topology;
use redeliver_rabbitmq::amqp::{AMQPValue, FieldTable};
use redeliver_rabbitmq::topology::queues;

/// So many bytes are in no queue.
pub(super) const NO_LIMIT: i64 = 1 << 53;

/// For a shell, as one word.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A word with its key, for rabbitmqadmin.
fn word(key: &str, value: &str) -> String {
    match value {
        "" => format!("{key}=''"),
        value => format!("{key}={}", quoted(value)),
    }
}

fn admin(vhost: &str) -> String {
    format!("rabbitmqadmin --vhost={}", quoted(vhost))
}

pub(super) fn declare_exchange(vhost: &str, name: &str, kind: &str) -> String {
    let (admin, name) = (admin(vhost), word("name", name));
    format!("{admin} declare exchange {name} type={kind} durable=true")
}

pub(super) fn declare_queue(vhost: &str, name: &str, arguments: &FieldTable) -> String {
    let (admin, name) = (admin(vhost), word("name", name));
    let arguments = quoted(&Value::Object(table(arguments)).to_string());
    format!("{admin} declare queue {name} durable=true arguments={arguments}")
}

/// Deleting is left to whoever knows what is in it: `if-empty` stands in the way of the rest.
pub(super) fn declare_anew(vhost: &str, name: &str, declare: &str) -> String {
    let vhost = quoted(vhost);
    let delete = format!(
        "rabbitmqctl delete_queue -p {vhost} --if-empty {}",
        quoted(name)
    );
    format!("{delete} && {declare}")
}

pub(super) fn bind(vhost: &str, exchange: &str, queue: &str, key: &str) -> String {
    format!(
        "{} declare binding {} {} destination_type=queue {}",
        admin(vhost),
        word("source", exchange),
        word("destination", queue),
        word("routing_key", key)
    )
}

/// A policy for this queue alone, which says what the one before said and this.
pub(super) fn set_policy(
    there: &Definitions,
    vhost: &str,
    queue: &Queue,
    changes: Vec<(&str, Option<Value>)>,
) -> String {
    let old = there.policy(vhost, queue).ok().flatten();
    let mut definition = changed(old, changes);
    if definition.is_empty() {
        // A policy has to say something; this is what holds anyway.
        definition.insert("overflow".to_owned(), json!("drop-head"));
    }
    set("set_policy", old, vhost, queue, definition)
}

/// The same of what operators have limited.
pub(super) fn set_operator_policy(
    there: &Definitions,
    vhost: &str,
    queue: &Queue,
    changes: Vec<(&str, Option<Value>)>,
) -> String {
    let old = there.operator_policy(vhost, queue).ok().flatten();
    let mut definition = changed(old.as_ref(), changes);
    if definition.is_empty() {
        // A policy has to say something.
        definition.insert("max-length-bytes".to_owned(), json!(NO_LIMIT));
    }
    set(
        "set_operator_policy",
        old.as_ref(),
        vhost,
        queue,
        definition,
    )
}

fn changed(old: Option<&Policy>, changes: Vec<(&str, Option<Value>)>) -> Map<String, Value> {
    let mut definition = old.map_or_else(Map::new, |old| old.definition.clone());
    for (key, value) in changes {
        match value {
            Some(value) => definition.insert(key.to_owned(), value),
            None => definition.remove(key),
        };
    }
    definition
}

fn set(
    command: &str,
    old: Option<&Policy>,
    vhost: &str,
    queue: &Queue,
    definition: Map<String, Value>,
) -> String {
    let priority = old.map_or(0, |old| old.priority.saturating_add(1));
    format!(
        "rabbitmqctl {command} -p {} --apply-to queues --priority {priority} {} {} {}",
        quoted(vhost),
        quoted(&format!("redeliver.{}", queue.name)),
        quoted(&format!("^{}$", escape(&queue.name))),
        quoted(&Value::Object(definition).to_string()),
    )
}

/// A name as a regular expression.
pub(crate) fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for c in name.chars() {
        if !c.is_alphanumeric() && !"-_/:@ ".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn table(arguments: &FieldTable) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, value) in arguments {
        let value = match value {
            AMQPValue::LongString(text) => json!(String::from_utf8_lossy(text.as_bytes())),
            AMQPValue::Boolean(on) => json!(on),
            AMQPValue::LongInt(n) => json!(n),
            AMQPValue::LongUInt(n) => json!(n),
            AMQPValue::LongLongInt(n) => json!(n),
            other => unreachable!("no queue of ours has an argument {other:?}"),
        };
        map.insert(name.to_string(), value);
    }
    map
}

/// Everything that a pipeline needs, as definitions to import. Importing creates what is missing
/// and changes nothing that is there.
pub fn needed(existing: &Existing, topology: &Topology) -> Definitions {
    let names = existing.names();
    let vhost = Some(existing.vhost_name().to_owned());
    let mut all = Definitions::default();
    let mut exchange = |name: &str, kind: &str| {
        all.exchanges.push(Exchange {
            name: name.to_owned(),
            vhost: vhost.clone(),
            kind: kind.to_owned(),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Map::new(),
        });
    };
    for domain in &topology.exchanges {
        exchange(&names.exchange(domain), "topic");
    }
    for rung in &topology.rungs {
        exchange(&names.delay(*rung), "fanout");
    }
    for spec in queues(names, topology) {
        all.queues.push(Queue {
            name: spec.name.to_string(),
            vhost: vhost.clone(),
            durable: true,
            auto_delete: false,
            arguments: table(&spec.arguments),
        });
    }
    let mut bind = |source: &str, queue: &str, key: &str| {
        all.bindings.push(Binding {
            source: source.to_owned(),
            vhost: vhost.clone(),
            destination: queue.to_owned(),
            destination_type: "queue".to_owned(),
            routing_key: key.to_owned(),
            arguments: Map::new(),
        });
    };
    for subscription in &topology.subscriptions {
        let queue = names.queue(&subscription.consumer);
        for (event_type, _) in &subscription.types {
            bind(&names.exchange(exchange_of(event_type)), &queue, event_type);
        }
    }
    for rung in &topology.rungs {
        bind(&names.delay(*rung), &names.delay_queue(*rung), "");
    }
    all
}
