//! What a pipeline needs of a broker, held against what is there.

mod live;
mod mend;
pub(crate) mod rights;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::amqp::FieldTable;
use super::definitions::{Definitions, Queue, Setting, is_in};
use super::existing::Existing;
use super::topology;
use crate::pipeline::event::exchange_of;
use crate::pipeline::topology::{QueueType, Topology};

pub use live::ask;
#[cfg(test)]
pub(crate) use mend::escape;
pub use mend::needed;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// It is there and right.
    Ok,
    /// Said so that it is known; nothing to do.
    Note,
    /// It could not be asked.
    Skipped,
    /// The pipeline runs with it, and messages can get lost or come late.
    Hurts,
    /// It is there, and the pipeline cannot work with it.
    Different,
    /// It is not there.
    Missing,
}

impl Grade {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Skipped => "skipped",
            Self::Hurts => "hurts",
            Self::Different => "different",
            Self::Missing => "missing",
        }
    }

    /// Whether no run can be made with it.
    pub fn stops(self) -> bool {
        self >= Self::Different
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// What was looked at: `queue payments.charge`.
    pub subject: String,
    /// What was seen.
    pub seen: String,
    /// The command to copy.
    pub command: Option<String>,
}

impl Finding {
    fn new(grade: Grade, subject: &str, seen: impl Into<String>) -> Self {
        Self {
            grade,
            subject: subject.to_owned(),
            seen: seen.into(),
            command: None,
        }
    }

    fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<9} {}: {}",
            self.grade.name(),
            self.subject,
            self.seen
        )?;
        match &self.command {
            Some(command) => write!(f, " -> {command}"),
            None => Ok(()),
        }
    }
}

/// From 4.0 on a quorum queue that names no limit gives a message up after so many deliveries.
const LIMIT_FROM_4: i64 = 20;

/// Below this a delivery limit can be reached by connections that flap.
const LIMIT_TO_LIVE_WITH: i64 = 1_000;

/// Holds definitions against what a pipeline needs: everything at once, in the order in which it
/// would be made.
pub fn compare(existing: &Existing, topology: &Topology, there: &Definitions) -> Vec<Finding> {
    let mut audit = Audit {
        existing,
        topology,
        there,
        vhost: existing.vhost_name(),
        found: Vec::new(),
    };
    audit.vhost();
    audit.exchanges();
    audit.queues();
    audit.bindings();
    audit.rights();
    audit.strangers();
    audit.found
}

struct Audit<'a> {
    existing: &'a Existing,
    topology: &'a Topology,
    there: &'a Definitions,
    vhost: &'a str,
    found: Vec<Finding>,
}

/// What a queue is for.
enum Use {
    /// With its dead-letter queue.
    Work(Arc<str>),
    Dead,
    Delay(u64),
}

