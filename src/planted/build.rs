//! A planted build that is chosen while the program runs.
//!
//! A run is generic over its build and its workload. If each planted bug were a type to it, every
//! workload would be compiled once for each of them. Their ports have the same types
//! ([`BentPorts`]), so the rest of a build, two functions, can stand behind a pointer: a workload is
//! compiled for one [`Planted`], and runs with any bug.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::bend::{BentPorts, PlantedService, PlantedStore, PlantedTransport};
use crate::harness::build::{Build, SimPorts, WorldOf};
use crate::pipeline::handler::Consumer;
use crate::pipeline::policy::{Policy, RelayPolicy};

/// The life of a process.
type Life = Pin<Box<dyn Future<Output = ()>>>;

/// The watched ports of a process of a planted build.
type PlantedWorld = WorldOf<Planted>;

/// A build as the planted ones are: its ports are [`BentPorts`].
pub trait Bug:
    Build<Transport = PlantedTransport, Store = PlantedStore, Service = PlantedService>
{
}

impl<B> Bug for B where
    B: Build<Transport = PlantedTransport, Store = PlantedStore, Service = PlantedService>
{
}

/// [`Build`] without its types.
trait Erased: Send + Sync {
    fn ports(&self, bare: SimPorts) -> BentPorts;
    fn relay(&self, world: PlantedWorld, policy: RelayPolicy) -> Life;
    fn consumer(
        &self,
        world: PlantedWorld,
        consumer: Consumer<PlantedWorld>,
        policy: Policy,
    ) -> Life;
}

impl<B: Bug> Erased for B {
    fn ports(&self, bare: SimPorts) -> BentPorts {
        Build::ports(self, bare)
    }

    fn relay(&self, world: PlantedWorld, policy: RelayPolicy) -> Life {
        Box::pin(Build::relay(self.clone(), world, policy))
    }

    fn consumer(
        &self,
        world: PlantedWorld,
        consumer: Consumer<PlantedWorld>,
        policy: Policy,
    ) -> Life {
        Box::pin(Build::consumer(self.clone(), world, consumer, policy))
    }
}

/// Any planted build.
#[derive(Clone)]
pub struct Planted(Arc<dyn Erased>);

impl Planted {
    /// This one.
    pub fn new(build: impl Bug) -> Self {
        Self(Arc::new(build))
    }

    /// The one of this type.
    pub fn of<B: Bug + Default>() -> Self {
        Self::new(B::default())
    }
}

impl fmt::Debug for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Planted(…)")
    }
}

impl Build for Planted {
    type Transport = PlantedTransport;
    type Store = PlantedStore;
    type Service = PlantedService;

    fn ports(&self, bare: SimPorts) -> BentPorts {
        self.0.ports(bare)
    }

    async fn relay(self, world: WorldOf<Self>, policy: RelayPolicy) {
        self.0.relay(world, policy).await;
    }

    async fn consumer(
        self,
        world: WorldOf<Self>,
        consumer: Consumer<WorldOf<Self>>,
        policy: Policy,
    ) {
        self.0.consumer(world, consumer, policy).await;
    }
}
