//! What a pipeline needs of the broker, in words that brokers have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::event::Kind;

/// How queues are kept.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum QueueType {
    /// Replicated log; the default for work that must not be lost.
    #[default]
    Quorum,
    /// Single-node queue.
    Classic,
}

/// A queue with its consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Name of the consumer and of its queue (a namespace is put before it by the transport).
    pub consumer: Arc<str>,
    /// The event types that it takes, with their kinds.
    pub types: Vec<(Arc<str>, Kind)>,
}

/// Everything that has to exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// One exchange a domain.
    pub exchanges: Vec<Arc<str>>,
    /// One queue a consumer.
    pub subscriptions: Vec<Subscription>,
    /// The delays that messages can wait, ascending; one delay queue each.
    pub rungs: Vec<Duration>,
    /// How work queues are kept.
    pub queue_type: QueueType,
}

/// A topology that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// A command is for exactly one consumer.
    #[error("the command {event_type} has {count} consumers ({names}); a command has exactly one")]
    Command {
        /// The command.
        event_type: Arc<str>,
        /// How many.
        count: usize,
        /// Which.
        names: String,
    },
    /// Two consumers of one name would share a queue.
    #[error("there are two consumers named {0}")]
    Twice(Arc<str>),
}

impl Topology {
    /// The topology of these consumers.
    pub fn of(
        subscriptions: Vec<Subscription>,
        rungs: Vec<Duration>,
        queue_type: QueueType,
    ) -> Self {
        let types = subscriptions.iter().flat_map(|s| &s.types);
        let domains = types.map(|(event_type, _)| crate::event::exchange_of(event_type));
        let domains: BTreeSet<&str> = domains.collect();
        let exchanges = domains.into_iter().map(Arc::from).collect();
        Self {
            exchanges,
            subscriptions,
            rungs,
            queue_type,
        }
    }

    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// The first contradiction, by name.
    pub fn check(&self) -> Result<(), TopologyError> {
        let mut consumers: BTreeMap<&Arc<str>, Vec<&str>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for subscription in &self.subscriptions {
            if !seen.insert(&subscription.consumer) {
                return Err(TopologyError::Twice(subscription.consumer.clone()));
            }
            for (event_type, kind) in &subscription.types {
                if *kind == Kind::Command {
                    consumers
                        .entry(event_type)
                        .or_default()
                        .push(&subscription.consumer);
                }
            }
        }
        for (event_type, names) in consumers {
            if names.len() > 1 {
                let (count, names) = (names.len(), names.join(", "));
                return Err(TopologyError::Command {
                    event_type: event_type.clone(),
                    count,
                    names,
                });
            }
        }
        Ok(())
    }
}