impl Audit<'_> {
    fn note(&mut self, finding: Finding) {
        self.found.push(finding);
    }

    fn vhost(&mut self) {
        let vhosts = &self.there.vhosts;
        if vhosts.is_empty() || vhosts.iter().any(|known| known.name == self.vhost) {
            return;
        }
        let subject = format!("vhost {}", self.vhost);
        let command = format!("rabbitmqctl add_vhost {}", mend::quoted(self.vhost));
        self.note(Finding::new(Grade::Missing, &subject, "there is none").command(command));
    }

    fn exchanges(&mut self) {
        let names = self.existing.names();
        let domains = self.topology.exchanges.iter();
        let domains = domains.map(|domain| (names.exchange(domain), "topic"));
        let delays = self.topology.rungs.iter();
        let delays = delays.map(|rung| (names.delay(*rung), "fanout"));
        let all: Vec<_> = domains.chain(delays).collect();
        for (name, kind) in all {
            let finding = self.exchange(&name, kind);
            self.note(finding);
        }
    }

    fn exchange(&self, name: &str, kind: &str) -> Finding {
        let subject = format!("exchange {name}");
        let Some(there) = self.there.exchange(self.vhost, name) else {
            let command = mend::declare_exchange(self.vhost, name, kind);
            return Finding::new(Grade::Missing, &subject, "there is none").command(command);
        };
        let unmodelled = match self.there.unmodelled_exchange(self.vhost, there) {
            Ok(unmodelled) => unmodelled,
            Err(why) => return Finding::new(Grade::Different, &subject, why),
        };
        if !unmodelled.is_empty() {
            let seen = format!("{} is not modelled", unmodelled.join(" and "));
            return Finding::new(Grade::Different, &subject, seen);
        }
        if there.internal {
            let seen = "it is internal: nobody may publish to it";
            return Finding::new(Grade::Different, &subject, seen);
        }
        if !there.durable || there.auto_delete {
            let seen = "it does not stay: it is not durable, or auto-delete";
            return Finding::new(Grade::Hurts, &subject, seen);
        }
        Finding::new(Grade::Ok, &subject, there.kind.clone())
    }

    fn queues(&mut self) {
        let names = self.existing.names();
        let mut uses: Vec<(_, Use)> = Vec::new();
        for subscription in &self.topology.subscriptions {
            uses.push((names.dead(&subscription.consumer), Use::Dead));
            let dead = names.dead(&subscription.consumer);
            uses.push((names.queue(&subscription.consumer), Use::Work(dead)));
        }
        for rung in &self.topology.rungs {
            let milliseconds = u64::try_from(rung.as_millis()).unwrap_or(u64::MAX);
            uses.push((names.delay_queue(*rung), Use::Delay(milliseconds)));
        }
        let specs = topology::queues(names, self.topology);
        for (name, what_for) in uses {
            let spec = specs.iter().find(|spec| spec.name == name);
            let wanted = spec.map(|spec| &spec.arguments);
            let mut found = self.queue(&name, what_for, wanted);
            if found.is_empty() {
                found.push(Finding::new(Grade::Ok, &format!("queue {name}"), "there"));
            }
            self.found.append(&mut found);
        }
    }

    fn queue(&self, name: &str, what_for: Use, wanted: Option<&FieldTable>) -> Vec<Finding> {
        let subject = format!("queue {name}");
        let empty = FieldTable::default();
        let declare = mend::declare_queue(self.vhost, name, wanted.unwrap_or(&empty));
        let Some(there) = self.there.queue(self.vhost, name) else {
            return vec![Finding::new(Grade::Missing, &subject, "there is none").command(declare)];
        };
        let (settings, unmodelled) = match (
            self.there.settings(self.vhost, there),
            self.there.unmodelled(self.vhost, there),
        ) {
            (Ok(settings), Ok(unmodelled)) => (settings, unmodelled),
            (Err(why), _) | (_, Err(why)) => {
                return vec![Finding::new(Grade::Different, &subject, why)];
            }
        };
        let mut look = Look {
            subject,
            there,
            vhost: self.vhost,
            definitions: self.there,
            settings,
            declare,
            found: Vec::new(),
        };
        if !unmodelled.is_empty() {
            look.say(
                Grade::Different,
                format!("{} is not modelled", unmodelled.join(" and ")),
            );
        }
        look.kind(self.topology.queue_type);
        look.keeps();
        match what_for {
            Use::Work(dead) => {
                look.expiry();
                look.dead_letters(&dead);
                look.limit();
            }
            Use::Dead => look.expiry(),
            Use::Delay(milliseconds) => look.delay(milliseconds),
        }
        look.found
    }

    fn bindings(&mut self) {
        let names = self.existing.names();
        for subscription in &self.topology.subscriptions {
            let queue = names.queue(&subscription.consumer);
            for (event_type, _) in &subscription.types {
                let exchange = names.exchange(exchange_of(event_type));
                let finding = self.binding(&exchange, &queue, event_type, event_type);
                self.note(finding);
            }
            for rung in &self.topology.rungs {
                let (exchange, delay) = (names.delay(*rung), names.delay_queue(*rung));
                let routed = self.there.routes(self.vhost, (&exchange, &delay), &queue);
                let said = format!("binding {exchange} -> {delay}");
                if routed || self.found.iter().any(|finding| finding.subject == said) {
                    continue;
                }
                let mut finding = self.binding(&exchange, &delay, &queue, "");
                finding.subject = said;
                self.note(finding);
            }
        }
    }

    fn binding(&self, exchange: &str, queue: &str, key: &str, bind: &str) -> Finding {
        let subject = format!("binding {exchange} -> {queue} {key}");
        if self.there.routes(self.vhost, (exchange, queue), key) {
            return Finding::new(Grade::Ok, &subject, "there");
        }
        let seen = "no binding takes it there: such messages are returned to the relay";
        Finding::new(Grade::Missing, &subject, seen)
            .command(mend::bind(self.vhost, exchange, queue, bind))
    }

    /// What else is there that the seeded world leaves out.
    fn strangers(&mut self) {
        for parameter in &self.there.parameters {
            let here = is_in(parameter.vhost.as_ref(), self.vhost);
            if !here || parameter.component == "operator_policy" {
                continue;
            }
            let subject = format!("{} {}", parameter.component, parameter.name);
            let seen = "not modelled: what it moves or limits is not seen in the seeded world";
            self.note(Finding::new(Grade::Note, &subject, seen));
        }
        for binding in &self.there.bindings {
            let here = is_in(binding.vhost.as_ref(), self.vhost);
            if here && binding.destination_type == "exchange" {
                let subject = format!("binding {} -> {}", binding.source, binding.destination);
                let seen = "between exchanges, which is not modelled: left out";
                self.note(Finding::new(Grade::Note, &subject, seen));
            }
        }
    }
}

