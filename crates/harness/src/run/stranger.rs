//! Strangers: messages that are no events, published straight to the broker, as from another
//! team's program that got the address wrong.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::run::plan::Plan;
use crate::watch::reading::STRANGER;
use redeliver_core::event::exchange_of;
use redeliver_core::ports::Env;
use redeliver_rabbitmq::Names;
use redeliver_rabbitmq::amqp::{
    Amqp, AmqpChannel, AmqpConnection, AmqpError, Confirmation, Properties, Publish,
};

/// Publishes the malformed messages of a run, spread over `over`, each until it is confirmed.
pub async fn run<A: Amqp, E: Env>(amqp: &A, env: &E, names: &Names, plan: &Plan, over: Duration) {
    let Some(event_type) = plan.requests.first().map(|r| r.draft.event_type.clone()) else {
        return;
    };
    for number in 0..plan.malformed {
        env.sleep(over / (plan.malformed + 1)).await;
        while !matches!(
            publish(amqp, names, &event_type, number).await,
            Ok(Confirmation::Ack)
        ) {
            env.sleep(Duration::from_millis(500)).await;
        }
        plan.note_stranger();
    }
}

async fn publish<A: Amqp>(
    amqp: &A,
    names: &Names,
    event_type: &Arc<str>,
    number: u32,
) -> Result<Confirmation, AmqpError> {
    let connection = amqp.connect("stranger").await?;
    let channel = connection.open_channel().await?;
    channel.confirm_select().await?;
    let message = Publish {
        exchange: names.exchange(exchange_of(event_type)),
        routing_key: event_type.clone(),
        mandatory: true,
        properties: Properties {
            delivery_mode: Some(2),
            ..Properties::default()
        },
        body: Bytes::from(format!("{STRANGER}{number}")),
    };
    let confirmation = channel.publish(message).await?.await;
    connection.close().await.ok();
    confirmation
}
