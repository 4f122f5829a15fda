//! RabbitMQ's `definitions.json`, as `rabbitmqctl export_definitions` and the management pages
//! write it, and what it comes to: policies and arguments put together by RabbitMQ's rules.
//!
//! Keys that are not named here are let pass: newer versions have more of them.

use std::collections::BTreeMap;

use fancy_regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
    pub definition: Map<String, Value>,
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
pub(crate) fn is_in(own: Option<&String>, vhost: &str) -> bool {
    own.is_none_or(|own| own == vhost)
}

/// How a policy's value and an argument come together (documented, rabbitmq.com/docs/policies;
/// not yet measured).
enum Merge {
    /// The lower number.
    Lower,
    /// The lower number; one below 0 stands for none at all and is the higher.
    Limit,
    /// What the queue was declared with.
    Argument,
}

fn merge_of(key: &str) -> Option<Merge> {
    Some(match key {
        "message-ttl" | "expires" | "max-length" | "max-length-bytes" | "consumer-timeout" => {
            Merge::Lower
        }
        "delivery-limit" => Merge::Limit,
        "overflow"
        | "dead-letter-exchange"
        | "dead-letter-routing-key"
        | "dead-letter-strategy" => Merge::Argument,
        _ => return None,
    })
}

/// Keys and arguments of queues that change nothing that clients of one node see.
const HARMLESS: [&str; 13] = [
    "queue-type",
    "single-active-consumer",
    "queue-mode",
    "queue-version",
    "queue-master-locator",
    "queue-leader-locator",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "quorum-initial-group-size",
    "target-group-size",
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
];

fn lower(one: &Value, other: &Value, merge: &Merge) -> Value {
    let (Some(a), Some(b)) = (one.as_i64(), other.as_i64()) else {
        return other.clone();
    };
    let none = matches!(merge, Merge::Limit) && (a < 0 || b < 0);
    Value::from(if none { a.max(b) } else { a.min(b) })
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

/// A key that has a value, with where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// What holds.
    pub value: Value,
    /// The policy that says so; none for an argument.
    pub policy: Option<String>,
}

impl Queue {
    /// `quorum`, `classic`, `stream`.
    pub fn kind(&self) -> &str {
        let kind = self.arguments.get("x-queue-type").and_then(Value::as_str);
        kind.unwrap_or("classic")
    }

    pub(crate) fn is_meant_by(&self, apply_to: &str) -> bool {
        match apply_to {
            "all" | "queues" => true,
            "classic_queues" => self.kind() == "classic",
            "quorum_queues" => self.kind() == "quorum",
            "streams" => self.kind() == "stream",
            _ => false,
        }
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

    /// The policy that holds for a name: of those that match the one with the highest priority.
    ///
    /// # Errors
    /// Two of the same priority, between which RabbitMQ chooses as it likes, or a pattern that is
    /// none.
    pub fn policy(
        &self,
        vhost: &str,
        name: &str,
        is_meant: impl Fn(&str) -> bool,
    ) -> Result<Option<&Policy>, String> {
        let mut best: Vec<&Policy> = Vec::new();
        let there = self
            .policies
            .iter()
            .filter(|p| is_in(p.vhost.as_ref(), vhost));
        for policy in there.filter(|policy| is_meant(&policy.apply_to)) {
            // Not as a permission: here an empty pattern matches every name.
            let found = is_match(&policy.pattern, name);
            if !found.map_err(|why| format!("the pattern of policy {}: {why}", policy.name))? {
                continue;
            }
            let highest = best.first().map_or(i64::MIN, |first| first.priority);
            if policy.priority > highest {
                best.clear();
            }
            if policy.priority >= highest {
                best.push(policy);
            }
        }
        match best[..] {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            [one, other, ..] => Err(format!(
                "the policies {} and {} both match {name} with priority {}: RabbitMQ takes either; \
                 give one a higher priority",
                one.name, other.name, one.priority
            )),
        }
    }

    /// The operators' policy that holds for a name. They are exported among the parameters.
    fn operators(&self, vhost: &str, queue: &Queue) -> Result<Option<Policy>, String> {
        let mut only = Self::default();
        for parameter in &self.parameters {
            if parameter.component != "operator_policy" || !is_in(parameter.vhost.as_ref(), vhost) {
                continue;
            }
            let mut value = parameter.value.clone();
            if let Some(value) = value.as_object_mut() {
                value.insert("name".to_owned(), Value::from(parameter.name.clone()));
            }
            let policy = serde_json::from_value(value)
                .map_err(|error| format!("the operator policy {}: {error}", parameter.name))?;
            only.policies.push(policy);
        }
        let meant = |apply_to: &str| queue.is_meant_by(apply_to);
        Ok(only.policy(vhost, &queue.name, meant)?.cloned())
    }

    /// Everything that holds for a queue, by its name without `x-`.
    ///
    /// # Errors
    /// As [`Definitions::policy`].
    pub fn settings(
        &self,
        vhost: &str,
        queue: &Queue,
    ) -> Result<BTreeMap<String, Setting>, String> {
        let mut settings: BTreeMap<String, Setting> = BTreeMap::new();
        let meant = |apply_to: &str| queue.is_meant_by(apply_to);
        let own = self.policy(vhost, &queue.name, meant)?.cloned();
        let policies = [own, self.operators(vhost, queue)?];
        for policy in policies.into_iter().flatten() {
            for (key, value) in policy.definition {
                let name = Some(policy.name.clone());
                let merged = match (settings.get(&key), merge_of(&key)) {
                    (None, _) => Setting {
                        value,
                        policy: name,
                    },
                    // An operator's numbers limit those of a policy; all else is the policy's.
                    (Some(old), Some(merge @ (Merge::Lower | Merge::Limit))) => {
                        let lower = lower(&old.value, &value, &merge);
                        let policy = if lower == old.value {
                            old.policy.clone()
                        } else {
                            name
                        };
                        Setting {
                            value: lower,
                            policy,
                        }
                    }
                    (Some(_), _) => continue,
                };
                settings.insert(key, merged);
            }
        }
        for (name, value) in &queue.arguments {
            let key = name.strip_prefix("x-").unwrap_or(name).to_owned();
            let argument = Setting {
                value: value.clone(),
                policy: None,
            };
            let merged = match (settings.get(&key), merge_of(&key)) {
                (Some(policy), Some(merge @ (Merge::Lower | Merge::Limit))) => {
                    let lower = lower(&policy.value, value, &merge);
                    if lower == *value {
                        argument
                    } else {
                        policy.clone()
                    }
                }
                _ => argument,
            };
            settings.insert(key, merged);
        }
        if queue.kind() == "classic" {
            // Of a policy a queue takes only what its type knows.
            for key in ["delivery-limit", "dead-letter-strategy"] {
                if settings
                    .get(key)
                    .is_some_and(|setting| setting.policy.is_some())
                {
                    settings.remove(key);
                }
            }
        }
        Ok(settings)
    }

    /// What of a queue no model knows: keys of policies, arguments, its type.
    ///
    /// # Errors
    /// As [`Definitions::policy`].
    pub fn unmodelled(&self, vhost: &str, queue: &Queue) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        if !["classic", "quorum"].contains(&queue.kind()) {
            found.push(format!("its type {}", queue.kind()));
        }
        for (key, setting) in self.settings(vhost, queue)? {
            // A policy for all names keys of exchanges, too, which queues pass over.
            let foreign = setting.policy.is_some() && key == "alternate-exchange";
            if foreign || merge_of(&key).is_some() || HARMLESS.contains(&key.as_str()) {
                continue;
            }
            found.push(match &setting.policy {
                Some(policy) => format!("{key} of policy {policy}"),
                None => format!("the argument x-{key}"),
            });
        }
        Ok(found)
    }

