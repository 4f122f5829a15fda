//! What stands on the broker.
//!
//! ```text
//!  <ns>.<domain> (topic) ──► <ns>.<consumer>            work queue
//!                               │   ▲
//!             a copy of a retry │   │ when its TTL is over, by the default exchange,
//!             or a parked one   ▼   │ under the routing key it came with: the work queue's name
//!  <ns>.delay.<ms> (fanout) ──► <ns>.delay.<ms>         one for each rung, shared by all
//!
//!  default exchange ──────────► <ns>.<consumer>.dead    dead letters, with their story
//! ```
//!
//! A delay queue has one TTL for all its messages: with a TTL of their own they would expire only
//! at the head. The copy in it is published anew, without `x-death`, so that the broker's cycle
//! detection never drops it.

use std::sync::Arc;
use std::time::Duration;

use super::amqp::{AMQPValue, AmqpChannel, AmqpError, ExchangeKind, FieldTable, QueueSpec};
use super::envelope::ttl;
use crate::pipeline::topology::{QueueType, Topology};

/// The names of one pipeline on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    namespace: Arc<str>,
}

impl Names {
    /// Names under a namespace, so that pipelines do not meet.
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: Arc::from(namespace),
        }
    }

    /// Every message asks for such a name, so it is put together without formatting.
    fn within(&self, name: &str, suffix: &str) -> Arc<str> {
        Arc::from([&*self.namespace, ".", name, suffix].concat())
    }

    /// The exchange of a domain.
    pub fn exchange(&self, domain: &str) -> Arc<str> {
        self.within(domain, "")
    }

    /// The work queue of a consumer.
    pub fn queue(&self, consumer: &str) -> Arc<str> {
        self.within(consumer, "")
    }

    /// The dead-letter queue of a consumer.
    pub fn dead(&self, consumer: &str) -> Arc<str> {
        self.within(consumer, ".dead")
    }

    /// The delay exchange and queue of a rung.
    pub fn delay(&self, rung: Duration) -> Arc<str> {
        self.within("delay.", &rung.as_millis().to_string())
    }

    /// A name without the namespace.
    pub fn bare<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(&*self.namespace)
            .and_then(|n| n.strip_prefix('.'))
            .unwrap_or(name)
    }
}

/// How often a quorum queue hands a message over before the broker itself gives it up. From 4.0
/// that is 20 unless said otherwise, and a connection that is lost counts for every message that
/// was prefetched on it, begun or not: a consumer that flaps would bury messages that nobody has
/// looked at, and an operator who looks at a dead letter for the 21st time would drop it. Attempts
/// are counted in the inbox instead, durably. Not -1, which 3.x refuses and which puts a message
/// that comes back behind all others.
const DELIVERIES: i32 = 1_000_000;

fn arguments(queue_type: QueueType, more: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    let mut put = |name: &str, value| {
        table.insert(name.into(), value);
    };
    let text = |value: &str| AMQPValue::LongString(value.into());
    match queue_type {
        QueueType::Classic => put("x-queue-type", text("classic")),
        QueueType::Quorum => {
            put("x-queue-type", text("quorum"));
            put("x-delivery-limit", AMQPValue::LongInt(DELIVERIES));
            // Without these the broker's own dead lettering is at most once. They need a
            // dead-letter exchange to be accepted.
            if more
                .iter()
                .any(|(name, _)| *name == "x-dead-letter-exchange")
            {
                put("x-dead-letter-strategy", text("at-least-once"));
                put("x-overflow", text("reject-publish"));
            }
        }
    }
    for (name, value) in more {
        put(name, value.clone());
    }
    table
}

/// All queues of a topology.
pub fn queues(names: &Names, topology: &Topology) -> Vec<QueueSpec> {
    let text = |value: &str| AMQPValue::LongString(value.into());
    let mut specs = Vec::new();
    for subscription in &topology.subscriptions {
        let dead = names.dead(&subscription.consumer);
        specs.push(QueueSpec {
            arguments: arguments(topology.queue_type, &[]),
            name: dead.clone(),
        });
        // What the broker itself gives up (a delivery limit) is found in the dead letters too,
        // without a story of ours.
        let own = [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&dead)),
        ];
        let arguments = arguments(topology.queue_type, &own);
        specs.push(QueueSpec {
            name: names.queue(&subscription.consumer),
            arguments,
        });
    }
    for rung in &topology.rungs {
        let own = [
            ("x-dead-letter-exchange", text("")),
            ("x-message-ttl", ttl(*rung)),
        ];
        let arguments = arguments(topology.queue_type, &own);
        specs.push(QueueSpec {
            name: names.delay(*rung),
            arguments,
        });
    }
    specs
}

/// Declares everything.
pub(super) async fn declare<C: AmqpChannel>(
    channel: &C,
    names: &Names,
    topology: &Topology,
) -> Result<(), AmqpError> {
    for domain in &topology.exchanges {
        channel
            .declare_exchange(&names.exchange(domain), ExchangeKind::Topic)
            .await?;
    }
    for spec in queues(names, topology) {
        channel.declare_queue(&spec).await?;
    }
    for rung in &topology.rungs {
        let delay = names.delay(*rung);
        channel
            .declare_exchange(&delay, ExchangeKind::Fanout)
            .await?;
        channel.bind_queue(&delay, &delay, "").await?;
    }
    for subscription in &topology.subscriptions {
        let queue = names.queue(&subscription.consumer);
        for (event_type, _) in &subscription.types {
            let domain = crate::pipeline::event::exchange_of(event_type);
            channel
                .bind_queue(&queue, &names.exchange(domain), event_type)
                .await?;
        }
    }
    Ok(())
}

/// Deletes everything that [`declare`] made, with what is in it.
pub(super) async fn delete<C: AmqpChannel>(
    channel: &C,
    names: &Names,
    topology: &Topology,
) -> Result<(), AmqpError> {
    for spec in queues(names, topology) {
        channel.delete_queue(&spec.name).await?;
    }
    for rung in &topology.rungs {
        channel.delete_exchange(&names.delay(*rung)).await?;
    }
    for domain in &topology.exchanges {
        channel.delete_exchange(&names.exchange(domain)).await?;
    }
    Ok(())
}
