//! One shard's runs of one scenario, as a line of NDJSON that loses nothing: what `redeliver merge`
//! adds up. Lines of the other types are for readers; this one is for the next program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redeliver_sim::fault::Seam;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Said, Tally, Violation};
use crate::run::shard::Shard;
use crate::scenario::{Scenario, ScenarioError};
use crate::verdict::{Anomaly, AnomalyKind};
use crate::watch::ends::Ends;
use crate::watch::latencies::Latencies;
use crate::watch::reached::{Cell, Part as Stage, Reached};

/// The first line of a shard's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Which shard, from 1 on.
    pub shard: u32,
    /// Of how many.
    pub of: u32,
    /// The version of Redeliver.
    pub version: String,
    /// The commit of the code under test; empty if unknown.
    pub commit: String,
    /// How many scenarios follow.
    pub scenarios: usize,
}

impl Opening {
    /// The shard, where there can be one of that number.
    pub fn shard(&self) -> Option<Shard> {
        Shard::new(self.shard, self.of)
    }
}

/// The line of a scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Its file, as the shard was told.
    pub path: PathBuf,
    /// The scenario as the text of a file.
    pub content: String,
    /// BLAKE3 of that text.
    pub content_hash: String,
    /// The first seed of the whole sweep.
    pub first_seed: u64,
    /// Seeds of the whole sweep; none where time decides.
    pub planned_seeds: Option<u64>,
    /// The story of the first violated seed, where the shard found the scenario violated.
    pub story: Option<String>,
    /// The page that shows that seed, as the shard wrote it.
    pub page: Option<PathBuf>,
    #[serde(flatten)]
    sums: Sums,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sums {
    seeds: u64,
    messages: u64,
    deliveries: u64,
    events: u64,
    /// As a text: a long sweep passes what 64 bits hold.
    virtual_ns: String,
    wall_ns: u64,
    faults: Vec<(String, u64)>,
    second_pickups: Vec<(String, u64)>,
    done: u64,
    dead_lettered: Vec<(String, u64)>,
    unfinished: u64,
    retried: u64,
    /// Histograms by leg, in HdrHistogram's V2 form.
    #[serde(default)]
    legs: BTreeMap<String, String>,
    calls: Vec<(String, String, u64)>,
    reached: BTreeMap<String, u64>,
    kinds: Vec<AnomalyKind>,
    anomalies: u64,
    violated_seeds: u64,
    violations: Vec<Broken>,
    inconclusive_seeds: u64,
    inconclusive: Option<Said>,
    repeated_seeds: u64,
    unrepeatable: Option<Said>,
    interrupted: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Broken {
    seed: u64,
    trace_hash: String,
    anomalies: Vec<Found>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    anomaly: AnomalyKind,
    checker: String,
    message: Arc<str>,
    message_id: Option<Uuid>,
    consumer: Arc<str>,
    promise: String,
    seen: String,
    #[serde(default)]
    also: Vec<Arc<str>>,
}

impl Part {
    /// What a shard has to tell of a scenario.
    pub fn of(tally: &Tally, planned_seeds: Option<u64>) -> Self {
        let content = tally.scenario.to_toml();
        Self {
            path: tally.scenario.path.to_string_lossy().into_owned().into(),
            content_hash: content_hash(&content),
            content,
            first_seed: tally.first_seed,
            planned_seeds,
            story: None,
            page: None,
            sums: Sums::of(tally),
        }
    }

    /// The scenario itself.
    ///
    /// # Errors
    /// Where its text is that of another version, or was damaged.
    pub fn scenario(&self) -> Result<Scenario, Box<ScenarioError>> {
        // Its workload need not be known where shards are merged.
        let known: Option<toml::Table> = self.content.parse().ok();
        let workload = known.as_ref().and_then(|table| table.get("workload"));
        let workload = workload.and_then(toml::Value::as_str).unwrap_or_default();
        Scenario::parse(&self.content, &self.path, &[workload])
    }

    /// Whether the text is the one that was written.
    pub fn is_whole(&self) -> bool {
        content_hash(&self.content) == self.content_hash
    }

    /// What was added up; none where a name in it is not known to this version.
    pub fn tally(&self, scenario: &Scenario) -> Option<Tally> {
        let mut tally = Tally::new(scenario, self.first_seed);
        tally.is_part = true;
        self.sums.fill(&mut tally)?;
        Some(tally)
    }

    /// Runs of this shard.
    pub fn seeds(&self) -> u64 {
        self.sums.seeds
    }
}

fn content_hash(content: &str) -> String {
    blake3::hash(content.as_bytes()).to_hex().to_string()
}

impl Sums {
    fn of(tally: &Tally) -> Self {
        let counts = |all: &[(&'static str, u64)]| -> Vec<(String, u64)> {
            let named = all.iter().map(|(name, n)| ((*name).to_owned(), *n));
            named.collect()
        };
        let calls = tally.reached.calls();
        let calls = calls.map(|(part, seam, n)| (part.as_str().into(), seam.as_str().into(), n));
        let struck = tally.reached.struck();
        Self {
            seeds: tally.seeds,
            messages: tally.messages,
            deliveries: tally.deliveries,
            events: tally.events,
            virtual_ns: tally.virtual_ns.to_string(),
            wall_ns: u64::try_from(tally.wall.as_nanos()).unwrap_or(u64::MAX),
            faults: counts(&tally.faults),
            second_pickups: counts(&tally.mechanisms),
            done: tally.ends.done,
            dead_lettered: counts(&tally.ends.dead),
            unfinished: tally.ends.unfinished,
            retried: tally.ends.retried,
            legs: tally.latencies.encode(),
            calls: calls.collect(),
            reached: struck.map(|(cell, n)| (cell.to_string(), n)).collect(),
            kinds: tally.kinds.clone(),
            anomalies: tally.anomalies,
            violated_seeds: tally.violated,
            violations: tally.violations.iter().map(Broken::of).collect(),
            inconclusive_seeds: tally.inconclusive.0,
            inconclusive: tally.inconclusive.1.clone(),
            repeated_seeds: tally.repeated,
            unrepeatable: tally.unrepeatable.clone(),
            interrupted: tally.interrupted,
        }
    }

    fn fill(&self, tally: &mut Tally) -> Option<()> {
        let counts = |all: &[(String, u64)]| -> Vec<(&'static str, u64)> {
            all.iter().map(|(name, n)| (lasting(name), *n)).collect()
        };
        tally.seeds = self.seeds;
        tally.messages = self.messages;
        tally.deliveries = self.deliveries;
        tally.events = self.events;
        tally.virtual_ns = self.virtual_ns.parse().ok()?;
        tally.wall = Duration::from_nanos(self.wall_ns);
        tally.faults = counts(&self.faults);
        tally.mechanisms = counts(&self.second_pickups);
        tally.ends = Ends {
            done: self.done,
            dead: counts(&self.dead_lettered),
            unfinished: self.unfinished,
            retried: self.retried,
        };
        tally.latencies.merge(&Latencies::decode(&self.legs).ok()?);
        tally.reached = self.reached()?;
        tally.kinds.clone_from(&self.kinds);
        tally.anomalies = self.anomalies;
        tally.violated = self.violated_seeds;
        let violations = self.violations.iter().map(Broken::violation);
        tally.violations = violations.collect::<Option<_>>()?;
        tally.inconclusive = (self.inconclusive_seeds, self.inconclusive.clone());
        tally.repeated = self.repeated_seeds;
        tally.unrepeatable.clone_from(&self.unrepeatable);
        tally.interrupted = self.interrupted;
        Some(())
    }

    fn reached(&self) -> Option<Reached> {
        let mut reached = Reached::default();
        for (part, seam, count) in &self.calls {
            let part = Stage::ALL
                .into_iter()
                .find(|known| known.as_str() == part)?;
            reached.add_calls(part, Seam::parse(seam)?, *count);
        }
        for (cell, count) in &self.reached {
            reached.add_struck(Cell::parse(cell)?, *count);
        }
        Some(reached)
    }
}

impl Broken {
    fn of(violation: &Violation) -> Self {
        let found = |anomaly: &Anomaly| Found {
            anomaly: anomaly.kind,
            checker: anomaly.checker.to_owned(),
            message: anomaly.message.clone(),
            message_id: anomaly.message_id,
            consumer: anomaly.consumer.clone(),
            promise: anomaly.promise.to_owned(),
            seen: anomaly.seen.clone(),
            also: anomaly.also.clone(),
        };
        Self {
            seed: violation.seed,
            trace_hash: format!("{:016x}", violation.hash),
            anomalies: violation.anomalies.iter().map(found).collect(),
        }
    }

    fn violation(&self) -> Option<Violation> {
        let anomaly = |found: &Found| Anomaly {
            kind: found.anomaly,
            checker: lasting(&found.checker),
            message: found.message.clone(),
            message_id: found.message_id,
            consumer: found.consumer.clone(),
            promise: lasting(&found.promise),
            seen: found.seen.clone(),
            also: found.also.clone(),
        };
        Some(Violation {
            seed: self.seed,
            hash: u64::from_str_radix(&self.trace_hash, 16).ok()?,
            anomalies: self.anomalies.iter().map(anomaly).collect(),
        })
    }
}

/// A name for as long as the program lasts. There are few: kinds of faults, checkers, promises.
pub fn lasting(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let known: &'static str = Box::leak(name.into());
    names.insert(known);
    known
}

/// Where a shard's page lies: as the shard was told, or from the folder of its output on, in which
/// the end of that path may be all that was kept.
pub fn find_page(output: &Path, page: &Path) -> Option<PathBuf> {
    let beside = output.parent().unwrap_or(Path::new(""));
    let parts: Vec<_> = page.iter().collect();
    let ends = (0..parts.len()).map(|from| beside.join(parts[from..].iter().collect::<PathBuf>()));
    let mut all = ends.chain(std::iter::once(page.to_owned()));
    all.find(|path| path.is_file())
}
