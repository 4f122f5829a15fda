//! RabbitMQ's `definitions.json`, as `rabbitmqctl export_definitions` and the management pages
//! write it, and what it comes to: policies and arguments put together by RabbitMQ's rules.
//!
//! Keys that are not named here are let pass: newer versions have more of them.

use fancy_regex::Regex;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

mod policy;

pub use policy::Setting;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Definitions {
    /// The version that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rabbit_version: Option<String>,
    /// The same by its other name: RabbitMQ writes one, or both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rabbitmq_version: Option<String>,
    /// Accounts.
    pub users: Vec<Named>,
    /// Virtual hosts.
    pub vhosts: Vec<Named>,
    /// What accounts may do.
    pub permissions: Vec<Permission>,
    /// With which routing keys they may do it.
    pub topic_permissions: Vec<TopicPermission>,
    /// Settings of plugins, shovels, federation and operators among them.
    pub parameters: Vec<Parameter>,
    /// Policies.
    pub policies: Vec<Policy>,
    /// Queues.
    pub queues: Vec<Queue>,
    /// Exchanges, without those that are always there.
    pub exchanges: Vec<Exchange>,
    /// Bindings.
    pub bindings: Vec<Binding>,
}

/// Something of which only the name matters here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
}

/// What an account may do in a virtual host. Regular expressions, found anywhere in a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as RabbitMQ calls them")]
pub struct Permission {
    pub user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    pub configure: String,
    pub write: String,
    pub read: String,
}

/// The routing keys with which an account may use an exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as RabbitMQ calls them")]
pub struct TopicPermission {
    pub user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    pub exchange: String,
    pub write: String,
    pub read: String,
}

/// A setting of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as RabbitMQ calls them")]
pub struct Parameter {
    pub component: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    pub name: String,
    pub value: Value,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as RabbitMQ calls them")]
pub struct Policy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    pub name: String,
    pub pattern: String,
    #[serde(rename = "apply-to", default = "all")]
    pub apply_to: String,
    #[serde(default)]
    pub priority: i64,
    #[serde(deserialize_with = "map_or_pairs")]
    pub definition: Map<String, Value>,
}

/// Of policies of operators `rabbitmqctl export_definitions` writes pairs (seen on 3.10.8), the
/// management pages a map.
fn map_or_pairs<'de, D: Deserializer<'de>>(from: D) -> Result<Map<String, Value>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a map, or an array of pairs")]
    enum Either {
        Map(Map<String, Value>),
        Pairs(Vec<(String, Value)>),
    }
    Ok(match Either::deserialize(from)? {
        Either::Map(map) => map,
        Either::Pairs(pairs) => pairs.into_iter().collect(),
    })
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as RabbitMQ calls them")]
pub struct Queue {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    #[serde(default = "yes")]
    pub durable: bool,
    #[serde(default)]
    pub auto_delete: bool,
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

/// An exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as RabbitMQ calls them")]
pub struct Exchange {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default = "yes")]
    pub durable: bool,
    #[serde(default)]
    pub auto_delete: bool,
    #[serde(default)]
    pub internal: bool,
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as RabbitMQ calls them")]
pub struct Binding {
    pub source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    pub destination: String,
    #[serde(default = "to_queue")]
    pub destination_type: String,
    #[serde(default)]
    pub routing_key: String,
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

fn all() -> String {
    "all".to_owned()
}

fn yes() -> bool {
    true
}

fn to_queue() -> String {
    "queue".to_owned()
}

/// A file that is no definitions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}\n  help: {help}", place = self.place())]
pub struct NotDefinitions {
    /// Line and column, from 1.
    pub place: Option<(usize, usize)>,
    /// What is wrong there.
    pub what: String,
    /// What to do.
    pub help: &'static str,
}

impl NotDefinitions {
    /// The same of a file of this name.
    pub fn of_file(&self, path: &str) -> String {
        let place = match self.place {
            Some((line, column)) => format!(":{line}:{column}"),
            None => String::new(),
        };
        format!("{path}{place}: {}\n  help: {}", self.what, self.help)
    }

