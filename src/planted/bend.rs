//! Ports that are bent: they do what is asked of them, but for what one bug changes.
//!
//! A [`Bend`] holds hooks; every hook leaves things as they are unless a bug says otherwise. A
//! bend is made anew at each start of a process, so what it remembers dies with the process.

use std::sync::Arc;
use std::time::Duration;

use crate::env::sim::SimEnv;
use crate::harness::build::{SimPorts, SimTransport};
use crate::pipeline::event::Outgoing;
use crate::pipeline::handler::Boxed;
use crate::pipeline::inbox::InboxRow;
use crate::pipeline::outbox::RelayClaim;
use crate::ports::{Delivery, Ports, PublishOutcome, ServiceCall, Settlement, StoreError};
use crate::rabbitmq::amqp::{Publish, QueueSpec};
use crate::service::sim::SimService;
use crate::store::sim::SimStore;

mod service;
mod store;
mod transport;
mod wire;

pub use service::BentService;
pub use store::{BentStore, BentTx};
pub use transport::{BentPublisher, BentReceiver, BentTransport};
pub use wire::{BentAmqp, BentChannel, BentConnection};

/// What a bug changes about the ports of a process.
pub trait Bend: std::fmt::Debug + Send + Sync + 'static {
    /// An inbox row as the worker shall see it.
    fn opened(&self, row: InboxRow) -> InboxRow {
        row
    }

    /// An inbox row as it is really saved; none for not at all.
    fn saved(&self, row: &InboxRow) -> Option<InboxRow> {
        Some(row.clone())
    }

    /// From which age on inbox rows are really removed.
    fn purge_age(&self, age: Duration) -> Duration {
        age
    }

    /// Under which consumer and key an inbox row is really kept.
    fn inbox_key(&self, consumer: &str, key: &str) -> (Arc<str>, Arc<str>) {
        (consumer.into(), key.into())
    }

    /// Whether a claim is really renewed; its holder hears that it was.
    fn renews(&self) -> bool {
        true
    }

    /// Whether a row that is read in order to be changed is locked, and its change refused if
    /// somebody else was quicker.
    fn locks(&self) -> bool {
        true
    }

    /// What a client is told of its commit.
    fn commits(&self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        result
    }

    /// How a relay really claims rows.
    fn claims(&self, claim: &RelayClaim) -> RelayClaim {
        claim.clone()
    }

    /// Whether published rows are really marked; the relay hears that they were.
    fn marks(&self) -> bool {
        true
    }

    /// Takes an event that is on its way into the outbox; false where it shall go there.
    fn emit<'a>(&'a self, _: &'a Outgoing) -> Boxed<'a, bool> {
        Box::pin(std::future::ready(false))
    }

    /// What happens with the events taken by [`Bend::emit`] once their transaction is committed.
    fn committed(&self, _: Vec<Outgoing>) -> Boxed<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// What a publisher says became of a message.
    fn outcome(&self, outcome: PublishOutcome) -> PublishOutcome {
        outcome
    }

    /// A message as it is really published.
    fn outgoing(&self, outgoing: &Outgoing) -> Outgoing {
        outgoing.clone()
    }

    /// A delivery as the worker shall see it.
    fn received(&self, delivery: Delivery) -> Delivery {
        delivery
    }

    /// What really becomes of a delivery.
    fn settles(&self, _: &Delivery, settlement: Settlement) -> Settlement {
        settlement
    }

    /// Whether a delivery is acked before its copy is published.
    fn acks_first(&self, _: &Settlement) -> bool {
        false
    }

    /// A call as an outside service gets it.
    fn called(&self, call: ServiceCall) -> ServiceCall {
        call
    }

    /// Whether a delivery is acked although settling it so has failed.
    fn acks_anyway(&self, _: &Settlement) -> bool {
        false
    }
}

/// What a bug changes about the frames that a process sends to the broker.
pub trait Wire: std::fmt::Debug + Send + Sync + 'static {
    /// A queue as it is really declared.
    fn declared(&self, spec: &QueueSpec) -> QueueSpec {
        spec.clone()
    }

    /// A message as it is really published.
    fn published(&self, message: Publish) -> Publish {
        message
    }

    /// Whether an ack takes along all earlier deliveries of its channel.
    fn acks_multiple(&self) -> bool {
        false
    }
}

/// Ports with a bend in them.
pub type BentPorts =
    Ports<BentTransport<SimTransport>, BentStore<SimStore>, BentService<SimService>, SimEnv>;

/// Bends the ports of a process.
pub fn bend(bare: SimPorts, bend: impl Bend) -> BentPorts {
    let bend: Arc<dyn Bend> = Arc::new(bend);
    Ports {
        transport: BentTransport::new(bare.transport, bend.clone()),
        store: BentStore::new(bare.store, bend.clone()),
        service: BentService::new(bare.service, bend),
        env: bare.env,
    }
}

/// The ports of a build are bent by what `$bend` gives for the bare ports.
macro_rules! bent_ports {
    ($bend:expr) => {
        type Transport = $crate::planted::bend::BentTransport<$crate::harness::build::SimTransport>;
        type Store = $crate::planted::bend::BentStore<$crate::store::sim::SimStore>;
        type Service = $crate::planted::bend::BentService<$crate::service::sim::SimService>;

        fn ports(
            &self,
            bare: $crate::harness::build::SimPorts,
        ) -> $crate::planted::bend::BentPorts {
            let bent = $bend(&bare);
            $crate::planted::bend::bend(bare, bent)
        }
    };
}

/// The ports of a build are the shipped ones over an `amqp` adapter bent by `$wire`.
macro_rules! bent_wire {
    ($wire:expr) => {
        type Transport = $crate::rabbitmq::RabbitMq<
            $crate::planted::bend::BentAmqp<$crate::rabbitmq::sim::SimAmqp>,
            $crate::env::sim::SimEnv,
        >;
        type Store = $crate::store::sim::SimStore;
        type Service = $crate::service::sim::SimService;

        fn ports(
            &self,
            bare: $crate::harness::build::SimPorts,
        ) -> $crate::ports::Ports<
            Self::Transport,
            Self::Store,
            Self::Service,
            $crate::env::sim::SimEnv,
        > {
            let bent = $crate::planted::bend::BentAmqp::new($crate::rabbitmq::sim::SimAmqp, $wire);
            $crate::ports::Ports {
                transport: bare.transport.over(bent),
                store: bare.store,
                service: bare.service,
                env: bare.env,
            }
        }
    };
}

/// The ports of a build are those of the shipped pipeline.
macro_rules! shipped_ports {
    () => {
        type Transport = $crate::harness::build::SimTransport;
        type Store = $crate::store::sim::SimStore;
        type Service = $crate::service::sim::SimService;

        fn ports(
            &self,
            bare: $crate::harness::build::SimPorts,
        ) -> $crate::harness::build::SimPorts {
            bare
        }
    };
}

pub(super) use {bent_ports, bent_wire, shipped_ports};
