//! Consuming, and settling by copies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::amqp::{
    Amqp, AmqpChannel, AmqpConnection, AmqpConsumer, AmqpDelivery, Arrival, Incoming, Properties,
    Unwritten,
};
use super::envelope::{Envelope, Travel, add_story, decode, encode, travel_of};
use super::publisher::Copied;
use super::topology::Names;
use super::{AmqpPublisher, Options, RabbitMq};
use redeliver_core::dead_letter::DeadLetter;
use redeliver_core::event::{Event, Malformed};
use redeliver_core::ports::{Delivery, Env, Receipt, Receiver, Settlement, TransportError};
use redeliver_core::retry::rung_for;

type ChannelOf<A> = <<A as Amqp>::Connection as AmqpConnection>::Channel;
type ConsumerOf<A> = <ChannelOf<A> as AmqpChannel>::Consumer;

/// A subscription to a work queue. Cheap to clone; all clones share one channel.
pub struct AmqpReceiver<A: Amqp, E> {
    shared: Arc<Shared<A, E>>,
}

struct Shared<A: Amqp, E> {
    transport: RabbitMq<A, E>,
    name: String,
    /// The consumer, without the namespace.
    consumer: Arc<str>,
    queue: Arc<str>,
    channel: ChannelOf<A>,
    deliveries: Mutex<ConsumerOf<A>>,
    /// The connection for copies, opened when the first is needed.
    copies: Mutex<Option<AmqpPublisher<A, E>>>,
    /// Messages that are no events, as they came: their dead letters must not lose anything.
    raw: SyncMutex<BTreeMap<u64, AmqpDelivery>>,
    /// Delivery tags that are not settled yet.
    unsettled: SyncMutex<BTreeSet<u64>>,
    connection: A::Connection,
}

impl<A: Amqp, E> Clone for AmqpReceiver<A, E> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<A: Amqp, E> std::fmt::Debug for AmqpReceiver<A, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpReceiver")
            .field("queue", &self.shared.queue)
            .finish_non_exhaustive()
    }
}

const CONSUMER_TAG: &str = "redeliver";

