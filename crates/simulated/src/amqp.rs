//! The `amqp` port over the simulated broker.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use redeliver_sim::amqp as world;
use redeliver_sim::broker::{self, Closed};

use redeliver_rabbitmq::amqp::{
    Amqp, AmqpChannel, AmqpConnection, AmqpConsumer, AmqpDelivery, AmqpError, Arrival,
    Confirmation, ExchangeKind, FieldTable, Incoming, Properties, Publish, QueueSpec, ShortString,
    Unwritten,
};

/// Connects to the broker of the world that runs on this thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimAmqp;

/// Connects to that broker as an account.
#[derive(Clone, Debug)]
pub struct SimAccount {
    name: Arc<str>,
}

impl SimAccount {
    /// The account of that name.
    pub fn new(name: &str) -> Self {
        Self { name: name.into() }
    }
}

impl Amqp for SimAccount {
    type Connection = SimConnection;

    async fn connect(&self, _: &str) -> Result<SimConnection, AmqpError> {
        Ok(SimConnection(
            world::connect_as(&self.name).await.map_err(port)?,
        ))
    }
}

/// See [`AmqpConnection`].
#[derive(Debug)]
pub struct SimConnection(world::Connection);

/// See [`AmqpChannel`].
#[derive(Debug)]
pub struct SimChannel(world::Channel);

/// See [`AmqpConsumer`].
#[derive(Debug)]
pub struct SimConsumer(world::Consumer);

fn port(error: world::Error) -> AmqpError {
    match error {
        world::Error::Connection(text) => AmqpError::Connection(text),
        world::Error::Channel(code, text) => AmqpError::Channel { code, text },
        world::Error::Access(text) => AmqpError::Access(text),
    }
}

impl Amqp for SimAmqp {
    type Connection = SimConnection;

    async fn connect(&self, _: &str) -> Result<SimConnection, AmqpError> {
        Ok(SimConnection(world::connect().await.map_err(port)?))
    }
}

impl AmqpConnection for SimConnection {
    type Channel = SimChannel;

    async fn open_channel(&self) -> Result<SimChannel, AmqpError> {
        Ok(SimChannel(self.0.open_channel().await.map_err(port)?))
    }

    async fn close(&self) -> Result<(), AmqpError> {
        self.0.close().await;
        Ok(())
    }
}

impl SimChannel {
    /// Asks the broker and waits for its answer.
    ///
    /// # Errors
    /// Whatever ended channel or connection.
    pub async fn call<R: Send>(
        &self,
        act: impl FnOnce(&mut broker::Broker, broker::ChanId) -> Result<R, Closed> + Send,
    ) -> Result<R, AmqpError> {
        self.0.call(act).await.map_err(port)
    }

    /// Tells the broker something to which no answer comes.
    ///
    /// # Errors
    /// As [`SimChannel::call`].
    pub async fn settle(
        &self,
        act: impl FnOnce(&mut broker::Broker, broker::ChanId) -> Result<(), Closed> + Send,
    ) -> Result<(), AmqpError> {
        self.0.settle(act).await.map_err(port)
    }

    /// Publishes a message as the broker has it.
    ///
    /// # Errors
    /// As [`SimChannel::call`].
    pub async fn send(&self, publish: broker::Publish) -> Result<SimConfirm, AmqpError> {
        Ok(SimConfirm(self.0.publish(publish).await.map_err(port)?))
    }

    /// Starts a consumer.
    ///
    /// # Errors
    /// As [`SimChannel::call`].
    pub async fn consume_as(
        &self,
        queue: &str,
        consumer_tag: &str,
        options: broker::ConsumeOptions,
    ) -> Result<SimConsumer, AmqpError> {
        Ok(SimConsumer(
            self.0
                .consume(queue, consumer_tag, options)
                .await
                .map_err(port)?,
        ))
    }
}

/// The confirm of a publish.
#[derive(Debug)]
pub struct SimConfirm(world::Confirm);

impl Future for SimConfirm {
    type Output = Result<Confirmation, AmqpError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|confirmed| {
            Ok(match confirmed.map_err(port)? {
                world::Confirmed::Ack => Confirmation::Ack,
                world::Confirmed::Nack => Confirmation::Nack,
                world::Confirmed::Returned(code, text) => Confirmation::Returned {
                    code,
                    text: text.to_owned(),
                },
            })
        })
    }
}

