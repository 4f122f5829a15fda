//! For services: the pipeline's transport over RabbitMQ.
//!
//! Retry, parking and dead lettering are written here once, above the small [`amqp`] port. It has
//! two adapters: a real connection ([`lapin`]), and the simulated broker in another crate. What
//! production runs is therefore what is simulated.
//!
//! Stability: [`RabbitMq`], [`Options`], [`Names`] and `lapin::LapinAmqp` follow semantic versioning.
//! The port and the envelope are for Redeliver's own crates and may change in any minor version.

pub mod amqp;
pub mod envelope;
pub mod lapin;
mod publisher;
mod receiver;
pub mod topology;

use std::future::Future;
use std::time::Duration;

pub use publisher::AmqpPublisher;
pub use receiver::AmqpReceiver;
pub use topology::Names;

use amqp::{Amqp, AmqpConnection, AmqpError};
use redeliver_core::policy::Policy;
use redeliver_core::ports::{Env, EnvExt, Transport, TransportError};
use redeliver_core::topology::Topology;

impl From<AmqpError> for TransportError {
    fn from(error: AmqpError) -> Self {
        match error {
            AmqpError::Connection(_) => Self::Lost(error.to_string()),
            AmqpError::Channel { .. } | AmqpError::Access(_) => Self::Refused(error.to_string()),
        }
    }
}

/// What the transport has to know beside the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Put before every name on the broker.
    pub namespace: String,
    /// The delays that messages can wait; the same as in the topology.
    pub rungs: Vec<Duration>,
    /// How long to wait for the confirm of a copy.
    pub confirm_timeout: Duration,
    /// Largest payload in bytes; larger messages go to the dead letters.
    pub max_payload: usize,
}

impl Options {
    /// What follows from the policy of a pipeline.
    pub fn of(namespace: &str, policy: &Policy) -> Self {
        Self {
            namespace: namespace.to_owned(),
            rungs: policy.rungs(),
            confirm_timeout: policy.relay.confirm_timeout,
            max_payload: policy.max_payload,
        }
    }
}

/// The transport over an `amqp` adapter.
#[derive(Clone, Debug)]
pub struct RabbitMq<A, E> {
    amqp: A,
    env: E,
    names: Names,
    options: Options,
}

impl<A: Amqp, E: Env> RabbitMq<A, E> {
    /// A transport; connects when it is used.
    pub fn new(amqp: A, env: E, options: Options) -> Self {
        Self {
            amqp,
            env,
            names: Names::new(&options.namespace),
            options,
        }
    }

    /// The same with names that exist already.
    #[must_use]
    pub fn with_names(mut self, names: Names) -> Self {
        self.names = names;
        self
    }

    /// The same over another adapter.
    #[must_use]
    pub fn over<B: Amqp>(self, amqp: B) -> RabbitMq<B, E> {
        RabbitMq {
            amqp,
            env: self.env,
            names: self.names,
            options: self.options,
        }
    }

    /// The names it uses.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Deletes everything that `topology` names, with the messages in it.
    ///
    /// # Errors
    /// [`TransportError`] when the broker cannot be reached or refuses.
    pub async fn delete(&self, topology: &Topology) -> Result<(), TransportError> {
        let connection = self.amqp.connect("redeliver delete").await?;
        let channel = connection.open_channel().await?;
        topology::delete(&channel, &self.names, topology).await?;
        connection.close().await?;
        Ok(())
    }
}

impl<A: Amqp, E: Env> Transport for RabbitMq<A, E> {
    type Publisher = AmqpPublisher<A, E>;
    type Receiver = AmqpReceiver<A, E>;

    async fn declare(&self, topology: &Topology) -> Result<(), TransportError> {
        topology
            .check()
            .map_err(|error| TransportError::Refused(error.to_string()))?;
        let connection = self.amqp.connect("redeliver declare").await?;
        let channel = connection.open_channel().await?;
        topology::declare(&channel, &self.names, topology).await?;
        connection.close().await?;
        Ok(())
    }

    async fn verify(&self, topology: &Topology) -> Result<(), TransportError> {
        topology
            .check()
            .map_err(|error| TransportError::Refused(error.to_string()))?;
        let connection = self.amqp.connect("redeliver verify").await?;
        let missing = topology::missing(&connection, &self.names, topology).await?;
        connection.close().await?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(TransportError::Refused(format!(
            "these are missing: {}; `redeliver topology check` says how to make them, \
             Pipeline::declare makes them",
            missing.join(", ")
        )))
    }

    async fn publisher(&self, name: &str) -> Result<Self::Publisher, TransportError> {
        AmqpPublisher::open(&self.amqp, self.env.clone(), self.names.clone(), name).await
    }

    async fn receiver(
        &self,
        name: &str,
        queue: &str,
        prefetch: u16,
    ) -> Result<Self::Receiver, TransportError> {
        AmqpReceiver::open(self, name, queue, prefetch).await
    }
}

/// Waits for an answer of the broker, for a while.
async fn within<E: Env, T: Send>(
    env: &E,
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, AmqpError>> + Send,
) -> Result<T, TransportError> {
    match env.timeout(limit, work).await {
        Some(result) => Ok(result?),
        None => Err(TransportError::TimedOut(what.to_owned())),
    }
}
