//! What a pipeline needs of the broker, in words that brokers have in common.

use std::sync::Arc;
use std::time::Duration;

use crate::pipeline::event::Kind;

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
#[derive(Clone, Debug, PartialEq, Eq)]
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