impl AmqpChannel for SimChannel {
    const HANDS_ON: bool = true;

    type Confirm = SimConfirm;
    type Consumer = SimConsumer;

    async fn declare_exchange(&self, name: &str, kind: ExchangeKind) -> Result<(), AmqpError> {
        let declare = broker::ExchangeDeclare {
            name: Arc::from(name),
            kind: exchange_kind(kind),
            durable: true,
            ..Default::default()
        };
        self.call(|b, chan| b.exchange_declare(chan, declare)).await
    }

    async fn declare_queue(&self, spec: &QueueSpec) -> Result<u32, AmqpError> {
        let declare = broker::QueueDeclare {
            name: spec.name.clone(),
            durable: true,
            arguments: spec.arguments.clone(),
            ..Default::default()
        };
        Ok(self
            .call(|b, chan| b.queue_declare(chan, declare))
            .await?
            .messages)
    }

    async fn inspect_queue(&self, name: &str) -> Result<u32, AmqpError> {
        let name = Arc::from(name);
        let declare = broker::QueueDeclare {
            name,
            passive: true,
            ..Default::default()
        };
        Ok(self
            .call(|b, chan| b.queue_declare(chan, declare))
            .await?
            .messages)
    }

    async fn inspect_exchange(&self, name: &str) -> Result<(), AmqpError> {
        let declare = broker::ExchangeDeclare {
            name: Arc::from(name),
            passive: true,
            ..Default::default()
        };
        self.call(|b, chan| b.exchange_declare(chan, declare)).await
    }

    async fn bind_queue(&self, queue: &str, exchange: &str, key: &str) -> Result<(), AmqpError> {
        self.call(|b, chan| b.queue_bind(chan, queue, exchange, key, FieldTable::default()))
            .await
    }

    async fn unbind_queue(&self, queue: &str, exchange: &str, key: &str) -> Result<(), AmqpError> {
        self.call(|b, chan| b.queue_unbind(chan, queue, exchange, key, FieldTable::default()))
            .await
    }

    async fn delete_queue(&self, name: &str) -> Result<(), AmqpError> {
        self.call(|b, chan| b.queue_delete(chan, name))
            .await
            .map(|_| ())
    }

    async fn delete_exchange(&self, name: &str) -> Result<(), AmqpError> {
        self.call(|b, chan| b.exchange_delete(chan, name)).await
    }

    async fn confirm_select(&self) -> Result<(), AmqpError> {
        self.call(|b, chan| b.confirm_select(chan)).await
    }

    async fn qos(&self, prefetch: u16) -> Result<(), AmqpError> {
        self.call(|b, chan| b.basic_qos(chan, prefetch, false))
            .await
    }

    async fn publish(&self, message: Publish) -> Result<SimConfirm, AmqpError> {
        self.send(to_publish(message)).await
    }

    async fn publish_known<M: Unwritten>(
        &self,
        exchange: Arc<str>,
        routing_key: Arc<str>,
        message: Arc<M>,
    ) -> Result<SimConfirm, AmqpError> {
        let publish = broker::Publish {
            exchange,
            routing_key,
            mandatory: true,
            body: message.body().clone(),
            properties: broker::Properties::unwritten(
                message.clone(),
                written::<M>,
                message.subject(),
            ),
        };
        self.send(publish).await
    }

    async fn consume(&self, queue: &str, consumer_tag: &str) -> Result<SimConsumer, AmqpError> {
        self.consume_as(queue, consumer_tag, broker::ConsumeOptions::default())
            .await
    }

    async fn cancel(&self, consumer_tag: &str) -> Result<(), AmqpError> {
        self.0.cancel(consumer_tag).await.map_err(port)
    }

    async fn get(&self, queue: &str) -> Result<Option<AmqpDelivery>, AmqpError> {
        let got = self.call(|b, chan| b.get(chan, queue, false)).await?;
        Ok(got.map(from_broker))
    }

