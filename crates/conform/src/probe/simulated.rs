//! The wider part of AMQP over the simulated broker.

use std::sync::Arc;

use redeliver_sim::broker;

use crate::probe::{ConsumeOptions, ExchangeSpec, Probe};
use redeliver_rabbitmq::amqp::{AmqpError, FieldTable, Publish};
use redeliver_simulated::amqp::{SimChannel, SimConfirm, SimConsumer, exchange_kind, to_publish};

impl Probe for SimChannel {
    async fn declare(&self, exchange: &ExchangeSpec<'_>) -> Result<(), AmqpError> {
        let declare = broker::ExchangeDeclare {
            name: Arc::from(exchange.name),
            kind: exchange_kind(exchange.kind),
            durable: true,
            internal: exchange.internal,
            alternate: exchange.alternate.map(Arc::from),
            ..Default::default()
        };
        self.call(|b, chan| b.exchange_declare(chan, declare)).await
    }

    async fn declare_exclusive(&self, name: &str) -> Result<(), AmqpError> {
        let declare = broker::QueueDeclare {
            name: Arc::from(name),
            exclusive: true,
            ..Default::default()
        };
        let declared = self.call(|b, chan| b.queue_declare(chan, declare));
        declared.await.map(drop)
    }

    async fn declare_transient(&self, name: &str) -> Result<(), AmqpError> {
        let declare = broker::QueueDeclare {
            name: Arc::from(name),
            ..Default::default()
        };
        let declared = self.call(|b, chan| b.queue_declare(chan, declare));
        declared.await.map(drop)
    }

    async fn bind_with(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: FieldTable,
    ) -> Result<(), AmqpError> {
        self.call(|b, chan| b.queue_bind(chan, queue, exchange, routing_key, arguments))
            .await
    }

    async fn purge(&self, queue: &str) -> Result<u32, AmqpError> {
        self.call(|b, chan| b.queue_purge(chan, queue)).await
    }

    async fn qos_of_channel(&self, prefetch: u16) -> Result<(), AmqpError> {
        self.call(|b, chan| b.basic_qos(chan, prefetch, true)).await
    }

    async fn consume_with(
        &self,
        queue: &str,
        consumer_tag: &str,
        options: ConsumeOptions,
    ) -> Result<SimConsumer, AmqpError> {
        let options = broker::ConsumeOptions {
            no_ack: options.no_ack,
            exclusive: options.exclusive,
            priority: options.priority,
        };
        self.consume_as(queue, consumer_tag, options).await
    }

    async fn reject(&self, tag: u64, requeue: bool) -> Result<(), AmqpError> {
        self.settle(|b, chan| b.reject(chan, tag, requeue)).await
    }

    async fn publish_expiring(
        &self,
        message: Publish,
        expiration: &str,
    ) -> Result<SimConfirm, AmqpError> {
        let mut publish = to_publish(message);
        publish.properties.expiration = Some(expiration.into());
        self.send(publish).await
    }
}
