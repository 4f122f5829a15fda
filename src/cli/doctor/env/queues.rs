//! What a run does on the broker, as small as can be.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{BOUND, within};
use redeliver_core::env::live::LiveEnv;
use redeliver_core::event::Kind;
use redeliver_core::ports::Transport;
use redeliver_core::topology::{QueueType, Subscription, Topology};
use redeliver_rabbitmq::amqp::{
    Amqp, AmqpChannel, AmqpConnection, AmqpDelivery, AmqpError, Confirmation, Properties, Publish,
};
use redeliver_rabbitmq::lapin::{LapinAmqp, LapinChannel, LapinConnection};
use redeliver_rabbitmq::{Names, Options, RabbitMq, topology};

/// A topology as a run declares it, as small as can be.
pub(super) struct Patient {
    amqp: LapinAmqp,
    names: Names,
    topology: Topology,
    options: Options,
}

const DOMAIN: &str = "asked";
const EVENT: &str = "asked.how";
const CONSUMER: &str = "patient";
const RUNG: Duration = Duration::from_millis(20);

impl Patient {
    pub(super) fn new(amqp: &LapinAmqp, name: &str, queue_type: QueueType) -> Self {
        Self {
            amqp: amqp.clone(),
            names: Names::new(name),
            topology: Topology {
                exchanges: vec![DOMAIN.into()],
                subscriptions: vec![Subscription {
                    consumer: CONSUMER.into(),
                    types: vec![(EVENT.into(), Kind::Fact)],
                }],
                rungs: vec![RUNG],
                queue_type,
            },
            options: Options {
                namespace: name.to_owned(),
                rungs: vec![RUNG],
                confirm_timeout: BOUND,
                max_payload: 1024,
            },
        }
    }

    /// Sends a message each way that a run sends one.
    pub(super) async fn treat(&self) -> Result<(), String> {
        let env = LiveEnv::process("doctor", 0);
        let transport = RabbitMq::new(self.amqp.clone(), env, self.options.clone());
        let declared = transport.declare(&self.topology).await;
        declared.map_err(|error| format!("declaring: {error}"))?;
        let (connection, channel) = self.open().await.map_err(|error| error.to_string())?;
        let confirms = channel.confirm_select().await;
        confirms.map_err(|error| format!("asking for confirms: {error}"))?;
        let work = self.names.queue(CONSUMER);
        let dead = self.names.dead(CONSUMER);
        let delay = self.names.delay(RUNG);
        let ways: [(&str, Arc<str>, &str, &str); 3] = [
            ("an event", self.names.exchange(DOMAIN), EVENT, &work),
            ("a retry", delay, &work, &work),
            ("a dead letter", "".into(), &dead, &dead),
        ];
        for (what, exchange, key, queue) in ways {
            publish(&channel, exchange, key)
                .await
                .map_err(|why| format!("publishing {what}: {why}"))?;
            let back = get(&channel, queue).await;
            let back = back.map_err(|why| format!("reading {what} back: {why}"))?;
            let acked = channel.ack(back.tag, false).await;
            acked.map_err(|error| format!("acknowledging {what}: {error}"))?;
        }
        // What is not closed in order is closed all the same.
        let _ = connection.close().await;
        Ok(())
    }

    async fn open(&self) -> Result<(LapinConnection, LapinChannel), AmqpError> {
        let connection = self.amqp.connect("redeliver doctor").await?;
        let channel = connection.open_channel().await?;
        Ok((connection, channel))
    }

    /// Removes what was made; gives the names of what is still there, or may be.
    pub(super) async fn remove(&self) -> Vec<String> {
        let specs = topology::queues(&self.names, &self.topology);
        let queues = specs.iter().map(|spec| (true, spec.name.clone()));
        let exchanges = [self.names.exchange(DOMAIN), self.names.delay(RUNG)];
        let exchanges = exchanges.into_iter().map(|name| (false, name));
        let mut left = Vec::new();
        for (is_queue, name) in queues.chain(exchanges) {
            let gone = within(BOUND, self.remove_one(is_queue, &name)).await;
            if gone != Ok(Ok(true)) {
                let kind = if is_queue { "queue" } else { "exchange" };
                left.push(format!("{kind} {name}"));
            }
        }
        left
    }

    /// Over a connection of its own: an error ends the channel, and the check may have ended the
    /// connection. Whoever may not delete could not declare either, so it is looked for after all.
    async fn remove_one(&self, is_queue: bool, name: &str) -> Result<bool, AmqpError> {
        let (connection, channel) = self.open().await?;
        let removed = match is_queue {
            true => channel.delete_queue(name).await,
            false => channel.delete_exchange(name).await,
        };
        let gone = match removed {
            Ok(()) => true,
            Err(_) => {
                let channel = connection.open_channel().await?;
                let found = match is_queue {
                    true => channel.inspect_queue(name).await.map(drop),
                    false => channel.inspect_exchange(name).await,
                };
                matches!(
                    found,
                    Err(AmqpError::Channel {
                        code: 403 | 404,
                        ..
                    })
                )
            }
        };
        let _ = connection.close().await;
        Ok(gone)
    }
}

async fn publish(channel: &LapinChannel, exchange: Arc<str>, key: &str) -> Result<(), String> {
    let message = Publish {
        exchange,
        routing_key: key.into(),
        mandatory: true,
        properties: Properties {
            delivery_mode: Some(2),
            ..Properties::default()
        },
        body: Bytes::from_static(b"how do you do"),
    };
    let confirm = channel.publish(message).await.map_err(|e| e.to_string())?;
    let confirmed = within(BOUND, confirm).await;
    match confirmed.map_err(|late| format!("the confirm: {late}"))? {
        Ok(Confirmation::Ack) => Ok(()),
        Ok(other) => Err(format!("not confirmed but {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Looks again until it is there: a confirmed message may take a moment, a delayed one has to.
async fn get(channel: &LapinChannel, queue: &str) -> Result<AmqpDelivery, String> {
    let look = async {
        loop {
            match channel.get(queue).await {
                Ok(Some(delivery)) => return Ok(delivery),
                Ok(None) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    within(BOUND, look).await.flatten()
}
