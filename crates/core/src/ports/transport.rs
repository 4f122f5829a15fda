//! Moving messages, in the words that brokers have in common: publish a batch, receive, settle.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dead_letter::DeadLetter;
use crate::event::{Event, Malformed, Outgoing};
use crate::ports::env::Timestamp;
use crate::topology::Topology;

/// What a transport could not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The connection or channel is gone; connect again. Unsettled deliveries come back.
    #[error("connection to the broker lost: {0}")]
    Lost(String),
    /// The broker refused what was asked, and would again.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// No answer within the time limit; it may have happened.
    #[error("the broker did not answer in time: {0}")]
    TimedOut(String),
}

/// What became of one published message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublishOutcome {
    /// The broker has taken responsibility for it and routed it to at least one queue.
    Confirmed,
    /// The broker has confirmed it but found no queue for it: it is not stored anywhere.
    Returned(String),
    /// The broker refused it. Other queues of a fan-out may still have kept their copy.
    Rejected,
    /// No answer: the connection was lost, or the time limit was over. It may be stored.
    InDoubt(String),
}

/// Names one delivery for settling: the delivery tag with the generation of the channel that it
/// belongs to. A receipt of an earlier channel settles nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Receipt {
    /// Counts the channels of this receiver.
    pub channel: u64,
    /// The delivery tag within the channel, from 1.
    pub tag: u64,
}

/// One hand-over of a message to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// For settling it.
    pub receipt: Receipt,
    /// The event, or why the bytes are not one.
    pub event: Result<Arc<Event>, Arc<Malformed>>,
    /// Which attempt this is, 1-based, as the message says. The inbox may know of more.
    pub attempt: u32,
    /// The broker has handed it over before on this queue and got it back.
    pub redelivered: bool,
    /// When the first attempt failed; none on the first attempt.
    pub first_failure: Option<Timestamp>,
    /// How often it was parked: waited behind a live claim, or for a store that did not answer.
    pub parked: u32,
    /// It comes from the store, where it waited for its turn: the broker knows nothing of it, so
    /// there is nothing to ack, and to park it is to leave it where it is.
    pub kept: bool,
    /// The queue it came from.
    pub queue: Arc<str>,
    /// The exchange and routing key it was first published with.
    pub exchange: Arc<str>,
    /// See `exchange`.
    pub routing_key: Arc<str>,
}

/// What shall become of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Settlement {
    /// Its work is done, durably: forget it.
    Done,
    /// It failed: deliver a copy as `attempt` after `delay`, not earlier.
    RetryAfter {
        /// How long to wait at least.
        delay: Duration,
        /// The number of the attempt to come.
        attempt: u32,
        /// When the first attempt failed.
        first_failure: Timestamp,
    },
    /// It waits in the store for an earlier message of its key: forget it.
    Kept,
    /// It cannot be worked on yet (a live claim, a store that does not answer): deliver a copy as
    /// the same attempt after `delay`.
    Park {
        /// How long to wait at least.
        delay: Duration,
    },
    /// It has failed for good: move it to the dead letters with its story.
    DeadLetter(Box<DeadLetter>),
}

/// A connection for publishing.
pub trait Publisher: Send + Sync + 'static {
    /// Publishes `batch` in its order and waits for what becomes of each, `within` at most.
    /// The answer has one outcome a message, in the order of the batch. After an outcome
    /// [`PublishOutcome::InDoubt`] the publisher may be unusable: open another.
    fn publish(
        &mut self,
        batch: &[Outgoing],
        within: Duration,
    ) -> impl Future<Output = Vec<PublishOutcome>> + Send;
}

/// A subscription to one queue.
pub trait Receiver: Clone + Send + Sync + 'static {
    /// Waits for the next delivery. At most the prefetch of the subscription is unsettled at
    /// any time. A future that is dropped takes no delivery along: the next call gets it.
    ///
    /// # Errors
    /// [`TransportError::Lost`] when the channel is gone; every receipt of it is void then.
    fn receive(&self) -> impl Future<Output = Result<Delivery, TransportError>> + Send;

    /// Settles a delivery. For everything but [`Settlement::Done`] and [`Settlement::Kept`] the copy
    /// is published and confirmed before the original is acked; where that fails the original
    /// stays unsettled and comes back by itself when the channel closes. Of a delivery that was
    /// [kept](Delivery::kept) there is no original to ack.
    ///
    /// # Errors
    /// [`TransportError`] when it is not known that the delivery is settled.
    fn settle(
        &self,
        delivery: &Delivery,
        settlement: Settlement,
    ) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// Settles many deliveries as done. Their acks leave together.
    ///
    /// # Errors
    /// [`TransportError`] when it is not known that all of them are settled.
    fn settle_done(
        &self,
        deliveries: &[Delivery],
    ) -> impl Future<Output = Result<(), TransportError>> + Send {
        async move {
            for delivery in deliveries {
                self.settle(delivery, Settlement::Done).await?;
            }
            Ok(())
        }
    }

    /// Stops new deliveries; those in hand can still be settled.
    fn cancel(&self) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// Closes the channel: what is unsettled goes back to the queue.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// A broker.
pub trait Transport: Clone + Send + Sync + 'static {
    /// See [`Publisher`].
    type Publisher: Publisher;
    /// See [`Receiver`].
    type Receiver: Receiver;

    /// Creates what `topology` names where it is missing: exchanges, queues, the delay ladder,
    /// dead-letter queues.
    ///
    /// # Errors
    /// [`TransportError::Refused`] where something of that name exists but is different.
    fn declare(
        &self,
        topology: &Topology,
    ) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// Asks whether all exchanges and queues are there that `topology` names, and creates nothing.
    ///
    /// # Errors
    /// [`TransportError::Refused`] with the names of all that is missing.
    fn verify(
        &self,
        topology: &Topology,
    ) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// Opens a connection for publishing.
    ///
    /// # Errors
    /// [`TransportError`] when the broker cannot be reached.
    fn publisher(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Self::Publisher, TransportError>> + Send;

    /// Subscribes to `queue` with at most `prefetch` unsettled deliveries.
    ///
    /// # Errors
    /// [`TransportError`] when the broker cannot be reached or has no such queue.
    fn receiver(
        &self,
        name: &str,
        queue: &str,
        prefetch: u16,
    ) -> impl Future<Output = Result<Self::Receiver, TransportError>> + Send;
}
