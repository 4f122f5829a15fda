//! What policies come to: which of them holds for a queue or an exchange, and what it and the
//! arguments say together.
//!
//! Measured on RabbitMQ 3.10.8, by names and by what becomes of messages.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Definitions, Exchange, Policy, Queue, is_in, is_match};

/// How a policy's value and an argument come together.
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
const HARMLESS: [&str; 15] = [
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
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
];

/// A policy that has one of these keys is passed over by classic queues, whole, as if it were not
/// there: the next one that matches holds. (These lists: what 3.10.8 says of itself.)
const NOT_FOR_CLASSIC: [&str; 6] = [
    "max-age",
    "stream-max-segment-size-bytes",
    "queue-leader-locator",
    "initial-cluster-size",
    "delivery-limit",
    "dead-letter-strategy",
];

/// The same for quorum queues.
const NOT_FOR_QUORUM: [&str; 12] = [
    "max-priority",
    "queue-mode",
    "single-active-consumer",
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
    "queue-master-locator",
    "max-age",
    "stream-max-segment-size-bytes",
    "initial-cluster-size",
];

/// Which of two holds; of two that say the same the latter.
fn lower(old: &Setting, new: Setting, merge: &Merge) -> Setting {
    let (Some(a), Some(b)) = (old.value.as_i64(), new.value.as_i64()) else {
        return new;
    };
    let none = matches!(merge, Merge::Limit) && (a < 0 || b < 0);
    match if none { a > b } else { a < b } {
        true => old.clone(),
        false => new,
    }
}

/// Of the policies that match a name the one with the highest priority.
fn highest<'a>(
    policies: impl Iterator<Item = &'a Policy>,
    vhost: &str,
    name: &str,
) -> Result<Option<&'a Policy>, String> {
    let mut best: Vec<&Policy> = Vec::new();
    for policy in policies.filter(|policy| is_in(policy.vhost.as_ref(), vhost)) {
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

/// A key that has a value, with where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// What holds.
    pub value: Value,
    /// The policy that says so; none for an argument.
    pub policy: Option<String>,
    /// Whether it is a policy of the operators.
    pub operator: bool,
}

impl Queue {
    /// Whether a policy is one for such queues, whatever their names.
    fn takes(&self, policy: &Policy) -> bool {
        let meant = match policy.apply_to.as_str() {
            "all" | "queues" => true,
            "classic_queues" => self.kind() == "classic",
            "quorum_queues" => self.kind() == "quorum",
            "streams" => self.kind() == "stream",
            _ => false,
        };
        let unknown: &[&str] = match self.kind() {
            "classic" => &NOT_FOR_CLASSIC,
            "quorum" => &NOT_FOR_QUORUM,
            _ => &[],
        };
        let mut keys = policy.definition.keys();
        meant && !keys.any(|key| unknown.contains(&key.as_str()))
    }
}

impl Definitions {
    /// The policy that holds for a queue: of those that match and that its type can take the one
    /// with the highest priority.
    ///
    /// # Errors
    /// Two of the same priority, between which RabbitMQ chooses as it likes, or a pattern that is
    /// none.
    pub fn policy(&self, vhost: &str, queue: &Queue) -> Result<Option<&Policy>, String> {
        let here = self.policies.iter().filter(|policy| queue.takes(policy));
        highest(here, vhost, &queue.name)
    }

    /// The operators' policy that holds for a queue. They are exported among the parameters.
    ///
    /// # Errors
    /// As [`Definitions::policy`].
    pub fn operator_policy(&self, vhost: &str, queue: &Queue) -> Result<Option<Policy>, String> {
        let mut all = Vec::new();
        for parameter in &self.parameters {
            if parameter.component != "operator_policy" || !is_in(parameter.vhost.as_ref(), vhost) {
                continue;
            }
            let mut value = parameter.value.clone();
            if let Some(value) = value.as_object_mut() {
                value.insert("name".to_owned(), Value::from(parameter.name.clone()));
            }
            let policy: Policy = serde_json::from_value(value)
                .map_err(|error| format!("the operator policy {}: {error}", parameter.name))?;
            all.push(policy);
        }
        let here = all.iter().filter(|policy| queue.takes(policy));
        Ok(highest(here, vhost, &queue.name)?.cloned())
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
        let own = self.policy(vhost, queue)?.cloned();
        let policies = [(own, false), (self.operator_policy(vhost, queue)?, true)];
        for (policy, operator) in policies {
            for (key, value) in policy.iter().flat_map(|policy| &policy.definition) {
                let new = Setting {
                    value: value.clone(),
                    policy: policy.as_ref().map(|policy| policy.name.clone()),
                    operator,
                };
                // An operator's numbers limit those of a policy; all else is the policy's.
                let merged = match (settings.get(key), merge_of(key)) {
                    (None, _) => new,
                    (Some(old), Some(merge @ (Merge::Lower | Merge::Limit))) => {
                        lower(old, new, &merge)
                    }
                    (Some(_), _) => continue,
                };
                settings.insert(key.clone(), merged);
            }
        }
        for (name, value) in &queue.arguments {
            let key = name.strip_prefix("x-").unwrap_or(name).to_owned();
            let argument = Setting {
                value: value.clone(),
                policy: None,
                operator: false,
            };
            let merged = match (settings.get(&key), merge_of(&key)) {
                (Some(policy), Some(merge @ (Merge::Lower | Merge::Limit))) => {
                    lower(policy, argument, &merge)
                }
                _ => argument,
            };
            settings.insert(key, merged);
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
        let policy = self.exchange_policy(vhost, exchange)?;
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
        if let Some(policy) = self.exchange_policy(vhost, exchange)? {
            let keys = policy.definition.keys().filter(other);
            let foreign = keys.filter(|key| {
                // A policy for all names keys of queues, too.
                merge_of(key).is_none() && !HARMLESS.contains(&key.as_str())
            });
            found.extend(foreign.map(|key| format!("{key} of policy {}", policy.name)));
        }
        Ok(found)
    }
    fn exchange_policy(&self, vhost: &str, exchange: &Exchange) -> Result<Option<&Policy>, String> {
        let all = self.policies.iter();
        let here = all.filter(|policy| matches!(policy.apply_to.as_str(), "all" | "exchanges"));
        highest(here, vhost, &exchange.name)
    }
}