    async fn ack(&self, tag: u64, multiple: bool) -> Result<(), AmqpError> {
        self.settle(|b, chan| b.ack(chan, tag, multiple)).await
    }

    async fn nack(&self, tag: u64, multiple: bool, requeue: bool) -> Result<(), AmqpError> {
        self.settle(|b, chan| b.nack(chan, tag, multiple, requeue))
            .await
    }

    async fn close(&self) -> Result<(), AmqpError> {
        self.0.close().await.map_err(port)
    }
}

impl AmqpConsumer for SimConsumer {
    async fn next(&mut self) -> Result<Incoming, AmqpError> {
        Ok(match self.0.next().await.map_err(port)? {
            world::Incoming::Delivery(delivery) => Incoming::Delivery(from_broker(delivery)),
            world::Incoming::Cancelled => Incoming::Cancelled,
        })
    }

    async fn next_known<M: Unwritten>(&mut self) -> Result<Arrival<M>, AmqpError> {
        Ok(match self.0.next().await.map_err(port)? {
            world::Incoming::Delivery(delivery) => match known(&delivery) {
                Some(message) => Arrival::Known {
                    tag: delivery.tag,
                    redelivered: delivery.redelivered,
                    exchange: delivery.exchange,
                    routing_key: delivery.routing_key,
                    message,
                },
                None => Arrival::Incoming(Incoming::Delivery(from_broker(delivery))),
            },
            world::Incoming::Cancelled => Arrival::Incoming(Incoming::Cancelled),
        })
    }
}

/// What its publisher knew of a delivery that the broker has handed on unchanged.
fn known<M: Unwritten>(delivery: &broker::Delivery) -> Option<Arc<M>> {
    let known = delivery.content.properties.aside.known.clone()?;
    known.downcast().ok()
}

/// A kind of exchange as the broker has it.
pub fn exchange_kind(kind: ExchangeKind) -> broker::ExchangeKind {
    match kind {
        ExchangeKind::Direct => broker::ExchangeKind::Direct,
        ExchangeKind::Fanout => broker::ExchangeKind::Fanout,
        ExchangeKind::Topic => broker::ExchangeKind::Topic,
        ExchangeKind::Headers => broker::ExchangeKind::Headers,
        ExchangeKind::ConsistentHash => broker::ExchangeKind::ConsistentHash,
    }
}

/// A message as the broker has it.
pub fn to_publish(from: Publish) -> broker::Publish {
    broker::Publish {
        exchange: from.exchange,
        routing_key: from.routing_key,
        mandatory: from.mandatory,
        properties: to_broker(from.properties),
        body: from.body,
    }
}

/// The properties of a message that was handed on as a value, for those who read them.
fn written<M: Unwritten>(known: &broker::Meaning) -> broker::Properties {
    let message: &M = known.downcast_ref().expect("the type it was published as");
    to_broker(message.properties())
}

fn to_broker(from: Properties) -> broker::Properties {
    let short = |text: Option<Arc<str>>| text.map(|text| (&*text).into());
    broker::Properties {
        content_type: short(from.content_type),
        delivery_mode: from.delivery_mode,
        message_id: short(from.message_id),
        correlation_id: short(from.correlation_id),
        timestamp: from.timestamp,
        kind: short(from.kind),
        app_id: short(from.app_id),
        headers: Some(from.headers),
        ..Default::default()
    }
}

/// A delivery as the port has it.
pub fn from_broker(from: broker::Delivery) -> AmqpDelivery {
    let properties = from.content.properties.written();
    let shared = |text: Option<ShortString>| text.map(|text| Arc::from(text.as_str()));
    AmqpDelivery {
        tag: from.tag,
        redelivered: from.redelivered,
        exchange: from.exchange,
        routing_key: from.routing_key,
        properties: Properties {
            content_type: shared(properties.content_type),
            delivery_mode: properties.delivery_mode,
            message_id: shared(properties.message_id),
            correlation_id: shared(properties.correlation_id),
            timestamp: properties.timestamp,
            kind: shared(properties.kind),
            app_id: shared(properties.app_id),
            headers: properties.headers.unwrap_or_default(),
        },
        body: from.content.body.clone(),
    }
}
