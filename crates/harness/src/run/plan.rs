//! What a run is made of before it starts: topology, requests, poison.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redeliver_sim::latency::Latency;
use redeliver_sim::service::Model;

use crate::load::job::{Sorts, poisoned};
use crate::run::any_workload::Facts;
use crate::run::sabotage::Poisoned;
use crate::scenario::Scenario;
use crate::team::request::{Generator, Request};
use redeliver_core::policy::Policy;
use redeliver_core::ports::env::nanos;
use redeliver_core::topology::{Subscription, Topology};
use redeliver_simulated::fake::MakeFake;

/// Topology, requests and poison of one run.
#[derive(Debug)]
pub struct Plan {
    /// What stands on the broker.
    pub topology: Topology,
    /// The requests, in the order of their times.
    pub requests: Vec<Request>,
    /// Which of them are poisonous, for the handlers.
    pub poisoned: Arc<Poisoned>,
    /// The same for the checkers, with those of an unknown version.
    pub poison_keys: Vec<Arc<str>>,
    /// Requests whose event is of a version that nobody knows yet.
    pub unknown: Vec<Arc<str>>,
    /// Messages to publish that are no events.
    pub malformed: u32,
    /// How many queues each of those reaches.
    pub malformed_reach: u64,
    /// Clients among which the requests are dealt out.
    pub clients: u32,
    /// The numbers of the pipeline.
    pub policy: Policy,
    /// Requests that were answered so far.
    answered: AtomicUsize,
    /// Malformed messages that were published so far.
    strangers: AtomicUsize,
}

impl Plan {
    /// Everything that follows from workload, scenario and seed.
    pub fn new(workload: &dyn Facts, scenario: &Scenario, seed: u64) -> Self {
        let topology = topology(workload, scenario);
        let mut generator = Generator::new(seed, scenario.messages, scenario.over);
        let mut requests = workload.requests(&mut generator);
        requests.sort_by_key(|request| request.at);
        let wanted = &scenario.poison;
        let mut keys: Vec<Arc<str>> = requests.iter().map(|r| r.key.clone()).collect();
        keys.dedup();
        let mut pick = |n: u32| -> Vec<Arc<str>> {
            let n = (n as usize).min(keys.len());
            (0..n)
                .map(|_| keys.swap_remove(generator.below(keys.len() as u64) as usize))
                .collect()
        };
        let (poison, killers) = (pick(wanted.poison), pick(wanted.killer));
        let unknown = pick(wanted.unknown_version);
        let transient = pick(wanted.transient);
        let panics = pick(wanted.panics);
        let poison_keys = [&poison[..], &killers, &unknown, &transient, &panics].concat();
        let poisoned = Poisoned {
            poison: poison.into_iter().collect(),
            killers: killers.into_iter().collect(),
            transient: transient.into_iter().collect(),
            panics: panics.into_iter().collect(),
        };
        if !scenario.only.is_empty() {
            requests.retain(|request| scenario.only.contains(&request.key));
        }
        let first = requests
            .first()
            .map(|request| request.draft.event_type.clone());
        let malformed_reach = first.map_or(0, |first| reach(&topology, &first));
        Self {
            topology,
            requests,
            poisoned: Arc::new(poisoned),
            poison_keys,
            unknown,
            malformed: wanted.malformed,
            malformed_reach,
            clients: scenario.clients.max(1),
            policy: scenario.policy.clone(),
            answered: AtomicUsize::new(0),
            strangers: AtomicUsize::new(0),
        }
    }

    /// Of a load run: with these requests, and these keys of what cannot be handled.
    pub(crate) fn of_load(
        workload: &dyn Facts,
        scenario: &Scenario,
        requests: Vec<Request>,
        sorts: &Sorts,
    ) -> Self {
        let topology = topology(workload, scenario);
        let first = requests
            .first()
            .map(|it| reach(&topology, &it.draft.event_type));
        Self {
            topology,
            requests,
            poisoned: Arc::new(poisoned(sorts)),
            poison_keys: sorts.concat(),
            unknown: sorts[2].clone(),
            malformed: scenario.poison.malformed,
            malformed_reach: first.unwrap_or(0),
            clients: scenario.clients.max(1),
            policy: scenario.policy.clone(),
            answered: AtomicUsize::new(0),
            strangers: AtomicUsize::new(0),
        }
    }

