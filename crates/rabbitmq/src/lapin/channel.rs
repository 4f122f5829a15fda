//! One channel.

use redeliver_core::boxed::boxed;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Poll;

use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, PublisherConfirm};

use super::codec::{self, short};
use super::confirms::{self, Confirms, LapinConfirm};
use super::consumer::LapinConsumer;
use super::health::Health;
use crate::amqp::{AmqpChannel, AmqpDelivery, AmqpError, ExchangeKind, Publish, QueueSpec};

/// A channel.
pub struct LapinChannel {
    channel: Channel,
    health: Health,
    confirms: OnceLock<Confirms>,
    /// Held while a message is queued for writing; see [`LapinChannel::send`].
    sending: Mutex<()>,
}

impl LapinChannel {
    pub(super) fn new(channel: Channel, health: Health) -> Self {
        Self {
            channel,
            health,
            confirms: OnceLock::new(),
            sending: Mutex::new(()),
        }
    }

    /// The result in the port's words.
    #[doc(hidden)]
    pub async fn tell<T>(&self, result: lapin::Result<T>) -> Result<T, AmqpError> {
        match result {
            Ok(out) => Ok(out),
            Err(error) => Err(self.health.explained(&error).await),
        }
    }

    /// Runs lapin's publish. Its first poll takes the next delivery tag and queues the frames,
    /// in two steps that another thread may come between: the confirms of two messages would be
    /// swapped. A lock around that poll keeps them together.
    async fn send(
        &self,
        publish: impl Future<Output = lapin::Result<PublisherConfirm>>,
    ) -> lapin::Result<PublisherConfirm> {
        let mut publish = pin!(publish);
        let first = std::future::poll_fn(|cx| {
            let _alone = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
            Poll::Ready(publish.as_mut().poll(cx))
        });
        match first.await {
            Poll::Ready(done) => done,
            Poll::Pending => publish.await,
        }
    }

    #[doc(hidden)]
    pub fn lapin(&self) -> &Channel {
        &self.channel
    }

    /// Dropping this future while the message is being written leaves the message in doubt and
    /// makes the channel unable to confirm mandatory messages: open another.
    #[doc(hidden)]
    pub fn publish_as(
        &self,
        message: Publish,
        expiration: Option<ShortString>,
    ) -> impl Future<Output = Result<LapinConfirm, AmqpError>> + Send {
        boxed(async move {
            let (exchange, key) = (short(&message.exchange)?, short(&message.routing_key)?);
            let mut properties = codec::to_lapin(message.properties)?;
            if let Some(expiration) = expiration {
                properties = properties.with_expiration(expiration);
            }
            let options = BasicPublishOptions {
                mandatory: message.mandatory,
                immediate: false,
            };
            let body = &message.body[..];
            let Some(confirms) = self.confirms.get() else {
                let sent = self
                    .channel
                    .basic_publish(exchange, key, options, body, properties);
                self.tell(self.send(sent).await).await?;
                return Ok(confirms::none(self.health.clone()));
            };
            let begun = confirms.begin();
            properties = properties.with_cluster_id(begun.mark());
            let sent = self
                .channel
                .basic_publish(exchange, key, options, body, properties);
            match self.send(sent).await {
                Ok(confirm) => Ok(begun.sent(message.mandatory, confirm)),
                Err(error) => {
                    begun.not_sent();
                    Err(self.health.explained(&error).await)
                }
            }
        })
    }

    #[doc(hidden)]
    pub fn consume_as(
        &self,
        queue: &str,
        consumer_tag: &str,
        options: BasicConsumeOptions,
        arguments: FieldTable,
    ) -> impl Future<Output = Result<LapinConsumer, AmqpError>> + Send {
        let queue = queue.to_owned();
        let consumer_tag = consumer_tag.to_owned();
        boxed(async move {
            let (queue, tag) = (short(&queue)?, short(&consumer_tag)?);
            let consumer = self.channel.basic_consume(queue, tag, options, arguments);
            let consumer = self.tell(consumer.await).await?;
            Ok(LapinConsumer::new(consumer, self.health.clone()))
        })
    }

    async fn queue(&self, spec: &QueueSpec, passive: bool) -> Result<u32, AmqpError> {
        let options = QueueDeclareOptions {
            passive,
            durable: true,
            ..Default::default()
        };
        let arguments = spec.arguments.clone();
        let queue = self
            .channel
            .queue_declare(short(&spec.name)?, options, arguments);
        Ok(self.tell(queue.await).await?.message_count())
    }
}

impl fmt::Debug for LapinChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LapinChannel")
            .field("id", &self.channel.id())
            .field("well", &self.health.well())
            .finish_non_exhaustive()
    }
}

impl Drop for LapinChannel {
    fn drop(&mut self) {
        // lapin closes only when the last consumer is dropped, too.
        if !self.health.well() {
            return;
        }
        self.health.closing();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let channel = self.channel.clone();
            runtime.spawn(async move {
                if let Err(error) = channel.close(200, "dropped".into()).await {
                    tracing::debug!(%error, "closing a dropped channel");
                }
            });
        }
    }
}

impl AmqpChannel for LapinChannel {
    type Confirm = LapinConfirm;
    type Consumer = LapinConsumer;

    fn declare_exchange(
        &self,
        name: &str,
        kind: ExchangeKind,
    ) -> impl Future<Output = Result<(), AmqpError>> + Send {
        let name = name.to_owned();
        boxed(async move {
            let options = ExchangeDeclareOptions {
                durable: true,
                ..Default::default()
            };
            let (name, kind) = (short(&name)?, codec::exchange_kind(kind));
            let declared =
                self.channel
                    .exchange_declare(name, kind, options, FieldTable::default());
            self.tell(declared.await).await
        })
    }

