//! A bent transport.

use std::sync::Arc;
use std::time::Duration;

use super::Bend;
use redeliver_core::event::Outgoing;
use redeliver_core::ports::{
    Delivery, PublishOutcome, Publisher, Receiver, Settlement, Transport, TransportError,
};
use redeliver_core::topology::Topology;

/// A transport whose calls a planted bug can change.
#[derive(Clone, Debug)]
pub struct BentTransport<T> {
    inner: T,
    bend: Arc<dyn Bend>,
}

impl<T> BentTransport<T> {
    pub(super) fn new(inner: T, bend: Arc<dyn Bend>) -> Self {
        Self { inner, bend }
    }
}

/// A publisher of a bent transport.
#[derive(Debug)]
pub struct BentPublisher<P> {
    inner: P,
    bend: Arc<dyn Bend>,
}

/// A subscription of a bent transport.
#[derive(Clone, Debug)]
pub struct BentReceiver<R> {
    inner: R,
    bend: Arc<dyn Bend>,
}

impl<T: Transport> Transport for BentTransport<T> {
    type Publisher = BentPublisher<T::Publisher>;
    type Receiver = BentReceiver<T::Receiver>;

    async fn declare(&self, topology: &Topology) -> Result<(), TransportError> {
        self.inner.declare(topology).await
    }

    async fn verify(&self, topology: &Topology) -> Result<(), TransportError> {
        self.inner.verify(topology).await
    }

    async fn publisher(&self, name: &str) -> Result<Self::Publisher, TransportError> {
        Ok(BentPublisher {
            inner: self.inner.publisher(name).await?,
            bend: self.bend.clone(),
        })
    }

    async fn receiver(
        &self,
        name: &str,
        queue: &str,
        prefetch: u16,
    ) -> Result<Self::Receiver, TransportError> {
        Ok(BentReceiver {
            inner: self.inner.receiver(name, queue, prefetch).await?,
            bend: self.bend.clone(),
        })
    }
}

impl<P: Publisher> Publisher for BentPublisher<P> {
    async fn publish(&mut self, batch: &[Outgoing], within: Duration) -> Vec<PublishOutcome> {
        let bent = batch.iter().map(|outgoing| self.bend.outgoing(outgoing));
        let bent: Vec<Outgoing> = bent.collect();
        let outcomes = self.inner.publish(&bent, within).await;
        let said = outcomes
            .into_iter()
            .map(|outcome| self.bend.outcome(outcome));
        said.collect()
    }
}

impl<R: Receiver> Receiver for BentReceiver<R> {
    async fn receive(&self) -> Result<Delivery, TransportError> {
        Ok(self.bend.received(self.inner.receive().await?))
    }

    async fn settle(
        &self,
        delivery: &Delivery,
        settlement: Settlement,
    ) -> Result<(), TransportError> {
        let settlement = self.bend.settles(delivery, settlement);
        if self.bend.acks_first(&settlement) {
            self.inner.settle(delivery, Settlement::Done).await?;
        }
        let anyway = self.bend.acks_anyway(&settlement);
        match self.inner.settle(delivery, settlement).await {
            Err(_) if anyway => self.inner.settle(delivery, Settlement::Done).await,
            result => result,
        }
    }

    async fn cancel(&self) -> Result<(), TransportError> {
        self.inner.cancel().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