    /// Notes that a request was answered.
    pub fn note_answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a malformed message was published.
    pub fn note_stranger(&self) {
        self.strangers.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether every request was answered and every malformed message published.
    pub fn all_sent(&self) -> bool {
        self.answered.load(Ordering::Relaxed) >= self.requests.len() && self.strangers_sent()
    }

    /// Whether every malformed message was published.
    pub fn strangers_sent(&self) -> bool {
        self.strangers.load(Ordering::Relaxed) >= self.malformed as usize
    }

    /// Dead letters that come from messages that are no events.
    pub fn malformed_letters(&self) -> u64 {
        u64::from(self.malformed) * self.malformed_reach
    }

    /// After the heal everything must have ended by then: all attempts of a message, each behind
    /// its backoff and its lease, through every stage of the workflow, with what relays and
    /// brokers may still hold; twice that, since messages wait for each other too.
    pub fn settle_bound(&self, scenario: &Scenario) -> Duration {
        let policy = &scenario.policy;
        let attempt = policy.consumer.handler_limit + policy.consumer.lease;
        let attempts = attempt * policy.retry.attempts.min(64) + policy.retry.longest();
        let relay = policy.relay.lease + policy.relay.backoff_cap + policy.relay.confirm_timeout;
        let timeout = policy.consumer_timeout.unwrap_or_default() + Duration::from_secs(120);
        let stages = u32::try_from(self.topology.subscriptions.len())
            .unwrap_or(u32::MAX)
            .max(1);
        let per_worker = scenario.messages / (scenario.worker_processes.max(1));
        let queueing = policy.consumer.handler_limit * (per_worker + 1);
        ((attempts + relay) * stages + timeout + queueing) * 2
    }
}

/// How many queues an event type reaches.
fn reach(topology: &Topology, event_type: &str) -> u64 {
    let takes = |s: &&Subscription| s.types.iter().any(|(t, _)| **t == *event_type);
    topology.subscriptions.iter().filter(takes).count() as u64
}

/// What the consumers of a workload need of the broker.
pub fn topology(workload: &dyn Facts, scenario: &Scenario) -> Topology {
    let rungs = scenario.policy.rungs();
    Topology::of(workload.subscriptions(), rungs, scenario.queue_type)
}

/// The scenario with everything said about its services that the workload says, so that its
/// time scale reaches them too.
pub fn with_explicit_services(workload: &dyn Facts, scenario: &Scenario) -> Scenario {
    let mut explicit = scenario.clone();
    explicit.services = workload
        .services()
        .into_iter()
        .map(|model| {
            let over = scenario
                .services
                .iter()
                .find(|over| over.name == model.name);
            let mut over = over.cloned().unwrap_or_default();
            over.name = model.name.to_owned();
            over.latency.get_or_insert(model.latency);
            over.cold_starts.get_or_insert(model.cold_starts);
            over
        })
        .collect();
    explicit
}

/// The outside services of a workload, as the scenario wants them.
pub fn services(workload: &dyn Facts, scenario: &Scenario) -> Vec<(Model, Option<MakeFake>)> {
    let models = workload.services().into_iter();
    models
        .map(|model| {
            let over = scenario
                .services
                .iter()
                .find(|over| over.name == model.name);
            let latency = over
                .and_then(|o| o.latency)
                .unwrap_or(model.latency)
                .map(nanos);
            let cold = over
                .and_then(|o| o.cold_starts)
                .unwrap_or(model.cold_starts);
            let [min, median, p95, max] = latency;
            let fake = model.fake;
            let model = Model {
                name: Arc::from(model.name),
                latency: Latency {
                    min,
                    median,
                    p95,
                    max,
                },
                cold_ppm: cold.0,
                cold: nanos(cold.1),
                honours_keys: over
                    .and_then(|o| o.honours_keys)
                    .unwrap_or(model.honours_keys),
                checks_tokens: over
                    .and_then(|o| o.checks_tokens)
                    .unwrap_or(model.checks_tokens),
            };
            (model, fake)
        })
        .collect()
}