    fn place(&self) -> String {
        match self.place {
            Some((line, column)) => format!("definitions, line {line}, column {column}"),
            None => "definitions".to_owned(),
        }
    }
}

const HELP: &str = "export it anew: rabbitmqctl export_definitions definitions.json";

/// Of things that are exported for one virtual host alone the name of that one is left out.
pub fn is_in(own: Option<&String>, vhost: &str) -> bool {
    own.is_none_or(|own| own == vhost)
}

/// Whether a name matches a pattern of RabbitMQ's.
///
/// # Errors
/// What is wrong with the pattern, in words.
pub fn matches(pattern: &str, name: &str) -> Result<bool, String> {
    // An empty permission stands for none (source of 3.10.8, rabbit_auth_backend_internal).
    let pattern = if pattern.is_empty() { "^$" } else { pattern };
    is_match(pattern, name)
}

fn is_match(pattern: &str, name: &str) -> Result<bool, String> {
    let regex = Regex::new(pattern).map_err(|error| error.to_string())?;
    regex.is_match(name).map_err(|error| error.to_string())
}

impl Queue {
    /// `quorum`, `classic`, `stream`.
    pub fn kind(&self) -> &str {
        let kind = self.arguments.get("x-queue-type").and_then(Value::as_str);
        kind.unwrap_or("classic")
    }
}

impl Definitions {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn read(text: &str) -> Result<Self, NotDefinitions> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let read: Map<String, Value> = serde_json::from_str(text).map_err(wrong)?;
        if !["queues", "exchanges", "users"]
            .iter()
            .any(|key| read.contains_key(*key))
        {
            return Err(NotDefinitions {
                place: None,
                what: "it names neither queues nor exchanges nor users".to_owned(),
                help: HELP,
            });
        }
        serde_json::from_str(text).map_err(wrong)
    }

    /// The version that wrote it; empty where the file does not say.
    pub fn version(&self) -> &str {
        let said = self
            .rabbitmq_version
            .as_ref()
            .or(self.rabbit_version.as_ref());
        said.map_or("", String::as_str)
    }

    /// The queue of that name.
    pub fn queue(&self, vhost: &str, name: &str) -> Option<&Queue> {
        let mut queues = self.queues.iter();
        queues.find(|queue| queue.name == name && is_in(queue.vhost.as_ref(), vhost))
    }

    /// The exchange of that name.
    pub fn exchange(&self, vhost: &str, name: &str) -> Option<&Exchange> {
        let mut exchanges = self.exchanges.iter();
        exchanges.find(|exchange| exchange.name == name && is_in(exchange.vhost.as_ref(), vhost))
    }

    /// The kind of the exchange of that name; those that are always there stand in no file.
    pub fn exchange_kind(&self, vhost: &str, name: &str) -> Option<&str> {
        Some(match name {
            "amq.direct" => "direct",
            "amq.fanout" => "fanout",
            "amq.topic" => "topic",
            "amq.headers" | "amq.match" => "headers",
            name => &self.exchange(vhost, name)?.kind,
        })
    }

    /// Whether a message of this routing key gets from an exchange to a queue. Bindings with
    /// arguments, and those between exchanges, are not looked at.
    pub fn routes(&self, vhost: &str, (source, queue): (&str, &str), key: &str) -> bool {
        let Some(kind) = self.exchange_kind(vhost, source) else {
            return false;
        };
        let here = self.bindings.iter().filter(|binding| {
            binding.source == source
                && binding.destination == queue
                && binding.destination_type == "queue"
                && is_in(binding.vhost.as_ref(), vhost)
        });
        here.into_iter().any(|binding| match kind {
            "fanout" => true,
            "topic" => topic(&binding.routing_key, key),
            "direct" => binding.routing_key == key,
            _ => false,
        })
    }
}

/// Whether a topic's pattern takes a routing key: `*` is one word, `#` any number.
fn topic(pattern: &str, key: &str) -> bool {
    fn words(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#", rest @ ..], _) => (0..=key.len()).any(|n| words(rest, &key[n..])),
            (["*", rest @ ..], [_, key @ ..]) => words(rest, key),
            ([word, rest @ ..], [first, key @ ..]) => word == first && words(rest, key),
            _ => false,
        }
    }
    let split = |text: &'_ str| -> Vec<String> {
        match text {
            "" => Vec::new(),
            text => text.split('.').map(str::to_owned).collect(),
        }
    };
    let (pattern, key) = (split(pattern), split(key));
    let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
    let key: Vec<&str> = key.iter().map(String::as_str).collect();
    words(&pattern, &key)
}

fn wrong(error: serde_json::Error) -> NotDefinitions {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
    NotDefinitions {
        place: (error.line() > 0).then(|| (error.line(), error.column())),
        what,
        help: HELP,
    }
}

#[cfg(test)]
mod tests;
