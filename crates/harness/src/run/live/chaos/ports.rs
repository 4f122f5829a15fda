//! The ports with faults in front of them.

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

impl<T: Transport> Transport for Chaotic<T> {
    type Publisher = Chaotic<T::Publisher>;
    type Receiver = Chaotic<T::Receiver>;

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
        Ok(self.around(self.inner.receiver(name, queue, prefetch).await?))
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

impl<R: Receiver> Receiver for Chaotic<R> {
    async fn receive(&self) -> Result<Delivery, TransportError> {
        let delivery = self.inner.receive().await?;
        let key = delivery
            .event
            .as_ref()
            .map_or("", |event| &event.idempotency_key);
        if let Some(hit) = self
            .striker
            .strike(Seam::Deliver, key, delivery.attempt)
            .await
        {
            match hit.kind {
                Kind::LateDelivery => self.striker.env.sleep(hit.lasts).await,
                _ => self.striker.halt(Some(hit)).await,
            }
        }
        Ok(delivery)
    }

    async fn settle(&self, delivery: &Delivery, how: Settlement) -> Result<(), TransportError> {
        let key = delivery
            .event
            .as_ref()
            .map_or("", |event| &event.idempotency_key);
        let hit = self.striker.strike(Seam::Ack, key, delivery.attempt).await;
        self.striker.before(hit).await;
        let settled = self.inner.settle(delivery, how).await;
        self.striker.after(hit).await;
        settled
    }

    async fn cancel(&self) -> Result<(), TransportError> {
        self.inner.cancel().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
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
