//! Scenarios: a workload with policy, faults and expectations, as a file or made in a test.
//!
//! [`Scenario::load`] reads a TOML file; a mistake in it is shown with its place, a caret and a
//! suggestion. What a scenario does not say has the defaults of [`Scenario::new`].

mod capsule;
mod error;
mod expect;
mod fault;
mod file;
mod known;
mod load;
mod names;
mod policy;
mod scale;
mod schema;
mod size;
mod values;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::broker::Profile;
use redeliver_sim::choice::Ppm;
use redeliver_sim::fault::{Event, Rule};

use crate::load::threshold::Threshold;
pub use capsule::Capsule;
pub use error::ScenarioError;
pub use expect::{Expect, Reach, unwanted_rows};
pub use known::{Day, Known};
pub use load::{discover, nothing_to_ask};
pub use names::{database_name, profile_name, queue_type_name};
pub use schema::json_schema;
pub use size::{
    Asked, Budget, DelayedRetry, Managed, OutageTime, ServiceOutage, Size, SizeWeights, Times,
};
pub use values::{format_duration, format_share, parse_duration, parse_share};

use redeliver_core::policy::{Check, Policy};
use redeliver_core::topology::QueueType;

/// A workload with policy, faults and expectations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name: that of its file, without the ending.
    pub name: String,
    /// Its file, as it was given; empty for one that was made in a test.
    pub path: PathBuf,
    /// The question that it answers.
    pub question: String,
    /// The name of its workload.
    pub workload: String,
    /// How many requests arrive.
    pub messages: u32,
    /// Of these requests only the ones with these keys; all where empty. The others are left out
    /// without a change to what the seed decides for these.
    pub only: Vec<Arc<str>>,
    /// The time over which they arrive.
    pub over: Duration,
    /// How long everything may take to come to rest once faults have healed; none for a bound
    /// computed from the policy.
    pub settle: Option<Duration>,
    /// Clients that send requests.
    pub clients: u32,
    /// Relays.
    pub relays: u32,
    /// Processes of each consumer.
    pub worker_processes: u32,
    /// When a crashed process is started again.
    pub restart_after: Duration,
    /// The numbers of the pipeline.
    pub policy: Policy,
    /// Contradictions in the policy that are wanted.
    pub allow: Vec<Check>,
    /// The version whose rules the simulated broker follows.
    pub broker: Profile,
    /// What stands behind the stores of a run in the seeded world. A workload with SQL of its own
    /// has a server whatever this says.
    pub database: Database,
    /// How work queues are kept.
    pub queue_type: QueueType,
    /// Faults that strike calls by chance.
    pub rules: Vec<Rule>,
    /// Faults that happen at a time.
    pub events: Vec<Event>,
    /// Whether the seed draws the fault configuration: which of the faults above are on, and how
    /// strongly.
    pub swarm: bool,
    /// When faults heal.
    pub faults_until: Duration,
    /// Messages that cannot be handled.
    pub poison: Poison,
    /// Outside services that behave otherwise than the workload says.
    pub services: Vec<ServiceOverride>,
    /// Seeds in a gate that is not told how many.
    pub seeds: u32,
    /// The first of them in a gate that is not told where to start.
    pub seed: Option<u64>,
    /// Durations are divided by it in a real run; see [`Scenario::in_real_time`].
    pub time_scale: u32,
    /// How requests are spread over time under load, as [`Pattern::parse`] reads it; none for at random.
    ///
    /// [`Pattern::parse`]: crate::load::offer::Pattern::parse
    pub arrivals: Option<String>,
    /// What the figures of a load run have to be.
    pub thresholds: Vec<Threshold>,
    /// What has to come out.
    pub expect: Expect,
    /// What is asked of its numbers, where it says so.
    pub size: Option<Box<Size>>,
    /// From this virtual time on, in nanoseconds, another seed decides. No file says so: it is for
    /// those who ask what a run's past has settled.
    pub reseed: Option<(u64, u64)>,
    /// Where this is one failing run that was kept: what came of it then.
    pub capsule: Option<Capsule>,
    /// Where it is known to fail: excused until a day.
    pub known: Option<Known>,
}

/// The database of a run in the seeded world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Database {
    /// A model of PostgreSQL.
    #[default]
    Model,
    /// A private PostgreSQL.
    Postgres,
}

/// How many requests cannot be handled, chosen by the seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Poison {
    /// Their handler always fails for good.
    pub poison: u32,
    /// They kill the process that handles them.
    pub killer: u32,
    /// Their schema version is not known yet.
    pub unknown_version: u32,
    /// Their handler fails each time, as if it might pass: they use up their retries.
    pub transient: u32,
    /// Their handler panics each time, which may pass as well: they use up their retries.
    pub panics: u32,
    /// Messages beside the requests that are no events at all.
    pub malformed: u32,
}

/// What a scenario changes about an outside service of its workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceOverride {
    /// Its name.
    pub name: String,
    /// Latency: shortest, median, 95 in 100, longest.
    pub latency: Option<[Duration; 4]>,
    /// Cold starts: how many in a million calls, and how long they take.
    pub cold_starts: Option<(Ppm, Duration)>,
    /// Whether a repeated idempotency key gets the first answer without a second effect.
    pub honours_keys: Option<bool>,
    /// Whether it refuses a fencing token below the highest it has seen for a key.
    pub checks_tokens: Option<bool>,
}

impl Scenario {
    /// A calm scenario: no faults, and the pipeline's own policy.
    pub fn new(name: &str, workload: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: PathBuf::new(),
            question: String::new(),
            workload: workload.to_owned(),
            messages: 20,
            only: Vec::new(),
            over: Duration::from_secs(30),
            settle: None,
            clients: 2,
            relays: 2,
            worker_processes: 2,
            restart_after: Duration::from_secs(2),
            policy: Policy::default(),
            allow: Vec::new(),
            broker: Profile::default(),
            database: Database::default(),
            queue_type: QueueType::default(),
            rules: Vec::new(),
            events: Vec::new(),
            swarm: false,
            faults_until: Duration::from_secs(30),
            poison: Poison::default(),
            services: Vec::new(),
            seeds: 200,
            seed: None,
            time_scale: 1,
            arrivals: None,
            thresholds: Vec::new(),
            expect: Expect::default(),
            size: None,
            reseed: None,
            capsule: None,
            known: None,
        }
    }

    /// The same without any fault. Planted poison stays: it is no fault.
    #[must_use]
    pub fn without_faults(&self) -> Self {
        Self {
            rules: Vec::new(),
            events: Vec::new(),
            swarm: false,
            reseed: None,
            ..self.clone()
        }
    }

    /// When faults end that do not say so: with the last request, the last timed fault and the
    /// last bound of a fault by chance.
    #[must_use]
    pub fn last_fault(&self) -> Duration {
        let timed = self
            .events
            .iter()
            .map(|event| event.at.saturating_add(event.lasts));
        let bounded = self.rules.iter().map(|rule| rule.until);
        let last = timed
            .chain(bounded.filter(|until| *until != u64::MAX))
            .max();
        self.over.max(Duration::from_nanos(last.unwrap_or(0)))
    }
}
