//! A scenario file as it is written. [`super::load`] makes a [`super::Scenario`] of it.
//!
//! The doc comments here are the descriptions in the JSON Schema.

use std::collections::BTreeMap;

use redeliver_sim::broker::Profile;
use redeliver_sim::fault::{Kind, Seam};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::capsule::CapsuleTable;
use super::known::KnownTable;
use super::names::{Mechanism, Name, ReachName};
use super::policy::PolicyTable;
use super::size::SizeTable;
use super::values::{Offset, Seed, Share, Time};
use crate::scenario::Database;
use crate::verdict::{AnomalyKind, Verdict};
use redeliver_core::policy::Check;
use redeliver_core::topology::QueueType;

/// A workload with policy, faults and expectations.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "Redeliver scenario")]
pub(crate) struct File {
    /// The question that this scenario answers. The file opens with it as a comment.
    #[schemars(with = "String")]
    pub(crate) question: Spanned<String>,
    /// The workload, by its name: `orders`, `onboarding`, `deposits`, or a team's own.
    #[schemars(with = "String")]
    pub(crate) workload: Spanned<String>,
    /// How many requests arrive.
    #[schemars(with = "u32", range(min = 1))]
    pub(crate) messages: Spanned<u32>,
    /// Only the requests of these idempotency keys: what is left of a run that was made smaller.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) only: Vec<String>,
    /// The time over which requests arrive. Default: 30s.
    pub(crate) over: Option<Time>,
    /// How long everything may take to come to rest after the faults are over. Default: a bound
    /// computed from the policy.
    pub(crate) settle: Option<Time>,
    /// Seeds in a gate without `--seeds`. Default: 200.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub(crate) seeds: Option<Spanned<u32>>,
    /// The first seed in a gate without `--seed`: decimal, 0x-hex or a commit hash, in quotes
    /// where it is no plain number. Default: 1.
    pub(crate) seed: Option<Seed>,
    /// In a run on real servers all durations are divided by it. Default: 1.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub(crate) time_scale: Option<Spanned<u32>>,
    /// Contradictions in the policy that this scenario wants.
    #[serde(default)]
    #[schemars(with = "Vec<Name<Check>>")]
    pub(crate) allow: Vec<Spanned<Name<Check>>>,
    /// The version whose rules the simulated broker follows.
    pub(crate) broker: Option<Name<Profile>>,
    /// What stands behind the stores of a run in the seeded world: a model of PostgreSQL, or a
    /// private PostgreSQL. Slower by two orders of magnitude, and the thing itself.
    pub(crate) database: Option<Name<Database>>,
    /// How work queues are kept. Default: quorum.
    pub(crate) queue_type: Option<Name<QueueType>>,
    /// Draw the whole fault configuration from the seed: each run switches some of the faults
    /// below off and others up or down.
    #[serde(default)]
    pub(crate) swarm: bool,
    /// Faults end here at the latest. Default: when requests and timed faults have ended.
    #[schemars(with = "Option<Time>")]
    pub(crate) faults_until: Option<Spanned<Time>>,
    /// How many of each process there are.
    #[serde(default)]
    pub(crate) processes: Processes,
    /// The numbers of the pipeline.
    #[serde(default)]
    pub(crate) policy: PolicyTable,
    /// Messages that cannot be handled.
    #[serde(default)]
    pub(crate) poison: PoisonTable,
    /// Outside services of the workload that behave otherwise than usual, by name.
    #[serde(default)]
    pub(crate) services: BTreeMap<String, ServiceTable>,
    /// What goes wrong.
    #[serde(default, rename = "fault")]
    #[schemars(with = "Vec<FaultTable>")]
    pub(crate) faults: Vec<Spanned<FaultTable>>,
    /// What has to come out.
    #[serde(default)]
    pub(crate) expect: ExpectTable,
    /// What `redeliver load` does with it beyond what its command line says.
    #[serde(default)]
    pub(crate) load: LoadTable,
    /// What `redeliver size` is asked: what happens to a consumer, and what its numbers have to do.
    pub(crate) size: Option<SizeTable>,
    /// Where this is one failing run that was kept: what came of it when it was found.
    pub(crate) capsule: Option<CapsuleTable>,
    /// A failure that is known: until its day it does not turn the gate red.
    pub(crate) known: Option<KnownTable>,
}

