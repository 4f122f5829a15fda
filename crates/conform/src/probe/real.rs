//! The wider part of AMQP over a real connection.

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};

use crate::probe::{ConsumeOptions, ExchangeSpec, Probe};
use redeliver_rabbitmq::amqp::{AmqpError, Publish};
use redeliver_rabbitmq::lapin::codec::short;
use redeliver_rabbitmq::lapin::{LapinChannel, LapinConfirm, LapinConsumer, codec};

impl Probe for LapinChannel {
    async fn declare(&self, exchange: &ExchangeSpec<'_>) -> Result<(), AmqpError> {
        let options = ExchangeDeclareOptions {
            durable: true,
            internal: exchange.internal,
            ..Default::default()
        };
        let mut arguments = FieldTable::default();
        if let Some(alternate) = exchange.alternate {
            let alternate = AMQPValue::LongString(alternate.into());
            arguments.insert("alternate-exchange".into(), alternate);
        }
        let (name, kind) = (short(exchange.name)?, codec::exchange_kind(exchange.kind));
        let declared = self
            .lapin()
            .exchange_declare(name, kind, options, arguments);
        self.tell(declared.await).await
    }

    async fn declare_exclusive(&self, name: &str) -> Result<(), AmqpError> {
        let options = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        let declared = self
            .lapin()
            .queue_declare(short(name)?, options, FieldTable::default());
        self.tell(declared.await).await.map(drop)
    }

    async fn declare_transient(&self, name: &str) -> Result<(), AmqpError> {
        let options = QueueDeclareOptions::default();
        let declared = self
            .lapin()
            .queue_declare(short(name)?, options, FieldTable::default());
        self.tell(declared.await).await.map(drop)
    }

    async fn bind_with(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: FieldTable,
    ) -> Result<(), AmqpError> {
        let bound = self.lapin().queue_bind(
            short(queue)?,
            short(exchange)?,
            short(routing_key)?,
            QueueBindOptions::default(),
            arguments,
        );
        self.tell(bound.await).await
    }

    async fn purge(&self, queue: &str) -> Result<u32, AmqpError> {
        let purged = self
            .lapin()
            .queue_purge(short(queue)?, QueuePurgeOptions::default());
        self.tell(purged.await).await
    }

    async fn qos_of_channel(&self, prefetch: u16) -> Result<(), AmqpError> {
        let options = BasicQosOptions { global: true };
        self.tell(self.lapin().basic_qos(prefetch, options).await)
            .await
    }

    async fn consume_with(
        &self,
        queue: &str,
        consumer_tag: &str,
        options: ConsumeOptions,
    ) -> Result<LapinConsumer, AmqpError> {
        let mut arguments = FieldTable::default();
        if options.priority != 0 {
            arguments.insert("x-priority".into(), AMQPValue::LongInt(options.priority));
        }
        let options = BasicConsumeOptions {
            no_ack: options.no_ack,
            exclusive: options.exclusive,
            ..Default::default()
        };
        self.consume_as(queue, consumer_tag, options, arguments)
            .await
    }

    async fn reject(&self, tag: u64, requeue: bool) -> Result<(), AmqpError> {
        let options = BasicRejectOptions { requeue };
        self.tell(self.lapin().basic_reject(tag, options).await)
            .await
            .map(drop)
    }

    async fn publish_expiring(
        &self,
        message: Publish,
        expiration: &str,
    ) -> Result<LapinConfirm, AmqpError> {
        self.publish_as(message, Some(short(expiration)?)).await
    }
}
