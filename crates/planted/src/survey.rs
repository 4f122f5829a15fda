//! What the messages of a workload do: where a bug can show at all.
//!
//! A bug in the claim of an outside call is invisible to a workload that makes none. What a workload
//! does is not asked of its code but seen in runs: the shipped pipeline over ports that do what is
//! asked of them and take notes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redeliver_sim::choice::Ppm;
use redeliver_sim::fault::{Kind, Rule};

use super::{Need, no_dedup};
use redeliver_core::event::Outgoing;
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::ports::{Delivery, Env, ServiceCall};
use redeliver_harness::registry::Registered;
use redeliver_harness::run::assembly::bend::{
    AlteredService, AlteredStore, AlteredTransport, Bend, BentPorts, Straight, bend,
};
use redeliver_harness::run::assembly::{Altered, Build, SimPorts};
use redeliver_harness::scenario::Scenario;
use redeliver_harness::watch::reached::Part;
use redeliver_pipeline::handler::Boxed;

/// Letters by which `cut-dedup-key` tells keys apart.
pub(super) const CUT: usize = 20;

/// In a million calls.
const ALWAYS: Ppm = 1_000_000;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// In how many runs.
    pub runs: u64,
    /// Consumers that had something to do.
    pub consumers: BTreeSet<Arc<str>>,
    /// Outside services that were called.
    pub services: BTreeSet<Arc<str>>,
    /// Processes that called them.
    callers: BTreeSet<Arc<str>>,
    claims: bool,
    ordered: bool,
    locks: bool,
    emits: bool,
    /// Consumers of each piece of work.
    heard: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    retries: bool,
    repeats: bool,
}

impl Survey {
    /// Looks at runs of a scenario on the shipped pipeline. They have no faults, so that what is
    /// seen is what the workload does, and not what becomes of it.
    pub fn of(workload: &Registered, scenario: &Scenario, first: u64, runs: u64) -> Self {
        let mut calm = scenario.clone();
        calm.rules.clear();
        calm.events.clear();
        let seen = Arc::new(Mutex::new(Self::default()));
        let noted = Altered::new(Noted(seen.clone()));
        for i in 0..runs {
            (workload.altered)(&noted, &calm, first.wrapping_add(i), false);
        }
        let mut survey = lock(&seen).clone();
        survey.runs = runs;
        survey.retries = scenario.policy.retry.attempts > 1;
        survey.repeats = repeats(workload, &calm, first, runs);
        survey
    }

    /// Whether a bug that needs this could show.
    pub fn meets(&self, need: Need) -> bool {
        match need {
            Need::Claim => self.claims,
            Need::Service => !self.services.is_empty(),
            Need::Order => self.ordered,
            Need::SharedFact => self.heard.values().any(|by| by.len() > 1),
            Need::AlikeKeys => self.has_alike_keys(),
            Need::LockedRow => self.locks,
            Need::Emits => self.emits,
            Need::Retries => self.retries,
            Need::Repeats => self.repeats,
            Need::TwoConsumers => self.consumers.len() > 1,
        }
    }

    /// Whether this consumer calls a service.
    pub fn calls(&self, consumer: &str) -> bool {
        let of = |process: &Arc<str>| process.rsplit_once('-').is_some_and(|p| p.0 == consumer);
        self.callers.iter().any(of)
    }

    fn has_alike_keys(&self) -> bool {
        let mut cut = BTreeSet::new();
        let mut keys = self.heard.iter();
        keys.any(|(key, by)| {
            let short: String = key.chars().take(CUT).collect();
            by.iter().any(|by| !cut.insert((by.clone(), short.clone())))
        })
    }
}

/// Whether work that is done twice is seen to be: every message comes twice to consumers that have
/// no memory. A handler that only inserts rows by their keys does nothing the second time.
fn repeats(workload: &Registered, calm: &Scenario, first: u64, runs: u64) -> bool {
    let mut twice = calm.clone();
    twice.rules = vec![Rule::new(Kind::DuplicatePublish, ALWAYS)];
    let forgetful = (no_dedup::PLANT.build)();
    (0..runs).any(|i| {
        let seed = first.wrapping_add(i);
        let run = (workload.altered)(&forgetful, &twice, seed, false);
        no_dedup::PLANT.target_anywhere(&run).is_some()
    })
}

fn lock(seen: &Mutex<Survey>) -> MutexGuard<'_, Survey> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shipped pipeline over ports that take notes.
#[derive(Clone)]
struct Noted(Arc<Mutex<Survey>>);

impl Build for Noted {
    type Transport = AlteredTransport;
    type Store = AlteredStore;
    type Service = AlteredService;

    fn ports(&self, bare: SimPorts) -> BentPorts {
        let notes = Notes {
            process: bare.env.process().into(),
            seen: self.0.clone(),
        };
        bend(bare, notes, Straight)
    }
}

#[derive(Debug)]
struct Notes {
    process: Arc<str>,
    seen: Arc<Mutex<Survey>>,
}

impl Notes {
    fn is_worker(&self) -> bool {
        Part::of(&self.process) == Part::Worker
    }
}

impl Bend for Notes {
    fn inbox_key(&self, consumer: &str, key: &str) -> (Arc<str>, Arc<str>) {
        let (consumer, key): (Arc<str>, Arc<str>) = (consumer.into(), key.into());
        let mut seen = lock(&self.seen);
        seen.consumers.insert(consumer.clone());
        let by = seen.heard.entry(key.clone()).or_default();
        by.insert(consumer.clone());
        (consumer, key)
    }

    fn saved(&self, row: &InboxRow) -> Option<InboxRow> {
        lock(&self.seen).claims |= matches!(row.state, InboxState::Claimed { .. });
        Some(row.clone())
    }

    fn locks(&self) -> bool {
        lock(&self.seen).locks |= self.is_worker();
        true
    }

    fn emit<'a>(&'a self, _: &'a Outgoing) -> Boxed<'a, bool> {
        lock(&self.seen).emits |= self.is_worker();
        Box::pin(std::future::ready(false))
    }

    fn received(&self, delivery: Delivery) -> Delivery {
        let event = delivery.event.as_ref();
        let ordered = event.is_ok_and(|event| event.sequence.is_some());
        lock(&self.seen).ordered |= ordered;
        delivery
    }

    fn called(&self, call: ServiceCall) -> ServiceCall {
        let mut seen = lock(&self.seen);
        seen.services.insert(call.service.into());
        seen.callers.insert(self.process.clone());
        call
    }
}
