//! Names that scenario files use for things of other modules: fault kinds, seams, checks,
//! profiles of brokers. Each type reads exactly the names that its module gives.

use std::borrow::Cow;

use redeliver_sim::broker::Profile;
use redeliver_sim::fault::{Kind, Seam};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer};

use super::expect::{LETTER, Reach};
use crate::scenario::Database;
use crate::verdict::Verdict;
use crate::watch::pickups;
use redeliver_core::dead_letter::Reason;
use redeliver_core::policy::Check;
use redeliver_core::topology::QueueType;

/// Something with a name in files.
pub(crate) trait Named: Copy + 'static {
    /// What it is called in errors and in the schema.
    const WHAT: &'static str;
    /// All of them.
    fn all() -> &'static [Self];
    /// Its name.
    fn name(self) -> &'static str;
}

macro_rules! named {
    ($type:ty, $what:literal, $all:expr, $name:expr) => {
        impl Named for $type {
            const WHAT: &'static str = $what;
            fn all() -> &'static [Self] {
                $all
            }
            fn name(self) -> &'static str {
                $name(self)
            }
        }
    };
}

named!(Kind, "fault kind", Kind::ALL, Kind::as_str);
named!(Seam, "seam", Seam::ALL, Seam::as_str);
named!(Check, "check", CHECKS, Check::as_str);
named!(Profile, "broker", PROFILES, profile_name);
named!(Database, "database", DATABASES, database_name);
named!(QueueType, "queue type", QUEUES, queue_type_name);
named!(
    Mechanism,
    "cause of second pick-ups",
    MECHANISMS,
    Mechanism::as_str
);
named!(Verdict, "verdict", VERDICTS, Verdict::as_str);

const DATABASES: &[Database] = &[Database::Model, Database::Postgres];
const CHECKS: &[Check] = &[
    Check::LeaseShorterThanHandler,
    Check::RenewalTooRare,
    Check::DedupWindowTooShort,
    Check::ConsumerTimeoutTooShort,
    Check::PrefetchTooDeep,
    Check::PrefetchBelowWorkers,
    Check::BatchBeyondPrefetch,
    Check::RelayLeaseTooShort,
    Check::DelayBeyondLadder,
    Check::RetryUnbounded,
    Check::Zero,
];
const PROFILES: &[Profile] = &[
    Profile::Rabbit3_10,
    Profile::Rabbit3_13,
    Profile::Rabbit4_0,
    Profile::Rabbit4_3,
];
const MECHANISMS: &[Mechanism] = &[
    Mechanism(pickups::CRASH),
    Mechanism(pickups::LEASE),
    Mechanism(pickups::REDELIVERED),
    Mechanism(pickups::COPY),
];
const QUEUES: &[QueueType] = &[QueueType::Quorum, QueueType::Classic];
const VERDICTS: &[Verdict] = &[Verdict::Valid, Verdict::Violated];

/// What caused a second pick-up, by its name in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mechanism(&'static str);

impl Mechanism {
    pub(crate) fn as_str(self) -> &'static str {
        self.0
    }
}

/// The name of a database in scenario files.
pub fn database_name(database: Database) -> &'static str {
    match database {
        Database::Model => "model",
        Database::Postgres => "postgres",
    }
}

/// The name of a broker's profile in scenario files.
pub fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Rabbit3_10 => "rabbitmq-3.10",
        Profile::Rabbit3_13 => "rabbitmq-3.13",
        Profile::Rabbit4_0 => "rabbitmq-4.0",
        Profile::Rabbit4_3 => "rabbitmq-4.3",
    }
}

/// The name of a queue type in scenario files.
pub fn queue_type_name(queue_type: QueueType) -> &'static str {
    match queue_type {
        QueueType::Quorum => "quorum",
        QueueType::Classic => "classic",
    }
}

/// A name in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name<T>(pub(crate) T);

impl<'de, T: Named> Deserialize<'de> for Name<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = T::all().iter().find(|value| value.name() == text);
        found.map(|value| Self(*value)).ok_or_else(|| {
            // Read again by `Problem::of_toml`, which knows serde's own words for it.
            let names: Vec<_> = T::all().iter().map(|v| format!("`{}`", v.name())).collect();
            let names = names.join(", ");
            D::Error::custom(format!(
                "unknown {} `{text}`, expected one of {names}",
                T::WHAT
            ))
        })
    }
}

impl<T: Named> JsonSchema for Name<T> {
    fn schema_name() -> Cow<'static, str> {
        T::WHAT.replace(' ', "-").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = T::all().iter().map(|value| value.name()).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}

/// A kind of fault, or a kind at a stage of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReachName(pub(crate) Reach);

impl<'de> Deserialize<'de> for ReachName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.starts_with(LETTER) {
            return Reach::parse(&text).map(Self).ok_or_else(|| {
                let names = Reason::ALL.map(Reason::as_str).join(", ");
                D::Error::custom(format!(
                    "`{text}` names no reason of dead letters; known: {names}"
                ))
            });
        }
        if !text.contains('@') {
            let name = Name::<Kind>::deserialize(text.as_str().into_deserializer())?;
            return Ok(Self(Reach::Kind(name.0)));
        }
        Reach::parse(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no fault at a stage; write one as in `crash-after@worker/commit`: a \
                 kind, a part (client, relay, worker) and a seam at which that kind can strike"
            ))
        })
    }
}

impl JsonSchema for ReachName {
    fn schema_name() -> Cow<'static, str> {
        "fault-kind-or-stage".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        let seams: Vec<_> = Seam::ALL.iter().map(|seam| seam.as_str()).collect();
        let letters = Reason::ALL.map(|reason| format!("{LETTER}{}", reason.as_str()));
        let stage = format!(
            "^({})(-after)?@(client|relay|worker)/({})$",
            kinds.join("|"),
            seams.join("|")
        );
        json_schema!({ "anyOf": [
            { "type": "string", "enum": kinds },
            { "type": "string", "pattern": stage },
            { "type": "string", "enum": letters },
        ] })
    }
}
