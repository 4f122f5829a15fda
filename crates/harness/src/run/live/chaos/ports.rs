//! The ports with faults in front of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redeliver_sim::fault::{Kind, Seam};

use super::{Hit, Striker};
use redeliver_core::event::Outgoing;
use redeliver_core::ports::{
    Delivery, Env, PublishOutcome, Publisher, Receiver, Service, ServiceCall, ServiceError,
    ServiceReply, Settlement, Transport, TransportError,
};
use redeliver_core::topology::Topology;

/// A port whose calls are struck.
#[derive(Clone, Debug)]
pub(crate) struct Chaotic<P> {
    inner: P,
    striker: Striker,
}

impl<P> Chaotic<P> {
    /// Puts faults in front of a port.
    pub(crate) fn new(inner: P, striker: Striker) -> Self {
        Self { inner, striker }
    }

    fn around<Q>(&self, inner: Q) -> Chaotic<Q> {
        Chaotic {
            inner,
            striker: self.striker.clone(),
        }
    }
}

/// A subscription whose deliveries are struck.
#[derive(Clone, Debug)]
pub(crate) struct ChaoticReceiver<R> {
    port: Chaotic<R>,
    /// Deliveries whose receiver was dropped while they were late.
    left: Arc<Mutex<VecDeque<Delivery>>>,
}

impl<R> ChaoticReceiver<R> {
    fn left(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A delivery that is late: it is left for the next receiver if this one is dropped.
struct Late<'a, R> {
    receiver: &'a ChaoticReceiver<R>,
    delivery: Option<Delivery>,
}

impl<R> Drop for Late<'_, R> {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            self.receiver.left().push_back(delivery);
        }
    }
}

impl<T: Transport> Transport for Chaotic<T> {
    type Publisher = Chaotic<T::Publisher>;
    type Receiver = ChaoticReceiver<T::Receiver>;

    async fn declare(&self, topology: &Topology) -> Result<(), TransportError> {
        self.inner.declare(topology).await
    }

    async fn verify(&self, topology: &Topology) -> Result<(), TransportError> {
        self.inner.verify(topology).await
    }

    async fn publisher(&self, name: &str) -> Result<Self::Publisher, TransportError> {
        Ok(self.around(self.inner.publisher(name).await?))
    }

    async fn receiver(
        &self,
        name: &str,
        queue: &str,
        prefetch: u16,
    ) -> Result<Self::Receiver, TransportError> {
        Ok(ChaoticReceiver {
            port: self.around(self.inner.receiver(name, queue, prefetch).await?),
            left: Arc::default(),
        })
    }
}

impl<P: Publisher> Publisher for Chaotic<P> {
    async fn publish(&mut self, batch: &[Outgoing], within: Duration) -> Vec<PublishOutcome> {
        let mut hits = Vec::with_capacity(batch.len());
        for out in batch {
            let key = &out.event.idempotency_key;
            hits.push(self.striker.strike(Seam::Publish, key, 1).await);
        }
        let crash = (hits.iter().flatten())
            .find(|hit| matches!(hit.kind, Kind::Crash | Kind::Pause))
            .copied();
        self.striker.before(crash).await;
        // Late ones go out after all others of the batch, in a wave of their own.
        let is = |i: usize, kind| hits[i].is_some_and(|hit| hit.kind == kind);
        let late: Vec<_> = (0..batch.len())
            .filter(|i| is(*i, Kind::LatePublish))
            .collect();
        let early: Vec<_> = (0..batch.len())
            .filter(|i| !is(*i, Kind::LatePublish))
            .collect();
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        let mut outcomes = vec![PublishOutcome::Rejected; batch.len()];
        for wave in [&early, &late] {
            if wave.is_empty() {
                continue;
            }
            if let Some(hit) = hits[wave[0]].filter(|hit| hit.kind == Kind::LatePublish) {
                self.striker.env.sleep(hit.lasts.min(within / 4)).await;
            }
            let messages: Vec<_> = wave.iter().map(|i| batch[*i].clone()).collect();
            let answers = self.inner.publish(&messages, left()).await;
            for (i, answer) in wave.iter().zip(answers) {
                outcomes[*i] = answer;
            }
        }
        let again: Vec<_> = (0..batch.len())
            .filter(|i| is(*i, Kind::DuplicatePublish))
            .collect();
        if !again.is_empty() {
            let messages: Vec<_> = again.iter().map(|i| batch[*i].clone()).collect();
            let answers = self.inner.publish(&messages, left()).await;
            self.striker.confirmed_again(&messages, &answers);
        }
        self.striker.after(crash).await;
        outcomes
    }
}

impl<R: Receiver> Receiver for ChaoticReceiver<R> {
    async fn receive(&self) -> Result<Delivery, TransportError> {
        if let Some(delivery) = self.left().pop_front() {
            return Ok(delivery);
        }
        let mut late = Late {
            receiver: self,
            delivery: Some(self.port.inner.receive().await?),
        };
        let striker = &self.port.striker;
        let (key, attempt) = match &late.delivery {
            Some(delivery) => (key(delivery), delivery.attempt),
            None => ("", 0),
        };
        if let Some(hit) = striker.strike(Seam::Deliver, key, attempt).await {
            match hit.kind {
                Kind::LateDelivery => striker.env.sleep(hit.lasts).await,
                _ => striker.halt(Some(hit)).await,
            }
        }
        Ok(late.delivery.take().expect("it is handed over once"))
    }

    async fn settle(&self, delivery: &Delivery, how: Settlement) -> Result<(), TransportError> {
        let Chaotic { inner, striker } = &self.port;
        let hit = striker.strike(Seam::Ack, key(delivery), delivery.attempt);
        let hit = hit.await;
        striker.before(hit).await;
        let settled = inner.settle(delivery, how).await;
        striker.after(hit).await;
        settled
    }

    async fn settle_done(&self, deliveries: &[Delivery]) -> Result<(), TransportError> {
        let Chaotic { inner, striker } = &self.port;
        let mut struck = None;
        for delivery in deliveries {
            let hit = striker.strike(Seam::Ack, key(delivery), delivery.attempt);
            struck = struck.or(hit.await);
        }
        striker.before(struck).await;
        let settled = inner.settle_done(deliveries).await;
        striker.after(struck).await;
        settled
    }

    async fn cancel(&self) -> Result<(), TransportError> {
        self.port.inner.cancel().await
    }

    async fn close(&self) {
        self.port.inner.close().await;
    }
}

fn key(delivery: &Delivery) -> &str {
    let event = delivery.event.as_ref();
    event.map_or("", |event| &event.idempotency_key)
}

impl<V: Service> Service for Chaotic<V> {
    async fn call(&self, call: ServiceCall) -> Result<ServiceReply, ServiceError> {
        let service = call.service;
        let hit = (self.striker).strike(Seam::Service, &call.idempotency_key, 0);
        let hit = hit.await;
        self.striker.before(hit).await;
        let kind = hit.map(|hit| hit.kind);
        if self.striker.chaos.is_down(service) || kind == Some(Kind::ServiceFails) {
            let reason = "503 service unavailable".to_owned();
            return Err(ServiceError::Unavailable { service, reason });
        }
        if let Some(Hit {
            kind: Kind::SlowService,
            lasts,
            ..
        }) = hit
        {
            self.striker.env.sleep(lasts).await;
        }
        let answer = self.inner.call(call).await;
        self.striker.after(hit).await;
        if kind == Some(Kind::ServiceInDoubt) {
            let reason = "connection reset after the request was sent".to_owned();
            return Err(ServiceError::InDoubt { service, reason });
        }
        answer
    }
}
