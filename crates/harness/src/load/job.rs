//! What a process of a load run is told: one line of JSON on its standard input, so that no password
//! stands among its arguments. The other end of that pipe is the harness: once it is gone, however it
//! ended, the process ends as well.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::offer::Offer;
use crate::run::any_workload::Facts;
use crate::run::live::LiveError;
use crate::run::plan;
use crate::run::sabotage::Poisoned;
use crate::scenario::Scenario;
use redeliver_core::topology::QueueType;

/// What a process does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Publishes what is in the outbox.
    Relay,
    /// Handles what this consumer's queue holds.
    Worker(Arc<str>),
    /// Sends requests: those whose number divided by `of` leaves `number`.
    Producer {
        /// Which of them, from 0.
        number: u64,
        /// How many share the sending.
        of: u64,
    },
}

impl Role {
    /// The part of the pipeline that it is, for figures by part.
    pub fn part(&self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Worker(_) => "workers",
            Self::Producer { .. } => "producers",
        }
    }
}

/// What a process is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What it does.
    pub role: Role,
    /// Its name in the history.
    pub process: String,
    /// How often a process of this name was started before.
    pub incarnation: u32,
    /// Counts all processes of the run, so that their numbers of runs and channels differ.
    pub number: u32,
    /// The workload, by name.
    pub workload: String,
    /// The scenario's name and its text.
    pub scenario: (String, String),
    /// How work queues are kept.
    pub classic_queues: bool,
    /// Under which name the run stands on the servers.
    pub name: String,
    /// The broker's URL, with its password.
    pub amqp_url: String,
    /// The database's URL, with its password.
    pub database_url: String,
    /// Where the history goes.
    pub history: PathBuf,
    /// Where the outside services are.
    pub services: SocketAddr,
    /// When the run started, by the machine's monotonic clock, in nanoseconds.
    pub started: u64,
    /// What is offered, for those who send, and for the choice of what cannot be handled.
    pub offer: Offer,
    /// Keys of messages that cannot be handled, as [`Sorts`] orders them.
    pub poison: Sorts,
    /// For one who sends: all requests before this one were answered.
    pub resume: u64,
    /// Whether requests carry traces.
    pub traced: bool,
}

/// Keys of requests that cannot be handled: poison, killers, of an unknown version, failing each
/// time, panicking each time.
pub type Sorts = [Vec<Arc<str>>; 5];

impl Job {
    /// The scenario in real time, as all processes of the run have it.
    ///
    /// # Errors
    /// The text is not that of a scenario of this program.
    pub(crate) fn scenario(&self, workload: &dyn Facts) -> Result<Scenario, LiveError> {
        let (name, text) = &self.scenario;
        let queues = match self.classic_queues {
            true => QueueType::Classic,
            false => QueueType::Quorum,
        };
        scenario(workload, (name, text), queues)
    }
}

/// A scenario from its name and text, in real time, with everything said about its services.
///
/// # Errors
/// As [`Job::scenario`].
pub(crate) fn scenario(
    workload: &dyn Facts,
    (name, text): (&str, &str),
    queues: QueueType,
) -> Result<Scenario, LiveError> {
    let path = PathBuf::from(format!("{name}.toml"));
    let read = Scenario::parse(text, &path, &[workload.name()]);
    let read = read.map_err(|error| LiveError::Other(error.render(100, false)))?;
    let mut scenario = plan::with_explicit_services(workload, &read).in_real_time();
    scenario.queue_type = queues;
    Ok(scenario)
}

/// Which messages are poisonous, for the handlers.
pub(crate) fn poisoned(sorts: &Sorts) -> Poisoned {
    let [poison, killers, _, transient, panics] = sorts.clone();
    Poisoned {
        poison: poison.into_iter().collect(),
        killers: killers.into_iter().collect(),
        transient: transient.into_iter().collect(),
        panics: panics.into_iter().collect(),
    }
}