/// Load.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct LoadTable {
    /// How requests are spread over time: `poisson`, `constant`, `bursts:100`, `ramp:10%` (up to the
    /// rate), `steps:25%,50%,100%` (of the rate), or `recorded:FILE` with times in seconds, one a
    /// line. Default: poisson.
    #[schemars(with = "Option<String>")]
    pub(crate) arrivals: Option<Spanned<String>>,
    /// What the figures have to be: `p99(end-to-end) < 500ms`, `done-rate > 450/s`, `oldest < 5s`,
    /// `stuck == 0`.
    #[schemars(with = "Vec<String>")]
    pub(crate) thresholds: Vec<Spanned<String>>,
}

/// Processes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Processes {
    /// Clients that send requests. Default: 2.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub(crate) clients: Option<Spanned<u32>>,
    /// Relays. Default: 2.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub(crate) relays: Option<Spanned<u32>>,
    /// Processes of each consumer. Default: 2.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub(crate) workers: Option<Spanned<u32>>,
    /// When a crashed process is started again. Default: 2s.
    pub(crate) restart_after: Option<Time>,
}

/// How many requests cannot be handled, chosen by the seed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct PoisonTable {
    /// Their handler always fails for good.
    pub(crate) poison: u32,
    /// They kill the process that handles them.
    pub(crate) killer: u32,
    /// Their schema version is not known yet.
    pub(crate) unknown_version: u32,
    /// Their handler fails each time, as if it might pass: they use up their retries.
    pub(crate) transient: u32,
    /// Their handler panics each time, which may pass as well: they use up their retries.
    pub(crate) panics: u32,
    /// Messages beside the requests that are no events at all.
    pub(crate) malformed: u32,
}

/// An outside service.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ServiceTable {
    /// How long a call takes.
    #[schemars(with = "Option<LatencyTable>")]
    pub(crate) latency: Option<Spanned<LatencyTable>>,
    /// How many calls hit a cold start.
    #[schemars(with = "Option<Share>")]
    pub(crate) cold_starts: Option<Spanned<Share>>,
    /// How long those take.
    #[schemars(with = "Option<Time>")]
    pub(crate) cold_start_takes: Option<Spanned<Time>>,
    /// A repeated idempotency key gets the first answer without a second effect.
    pub(crate) honours_keys: Option<bool>,
    /// A fencing token below the highest seen for a key is refused.
    pub(crate) checks_tokens: Option<bool>,
}

/// A latency by four of its quantiles.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LatencyTable {
    /// The shortest.
    pub(crate) min: Time,
    /// Half are not longer.
    pub(crate) median: Time,
    /// 95 in 100 are not longer.
    pub(crate) p95: Time,
    /// The longest.
    pub(crate) max: Time,
}