impl<A: Amqp, E: Env> AmqpReceiver<A, E> {
    pub(super) async fn open(
        transport: &RabbitMq<A, E>,
        name: &str,
        consumer: &str,
        prefetch: u16,
    ) -> Result<Self, TransportError> {
        let queue = transport.names.queue(consumer);
        let connection = transport
            .amqp
            .connect(&format!("{name} consume {consumer}"))
            .await?;
        let channel = connection.open_channel().await?;
        channel.qos(prefetch).await?;
        let deliveries = channel.consume(&queue, CONSUMER_TAG).await?;
        let shared = Shared {
            transport: transport.clone(),
            name: name.to_owned(),
            consumer: Arc::from(consumer),
            queue,
            channel,
            deliveries: Mutex::new(deliveries),
            copies: Mutex::new(None),
            raw: SyncMutex::default(),
            unsettled: SyncMutex::default(),
            connection,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

impl<A: Amqp, E: Env> Shared<A, E> {
    fn options(&self) -> &Options {
        &self.transport.options
    }

    fn names(&self) -> &Names {
        &self.transport.names
    }

    fn accept(&self, from: AmqpDelivery) -> Delivery {
        let event = decode(&from, self.options().max_payload);
        let delivery = self.delivery(
            (from.tag, from.redelivered),
            (&from.exchange, &from.routing_key),
            event.map(Arc::new).map_err(Arc::new),
            travel_of(&from),
        );
        if delivery.event.is_err() {
            let mut raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
            raw.insert(from.tag, from);
        }
        delivery
    }

    fn unsettled(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.unsettled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what was handed on may stand for what decoding would give: not if it is too large.
    fn may_stand(&self, known: &Envelope, written: impl Fn() -> AmqpDelivery) -> bool {
        let max_payload = self.options().max_payload;
        if known.event.payload.len() > max_payload {
            return false;
        }
        if cfg!(debug_assertions) {
            let from = written();
            let event = decode(&from, max_payload);
            assert_eq!(event.as_ref(), Ok(&*known.event), "known, not guessed");
            assert_eq!(travel_of(&from), known.travel, "known, not guessed");
        }
        true
    }

    fn delivery(
        &self,
        (tag, redelivered): (u64, bool),
        (exchange, routing_key): (&str, &Arc<str>),
        event: Result<Arc<Event>, Arc<Malformed>>,
        travel: Travel,
    ) -> Delivery {
        self.unsettled().insert(tag);
        let (exchange, routing_key) = match travel.origin {
            Some(origin) => origin,
            None => (self.names().domain(exchange), routing_key.clone()),
        };
        Delivery {
            receipt: Receipt { channel: 0, tag },
            event,
            attempt: travel.attempt,
            redelivered,
            first_failure: travel.first_failure,
            parked: travel.parked,
            kept: false,
            queue: self.consumer.clone(),
            exchange,
            routing_key,
        }
    }

    /// The bytes of a message that is no event, as they came.
    fn as_it_came(&self, delivery: &Delivery) -> (Properties, Bytes) {
        let raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        let raw = raw.get(&delivery.receipt.tag).cloned();
        let (mut properties, body) = raw.map(|d| (d.properties, d.body)).unwrap_or_default();
        properties.delivery_mode = Some(2);
        (properties, body)
    }

    fn settled_raw(&self, tag: u64) {
        let mut raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        raw.remove(&tag);
    }

    async fn copy(
        &self,
        exchange: Arc<str>,
        routing_key: Arc<str>,
        message: Copied<'_>,
    ) -> Result<(), TransportError> {
        let limit = self.options().confirm_timeout;
        let mut copies = self.copies.lock().await;
        let publisher = match copies.take() {
            Some(open) => open,
            None => {
                let transport = &self.transport;
                let (env, names) = (transport.env.clone(), transport.names.clone());
                AmqpPublisher::open(&transport.amqp, env, names, &self.name).await?
            }
        };
        publisher
            .copy(exchange, routing_key, message, limit)
            .await?;
        *copies = Some(publisher);
        Ok(())
    }

    async fn delay(
        &self,
        delivery: &Delivery,
        delay: Duration,
        travel: Travel,
    ) -> Result<(), TransportError> {
        let rung = rung_for(&self.options().rungs, delay)
            .ok_or_else(|| TransportError::Refused("there is no delay queue".to_owned()))?;
        let message = match &delivery.event {
            Ok(event) => Copied::Event(event, &travel),
            Err(_) => Copied::Message(self.as_it_came(delivery)),
        };
        self.copy(self.names().delay(rung), self.queue.clone(), message)
            .await
    }

    async fn dead_letter(
        &self,
        delivery: &Delivery,
        story: &DeadLetter,
    ) -> Result<(), TransportError> {
        let mut message = match &delivery.event {
            Ok(event) => encode(event, &travel(delivery)),
            Err(_) => self.as_it_came(delivery),
        };
        add_story(&mut message.0, story);
        let queue = self.names().dead(&self.consumer);
        self.copy(Arc::from(""), queue, Copied::Message(message))
            .await
    }
}

/// What a copy of this delivery carries on.
fn travel(delivery: &Delivery) -> Travel {
    Travel {
        attempt: delivery.attempt,
        first_failure: delivery.first_failure,
        parked: delivery.parked,
        origin: Some((delivery.exchange.clone(), delivery.routing_key.clone())),
    }
}

/// Settles these tags, in their order; gives the ack that covers the first of them, with its flag
/// `multiple`, and the tags that need one each. An ack for several reaches back over everything that
/// is not settled, so it ends before the first tag that is somebody else's.
fn ack_plan<'a>(
    unsettled: &mut BTreeSet<u64>,
    tags: &'a [u64],
) -> (Option<(u64, bool)>, &'a [u64]) {
    let together = tags.iter().zip(&*unsettled);
    let together = together.take_while(|(ours, all)| ours == all).count();
    for tag in tags {
        unsettled.remove(tag);
    }
    let (first, others) = tags.split_at(together);
    (first.last().map(|tag| (*tag, together > 1)), others)
}

impl<A: Amqp, E: Env> Receiver for AmqpReceiver<A, E> {
    async fn receive(&self) -> Result<Delivery, TransportError> {
        let mut deliveries = self.shared.deliveries.lock().await;
        // However the channel ended, this subscription is over: a new one may be tried.
        let next = deliveries
            .next_known::<Envelope>()
            .await
            .map_err(|e| TransportError::Lost(e.to_string()))?;
        match next {
            Arrival::Known {
                tag,
                redelivered,
                exchange,
                routing_key,
                message,
            } => {
                let written = || AmqpDelivery {
                    tag,
                    redelivered,
                    exchange: exchange.clone(),
                    routing_key: routing_key.clone(),
                    properties: message.properties(),
                    body: message.body().clone(),
                };
                if !self.shared.may_stand(&message, written) {
                    return Ok(self.shared.accept(written()));
                }
                Ok(self.shared.delivery(
                    (tag, redelivered),
                    (&exchange, &routing_key),
                    Ok(message.event.clone()),
                    message.travel.clone(),
                ))
            }
            Arrival::Incoming(Incoming::Delivery(delivery)) => Ok(self.shared.accept(delivery)),
            Arrival::Incoming(Incoming::Cancelled) => Err(TransportError::Lost(
                "the broker cancelled the consumer".to_owned(),
            )),
        }
    }

    async fn settle(
        &self,
        delivery: &Delivery,
        settlement: Settlement,
    ) -> Result<(), TransportError> {
        let shared = &self.shared;
        match settlement {
            Settlement::Done | Settlement::Kept => {}
            Settlement::Park { .. } if delivery.kept => {}
            Settlement::RetryAfter {
                delay,
                attempt,
                first_failure,
            } => {
                let first_failure = Some(first_failure);
                let next = Travel {
                    attempt,
                    first_failure,
                    parked: 0,
                    ..travel(delivery)
                };
                shared.delay(delivery, delay, next).await?;
            }
            Settlement::Park { delay } => {
                let next = Travel {
                    parked: delivery.parked + 1,
                    ..travel(delivery)
                };
                shared.delay(delivery, delay, next).await?;
            }
            Settlement::DeadLetter(story) => shared.dead_letter(delivery, &story).await?,
        }
        if delivery.kept {
            return Ok(());
        }
        shared.unsettled().remove(&delivery.receipt.tag);
        shared.channel.ack(delivery.receipt.tag, false).await?;
        if delivery.event.is_err() {
            shared.settled_raw(delivery.receipt.tag);
        }
        Ok(())
    }

    async fn settle_done(&self, deliveries: &[Delivery]) -> Result<(), TransportError> {
        let from_broker = deliveries.iter().filter(|delivery| !delivery.kept);
        let mut tags: Vec<u64> = from_broker.map(|delivery| delivery.receipt.tag).collect();
        tags.sort_unstable();
        let (first, others) = ack_plan(&mut self.shared.unsettled(), &tags);
        let channel = &self.shared.channel;
        if let Some((tag, multiple)) = first {
            channel.ack(tag, multiple).await?;
        }
        let others = others.iter().map(|tag| channel.ack(*tag, false));
        futures_util::future::try_join_all(others).await?;
        for delivery in deliveries.iter().filter(|delivery| delivery.event.is_err()) {
            self.shared.settled_raw(delivery.receipt.tag);
        }
        Ok(())
    }

    async fn cancel(&self) -> Result<(), TransportError> {
        Ok(self.shared.channel.cancel(CONSUMER_TAG).await?)
    }

    async fn close(&self) {
        // A channel that is closed already is what was asked for.
        let _ = self.shared.channel.close().await;
        let _ = self.shared.connection.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ack_covers_what_is_settled_together_and_nothing_else() {
        let mut unsettled: BTreeSet<u64> = [3, 4, 7, 8, 9].into();
        assert_eq!(
            ack_plan(&mut unsettled, &[3, 4, 8]),
            (Some((4, true)), &[8][..])
        );
        assert_eq!(unsettled, [7, 9].into());
        assert_eq!(ack_plan(&mut unsettled, &[9]), (None, &[9][..]));
        assert_eq!(ack_plan(&mut unsettled, &[7]), (Some((7, false)), &[][..]));
        assert_eq!(ack_plan(&mut unsettled, &[]), (None, &[][..]));
    }
}
