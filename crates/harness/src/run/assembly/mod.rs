//! What the processes of a simulated run are made of.
//!
//! A run is built from the shipped pipeline unless something else is put in its place: ports that
//! behave otherwise, or another relay or consumer. Planted bugs come in this way, and so may a
//! team's own relay or consumer that is to be judged by the same checkers.

mod altered;
pub mod bend;

use std::future::Future;

use crate::watch::record::Watched;
use redeliver_core::policy::{Policy, RelayPolicy};
use redeliver_core::ports::{Ports, Service, Store, Transport};
use redeliver_pipeline::consumer::Runner;
use redeliver_pipeline::handler::Consumer;
use redeliver_pipeline::relay::Relay;
use redeliver_rabbitmq::RabbitMq;
use redeliver_simulated::amqp::SimAmqp;
use redeliver_simulated::env::SimEnv;
use redeliver_simulated::seeded::SeededStore;
use redeliver_simulated::service::SimService;

pub use altered::{Alteration, Altered};

/// The transport of a simulated process.
pub type SimTransport = RabbitMq<SimAmqp, SimEnv>;

/// The ports of a simulated process.
pub type SimPorts = Ports<SimTransport, SeededStore, SimService, SimEnv>;

/// The ports of a process of this build, watched.
pub type WorldOf<B> =
    Watched<<B as Build>::Transport, <B as Build>::Store, <B as Build>::Service, SimEnv>;

/// How the processes of a run are made.
///
/// Its ports stand beneath the history: what they do to a call is not seen, only what they
/// answer. Its relay and its consumer stand above it.
pub trait Build: Clone + Send + Sync + 'static {
    /// See [`Build::ports`].
    type Transport: Transport;
    /// See [`Build::ports`].
    type Store: Store;
    /// See [`Build::ports`].
    type Service: Service;

    /// The ports of a process, made from the simulated ones at each of its starts.
    fn ports(&self, bare: SimPorts) -> Ports<Self::Transport, Self::Store, Self::Service, SimEnv>;

    /// The life of a relay.
    fn relay(
        self,
        world: WorldOf<Self>,
        policy: RelayPolicy,
    ) -> impl Future<Output = ()> + 'static {
        Relay::new(world, policy).run()
    }

    /// The life of one process of a consumer.
    fn consumer(
        self,
        world: WorldOf<Self>,
        consumer: Consumer<WorldOf<Self>>,
        policy: Policy,
    ) -> impl Future<Output = ()> + 'static {
        Runner::new(world, consumer, policy).run()
    }
}

/// The pipeline as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shipped;

impl Build for Shipped {
    type Transport = SimTransport;
    type Store = SeededStore;
    type Service = SimService;

    fn ports(&self, bare: SimPorts) -> SimPorts {
        bare
    }
}
