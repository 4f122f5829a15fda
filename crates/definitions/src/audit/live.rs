//! What AMQP tells of a broker without changing anything.
//!
//! Exchanges and queues are asked for passively, for which nobody needs a right. Rights are asked
//! for by removing a binding that cannot exist, from a queue to an exchange whose names are
//! swapped: RabbitMQ first asks for the right to write the one name and to read the other, which
//! go by name only, and then says that all is well since there was nothing to remove.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rights::{command, wanted};
use super::{Finding, Grade, mend};
use crate::existing::Existing;
use redeliver_core::topology::Topology;
use redeliver_rabbitmq::amqp::{AmqpChannel, AmqpConnection, AmqpError};
use redeliver_rabbitmq::topology::{missing, queues};

/// A routing key that no binding has.
const NO_KEY: &str = "redeliver topology check: no such binding";

/// Asks a broker.
///
/// # Errors
/// When it does not answer.
pub async fn ask<C: AmqpConnection>(
    connection: &C,
    existing: &Existing,
    user: &str,
    topology: &Topology,
) -> Result<Vec<Finding>, AmqpError> {
    let (names, vhost) = (existing.names(), existing.vhost_name());
    let absent = missing(connection, names, topology).await?;
    let mut found = Vec::new();
    let domains = topology.exchanges.iter();
    let domains = domains.map(|domain| (names.exchange(domain), "topic"));
    let delays = topology
        .rungs
        .iter()
        .map(|rung| (names.delay(*rung), "fanout"));
    let exchanges = domains.chain(delays).map(|(name, kind)| {
        let command = mend::declare_exchange(vhost, &name, kind);
        (format!("exchange {name}"), command)
    });
    let queues = queues(names, topology).into_iter().map(|spec| {
        let command = mend::declare_queue(vhost, &spec.name, &spec.arguments);
        (format!("queue {}", spec.name), command)
    });
    for (subject, command) in exchanges.chain(queues) {
        found.push(match absent.contains(&subject) {
            true => Finding::new(Grade::Missing, &subject, "there is none").command(command),
            false => Finding::new(Grade::Ok, &subject, "there"),
        });
    }
    found.push(rights(connection, existing, user, topology).await?);
    let seen = "AMQP does not tell: give the definitions as well (--definitions)";
    found.push(Finding::new(
        Grade::Skipped,
        "bindings, arguments, policies",
        seen,
    ));
    Ok(found)
}

async fn rights<C: AmqpConnection>(
    connection: &C,
    existing: &Existing,
    user: &str,
    topology: &Topology,
) -> Result<Finding, AmqpError> {
    let (write, read) = wanted(existing.names(), topology);
    let (mut no_write, mut no_read) = (BTreeSet::new(), BTreeSet::new());
    let mut may_write = None;
    let Some(probe) = read.first() else {
        return Ok(Finding::new(
            Grade::Ok,
            &format!("user {user}"),
            "needs none",
        ));
    };
    for name in write {
        match may(connection, &name, probe).await? {
            Some("queue") => drop(no_write.insert(name)),
            _ => may_write = Some(name),
        }
    }
    let subject = format!("user {user}");
    if let Some(writable) = &may_write {
        for name in read {
            if may(connection, writable, &name).await? == Some("exchange") {
                no_read.insert(name);
            }
        }
    }
    let list = |names: &BTreeSet<Arc<str>>| {
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        names.join(", ")
    };
    let seen = match (no_write.is_empty(), no_read.is_empty()) {
        (true, true) => return Ok(Finding::new(Grade::Ok, &subject, "has the rights")),
        (false, true) => format!("may not write {}", list(&no_write)),
        (true, false) => format!("may not read {}", list(&no_read)),
        (false, false) => {
            let (write, read) = (list(&no_write), list(&no_read));
            format!("may not write {write}; may not read {read}")
        }
    };
    // What it may besides is not known here, and setting permissions replaces them.
    let old = ["OLD_CONFIGURE", "OLD_WRITE", "OLD_READ"];
    let more = [&BTreeSet::new(), &no_write, &no_read];
    let command = command((existing.vhost_name(), user), old, more);
    Ok(Finding::new(Grade::Missing, &subject, seen).command(command))
}

/// `queue` where the one name may not be written, `exchange` where the other may not be read.
async fn may<C: AmqpConnection>(
    connection: &C,
    write: &str,
    read: &str,
) -> Result<Option<&'static str>, AmqpError> {
    let channel = connection.open_channel().await?;
    match channel.unbind_queue(write, read, NO_KEY).await {
        Ok(()) => {
            channel.close().await?;
            Ok(None)
        }
        Err(AmqpError::Channel { code: 403, text }) => {
            let topic = text.contains("access to topic");
            let write = text.contains("access to queue");
            Ok(match (topic, write) {
                (true, _) => None,
                (_, true) => Some("queue"),
                _ => Some("exchange"),
            })
        }
        // There is no such queue or exchange: the rights were looked at before.
        Err(AmqpError::Channel { code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