/// One fault: by chance at calls (`probability`), or at a time (`at`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FaultTable {
    /// What goes wrong.
    #[schemars(with = "Name<Kind>")]
    pub(crate) kind: Spanned<Name<Kind>>,
    /// By chance: how likely at each matching call. Default: always, where `message` or `limit`
    /// says which.
    #[schemars(with = "Option<Share>")]
    pub(crate) probability: Option<Spanned<Share>>,
    /// By chance: only at this seam. Default: every seam of the kind.
    #[schemars(with = "Option<Name<Seam>>")]
    pub(crate) seam: Option<Spanned<Name<Seam>>>,
    /// By chance: only processes whose name starts with this.
    #[schemars(with = "Option<String>")]
    pub(crate) process: Option<Spanned<String>>,
    /// By chance: only for the message of this idempotency key.
    #[schemars(with = "Option<String>")]
    pub(crate) message: Option<Spanned<String>>,
    /// By chance: only at this attempt, from 1.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub(crate) attempt: Option<Spanned<u32>>,
    /// Exactly one call: the how-manieth, from 1, of just this process (its whole name) at this
    /// seam, about just this message and attempt. This is how a run that was found is kept.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub(crate) call: Option<Spanned<u32>>,
    /// Whether a crash or pause comes after the call took effect. Default: chosen by the seed.
    #[schemars(with = "Option<bool>")]
    pub(crate) after: Option<Spanned<bool>>,
    /// By chance: from this time on.
    #[schemars(with = "Option<Time>")]
    pub(crate) from: Option<Spanned<Time>>,
    /// By chance: until this time.
    #[schemars(with = "Option<Time>")]
    pub(crate) until: Option<Spanned<Time>>,
    /// By chance: at most so often in a run.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub(crate) limit: Option<Spanned<u32>>,
    /// At a time: when.
    #[schemars(with = "Option<Time>")]
    pub(crate) at: Option<Spanned<Time>>,
    /// At a time: to whom (a process, a queue, a service). Default: all, or chosen by the seed.
    #[schemars(with = "Option<String>")]
    pub(crate) target: Option<Spanned<String>>,
    /// At a time: by how much a clock is off.
    #[schemars(with = "Option<Offset>")]
    pub(crate) by: Option<Spanned<Offset>>,
    /// At a time: how many messages or commits are lost.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub(crate) lose: Option<Spanned<u32>>,
    /// For how long, for kinds that last. Default: 1s.
    pub(crate) lasts: Option<Time>,
}

/// What has to come out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ExpectTable {
    /// Default: valid. `violated` shows what no pipeline can mend, and needs `anomalies`.
    #[schemars(with = "Option<Name<Verdict>>")]
    pub(crate) verdict: Option<Spanned<Name<Verdict>>>,
    /// Where the verdict is `violated`: the anomalies that have to appear, and no others.
    #[schemars(with = "Option<Vec<AnomalyKind>>")]
    pub(crate) anomalies: Option<Spanned<Vec<AnomalyKind>>>,
    /// Faults that have to strike somewhere among the seeds, or nothing was tested: a kind, or a
    /// kind at a stage, as in `crash-after@worker/commit`. Parts are client, relay and worker. And
    /// reasons that dead letters have to give, as in `letter:time-exhausted`.
    #[schemars(with = "Option<Vec<ReachName>>")]
    pub(crate) reached: Option<Vec<Spanned<ReachName>>>,
    /// Dead letters at the end of each run.
    #[schemars(with = "Option<RangeTable>")]
    pub(crate) dead_letters: Option<Spanned<RangeTable>>,
    /// Causes of second pick-ups that have to appear somewhere among the seeds, or nothing was
    /// tested.
    pub(crate) second_pickups: Vec<Name<Mechanism>>,
    /// Hand-overs of work that another worker had begun, in each run, at most.
    pub(crate) max_second_pickups: Option<u64>,
    /// How often one event is handed to the broker by relays, at most.
    #[schemars(range(min = 1))]
    pub(crate) max_publishes_per_event: Option<u64>,
    /// How often one message comes to one consumer flagged as redelivered, at most.
    pub(crate) max_redeliveries: Option<u64>,
    /// How often the broker hands one message to one consumer, at most.
    #[schemars(range(min = 1))]
    pub(crate) max_deliveries: Option<u64>,
    /// Queries that give no rows at the end of each run, in a world with a real database.
    #[schemars(with = "Vec<String>")]
    pub(crate) no_rows: Vec<Spanned<String>>,
}

/// At least and at most.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RangeTable {
    /// At least. Default: 0.
    #[serde(default)]
    pub(crate) min: u64,
    /// At most.
    pub(crate) max: u64,
}
