//! Starting a pipeline in production: checks first, then the parts.

use crate::consumer::Runner;
use crate::handler::Consumer;
use crate::relay::Relay;
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
/// # use redeliver_pipeline::handler::Consumer;
/// # use redeliver_core::policy::Policy;
/// # use redeliver_pipeline::start::Pipeline;
/// # use redeliver_core::topology::QueueType;
/// # async fn f<W: redeliver_core::ports::World>(world: W, consumers: Vec<Consumer<W>>)
/// # -> Result<(), redeliver_pipeline::start::StartError> {
/// let pipeline = Pipeline::new(world, consumers, Policy::default(), QueueType::Quorum, &[])?;
/// pipeline.start().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Pipeline<W: World> {
    world: W,
    consumers: Vec<Consumer<W>>,
    policy: Policy,
    topology: Topology,
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
        })
    }

    /// What it needs of the broker.
    pub fn topology(&self) -> &Topology {
        &self.topology
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
    pub async fn start(self) -> Result<(), StartError> {
        self.verify().await?;
        self.spawn();
        Ok(())
    }

    /// Starts a relay and every consumer as tasks of this process. They end when the process is
    /// asked to stop ([`Env::stopping`]).
    pub fn spawn(self) {
        let env = self.world.env().clone();
        env.spawn(
            "relay",
            Relay::new(self.world.clone(), self.policy.relay.clone()).run(),
        );
        for consumer in self.consumers {
            let name = consumer.name().clone();
            let runner = Runner::new(self.world.clone(), consumer, self.policy.clone());
            env.spawn(&name, runner.run());
        }
    }
}
