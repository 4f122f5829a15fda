//! One run of one scenario with one seed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redeliver_sim::fault::Rule;
use redeliver_sim::reach::Called;

use crate::harness::build::Altered;
use crate::harness::history::History;
use crate::harness::postgres::Postgres;
use crate::harness::reached::Reached;
use crate::harness::scenario::Scenario;
use crate::harness::verdict::{Anomaly, Verdict};
#[cfg(doc)]
use crate::harness::workload::Workload;
use crate::pipeline::topology::{QueueType, Topology};
use crate::rabbitmq::Existing;

pub use crate::harness::live::run_live;
pub use crate::harness::simulate::{simulate, simulate_altered, simulate_built};

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct RunResult {
    /// Its seed.
    pub seed: u64,
    /// Its verdict, before the scenario's expectations over all seeds.
    pub verdict: Verdict,
    /// Every broken promise.
    pub anomalies: Vec<Anomaly>,
    /// Why nothing can be said, where nothing can.
    pub inconclusive: Option<String>,
    /// Messages that were accepted: requests and everything that followed from them.
    pub messages: u64,
    /// Hand-overs to a consumer.
    pub deliveries: u64,
    /// Entries of the history and steps of the world.
    pub events: u64,
    /// Virtual time in nanoseconds; wall time in a real run.
    pub virtual_ns: u64,
    /// Faults that struck, by kind.
    pub faults: Vec<(&'static str, u64)>,
    /// Which of them struck where, and where none did.
    pub reached: Reached,
    /// What caused second pick-ups.
    pub mechanisms: Vec<(&'static str, u64)>,
    /// Every call at a seam while faults were on; empty unless recorded.
    pub calls: Vec<Called>,
    /// Every strike of a rule as a rule that strikes that call again and no other; empty unless
    /// recorded.
    pub strikes: Vec<Rule>,
    /// The keys of the requests, in the order of their times; empty unless recorded.
    pub requests: Vec<Arc<str>>,
    /// Hash over the whole trace.
    pub hash: u64,
    /// Hash over the rows and payloads at the end, of which a trace says nothing.
    pub state: u64,
    /// What clients saw, each entry with its line in the trace; empty unless recorded.
    pub history: History,
    /// The trace; empty unless recorded.
    pub trace: Vec<TraceLine>,
}

/// One line of a recorded trace.
pub type TraceLine = redeliver_sim::trace::Entry;

/// A workload that the command line knows. Made by [`workloads!`](macro@crate::workloads).
#[derive(Clone, Copy, Debug)]
pub struct Registered {
    /// Its name in scenario files.
    pub name: &'static str,
    /// Runs a scenario in the seeded world: seed, and whether to keep the trace.
    pub simulate: fn(&Scenario, u64, bool) -> RunResult,
    /// Runs a scenario in the seeded world, on a pipeline in which something is changed: with a
    /// planted bug, it tells whether a scenario of this workload would show that bug.
    pub altered: fn(&Altered, &Scenario, u64, bool) -> RunResult,
    /// Runs a scenario on real servers.
    pub run_live: fn(&Scenario, &LiveOptions) -> Result<LiveReport, LiveError>,
    /// What its database looks like: [`Workload::postgres`].
    pub postgres: fn() -> Option<Postgres>,
    /// What it needs of a broker under a scenario, and what is there already:
    /// [`Workload::topology`].
    pub topology: fn(&Scenario) -> (Topology, Option<Existing>),
}

/// A text that is never shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

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
}

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
    /// Everything else.
    #[error("{0}")]
    Other(String),
}
