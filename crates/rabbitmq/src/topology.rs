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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::amqp::{
    AMQPValue, AmqpChannel, AmqpConnection, AmqpError, ExchangeKind, FieldTable, QueueSpec,
};
use super::envelope::ttl;
use redeliver_core::topology::{QueueType, Topology};

/// The names of one pipeline on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    namespace: Arc<str>,
    /// Where a team's own names stand in the place of ours.
    given: Option<Arc<Given>>,
}

/// Names that exist already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Given {
    exchanges: BTreeMap<Arc<str>, Arc<str>>,
    queues: BTreeMap<Arc<str>, Arc<str>>,
    dead: BTreeMap<Arc<str>, Arc<str>>,
    /// Exchange and queue of a rung.
    delays: BTreeMap<Duration, (Arc<str>, Arc<str>)>,
}

fn key_of(given: &BTreeMap<Arc<str>, Arc<str>>, name: &str) -> Option<Arc<str>> {
    let found = given.iter().find(|(_, there)| ***there == *name);
    found.map(|(key, _)| key.clone())
}

impl Names {
    /// Names under a namespace, so that pipelines do not meet.
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: Arc::from(namespace),
            given: None,
        }
    }

    fn give(mut self, give: impl FnOnce(&mut Given)) -> Self {
        give(Arc::make_mut(self.given.get_or_insert_default()));
        self
    }

    /// The exchange of a domain is there already, under this name.
    #[must_use]
    pub fn with_exchange(self, domain: &str, name: &str) -> Self {
        self.give(|given| {
            given.exchanges.insert(domain.into(), name.into());
        })
    }

    /// The work queue of a consumer is there already, under this name.
    #[must_use]
    pub fn with_queue(self, consumer: &str, name: &str) -> Self {
        self.give(|given| {
            given.queues.insert(consumer.into(), name.into());
        })
    }

    /// The dead-letter queue of a consumer is there already, under this name.
    #[must_use]
    pub fn with_dead(self, consumer: &str, name: &str) -> Self {
        self.give(|given| {
            given.dead.insert(consumer.into(), name.into());
        })
    }

    /// Exchange and queue of a rung are there already, under these names.
    #[must_use]
    pub fn with_delay(self, rung: Duration, exchange: &str, queue: &str) -> Self {
        self.give(|given| {
            given.delays.insert(rung, (exchange.into(), queue.into()));
        })
    }

    /// The same names within another namespace, for those that are not given.
    #[must_use]
    pub fn within_namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    fn given<'a>(
        &'a self,
        which: impl FnOnce(&'a Given) -> Option<&'a Arc<str>>,
        otherwise: impl FnOnce() -> Arc<str>,
    ) -> Arc<str> {
        let given = self.given.as_deref().and_then(which);
        given.map_or_else(otherwise, Arc::clone)
    }

    /// Every message asks for such a name, so it is put together without formatting.
    fn within(&self, name: &str, suffix: &str) -> Arc<str> {
        Arc::from([&*self.namespace, ".", name, suffix].concat())
    }

    /// The exchange of a domain.
    pub fn exchange(&self, domain: &str) -> Arc<str> {
        self.given(|g| g.exchanges.get(domain), || self.within(domain, ""))
    }

    /// The work queue of a consumer.
    pub fn queue(&self, consumer: &str) -> Arc<str> {
        self.given(|g| g.queues.get(consumer), || self.within(consumer, ""))
    }

    /// The dead-letter queue of a consumer.
    pub fn dead(&self, consumer: &str) -> Arc<str> {
        self.given(|g| g.dead.get(consumer), || self.within(consumer, ".dead"))
    }

    /// The delay exchange of a rung.
    pub fn delay(&self, rung: Duration) -> Arc<str> {
        let given = |g: &'_ Given| g.delays.get(&rung).map(|(exchange, _)| exchange.clone());
        let given = self.given.as_deref().and_then(given);
        given.unwrap_or_else(|| self.own_delay(rung))
    }

    /// The delay queue of a rung.
    pub fn delay_queue(&self, rung: Duration) -> Arc<str> {
        let given = |g: &'_ Given| g.delays.get(&rung).map(|(_, queue)| queue.clone());
        let given = self.given.as_deref().and_then(given);
        given.unwrap_or_else(|| self.own_delay(rung))
    }

    fn own_delay(&self, rung: Duration) -> Arc<str> {
        self.within("delay.", &rung.as_millis().to_string())
    }

    /// What the pipeline calls a queue: its consumer, or its name without the namespace.
    pub fn bare(&self, queue: &str) -> Arc<str> {
        let given = self.given.as_deref().and_then(|g| {
            let dead = |consumer: Arc<str>| Arc::from(format!("{consumer}.dead"));
            key_of(&g.queues, queue).or_else(|| key_of(&g.dead, queue).map(dead))
        });
        given.unwrap_or_else(|| Arc::from(self.outside(queue)))
    }

    /// The domain of an exchange.
    pub fn domain(&self, exchange: &str) -> Arc<str> {
        let given = self.given.as_deref();
        let given = given.and_then(|g| key_of(&g.exchanges, exchange));
        given.unwrap_or_else(|| Arc::from(self.outside(exchange)))
    }

    /// A name without the namespace.
    fn outside<'a>(&self, name: &'a str) -> &'a str {
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
pub const DELIVERIES: i32 = 1_000_000;

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
            name: names.delay_queue(*rung),
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
        let queue = names.delay_queue(*rung);
        channel.bind_queue(&queue, &delay, "").await?;
    }
    for subscription in &topology.subscriptions {
        let queue = names.queue(&subscription.consumer);
        for (event_type, _) in &subscription.types {
            let domain = redeliver_core::event::exchange_of(event_type);
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

/// Names of exchanges and queues that are missing, in the order in which they are needed. Nothing
/// is created: all are asked for passively, for which no right is needed.
pub async fn missing<C: AmqpConnection>(
    connection: &C,
    names: &Names,
    topology: &Topology,
) -> Result<Vec<String>, AmqpError> {
    let domains = topology
        .exchanges
        .iter()
        .map(|domain| names.exchange(domain));
    let delays = topology.rungs.iter().map(|rung| names.delay(*rung));
    let exchanges = domains.chain(delays).map(|name| (name, true));
    let queues = queues(names, topology).into_iter();
    let all: Vec<_> = exchanges
        .chain(queues.map(|spec| (spec.name, false)))
        .collect();
    let mut missing = Vec::new();
    let mut channel = None;
    for (name, is_exchange) in all {
        let open = match channel.take() {
            Some(open) => open,
            None => connection.open_channel().await?,
        };
        let found = match is_exchange {
            true => open.inspect_exchange(&name).await,
            false => open.inspect_queue(&name).await.map(drop),
        };
        match found {
            Ok(()) => channel = Some(open),
            // The broker has closed this channel.
            Err(AmqpError::Channel { code: 404, .. }) => {
                let what = if is_exchange { "exchange" } else { "queue" };
                missing.push(format!("{what} {name}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}
