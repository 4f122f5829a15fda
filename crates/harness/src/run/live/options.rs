//! What a real run is given, and what it gives.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redeliver_core::secret::Secret;
use redeliver_core::topology::QueueType;

use crate::run::result::RunResult;
use crate::watch::history::History;

/// Where and how a real run happens.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// URL of the broker, with its password.
    pub amqp_url: Secret,
    /// URL of the database, with its password.
    pub database_url: Secret,
    /// Schema in the database, and what all names on the broker begin with; see [`live_name`].
    pub name: String,
    /// Makes the requests and places the faults.
    pub seed: u64,
    /// In place of the scenario's.
    pub queue_type: Option<QueueType>,
    /// Set from outside to end the run early.
    pub stop: Arc<AtomicBool>,
    /// Connections to the database at most, of each operating system process.
    pub connections: u32,
    /// How long a server may be away before the run is given up: [`PATIENCE`] unless said.
    pub patience: Duration,
    /// Where to say what happens meanwhile: a server that went away, or came back.
    pub tell: Tell,
}

/// Says a line to whoever watches the run.
#[derive(Clone)]
pub struct Tell(Arc<dyn Fn(&str) + Send + Sync>);

impl Tell {
    /// By this function.
    pub fn by(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl Default for Tell {
    /// To nobody.
    fn default() -> Self {
        Self::by(|_| {})
    }
}

impl Deref for Tell {
    type Target = dyn Fn(&str) + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell(…)")
    }
}

/// Connections to the database unless the options say otherwise.
pub const CONNECTIONS: u32 = 10;

/// So long a server may be away unless the options say otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A name for a real run that no other run has.
pub fn live_name() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("redeliver_run_{}", &id[..12])
}

/// What a real run came to.
#[derive(Clone, Debug)]
pub struct LiveReport {
    /// The name under which everything stood on the servers.
    pub name: String,
    /// As of a simulated run.
    pub result: RunResult,
    /// What its clients saw, in the order in which they wrote it.
    pub history: History,
    /// Faults of the scenario that real servers were not given.
    pub not_given: Vec<String>,
    /// What could not be removed from the servers, and why.
    pub left_behind: Option<String>,
    /// It was ended from outside before it came to rest.
    pub stopped: bool,
    /// How long it took.
    pub wall: Duration,
}

/// Why a real run could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// A server does not answer or refuses.
    #[error("{0}")]
    Environment(String),
    /// A server went away during the run and did not come back.
    #[error("{why}")]
    Away {
        /// Which, since when, and how long the run waited.
        why: String,
        /// What may stand on the servers now, and could not be removed.
        left_behind: Option<String>,
    },
    /// Everything else.
    #[error("{0}")]
    Other(String),
}
