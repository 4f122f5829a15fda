//! Publishing with confirms and `mandatory`, on a connection of its own: a broker that blocks
//! publishers must not stop acks.

use std::sync::Arc;
use std::time::Duration;

use super::amqp::{
    Amqp, AmqpChannel, AmqpConnection, AmqpError, Confirmation, Properties, Publish,
};
use super::envelope::{self, Travel};
use super::topology::Names;
use bytes::Bytes;
use redeliver_core::event::{Event, Outgoing};
use redeliver_core::ports::{Env, EnvExt, PublishOutcome, Publisher, TransportError};

type ChannelOf<A> = <<A as Amqp>::Connection as AmqpConnection>::Channel;
type ConfirmOf<A> = <ChannelOf<A> as AmqpChannel>::Confirm;

/// What is sent again.
pub(super) enum Copied<'a> {
    /// An event, with what travels on beside it.
    Event(&'a Arc<Event>, &'a Travel),
    /// Anything else.
    Message((Properties, Bytes)),
}

/// A publisher that connects again on its own and waits for confirms.
pub struct AmqpPublisher<A: Amqp, E> {
    env: E,
    names: Names,
    channel: ChannelOf<A>,
    /// After the channel, so that the channel is dropped first.
    _connection: A::Connection,
}

impl<A: Amqp, E> std::fmt::Debug for AmqpPublisher<A, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpPublisher")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl<A: Amqp, E: Env> AmqpPublisher<A, E> {
    pub(super) async fn open(
        amqp: &A,
        env: E,
        names: Names,
        name: &str,
    ) -> Result<Self, TransportError> {
        let connection = amqp.connect(&format!("{name} publish")).await?;
        let channel = connection.open_channel().await?;
        channel.confirm_select().await?;
        Ok(Self {
            env,
            names,
            channel,
            _connection: connection,
        })
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<ConfirmOf<A>, AmqpError> {
        let exchange = self.names.exchange(&outgoing.exchange);
        let routing_key = outgoing.routing_key.clone();
        let event = &outgoing.event;
        envelope::publish(&self.channel, exchange, routing_key, event, &Travel::FRESH).await
    }

    /// Publishes one copy and waits until the broker has it.
    pub(super) async fn copy(
        &self,
        exchange: Arc<str>,
        routing_key: Arc<str>,
        message: Copied<'_>,
        limit: Duration,
    ) -> Result<(), TransportError> {
        let channel = &self.channel;
        let confirmed = super::within(&self.env, limit, "confirm of a copy", async {
            let confirm = match message {
                Copied::Event(event, travel) => {
                    envelope::publish(channel, exchange, routing_key, event, travel).await?
                }
                Copied::Message((properties, body)) => {
                    let publish = Publish {
                        exchange,
                        routing_key,
                        mandatory: true,
                        properties,
                        body,
                    };
                    channel.publish(publish).await?
                }
            };
            confirm.await
        });
        match confirmed.await? {
            Confirmation::Ack => Ok(()),
            Confirmation::Nack => Err(TransportError::Refused("the copy was nacked".to_owned())),
            Confirmation::Returned { code, text } => Err(TransportError::Refused(format!(
                "the copy was returned: {code} {text}"
            ))),
        }
    }
}

impl<A: Amqp, E: Env> Publisher for AmqpPublisher<A, E> {
    async fn publish(&mut self, batch: &[Outgoing], within: Duration) -> Vec<PublishOutcome> {
        let mut outcomes: Vec<Option<PublishOutcome>> = vec![None; batch.len()];
        let this = &*self;
        let all = async {
            let mut confirms = Vec::with_capacity(batch.len());
            for (outgoing, outcome) in batch.iter().zip(&mut outcomes) {
                match this.send(outgoing).await {
                    Ok(confirm) => confirms.push((confirm, outcome)),
                    // The channel is gone; so are the confirms of what came before.
                    Err(error) => *outcome = Some(PublishOutcome::InDoubt(error.to_string())),
                }
            }
            for (confirm, outcome) in confirms {
                *outcome = Some(match confirm.await {
                    Ok(Confirmation::Ack) => PublishOutcome::Confirmed,
                    Ok(Confirmation::Nack) => PublishOutcome::Rejected,
                    Ok(Confirmation::Returned { code, text }) => {
                        PublishOutcome::Returned(format!("{code} {text}"))
                    }
                    Err(error) => PublishOutcome::InDoubt(error.to_string()),
                });
            }
        };
        // What is still open when the time is over stays in doubt.
        self.env.timeout(within, all).await;
        let unanswered = || PublishOutcome::InDoubt(format!("no confirm within {within:?}"));
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(unanswered))
            .collect()
    }
}
