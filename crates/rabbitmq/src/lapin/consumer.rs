//! The deliveries of one consumer.

use redeliver_core::boxed::boxed;
use std::fmt;
use std::future::Future;

use futures_util::StreamExt;
use lapin::Consumer;

use super::codec;
use super::health::Health;
use crate::amqp::{AmqpConsumer, AmqpError, Incoming};

/// A consumer. Dropping it stops it; its unacked deliveries stay with the channel.
pub struct LapinConsumer {
    consumer: Consumer,
    health: Health,
    ended: Option<Result<Incoming, AmqpError>>,
}

impl LapinConsumer {
    pub(super) fn new(consumer: Consumer, health: Health) -> Self {
        Self {
            consumer,
            health,
            ended: None,
        }
    }
}

impl fmt::Debug for LapinConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LapinConsumer")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl AmqpConsumer for LapinConsumer {
    /// May be dropped at any time without losing a delivery. After its end it gives the same
    /// answer again and again.
    fn next(&mut self) -> impl Future<Output = Result<Incoming, AmqpError>> + Send {
        boxed(async move {
            if let Some(ended) = &self.ended {
                return ended.clone();
            }
            let end = match self.consumer.next().await {
                Some(Ok(delivery)) => return Ok(Incoming::Delivery(codec::delivery(delivery))),
                Some(Err(error)) => Err(self.health.failed(&error)),
                // lapin ends the stream without an error when our own side closes, too.
                None if self.health.well() => Ok(Incoming::Cancelled),
                None => Err(self.health.ended().await),
            };
            self.ended = Some(end.clone());
            end
        })
    }
}
