//! A bent `amqp` adapter: beneath the transport, where the frames are.

use std::sync::Arc;

use super::Wire;
use redeliver_rabbitmq::amqp::{
    Amqp, AmqpChannel, AmqpConnection, AmqpDelivery, AmqpError, ExchangeKind, Publish, QueueSpec,
    Unwritten,
};

/// An `amqp` adapter whose answers a planted bug can change.
#[derive(Clone, Debug)]
pub struct BentAmqp<A> {
    inner: A,
    wire: Arc<dyn Wire>,
}

/// A connection of a bent adapter.
#[derive(Debug)]
pub struct BentConnection<C> {
    inner: C,
    wire: Arc<dyn Wire>,
}

/// A channel of a bent adapter.
#[derive(Debug)]
pub struct BentChannel<C> {
    inner: C,
    wire: Arc<dyn Wire>,
}

impl<A> BentAmqp<A> {
    /// Bends an adapter.
    pub fn new(inner: A, wire: impl Wire) -> Self {
        let wire = Arc::new(wire);
        Self { inner, wire }
    }
}

impl<A: Amqp> Amqp for BentAmqp<A> {
    type Connection = BentConnection<A::Connection>;

    async fn connect(&self, name: &str) -> Result<Self::Connection, AmqpError> {
        Ok(BentConnection {
            inner: self.inner.connect(name).await?,
            wire: self.wire.clone(),
        })
    }
}

impl<C: AmqpConnection> AmqpConnection for BentConnection<C> {
    type Channel = BentChannel<C::Channel>;

    async fn open_channel(&self) -> Result<Self::Channel, AmqpError> {
        Ok(BentChannel {
            inner: self.inner.open_channel().await?,
            wire: self.wire.clone(),
        })
    }

    async fn close(&self) -> Result<(), AmqpError> {
        self.inner.close().await
    }
}

impl<C: AmqpChannel> AmqpChannel for BentChannel<C> {
    const HANDS_ON: bool = C::HANDS_ON;

    type Confirm = C::Confirm;
    type Consumer = C::Consumer;

    async fn declare_exchange(&self, name: &str, kind: ExchangeKind) -> Result<(), AmqpError> {
        self.inner.declare_exchange(name, kind).await
    }

    async fn declare_queue(&self, spec: &QueueSpec) -> Result<u32, AmqpError> {
        self.inner.declare_queue(&self.wire.declared(spec)).await
    }

    async fn inspect_queue(&self, name: &str) -> Result<u32, AmqpError> {
        self.inner.inspect_queue(name).await
    }

    async fn inspect_exchange(&self, name: &str) -> Result<(), AmqpError> {
        self.inner.inspect_exchange(name).await
    }

    async fn bind_queue(&self, queue: &str, exchange: &str, key: &str) -> Result<(), AmqpError> {
        self.inner.bind_queue(queue, exchange, key).await
    }

    async fn unbind_queue(&self, queue: &str, exchange: &str, key: &str) -> Result<(), AmqpError> {
        self.inner.unbind_queue(queue, exchange, key).await
    }

    async fn delete_queue(&self, name: &str) -> Result<(), AmqpError> {
        self.inner.delete_queue(name).await
    }

    async fn delete_exchange(&self, name: &str) -> Result<(), AmqpError> {
        self.inner.delete_exchange(name).await
    }

    async fn confirm_select(&self) -> Result<(), AmqpError> {
        match self.wire.confirms() {
            true => self.inner.confirm_select().await,
            false => Ok(()),
        }
    }

    async fn qos(&self, prefetch: u16) -> Result<(), AmqpError> {
        match self.wire.prefetch(prefetch) {
            Some(prefetch) => self.inner.qos(prefetch).await,
            None => Ok(()),
        }
    }

    async fn publish(&self, message: Publish) -> Result<Self::Confirm, AmqpError> {
        self.inner.publish(self.wire.published(message)).await
    }

    async fn publish_known<M: Unwritten>(
        &self,
        exchange: Arc<str>,
        routing_key: Arc<str>,
        message: Arc<M>,
    ) -> Result<Self::Confirm, AmqpError> {
        if self.wire.is_straight() {
            let inner = &self.inner;
            return inner.publish_known(exchange, routing_key, message).await;
        }
        let message = Publish {
            exchange,
            routing_key,
            mandatory: true,
            properties: message.properties(),
            body: message.body().clone(),
        };
        self.publish(message).await
    }

    async fn consume(&self, queue: &str, tag: &str) -> Result<Self::Consumer, AmqpError> {
        self.inner.consume(queue, tag).await
    }

    async fn cancel(&self, consumer_tag: &str) -> Result<(), AmqpError> {
        self.inner.cancel(consumer_tag).await
    }

    async fn get(&self, queue: &str) -> Result<Option<AmqpDelivery>, AmqpError> {
        self.inner.get(queue).await
    }

    async fn ack(&self, tag: u64, multiple: bool) -> Result<(), AmqpError> {
        let multiple = multiple || self.wire.acks_multiple();
        self.inner.ack(tag, multiple).await
    }

    async fn nack(&self, tag: u64, multiple: bool, requeue: bool) -> Result<(), AmqpError> {
        self.inner.nack(tag, multiple, requeue).await
    }

    async fn close(&self) -> Result<(), AmqpError> {
        self.inner.close().await
    }
}