    /// Where messages go that an exchange routes nowhere.
    ///
    /// # Errors
    /// As [`Definitions::policy`].
    pub fn alternate(&self, vhost: &str, exchange: &Exchange) -> Result<Option<String>, String> {
        let policy = self.policy(vhost, &exchange.name, is_for_exchanges)?;
        let said = policy.and_then(|policy| policy.definition.get("alternate-exchange"));
        let said = exchange.arguments.get("alternate-exchange").or(said);
        Ok(said.and_then(Value::as_str).map(str::to_owned))
    }

    /// What of an exchange no model knows.
    ///
    /// # Errors
    /// As [`Definitions::policy`].
    pub fn unmodelled_exchange(
        &self,
        vhost: &str,
        exchange: &Exchange,
    ) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let known = ["direct", "fanout", "topic", "headers", "x-consistent-hash"];
        if !known.contains(&exchange.kind.as_str()) {
            found.push(format!("its type {}", exchange.kind));
        }
        let other = |key: &&String| *key != "alternate-exchange";
        let arguments = exchange.arguments.keys().filter(other);
        found.extend(arguments.map(|key| format!("the argument {key}")));
        if let Some(policy) = self.policy(vhost, &exchange.name, is_for_exchanges)? {
            let keys = policy.definition.keys().filter(other);
            let foreign = keys.filter(|key| {
                // A policy for all names keys of queues, too.
                merge_of(key).is_none() && !HARMLESS.contains(&key.as_str())
            });
            found.extend(foreign.map(|key| format!("{key} of policy {}", policy.name)));
        }
        Ok(found)
    }

    /// Whether a message of this routing key gets from an exchange to a queue. Bindings with
    /// arguments, and those between exchanges, are not looked at.
    pub fn routes(&self, vhost: &str, (source, queue): (&str, &str), key: &str) -> bool {
        let Some(exchange) = self.exchange(vhost, source) else {
            return false;
        };
        let here = self.bindings.iter().filter(|binding| {
            binding.source == source
                && binding.destination == queue
                && binding.destination_type == "queue"
                && is_in(binding.vhost.as_ref(), vhost)
        });
        here.into_iter()
            .any(|binding| match exchange.kind.as_str() {
                "fanout" => true,
                "topic" => topic(&binding.routing_key, key),
                "direct" => binding.routing_key == key,
                _ => false,
            })
    }
}

fn is_for_exchanges(apply_to: &str) -> bool {
    matches!(apply_to, "all" | "exchanges")
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
