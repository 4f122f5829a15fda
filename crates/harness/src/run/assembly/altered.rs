//! A build that is chosen while the program runs: the shipped pipeline with something changed.
//!
//! A run is generic over its build. If each alteration were a type to it, every workload would be
//! compiled once for each of them. Their ports have the same types ([`BentPorts`]), so the rest of a
//! build, two functions, stands behind a pointer: a workload is compiled for one [`Altered`], and
//! runs with any alteration. Altered bugs are made this way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::bend::{AlteredService, AlteredStore, AlteredTransport, BentPorts};
use super::{Build, SimPorts, WorldOf};
use redeliver_core::policy::{Policy, RelayPolicy};
use redeliver_pipeline::handler::Consumer;

/// The life of a process.
type Life = Pin<Box<dyn Future<Output = ()>>>;

/// The watched ports of a process of an altered build.
type AlteredWorld = WorldOf<Altered>;

/// A build whose ports are [`BentPorts`].
pub trait Alteration:
    Build<Transport = AlteredTransport, Store = AlteredStore, Service = AlteredService>
{
}

impl<B> Alteration for B where
    B: Build<Transport = AlteredTransport, Store = AlteredStore, Service = AlteredService>
{
}

/// [`Build`] without its types.
trait Erased: Send + Sync {
    fn ports(&self, bare: SimPorts) -> BentPorts;
    fn relay(&self, world: AlteredWorld, policy: RelayPolicy) -> Life;
    fn consumer(
        &self,
        world: AlteredWorld,
        consumer: Consumer<AlteredWorld>,
        policy: Policy,
    ) -> Life;
}

impl<B: Alteration> Erased for B {
    fn ports(&self, bare: SimPorts) -> BentPorts {
        Build::ports(self, bare)
    }

    fn relay(&self, world: AlteredWorld, policy: RelayPolicy) -> Life {
        Box::pin(Build::relay(self.clone(), world, policy))
    }

    fn consumer(
        &self,
        world: AlteredWorld,
        consumer: Consumer<AlteredWorld>,
        policy: Policy,
    ) -> Life {
        Box::pin(Build::consumer(self.clone(), world, consumer, policy))
    }
}

/// Any alteration.
#[derive(Clone)]
pub struct Altered(Arc<dyn Erased>);

impl Altered {
    /// This one.
    pub fn new(build: impl Alteration) -> Self {
        Self(Arc::new(build))
    }

    /// The one of this type.
    pub fn of<B: Alteration + Default>() -> Self {
        Self::new(B::default())
    }
}

impl fmt::Debug for Altered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Altered(…)")
    }
}

impl Build for Altered {
    type Transport = AlteredTransport;
    type Store = AlteredStore;
    type Service = AlteredService;

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
