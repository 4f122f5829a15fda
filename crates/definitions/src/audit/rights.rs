//! What the account of a pipeline has to be allowed, and is.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::mend::{escape, quoted};
use super::{Audit, Finding, Grade};
use crate::definitions::{is_in, matches};
use redeliver_core::event::exchange_of;
use redeliver_core::topology::Topology;
use redeliver_rabbitmq::topology::Names;

/// The default exchange has this name where rights are concerned.
const DEFAULT: &str = "amq.default";

/// Exchanges that are written to, and queues that are read.
pub(super) fn wanted(names: &Names, topology: &Topology) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
    let domains = topology
        .exchanges
        .iter()
        .map(|domain| names.exchange(domain));
    let delays = topology.rungs.iter().map(|rung| names.delay(*rung));
    let mut write: Vec<Arc<str>> = domains.chain(delays).collect();
    // Dead letters go through it.
    write.push(Arc::from(DEFAULT));
    let consumers = topology.subscriptions.iter();
    let read = consumers.map(|subscription| names.queue(&subscription.consumer));
    (write, read.collect())
}

/// The command that gives what is missing and takes nothing away.
pub(super) fn command(
    (vhost, user): (&str, &str),
    old: [&str; 3],
    more: [&BTreeSet<Arc<str>>; 3],
) -> String {
    let pattern = |old: &str, more: &BTreeSet<Arc<str>>| {
        let more: Vec<_> = more.iter().map(|name| escape(name)).collect();
        let more = format!("^({})$", more.join("|"));
        quoted(&match (old, more.as_str()) {
            ("" | "^$", "^()$") => "^$".to_owned(),
            (old, "^()$") => old.to_owned(),
            ("" | "^$", more) => more.to_owned(),
            (old, more) => format!("{old}|{more}"),
        })
    };
    format!(
        "rabbitmqctl set_permissions -p {} {} {} {} {}",
        quoted(vhost),
        quoted(user),
        pattern(old[0], more[0]),
        pattern(old[1], more[1]),
        pattern(old[2], more[2]),
    )
}

impl Audit<'_> {
    pub(super) fn rights(&mut self) {
        let Some(user) = self.existing.user_name() else {
            return;
        };
        let subject = format!("user {user}");
        let mut users = self.there.users.iter();
        if !users.any(|known| known.name == user) {
            let command = format!("rabbitmqctl add_user {}", quoted(user));
            let finding = Finding::new(Grade::Missing, &subject, "there is none");
            self.note(finding.command(command));
        }
        let (write, read) = wanted(self.existing.names(), self.topology);
        let mut permissions = self.there.permissions.iter();
        let own = permissions.find(|own| own.user == user && is_in(own.vhost.as_ref(), self.vhost));
        let old = own.map_or(["", "", ""], |own| [&own.configure, &own.write, &own.read]);
        let mut lacks = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        for (which, names) in [(1, write), (2, read)] {
            for name in names {
                match matches(old[which], &name) {
                    Ok(true) => {}
                    Ok(false) => drop(lacks[which].insert(name)),
                    Err(why) => {
                        let seen = format!("the expression {} is none: {why}", old[which]);
                        self.note(Finding::new(Grade::Different, &subject, seen));
                        return;
                    }
                }
            }
        }
        let [none, write, read] = &lacks;
        let list = |names: &BTreeSet<Arc<str>>| {
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            names.join(", ")
        };
        let told = [(write, "write"), (read, "read")];
        let told = told.iter().filter(|(names, _)| !names.is_empty());
        let told: Vec<_> = told
            .map(|(names, right)| format!("{right} {}", list(names)))
            .collect();
        if told.is_empty() {
            self.note(Finding::new(Grade::Ok, &subject, "has the rights"));
        } else {
            let command = command((self.vhost, user), old, [none, write, read]);
            let seen = format!("may not {}", told.join("; may not "));
            self.note(Finding::new(Grade::Missing, &subject, seen).command(command));
        }
        self.topics(user, &subject);
    }

    /// Routing keys with which it has to publish.
    fn topics(&mut self, user: &str, subject: &str) {
        let names = self.existing.names();
        for own in &self.there.topic_permissions {
            if own.user != user || !is_in(own.vhost.as_ref(), self.vhost) {
                continue;
            }
            let types = self.topology.subscriptions.iter().flat_map(|s| &s.types);
            let types = types.filter(|(t, _)| *names.exchange(exchange_of(t)) == *own.exchange);
            let pattern = expanded(&own.write, user, self.vhost);
            let lacks: BTreeSet<&str> = types
                .filter(|(event_type, _)| !matches(&pattern, event_type).unwrap_or(false))
                .map(|(event_type, _)| &**event_type)
                .collect();
            if lacks.is_empty() {
                continue;
            }
            let more: Vec<_> = lacks.iter().map(|key| escape(key)).collect();
            let more = quoted(&format!("{}|^({})$", own.write, more.join("|")));
            let command = format!(
                "rabbitmqctl set_topic_permissions -p {} {} {} {more} {}",
                quoted(self.vhost),
                quoted(user),
                quoted(&own.exchange),
                quoted(&own.read),
            );
            let lacks: Vec<_> = lacks.into_iter().collect();
            let seen = format!("may not publish {} to {}", lacks.join(", "), own.exchange);
            self.found
                .push(Finding::new(Grade::Missing, subject, seen).command(command));
        }
    }
}

/// Topic permissions may name their user and virtual host.
pub fn expanded(pattern: &str, user: &str, vhost: &str) -> String {
    pattern
        .replace("{username}", user)
        .replace("{vhost}", vhost)
}