    fn declare_queue(
        &self,
        spec: &QueueSpec,
    ) -> impl Future<Output = Result<u32, AmqpError>> + Send {
        let spec = spec.to_owned();
        boxed(async move { self.queue(&spec, false).await })
    }

    fn inspect_queue(&self, name: &str) -> impl Future<Output = Result<u32, AmqpError>> + Send {
        let name = name.to_owned();
        boxed(async move {
            let name = &*name;
            let spec = QueueSpec {
                name: name.into(),
                arguments: FieldTable::default(),
            };
            self.queue(&spec, true).await
        })
    }

    fn inspect_exchange(&self, name: &str) -> impl Future<Output = Result<(), AmqpError>> + Send {
        let name = name.to_owned();
        boxed(async move {
            let options = ExchangeDeclareOptions {
                passive: true,
                ..Default::default()
            };
            let (name, kind) = (short(&name)?, ::lapin::ExchangeKind::Direct);
            let asked = self
                .channel
                .exchange_declare(name, kind, options, FieldTable::default());
            self.tell(asked.await).await
        })
    }

    fn bind_queue(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
    ) -> impl Future<Output = Result<(), AmqpError>> + Send {
        let queue = queue.to_owned();
        let exchange = exchange.to_owned();
        let routing_key = routing_key.to_owned();
        boxed(async move {
            let bound = self.channel.queue_bind(
                short(&queue)?,
                short(&exchange)?,
                short(&routing_key)?,
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            self.tell(bound.await).await
        })
    }

    fn unbind_queue(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
    ) -> impl Future<Output = Result<(), AmqpError>> + Send {
        let queue = queue.to_owned();
        let exchange = exchange.to_owned();
        let routing_key = routing_key.to_owned();
        boxed(async move {
            let unbound = self.channel.queue_unbind(
                short(&queue)?,
                short(&exchange)?,
                short(&routing_key)?,
                FieldTable::default(),
            );
            self.tell(unbound.await).await
        })
    }

    fn delete_queue(&self, name: &str) -> impl Future<Output = Result<(), AmqpError>> + Send {
        let name = name.to_owned();
        boxed(async move {
            let deleted = self
                .channel
                .queue_delete(short(&name)?, QueueDeleteOptions::default());
            self.tell(deleted.await).await.map(drop)
        })
    }

    fn delete_exchange(&self, name: &str) -> impl Future<Output = Result<(), AmqpError>> + Send {
        let name = name.to_owned();
        boxed(async move {
            let deleted = self
                .channel
                .exchange_delete(short(&name)?, ExchangeDeleteOptions::default());
            self.tell(deleted.await).await
        })
    }

    fn confirm_select(&self) -> impl Future<Output = Result<(), AmqpError>> + Send {
        boxed(async move {
            self.tell(
                self.channel
                    .confirm_select(ConfirmSelectOptions::default())
                    .await,
            )
            .await?;
            self.confirms
                .get_or_init(|| Confirms::start(self.health.clone()));
            Ok(())
        })
    }

    fn qos(&self, prefetch: u16) -> impl Future<Output = Result<(), AmqpError>> + Send {
        boxed(async move {
            self.tell(
                self.channel
                    .basic_qos(prefetch, BasicQosOptions::default())
                    .await,
            )
            .await
        })
    }

    fn publish(
        &self,
        message: Publish,
    ) -> impl Future<Output = Result<LapinConfirm, AmqpError>> + Send {
        boxed(async move { self.publish_as(message, None).await })
    }

    fn consume(
        &self,
        queue: &str,
        consumer_tag: &str,
    ) -> impl Future<Output = Result<LapinConsumer, AmqpError>> + Send {
        let queue = queue.to_owned();
        let consumer_tag = consumer_tag.to_owned();
        boxed(async move {
            let options = BasicConsumeOptions::default();
            self.consume_as(&queue, &consumer_tag, options, FieldTable::default())
                .await
        })
    }

    fn cancel(&self, consumer_tag: &str) -> impl Future<Output = Result<(), AmqpError>> + Send {
        let consumer_tag = consumer_tag.to_owned();
        boxed(async move {
            let options = BasicCancelOptions::default();
            self.tell(
                self.channel
                    .basic_cancel(short(&consumer_tag)?, options)
                    .await,
            )
            .await
        })
    }

    fn get(
        &self,
        queue: &str,
    ) -> impl Future<Output = Result<Option<AmqpDelivery>, AmqpError>> + Send {
        let queue = queue.to_owned();
        boxed(async move {
            let got = self
                .channel
                .basic_get(short(&queue)?, BasicGetOptions::default());
            Ok(self
                .tell(got.await)
                .await?
                .map(|message| codec::delivery(message.delivery)))
        })
    }

    fn ack(&self, tag: u64, multiple: bool) -> impl Future<Output = Result<(), AmqpError>> + Send {
        boxed(async move {
            self.tell(
                self.channel
                    .basic_ack(tag, BasicAckOptions { multiple })
                    .await,
            )
            .await
        })
    }

    fn nack(
        &self,
        tag: u64,
        multiple: bool,
        requeue: bool,
    ) -> impl Future<Output = Result<(), AmqpError>> + Send {
        boxed(async move {
            let options = BasicNackOptions { multiple, requeue };
            self.tell(self.channel.basic_nack(tag, options).await).await
        })
    }

    /// Waits for the confirms that are still open: a broker that is asked to close a channel
    /// drops what it has read of it and not looked at yet.
    fn close(&self) -> impl Future<Output = Result<(), AmqpError>> + Send {
        boxed(async move {
            self.health.flushed().await;
            if self.health.well() {
                self.health.closing();
            }
            self.tell(self.channel.close(200, "bye".into()).await).await
        })
    }
}
