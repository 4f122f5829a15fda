//! The part of AMQP 0-9-1 that the transport speaks: connections, channels, declarations,
//! publishing with confirms, consuming with acks.
//!
//! Two adapters implement it, one over a real connection and one over the simulated broker, and
//! one suite holds them to the same behaviour.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;

pub use amq_protocol_types::{AMQPValue, FieldTable, ShortString};
use bytes::Bytes;

/// What the broker or the connection refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmqpError {
    /// The connection is gone or could not be made. Everything unconfirmed is in doubt and
    /// everything unacked goes back to its queue.
    #[error("connection: {0}")]
    Connection(String),
    /// The broker closed the channel with this reply code (403, 404, 405, 406); the connection
    /// lives on.
    #[error("channel closed by the broker: {code} {text}")]
    Channel {
        /// AMQP reply code.
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// The broker refused the login (403 at connection start) or the virtual host.
    #[error("access refused: {0}")]
    Access(String),
}

/// The properties of a message, as AMQP names them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<Arc<str>>,
    /// 2 is persistent; anything else is lost with a classic queue's node.
    pub delivery_mode: Option<u8>,
    /// Id of the event.
    pub message_id: Option<Arc<str>>,
    /// Id of the chain of events.
    pub correlation_id: Option<Arc<str>>,
    /// Seconds since the epoch.
    pub timestamp: Option<u64>,
    /// Type of the event (`type` in AMQP).
    pub kind: Option<Arc<str>>,
    /// Name of the application.
    pub app_id: Option<Arc<str>>,
    /// Everything else.
    pub headers: FieldTable,
}

/// One message to publish.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// Empty for the default exchange.
    pub exchange: Arc<str>,
    /// Routing key.
    pub routing_key: Arc<str>,
    /// Return it if no queue takes it.
    pub mandatory: bool,
    /// Its properties.
    pub properties: Properties,
    /// Its body.
    pub body: Bytes,
}

/// What became of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// basic.ack.
    Ack,
    /// basic.nack.
    Nack,
    /// basic.return, followed by basic.ack: no queue took it.
    Returned {
        /// For example 312 NO_ROUTE.
        code: u16,
        /// The broker's words.
        text: String,
    },
}

/// One delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct AmqpDelivery {
    /// Delivery tag, per channel, from 1.
    pub tag: u64,
    /// The broker had handed it over before.
    pub redelivered: bool,
    /// The exchange it was published to last.
    pub exchange: Arc<str>,
    /// The routing key it was published with last.
    pub routing_key: Arc<str>,
    /// Its properties.
    pub properties: Properties,
    /// Its body.
    pub body: Bytes,
}

/// Kinds of exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    /// Routing key equals binding key.
    Direct,
    /// Every bound queue.
    Fanout,
    /// Words with `*` and `#`.
    Topic,
    /// Header arguments.
    Headers,
    /// A hash of the routing key, the binding key being the queue's weight. The broker's plugin
    /// `rabbitmq_consistent_hash_exchange` has to be enabled.
    ConsistentHash,
}

/// A queue to declare; always durable and shared.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSpec {
    /// Its name.
    pub name: Arc<str>,
    /// `x-…` arguments, `x-queue-type` among them.
    pub arguments: FieldTable,
}

/// How a subscription ended, or what came.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are deliveries, moved once"
)]
pub enum Incoming {
    /// A delivery.
    Delivery(AmqpDelivery),
    /// The broker cancelled the consumer, for example because its queue was deleted.
    Cancelled,
}

/// A message that its publisher has as a value: an adapter whose broker is in this process hands
/// the value on, and its bytes are written only if somebody reads them.
pub trait Unwritten: Any + Send + Sync {
    /// The properties as they would be written.
    fn properties(&self) -> Properties;
    /// The body.
    fn body(&self) -> &Bytes;
    /// The idempotency key of the work that it is about, and which attempt at it.
    fn subject(&self) -> (&str, u32);
}

/// What [`AmqpConsumer::next_known`] gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrival<M> {
    /// It has to be decoded.
    Incoming(Incoming),
    /// A delivery that the broker has handed on as it was published.
    Known {
        /// Delivery tag, per channel, from 1.
        tag: u64,
        /// The broker had handed it over before.
        redelivered: bool,
        /// The exchange it was published to last.
        exchange: Arc<str>,
        /// The routing key it was published with last.
        routing_key: Arc<str>,
        /// What its publisher has sent.
        message: Arc<M>,
    },
}

/// Connects.
pub trait Amqp: Clone + Send + Sync + 'static {
    /// See [`AmqpConnection`].
    type Connection: AmqpConnection;

    /// Opens a connection; `name` shows in the broker's management pages.
    ///
    /// # Errors
    /// [`AmqpError::Connection`] when nobody answers, [`AmqpError::Access`] when refused.
    fn connect(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Self::Connection, AmqpError>> + Send;
}

