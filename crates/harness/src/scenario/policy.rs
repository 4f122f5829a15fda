//! The `[policy]` of a scenario file: what differs from the pipeline's defaults, and where a
//! contradiction among the numbers is to be shown.

use std::ops::Range;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::values::{Time, TimeOrNever, format_duration};
use redeliver_core::policy::{Check, ConsumerPolicy, Policy, RelayPolicy};
use redeliver_core::retry::RetryPolicy;

/// A value in a file as the policy has it.
trait Value: Copy {
    type In;
    fn value(self) -> Self::In;
    /// The reverse: how a file says it.
    fn write(value: Self::In) -> String;
}

impl Value for Time {
    type In = Duration;
    fn value(self) -> Duration {
        self.0
    }
    fn write(value: Duration) -> String {
        format!("\"{}\"", format_duration(value))
    }
}

impl Value for TimeOrNever {
    type In = Option<Duration>;
    fn value(self) -> Option<Duration> {
        self.0
    }
    fn write(value: Option<Duration>) -> String {
        value.map_or_else(|| "\"never\"".to_owned(), Time::write)
    }
}

macro_rules! plain {
    ($($type:ty),*) => {
        $(impl Value for $type {
            type In = $type;
            fn value(self) -> $type {
                self
            }
            fn write(value: $type) -> String {
                value.to_string()
            }
        })*
    };
}
plain!(u16, u32, usize, bool);

