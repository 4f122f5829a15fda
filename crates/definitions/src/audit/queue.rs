//! Queues: their type, and what arguments and policies do to the messages in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Audit, Finding, Grade, mend};
use crate::definitions::{Definitions, Queue, Setting};
use redeliver_core::topology::QueueType;
use redeliver_rabbitmq::amqp::FieldTable;
use redeliver_rabbitmq::topology;

/// From 4.0 on a quorum queue that names no limit gives a message up after so many deliveries.
const LIMIT_FROM_4: i64 = 20;

/// Below this a delivery limit can be reached by connections that flap.
const LIMIT_TO_LIVE_WITH: i64 = 1_000;

/// What a queue is for.
pub(super) enum Use {
    /// With its dead-letter queue.
    Work(Arc<str>),
    Dead,
    Delay(u64),
}

impl Audit<'_> {
    pub(super) fn queue(
        &self,
        name: &str,
        what_for: Use,
        wanted: Option<&FieldTable>,
    ) -> Vec<Finding> {
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
            Some(policy) if setting.is_some_and(|setting| setting.operator) => {
                format!(" (operator policy {policy})")
            }
            Some(policy) => format!(" (policy {policy})"),
            None if setting.is_some() => " (argument)".to_owned(),
            None => String::new(),
        };
        let changes = vec![(key, instead)];
        let command = match setting {
            // Arguments cannot be changed: only whoever knows what is in it may delete it.
            Some(setting) if setting.policy.is_none() => {
                mend::declare_anew(self.vhost, &self.there.name, &self.declare)
            }
            Some(setting) if setting.operator => {
                mend::set_operator_policy(self.definitions, self.vhost, self.there, changes)
            }
            _ => mend::set_policy(self.definitions, self.vhost, self.there, changes),
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
            let limit = self.number(key).filter(|limit| *limit < mend::NO_LIMIT);
            if let Some(limit) = limit.filter(|_| drops) {
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
            Some(name) if name.is_empty() => {}
            Some(name) if self.definitions.exchange_kind(self.vhost, &name).is_some() => {}
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