/// A connection. Dropping it closes it.
pub trait AmqpConnection: Send + Sync + 'static {
    /// See [`AmqpChannel`].
    type Channel: AmqpChannel;

    /// Opens a channel.
    fn open_channel(&self) -> impl Future<Output = Result<Self::Channel, AmqpError>> + Send;

    /// Closes in order: what was sent before is carried out.
    fn close(&self) -> impl Future<Output = Result<(), AmqpError>> + Send;
}

/// A channel. Dropping it closes it; unacked deliveries go back.
pub trait AmqpChannel: Send + Sync + 'static {
    /// Whether this adapter hands values on ([`AmqpChannel::publish_known`]).
    const HANDS_ON: bool = false;

    /// Completes when the broker has answered for one publish.
    type Confirm: Future<Output = Result<Confirmation, AmqpError>> + Send + 'static;
    /// See [`AmqpConsumer`].
    type Consumer: AmqpConsumer;

    /// Declares a durable exchange.
    fn declare_exchange(
        &self,
        name: &str,
        kind: ExchangeKind,
    ) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Declares a durable queue; gives the number of ready messages.
    fn declare_queue(
        &self,
        spec: &QueueSpec,
    ) -> impl Future<Output = Result<u32, AmqpError>> + Send;

    /// Asks for a queue without creating it: ready messages, or 404.
    fn inspect_queue(&self, name: &str) -> impl Future<Output = Result<u32, AmqpError>> + Send;

    /// Asks for an exchange without creating it, or 404.
    fn inspect_exchange(&self, name: &str) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Binds a queue to an exchange.
    fn bind_queue(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
    ) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Removes a binding.
    fn unbind_queue(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
    ) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Deletes a queue with what is in it; fine if there is none.
    fn delete_queue(&self, name: &str) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Deletes an exchange; fine if there is none.
    fn delete_exchange(&self, name: &str) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Asks for confirms on this channel from here on.
    fn confirm_select(&self) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Limits unacked deliveries for consumers started afterwards.
    fn qos(&self, prefetch: u16) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Sends a message. The send is over when it was written; what the broker made of it comes
    /// with the confirm (on a channel in confirm mode), in any order.
    fn publish(
        &self,
        message: Publish,
    ) -> impl Future<Output = Result<Self::Confirm, AmqpError>> + Send;

    /// Sends a message that its publisher has as a value, as mandatory. Where
    /// [`AmqpChannel::HANDS_ON`] says so, [`AmqpConsumer::next_known`] gives that value again.
    fn publish_known<M: Unwritten>(
        &self,
        exchange: Arc<str>,
        routing_key: Arc<str>,
        message: Arc<M>,
    ) -> impl Future<Output = Result<Self::Confirm, AmqpError>> + Send {
        self.publish(Publish {
            exchange,
            routing_key,
            mandatory: true,
            properties: message.properties(),
            body: message.body().clone(),
        })
    }

    /// Starts a consumer with manual acks.
    fn consume(
        &self,
        queue: &str,
        consumer_tag: &str,
    ) -> impl Future<Output = Result<Self::Consumer, AmqpError>> + Send;

    /// Stops a consumer; its unacked deliveries stay with the channel.
    fn cancel(&self, consumer_tag: &str) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Takes one message without a consumer.
    fn get(
        &self,
        queue: &str,
    ) -> impl Future<Output = Result<Option<AmqpDelivery>, AmqpError>> + Send;

    /// Acks; no answer comes from the broker.
    fn ack(&self, tag: u64, multiple: bool) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Nacks; no answer comes from the broker.
    fn nack(
        &self,
        tag: u64,
        multiple: bool,
        requeue: bool,
    ) -> impl Future<Output = Result<(), AmqpError>> + Send;

    /// Closes the channel; unacked deliveries go back.
    fn close(&self) -> impl Future<Output = Result<(), AmqpError>> + Send;
}

/// The deliveries of one consumer.
pub trait AmqpConsumer: Send + 'static {
    /// Waits for the next.
    ///
    /// # Errors
    /// How the channel or connection ended.
    fn next(&mut self) -> impl Future<Output = Result<Incoming, AmqpError>> + Send;

    /// Waits for the next, and gives the value that was published where that is known.
    ///
    /// # Errors
    /// As [`AmqpConsumer::next`].
    fn next_known<M: Unwritten>(
        &mut self,
    ) -> impl Future<Output = Result<Arrival<M>, AmqpError>> + Send {
        async { Ok(Arrival::Incoming(self.next().await?)) }
    }
}
