//! Starting a pipeline in production: checks first, then the parts.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::client::Client;
use crate::consumer::Runner;
use crate::handler::Consumer;
use crate::relay::Relay;
use crate::status::{Gauge, Health};
use redeliver_core::policy::{Check, Contradiction, Policy};
use redeliver_core::ports::{Env, Transport, TransportError, World};
use redeliver_core::topology::{QueueType, Topology, TopologyError};

/// Why a pipeline does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policy contradicts itself.
    #[error("the policy contradicts itself:\n{}", list(.0))]
    Policy(Vec<Contradiction>),
    /// The consumers contradict each other.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The broker refused what the pipeline needs.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

fn list(contradictions: &[Contradiction]) -> String {
    let lines: Vec<_> = contradictions.iter().map(|c| format!("  {c}")).collect();
    lines.join("\n")
}

/// A pipeline of one process, checked and ready to start: relay and consumers over one world.
///
/// ```no_run
/// # use std::time::Duration;
/// # use redeliver_core::{env::live::LiveEnv, policy::Policy, ports::World, topology::QueueType};
/// # use redeliver_pipeline::{Pipeline, StartError, handler::Consumer};
/// # async fn f<W: World<Env = LiveEnv>>(world: W, consumers: Vec<Consumer<W>>)
/// # -> Result<(), StartError> {
/// let env = world.env().clone();
/// let pipeline = Pipeline::new(world, consumers, Policy::default(), QueueType::Quorum, &[])?;
/// let running = pipeline.start().await?;
/// // … until the process is told to end:
/// env.request_stop();
/// running.ended().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Pipeline<W: World> {
    world: W,
    consumers: Vec<Consumer<W>>,
    policy: Policy,
    topology: Topology,
    relays: bool,
}

impl<W: World> Pipeline<W> {
    /// Checks everything that can be checked without a server. Contradictions named in `allow`
    /// are let pass.
    ///
    /// # Errors
    /// [`StartError`] names every contradiction with both of its values.
    pub fn new(
        world: W,
        consumers: Vec<Consumer<W>>,
        policy: Policy,
        queue_type: QueueType,
        allow: &[Check],
    ) -> Result<Self, StartError> {
        let mut found = policy.contradictions();
        found.retain(|contradiction| !allow.contains(&contradiction.check));
        if !found.is_empty() {
            return Err(StartError::Policy(found));
        }
        let subscriptions = consumers.iter().map(Consumer::subscription).collect();
        let topology = Topology::of(subscriptions, policy.rungs(), queue_type);
        topology.check()?;
        Ok(Self {
            world,
            consumers,
            policy,
            topology,
            relays: true,
        })
    }

    /// Without a relay: for a process that consumes, and leaves publishing to others.
    #[must_use]
    pub fn without_relay(mut self) -> Self {
        self.relays = false;
        self
    }

    /// What it needs of the broker.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Carries out requests from outside, which emit into this pipeline's outbox.
    pub fn client(&self) -> Client<W> {
        Client::new(self.world.clone(), &self.policy)
    }

    /// Creates on the broker what is missing: only where this is asked for.
    ///
    /// # Errors
    /// [`TransportError`] when the broker cannot be reached, or has something else of that name.
    pub async fn declare(&self) -> Result<(), StartError> {
        Ok(self.world.transport().declare(&self.topology).await?)
    }

    /// Asks the broker whether all that it needs is there, and creates nothing.
    ///
    /// # Errors
    /// [`TransportError`] when the broker cannot be reached; with all names that are missing.
    pub async fn verify(&self) -> Result<(), StartError> {
        Ok(self.world.transport().verify(&self.topology).await?)
    }

    /// Starts the pipeline where all that it needs is on the broker; creates nothing there.
    ///
    /// # Errors
    /// As [`Pipeline::verify`].
    pub async fn start(self) -> Result<Running, StartError> {
        self.verify().await?;
        Ok(self.spawn())
    }

    /// Starts a relay and every consumer as tasks of this process. They end when the process is
    /// asked to stop ([`Env::stopping`]), with what they have in hand.
    pub fn spawn(self) -> Running {
        let env = self.world.env().clone();
        let (alive, ended) = mpsc::channel(1);
        let mut parts = Vec::new();
        if self.relays {
            let (name, gauge) = (Arc::from("relay"), Gauge::default());
            let relay = Relay::new(self.world.clone(), self.policy.relay.clone());
            let relay = relay.with_gauge(gauge.clone());
            env.spawn(&name, held(alive.clone(), relay.run()));
            parts.push((name, gauge));
        }
        for consumer in self.consumers {
            let (name, gauge) = (consumer.name().clone(), Gauge::default());
            let runner = Runner::new(self.world.clone(), consumer, self.policy.clone());
            let runner = runner.with_gauge(gauge.clone());
            env.spawn(&name, held(alive.clone(), runner.run()));
            parts.push((name, gauge));
        }
        let health = Health::of(parts);
        Running { health, ended }
    }
}

/// Runs `work`, and lets go of `alive` at its end.
async fn held(alive: mpsc::Sender<()>, work: impl Future<Output = ()>) {
    work.await;
    drop(alive);
}

/// A pipeline that was started. Dropped, it goes on.
#[derive(Debug)]
pub struct Running {
    health: Health,
    ended: mpsc::Receiver<()>,
}

impl Running {
    /// How its parts are, for probes.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Completes when every part has ended. Ask the process to stop first; consumers take the time
    /// that [`ConsumerPolicy::drain`](redeliver_core::policy::ConsumerPolicy::drain) gives them.
    pub async fn ended(mut self) {
        while self.ended.recv().await.is_some() {}
    }
}