macro_rules! table {
    ($(#[$doc:meta])* $name:ident of $policy:ty {
        $($(#[$about:meta])* $field:ident: $type:ty = $schema:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub(crate) struct $name {
            $($(#[$about])* #[schemars(with = $schema)] $field: Option<Spanned<$type>>,)*
        }

        impl $name {
            fn apply(&self, policy: &mut $policy) {
                $(if let Some(value) = &self.$field {
                    policy.$field = value.get_ref().value();
                })*
            }

            /// What differs from the pipeline's defaults, as keys and values of a file.
            fn differences(policy: &$policy) -> Vec<(String, String)> {
                let usual = <$policy>::default();
                let mut differences = Vec::new();
                $(if policy.$field != usual.$field {
                    let key = stringify!($field).replace('_', "-");
                    differences.push((key, <$type as Value>::write(policy.$field)));
                })*
                differences
            }

            fn place(&self, field: &str) -> Option<Range<usize>> {
                match field {
                    $(stringify!($field) => self.$field.as_ref().map(Spanned::span),)*
                    _ => None,
                }
            }
        }
    };
}

table! {
    /// The relay's. Defaults are the pipeline's.
    RelayTable of RelayPolicy {
        /// Rows claimed at once.
        batch: u32 = "Option<u32>",
        /// How long a claim holds.
        lease: Time = "Option<Time>",
        /// How long to wait for the confirms of a batch.
        confirm_timeout: Time = "Option<Time>",
        /// How often to look without being notified.
        poll: Time = "Option<Time>",
        /// First wait after a failed publish.
        backoff: Time = "Option<Time>",
        /// Longest wait after a failed publish.
        backoff_cap: Time = "Option<Time>",
        /// How long published rows are kept.
        retention: Time = "Option<Time>",
        /// Rows removed at once.
        purge_batch: u32 = "Option<u32>",
        /// How often to remove old rows.
        purge_every: Time = "Option<Time>",
    }
}

table! {
    /// The consumers'. Defaults are the pipeline's.
    ConsumerTable of ConsumerPolicy {
        /// Messages handled at the same time in one process.
        workers: u16 = "Option<u16>",
        /// Unacked deliveries at most.
        prefetch: u16 = "Option<u16>",
        /// Messages in one transaction at most, of handlers that take several at once.
        batch: u16 = "Option<u16>",
        /// A handler that runs longer is stopped.
        handler_limit: Time = "Option<Time>",
        /// How long the claim of an outside call holds.
        lease: Time = "Option<Time>",
        /// How often a claim is renewed; `never` is the default.
        renew_every: TimeOrNever = "Option<TimeOrNever>",
        /// How long a polite shutdown waits for work in hand.
        drain: Time = "Option<Time>",
        /// The wait behind a live claim or an ordered predecessor.
        park: Time = "Option<Time>",
        /// How long ended work is remembered.
        dedup_window: Time = "Option<Time>",
        /// How often to remove old inbox rows.
        purge_every: Time = "Option<Time>",
    }
}

table! {
    /// When to try again. Defaults are the pipeline's.
    RetryTable of RetryPolicy {
        /// Attempts at most, the first included.
        attempts: u32 = "Option<u32>",
        /// The wait before the second attempt.
        first: Time = "Option<Time>",
        /// The longest wait.
        cap: Time = "Option<Time>",
        /// No attempt begins later than this after the first failure.
        total: Time = "Option<Time>",
        /// Spread waits between half and all of their length.
        jitter: bool = "Option<bool>",
    }
}

table! {
    /// What belongs to none of the others.
    CommonTable of Policy {
        /// RabbitMQ's `consumer_timeout`, or `never`.
        consumer_timeout: TimeOrNever = "Option<TimeOrNever>",
        /// For how long dead letters may still be redriven.
        redrive_horizon: Time = "Option<Time>",
        /// Largest payload in bytes.
        max_payload: usize = "Option<usize>",
    }
}

/// The numbers of the pipeline.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct PolicyTable {
    relay: RelayTable,
    consumer: ConsumerTable,
    retry: RetryTable,
    broker: CommonTable,
}

/// The tables of a policy by their names, with what differs from the defaults.
pub(super) fn differences(policy: &Policy) -> [(&'static str, Vec<(String, String)>); 4] {
    [
        ("policy.relay", RelayTable::differences(&policy.relay)),
        (
            "policy.consumer",
            ConsumerTable::differences(&policy.consumer),
        ),
        ("policy.retry", RetryTable::differences(&policy.retry)),
        ("policy.broker", CommonTable::differences(policy)),
    ]
}

impl PolicyTable {
    pub(crate) fn policy(&self) -> Policy {
        let mut policy = Policy::default();
        self.relay.apply(&mut policy.relay);
        self.consumer.apply(&mut policy.consumer);
        self.retry.apply(&mut policy.retry);
        self.broker.apply(&mut policy);
        policy
    }

    /// The value of the file that a failed check is about: the first of those it compares that
    /// the file gives.
    pub(crate) fn place(&self, check: Check) -> Option<Range<usize>> {
        let (relay, consumer) = (&self.relay, &self.consumer);
        let (retry, broker) = (&self.retry, &self.broker);
        let first = |places: [Option<Range<usize>>; 4]| places.into_iter().flatten().next();
        match check {
            Check::LeaseShorterThanHandler => first([
                consumer.place("lease"),
                consumer.place("handler_limit"),
                None,
                None,
            ]),
            Check::RenewalTooRare => first([
                consumer.place("renew_every"),
                consumer.place("lease"),
                None,
                None,
            ]),
            Check::DedupWindowTooShort => first([
                consumer.place("dedup_window"),
                broker.place("redrive_horizon"),
                retry.place("total"),
                retry.place("cap"),
            ]),
            Check::ConsumerTimeoutTooShort => first([
                broker.place("consumer_timeout"),
                consumer.place("handler_limit"),
                None,
                None,
            ]),
            Check::PrefetchTooDeep => first([
                consumer.place("prefetch"),
                broker.place("consumer_timeout"),
                consumer.place("handler_limit"),
                consumer.place("workers"),
            ]),
            Check::BatchBeyondPrefetch => first([
                consumer.place("batch"),
                consumer.place("prefetch"),
                None,
                None,
            ]),
            Check::PrefetchBelowWorkers => first([
                consumer.place("prefetch"),
                consumer.place("workers"),
                None,
                None,
            ]),
            Check::RelayLeaseTooShort => first([
                relay.place("lease"),
                relay.place("confirm_timeout"),
                None,
                None,
            ]),
            Check::DelayBeyondLadder => {
                first([retry.place("cap"), retry.place("first"), None, None])
            }
            Check::RetryUnbounded => first([
                retry.place("attempts"),
                retry.place("first"),
                retry.place("total"),
                None,
            ]),
            Check::Zero => self.zero(),
        }
    }

    fn zero(&self) -> Option<Range<usize>> {
        let small =
            |v: &Option<Spanned<u16>>| v.as_ref().filter(|v| *v.get_ref() == 0).map(Spanned::span);
        let wide =
            |v: &Option<Spanned<u32>>| v.as_ref().filter(|v| *v.get_ref() == 0).map(Spanned::span);
        small(&self.consumer.workers)
            .or_else(|| small(&self.consumer.prefetch))
            .or_else(|| small(&self.consumer.batch))
            .or_else(|| wide(&self.relay.batch))
            .or_else(|| wide(&self.relay.purge_batch))
    }
}