/// A queue that is being looked at.
struct Look<'a> {
    subject: String,
    there: &'a Queue,
    vhost: &'a str,
    definitions: &'a Definitions,
    settings: BTreeMap<String, Setting>,
    declare: String,
    found: Vec<Finding>,
}

impl Look<'_> {
    fn say(&mut self, grade: Grade, seen: impl Into<String>) {
        self.found.push(Finding::new(grade, &self.subject, seen));
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.settings.get(key)?.value.as_i64()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.settings.get(key)?.value.as_str()
    }

    /// A setting that is wrong: mended by a policy where a policy says so, else by a new queue.
    fn wrong(&mut self, grade: Grade, key: &str, seen: String, instead: Option<Value>) {
        let setting = self.settings.get(key);
        let by = match setting.and_then(|setting| setting.policy.as_ref()) {
            Some(policy) => format!(" (policy {policy})"),
            None if setting.is_some() => " (argument)".to_owned(),
            None => String::new(),
        };
        let is_argument = setting.is_some_and(|setting| setting.policy.is_none());
        let command = if is_argument {
            // Arguments cannot be changed: only whoever knows what is in it may delete it.
            mend::declare_anew(self.vhost, &self.there.name, &self.declare)
        } else {
            let changes = vec![(key, instead)];
            mend::set_policy(self.definitions, self.vhost, self.there, changes)
        };
        let finding = Finding::new(grade, &self.subject, format!("{seen}{by}"));
        self.found.push(finding.command(command));
    }

    fn kind(&mut self, wanted: QueueType) {
        let wanted = match wanted {
            QueueType::Quorum => "quorum",
            QueueType::Classic => "classic",
        };
        let kind = self.there.kind().to_owned();
        if ["classic", "quorum"].contains(&kind.as_str()) && kind != wanted {
            let seen = format!("{kind}, the scenario wants {wanted} (queue-type)");
            let anew = mend::declare_anew(self.vhost, &self.there.name, &self.declare);
            let finding = Finding::new(Grade::Hurts, &self.subject, seen);
            self.found.push(finding.command(anew));
        }
    }

    fn keeps(&mut self) {
        if !self.there.durable || self.there.auto_delete {
            let seen = "it does not stay: it is not durable, or auto-delete";
            let anew = mend::declare_anew(self.vhost, &self.there.name, &self.declare);
            let finding = Finding::new(Grade::Hurts, &self.subject, seen);
            self.found.push(finding.command(anew));
        }
        if let Some(after) = self.number("expires") {
            let seen = format!("deleted when unused for {after} ms, with what is in it");
            self.wrong(Grade::Hurts, "expires", seen, None);
        }
        let drops = self.text("overflow").unwrap_or("drop-head") != "reject-publish";
        for key in ["max-length", "max-length-bytes"] {
            if let Some(limit) = self.number(key).filter(|_| drops) {
                let seen = format!("{key} {limit} drops the oldest messages");
                let reject = Some(Value::from("reject-publish"));
                match self.settings.contains_key("overflow") {
                    true => self.wrong(Grade::Hurts, "overflow", seen, reject),
                    false => {
                        let changes = vec![("overflow", reject)];
                        let command =
                            mend::set_policy(self.definitions, self.vhost, self.there, changes);
                        let finding = Finding::new(Grade::Hurts, &self.subject, seen);
                        self.found.push(finding.command(command));
                    }
                }
            }
        }
    }

    fn expiry(&mut self) {
        if let Some(ttl) = self.number("message-ttl") {
            let seen = format!("message-ttl {ttl}: messages go before anybody has looked at them");
            self.wrong(Grade::Hurts, "message-ttl", seen, None);
        }
    }

    fn dead_letters(&mut self, dead: &str) {
        let key = "dead-letter-exchange";
        match self.text(key).map(str::to_owned) {
            None => {
                // With a key: its own might take it back to where it was.
                let changes = vec![
                    (key, Some(Value::from(""))),
                    ("dead-letter-routing-key", Some(Value::from(dead))),
                ];
                let command = mend::set_policy(self.definitions, self.vhost, self.there, changes);
                let seen = "no dead-letter exchange: what the broker gives up is lost";
                let finding = Finding::new(Grade::Hurts, &self.subject, seen);
                self.found.push(finding.command(command));
            }
            Some(name) if name.is_empty() || name.starts_with("amq.") => {}
            Some(name) if self.definitions.exchange(self.vhost, &name).is_some() => {}
            Some(name) => {
                let seen = format!(
                    "its dead-letter exchange {name} does not exist: what the broker gives up is \
                     lost"
                );
                let command = mend::declare_exchange(self.vhost, &name, "topic");
                let finding = Finding::new(Grade::Hurts, &self.subject, seen);
                self.found.push(finding.command(command));
            }
        }
    }

    fn limit(&mut self) {
        if self.there.kind() != "quorum" {
            return;
        }
        let version = self.definitions.version();
        let major: u32 = version.split('.').next().unwrap_or("").parse().unwrap_or(0);
        let limit = match self.number("delivery-limit") {
            None if major >= 4 => LIMIT_FROM_4,
            None => return,
            Some(limit) => limit,
        };
        if (0..LIMIT_TO_LIVE_WITH).contains(&limit) {
            let seen = format!(
                "delivery-limit {limit}: connections that flap bury messages that nobody has \
                 looked at"
            );
            let enough = Some(Value::from(topology::DELIVERIES));
            self.wrong(Grade::Hurts, "delivery-limit", seen, enough);
        }
    }

    fn delay(&mut self, milliseconds: u64) {
        let ttl = self.number("message-ttl");
        if ttl.and_then(|ttl| u64::try_from(ttl).ok()) != Some(milliseconds) {
            let seen = match ttl {
                Some(ttl) => format!("message-ttl {ttl}, the rung is {milliseconds}"),
                None => format!("no message-ttl, the rung is {milliseconds}: nothing comes back"),
            };
            let instead = Some(Value::from(milliseconds));
            self.wrong(Grade::Different, "message-ttl", seen, instead);
        }
        if self.text("dead-letter-exchange") != Some("") {
            let seen = "what has waited does not go to the default exchange (dead-letter-exchange \
                 \"\")";
            let instead = Some(Value::from(""));
            self.wrong(
                Grade::Different,
                "dead-letter-exchange",
                seen.to_owned(),
                instead,
            );
        }
        if let Some(key) = self.text("dead-letter-routing-key").map(str::to_owned) {
            let seen = format!("what has waited goes to {key}, not back to its work queue");
            self.wrong(Grade::Different, "dead-letter-routing-key", seen, None);
        }
    }
}

#[cfg(test)]
mod tests;
