//! Ports that are bent: they do what is asked of them, but for what one alteration changes.
//!
//! A [`Bend`] holds hooks; every hook leaves things as they are unless an alteration says otherwise. A
//! bend is made anew at each start of a process, so what it remembers dies with the process.

use std::sync::Arc;
use std::time::Duration;

use super::SimPorts;
use redeliver_core::event::Outgoing;
use redeliver_core::inbox::InboxRow;
use redeliver_core::outbox::RelayClaim;
use redeliver_core::ports::{Delivery, Ports, PublishOutcome, ServiceCall, Settlement, StoreError};
use redeliver_pipeline::handler::Boxed;
use redeliver_rabbitmq::RabbitMq;
use redeliver_rabbitmq::amqp::{Publish, QueueSpec};
use redeliver_simulated::amqp::SimAmqp;
use redeliver_simulated::env::SimEnv;
use redeliver_simulated::seeded::SeededStore;
use redeliver_simulated::service::SimService;

mod service;
mod store;
mod transport;
mod wire;

pub use service::BentService;
pub use store::{BentStore, BentTx};
pub use transport::{BentPublisher, BentReceiver, BentTransport};
pub use wire::{BentAmqp, BentChannel, BentConnection};

/// What an alteration changes about the ports of a process.
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

    /// Whether a message that comes before its turn is really kept; the worker hears that it was.
    fn keeps(&self) -> bool {
        true
    }

    /// Whether kept messages are forgotten as soon as a worker takes them on.
    fn forgets_first(&self) -> bool {
        false
    }

    /// Whether kept messages that nobody takes on are looked for.
    fn looks(&self) -> bool {
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

    /// An event as it really goes into the outbox.
    fn emitted(&self, outgoing: Outgoing) -> Outgoing {
        outgoing
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

/// What an alteration changes about the frames that a process sends to the broker.
pub trait Wire: std::fmt::Debug + Send + Sync + 'static {
    /// Whether nothing is bent, so that frames need not be looked at.
    fn is_straight(&self) -> bool {
        false
    }

    /// A queue as it is really declared.
    fn declared(&self, spec: &QueueSpec) -> QueueSpec {
        spec.clone()
    }

    /// A message as it is really published.
    fn published(&self, message: Publish) -> Publish {
        message
    }

    /// The prefetch that is really set on a channel that asks for this one; none where it sets none.
    fn prefetch(&self, asked: u16) -> Option<u16> {
        Some(asked)
    }

    /// Whether a channel that asks for confirms really gets them.
    fn confirms(&self) -> bool {
        true
    }

    /// Whether an ack takes along all earlier deliveries of its channel.
    fn acks_multiple(&self) -> bool {
        false
    }
}

/// A port that is bent nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Straight;

impl Bend for Straight {}

impl Wire for Straight {
    fn is_straight(&self) -> bool {
        true
    }
}

/// The transport of every altered build.
pub type AlteredTransport = BentTransport<RabbitMq<BentAmqp<SimAmqp>, SimEnv>>;
/// The store of every altered build.
pub type AlteredStore = BentStore<SeededStore>;
/// The outside services of every altered build.
pub type AlteredService = BentService<SimService>;

/// Ports with a bend in them.
///
/// All altered builds have ports of these types, also one that bends only its frames or none of
/// its ports: so a workload is compiled once for all of them, and not once for each.
pub type BentPorts = Ports<AlteredTransport, AlteredStore, AlteredService, SimEnv>;

/// Bends the ports of a process, and the frames beneath its transport.
pub fn bend(bare: SimPorts, bend: impl Bend, wire: impl Wire) -> BentPorts {
    let bend: Arc<dyn Bend> = Arc::new(bend);
    let transport = bare.transport.over(BentAmqp::new(SimAmqp, wire));
    Ports {
        transport: BentTransport::new(transport, bend.clone()),
        store: BentStore::new(bare.store, bend.clone()),
        service: BentService::new(bare.service, bend),
        env: bare.env,
    }
}
