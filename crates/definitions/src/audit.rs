//! What a pipeline needs of a broker, held against what is there.

mod live;
mod mend;
mod queue;
mod rights;

use crate::definitions::{Definitions, is_in};
use crate::existing::Existing;
use redeliver_core::event::exchange_of;
use redeliver_core::topology::Topology;
use redeliver_rabbitmq::topology;

pub use live::ask;
#[cfg(test)]
pub(crate) use mend::escape;
pub use mend::needed;
use queue::Use;
pub use rights::expanded;

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
        if let (None, Some(kind)) = (
            self.there.exchange(self.vhost, name),
            self.there.exchange_kind(self.vhost, name),
        ) {
            return Finding::new(Grade::Ok, &subject, format!("{kind}, always there"));
        }
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

#[cfg(test)]
mod tests;
