//! What conformance cases ask of a broker beyond what the transport speaks.
//!
//! The transport needs none of it; a model that is to be trusted has to show it all the same,
//! since the queues of a team may use it.

mod real;
mod simulated;

use std::future::Future;

use redeliver_rabbitmq::amqp::{AmqpChannel, AmqpError, ExchangeKind, FieldTable, Publish};

/// An exchange to declare; always durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Clients may not publish to it.
    pub internal: bool,
    /// Where messages go that it routes nowhere.
    pub alternate: Option<&'a str>,
}

impl<'a> ExchangeSpec<'a> {
    /// A plain one.
    pub fn new(name: &'a str, kind: ExchangeKind) -> Self {
        Self {
            name,
            kind,
            internal: false,
            alternate: None,
        }
    }
}

/// How a consumer takes messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumeOptions {
    /// A delivery counts as acked when it is sent.
    pub no_ack: bool,
    /// Refuse every other consumer of the queue.
    pub exclusive: bool,
    /// Higher ones are served first while they have prefetch to spare.
    pub priority: i32,
}

/// The wider part of AMQP.
pub trait Probe: AmqpChannel {
    /// Declares an exchange.
    fn declare(
        &self,
        exchange: &ExchangeSpec<'_>,
    ) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Declares a queue for this connection only, which goes with it.
    fn declare_exclusive(&self, name: &str) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Declares a queue that does not survive its node.
    fn declare_transient(&self, name: &str) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Binds a queue with arguments, which a headers exchange looks at.
    fn bind_with(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: FieldTable,
    ) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Drops the ready messages of a queue; gives how many.
    fn purge(&self, queue: &str) -> impl Future<Output = Result<u32, AmqpError>> + Send;

    /// Limits the unacked deliveries of the channel as a whole.
    fn qos_of_channel(&self, prefetch: u16) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Starts a consumer.
    fn consume_with(
        &self,
        queue: &str,
        consumer_tag: &str,
        options: ConsumeOptions,
    ) -> impl Future<Output = Result<Self::Consumer, AmqpError>> + Send;

    /// Rejects; no answer comes from the broker.
    fn reject(&self, tag: u64, requeue: bool)
    -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Publishes a message with a time to live of its own, in milliseconds as text.
    fn publish_expiring(
        &self,
        message: Publish,
        expiration: &str,
    ) -> impl Future<Output = Result<Self::Confirm, AmqpError>> + Send;
}
