//! From the configuration to a running pipeline.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::Duration;

use redeliver::env::live::LiveEnv;
use redeliver::pipeline::client::Client;
use redeliver::pipeline::handler::Consumer;
use redeliver::pipeline::policy::Policy;
use redeliver::pipeline::topology::QueueType;
use redeliver::pipeline::{Pipeline, Running, StartError};
use redeliver::ports::{Ports, Store, StoreError};
use redeliver::postgres::{PgOptions, PgStore};
use redeliver::rabbitmq::lapin::LapinAmqp;
use redeliver::rabbitmq::{Options, RabbitMq};
use redeliver::service::live::LiveServices;

use crate::config::Config;
use crate::orders::{Charge, TABLES};

/// The world of production.
pub(crate) type Live = Ports<RabbitMq<LapinAmqp, LiveEnv>, PgStore, LiveServices, LiveEnv>;

/// How long the broker may take at the start. A packet that a firewall drops has no answer at all.
const BROKER_WITHIN: Duration = Duration::from_secs(15);

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStarted {
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
    #[error("nobody can listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    #[error(transparent)]
    Database(#[from] StoreError),
    #[error(transparent)]
    Pipeline(#[from] StartError),
    #[error("the broker did not answer within {BROKER_WITHIN:?}")]
    SilentBroker,
}

/// What was started, for requests and for the end.
pub(crate) struct Service {
    pub(crate) client: Client<Live>,
    pub(crate) store: PgStore,
    pub(crate) running: Running,
    pub(crate) drain: Duration,
}

/// A number that no other start of this process had. The id of the process would not do: in a
/// container it is 1 each time.
pub(crate) fn incarnation() -> u32 {
    // The hasher's keys are the operating system's chance.
    RandomState::new().hash_one("incarnation") as u32
}

/// The library's numbers, but for those that say how long a restart takes.
fn policy() -> Policy {
    let mut policy = Policy::default();
    // What a relay had in hand when it was killed waits until its lease is over.
    policy.relay.confirm_timeout = Duration::from_secs(5);
    policy.relay.lease = Duration::from_secs(10);
    // Kubernetes kills after 30 s. `http::REQUESTS_WITHIN` comes out of them, too.
    policy.consumer.drain = Duration::from_secs(20);
    policy
}

/// Starts relay and consumer.
pub(crate) async fn pipeline(config: &Config, env: &LiveEnv) -> Result<Service, NotStarted> {
    let policy = policy();
    let drain = policy.consumer.drain;
    let store = database(config).await?;
    let options = Options::of(&config.namespace, &policy);
    let world: Live = Ports {
        transport: RabbitMq::new(config.amqp.clone(), env.clone(), options),
        store: store.clone(),
        service: LiveServices::new(),
        env: env.clone(),
    };
    let consumers = vec![Consumer::new("charge").on(Charge)];
    let pipeline = Pipeline::new(world, consumers, policy, QueueType::Quorum, &[])?;
    let client = pipeline.client();
    let started = async {
        // Not where operations own the broker: there the service has no right to create anything,
        // and `start` says what is missing.
        pipeline.declare().await?;
        pipeline.start().await
    };
    let running = tokio::time::timeout(BROKER_WITHIN, started).await;
    Ok(Service {
        client,
        store,
        running: running.map_err(|_| NotStarted::SilentBroker)??,
        drain,
    })
}

/// The store, with the pipeline's tables and the team's in one schema.
async fn database(config: &Config) -> Result<PgStore, StoreError> {
    let target = config.database.clone();
    let target = target.options([("search_path", &config.namespace)]);
    let store = PgStore::connect_with(target, PgOptions::in_schema(&config.namespace))?;
    store.migrate().await?;
    let tables = sqlx::raw_sql(TABLES).execute(store.pool()).await;
    let refused = |error: sqlx::Error| {
        let judged = <PgStore as Store>::judge(&error);
        judged.unwrap_or_else(|| StoreError::Refused(error.to_string()))
    };
    tables.map_err(refused)?;
    Ok(store)
}
