//! For the command line: bugs planted on purpose. They prove that the checkers see what they are
//! there to see. Stability: none is promised.
//!
//! Each stands in a file of its own, is made from public items only, and follows a report of a
//! real project: a port that is bent in one place
//! ([`bend`](mod@redeliver_harness::run::assembly::bend)), or a naive relay or consumer in place of
//! the shipped one. Nothing in the pipeline knows of them. With each goes the smallest scenario that
//! shows it, under which the shipped pipeline holds.
//!
//! # What cannot be planted yet
//!
//! * A live claim that is requeued at once instead of parked: the naive consumers here have no
//!   claims. Missing: one that has.
//! * Retries in lockstep (no jitter): each of them waits long enough. Missing: a checker that
//!   looks at many messages at once.
//! * Numbers that a producer reads and then writes: the store gives them under its own lock.
//!   Missing: an `emit` that takes the number of its caller.
//! * A panic in a handler, other than as an error that ends a task: the handlers of the workloads
//!   do not panic. Missing: poison that does.
//! * Time-outs of each message in one delay queue (the head holds up the rest), and the plugin for
//!   delayed exchanges: the `amqp` port has no expiration, the broker model has no such plugin.
//! * A cursor on transaction ids, a snapshot that holds vacuum up, a table that grows slow: the
//!   database model has no ids that rewind and no cost of size.
//! * A fencing token that is not passed on: no scenario was found in which the service alone is
//!   fenced. One that forgets keys also charges twice for a worker whose call was answered and whose
//!   claim was then lost, which no pipeline can help. Missing: a service that checks tokens and
//!   tells the heir what was done.
//! * One dead letter redriven twice, a redrive that wedges: no run has an operator in it.

use std::fmt;
use std::time::Duration;

use redeliver_sim::choice::Ppm;
use redeliver_sim::fault::{Event, Kind, Rule, Seam};

use redeliver_harness::explore::Target;
use redeliver_harness::run::RunResult;
use redeliver_harness::run::assembly::{Alteration, Altered};
use redeliver_harness::scenario::{Scenario, ServiceOverride};
use redeliver_harness::team::workload::Workload;
use redeliver_harness::verdict::{Anomaly, AnomalyKind};
use redeliver_workloads as workloads;

mod elsewhere;
mod fit;
mod naive;
mod need;
mod ports;
mod survey;

pub use elsewhere::{Caught, Limits, Outcome, Shown, bounded, look};
pub use fit::fitted;
pub use need::Need;
pub use survey::Survey;

pub mod ack_before_commit;
pub mod ack_before_letter;
pub mod ack_before_retry;
pub mod ack_multiple;
pub mod acks_on_shutdown;
pub mod attempt_not_carried;
pub mod attempts_in_memory;
pub mod attempts_skipped;
pub mod backoff_without_ceiling;
pub mod batch_buried;
pub mod batch_half_lost;
pub mod check_then_set;
pub mod claim_taken_for_done;
pub mod concurrent_publish;
pub mod correlation_lost;
pub mod counts_per_process;
pub mod cursor;
pub mod cut_dedup_key;
pub mod dead_connection_kept;
pub mod discard_then_fallback;
pub mod done_before_effect;
pub mod done_in_second_tx;
pub mod double_subscription;
pub mod doubt_taken_for_commit;
pub mod doubt_taken_for_confirm;
pub mod dual_write;
pub mod duplicate_resends;
pub mod early_unkept;
pub mod elapsed_in_another_unit;
pub mod endless_relay_lease;
pub mod error_ends_worker;
pub mod exhausted_dropped;
pub mod expired_keys;
pub mod expiring_delay_queue;
pub mod failed_head;
pub mod forgotten_at_take;
pub mod forgotten_mandatory;
pub mod give_up_at_once;
pub mod kept_claim;
pub mod key_per_call;
pub mod lease_by_own_clock;
pub mod lease_shorter_than_call;
pub mod letter_never_noted;
pub mod letter_twice;
pub mod letter_without_bytes;
pub mod letter_without_story;
pub mod lost_update;
pub mod malformed_requeued;
pub mod mark_before_confirm;
pub mod mark_matches_nothing;
pub mod nack_taken_for_confirm;
pub mod new_id_per_publish;
pub mod no_dedup;
pub mod no_fence;
pub mod no_resubscribe;
pub mod notifications_only;
pub mod order_by_timestamp;
pub mod order_ignored;
pub mod origin_lost;
pub mod outbox_after_commit;
pub mod parked_counted;
pub mod poison_retried;
pub mod prefetch_forgotten;
pub mod prefetch_lowered;
pub mod publish_before_commit;
pub mod race_without_cancel;
pub mod relay_gives_up;
pub mod renamed_route;
pub mod requeue;
pub mod rescue_by_age;
pub mod retry_at_once;
pub mod retry_in_place;
pub mod shared_dedup_key;
pub mod short_dedup_window;
pub mod stack_trace_in_header;
pub mod starved_renewal;
pub mod stranded_claim;
pub mod stranded_successor;
pub mod swallow;
pub mod time_limit_ignored;
pub mod timer_in_memory;
pub mod token_left_out;
pub mod token_not_raised;
pub mod transient_copy;
pub mod tries_ignored;
pub mod trusts_redelivered;
pub mod unbounded_prefetch;
pub mod unclaimed_rows;
pub mod unconfirmed_after_reconnect;
pub mod unconfirmed_letter;
pub mod unconfirmed_retry;
pub mod unknown_version_dropped;
pub mod whole_batch_marked;
pub mod worker_idles;

/// A planted bug.
#[derive(Clone, Copy)]
pub struct Plant {
    /// Its name.
    pub name: &'static str,
    /// The class of bugs that it stands for.
    pub class: &'static str,
    /// What it changes about a run.
    pub change: &'static str,
    /// A report of a real project that had it.
    pub report: &'static str,
    /// What it does to a workflow: at least one of these has to be found.
    pub anomalies: &'static [AnomalyKind],
    /// By one of these checkers.
    pub checkers: &'static [&'static str],
    /// What a workload has to do for it to show.
    pub needs: &'static [Need],
    /// The smallest faults that show it.
    pub scenario: fn() -> Scenario,
    /// What has the bug, for any workload.
    pub build: fn() -> Altered,
    /// Runs a scenario with the bug: seed, and whether to keep the trace.
    pub planted: fn(&Scenario, u64, bool) -> RunResult,
    /// Runs the same workload on the shipped pipeline.
    pub shipped: fn(&Scenario, u64, bool) -> RunResult,
}

impl fmt::Debug for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plant")
            .field("name", &self.name)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl Plant {
    /// Whether a run shows the bug: an expected anomaly, found by an expected checker.
    pub fn is_shown_by(&self, run: &RunResult) -> bool {
        self.target(run).is_some()
    }

    /// The anomaly by which a run shows the bug.
    pub fn target(&self, run: &RunResult) -> Option<Target> {
        let expected = |found: &&Anomaly| {
            self.anomalies.contains(&found.kind) && self.checkers.contains(&found.checker)
        };
        run.anomalies.iter().find(expected).map(Target::of)
    }
}

/// All planted bugs, by name. A static, since a constant would be compiled again, with all that its
/// functions reach, wherever it is named.
pub static ALL: &[Plant] = &[
    ack_before_commit::PLANT,
    ack_before_letter::PLANT,
    ack_before_retry::PLANT,
    ack_multiple::PLANT,
    acks_on_shutdown::PLANT,
    attempt_not_carried::PLANT,
    attempts_in_memory::PLANT,
    attempts_skipped::PLANT,
    backoff_without_ceiling::PLANT,
    batch_buried::PLANT,
    batch_half_lost::PLANT,
    check_then_set::PLANT,
    claim_taken_for_done::PLANT,
    concurrent_publish::PLANT,
    counts_per_process::PLANT,
    cursor::PLANT,
    cut_dedup_key::PLANT,
    dead_connection_kept::PLANT,
    discard_then_fallback::PLANT,
    done_before_effect::PLANT,
    done_in_second_tx::PLANT,
    double_subscription::PLANT,
    doubt_taken_for_commit::PLANT,
    doubt_taken_for_confirm::PLANT,
    dual_write::PLANT,
    duplicate_resends::PLANT,
    early_unkept::PLANT,
    elapsed_in_another_unit::PLANT,
    endless_relay_lease::PLANT,
    error_ends_worker::PLANT,
    exhausted_dropped::PLANT,
    expired_keys::PLANT,
    expiring_delay_queue::PLANT,
    failed_head::PLANT,
    forgotten_at_take::PLANT,
    forgotten_mandatory::PLANT,
    give_up_at_once::PLANT,
    kept_claim::PLANT,
    key_per_call::PLANT,
    lease_by_own_clock::PLANT,
    lease_shorter_than_call::PLANT,
    letter_twice::PLANT,
    letter_without_story::PLANT,
    lost_update::PLANT,
    malformed_requeued::PLANT,
    mark_before_confirm::PLANT,
    mark_matches_nothing::PLANT,
    new_id_per_publish::PLANT,
    no_dedup::PLANT,
    no_fence::PLANT,
    no_resubscribe::PLANT,
    notifications_only::PLANT,
    order_by_timestamp::PLANT,
    order_ignored::PLANT,
    origin_lost::PLANT,
    outbox_after_commit::PLANT,
    parked_counted::PLANT,
    poison_retried::PLANT,
    prefetch_forgotten::PLANT,
    prefetch_lowered::PLANT,
    publish_before_commit::PLANT,
    race_without_cancel::PLANT,
    relay_gives_up::PLANT,
    renamed_route::PLANT,
    requeue::PLANT,
    rescue_by_age::PLANT,
    retry_at_once::PLANT,
    retry_in_place::PLANT,
    shared_dedup_key::PLANT,
    short_dedup_window::PLANT,
    stack_trace_in_header::PLANT,
    starved_renewal::PLANT,
    stranded_claim::PLANT,
    stranded_successor::PLANT,
    swallow::PLANT,
    time_limit_ignored::PLANT,
    timer_in_memory::PLANT,
    token_not_raised::PLANT,
    transient_copy::PLANT,
    tries_ignored::PLANT,
    trusts_redelivered::PLANT,
    unbounded_prefetch::PLANT,
    unclaimed_rows::PLANT,
    unconfirmed_after_reconnect::PLANT,
    unconfirmed_letter::PLANT,
    unconfirmed_retry::PLANT,
    unknown_version_dropped::PLANT,
    whole_batch_marked::PLANT,
    token_left_out::PLANT,
    correlation_lost::PLANT,
    nack_taken_for_confirm::PLANT,
    letter_without_bytes::PLANT,
    letter_never_noted::PLANT,
    worker_idles::PLANT,
];

/// Runs a workload on a build.
fn on<L: Workload, B: Alteration + Default>(
    scenario: &Scenario,
    seed: u64,
    record: bool,
) -> RunResult {
    let workload = workloads::named(L::NAME).expect("a built-in workload");
    (workload.altered)(&Altered::of::<B>(), scenario, seed, record)
}

/// Runs a workload on the shipped pipeline.
fn shipped<L: Workload>(scenario: &Scenario, seed: u64, record: bool) -> RunResult {
    let workload = workloads::named(L::NAME).expect("a built-in workload");
    (workload.simulate)(scenario, seed, record)
}

/// A small scenario in which faults strike for 40 s, with what `change` adds.
fn scenario<L: Workload>(name: &str, change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = Scenario::new(name, L::NAME);
    scenario.messages = 8;
    scenario.over = Duration::from_secs(10);
    scenario.faults_until = Duration::from_secs(40);
    change(&mut scenario);
    scenario
}

/// A fault that happens at a second of the run and lasts for some.
fn event(kind: Kind, at: u64, lasts: u64, target: &str) -> Event {
    Event {
        kind,
        at: at * 1_000_000_000,
        lasts: lasts * 1_000_000_000,
        target: Some(target.into()),
        amount: 0,
    }
}

/// Payments whose service charges again when it is asked again, and never starts from cold: what
/// a claim is there for.
fn forgetful_payments() -> ServiceOverride {
    ServiceOverride {
        name: "payments".to_owned(),
        honours_keys: Some(false),
        cold_starts: Some((0, Duration::ZERO)),
        ..ServiceOverride::default()
    }
}

/// Payments take six seconds and orders come every other second: that takes three workers at a time.
fn busy_payments(s: &mut Scenario) {
    let six = Duration::from_secs(6);
    s.messages = 300;
    s.over = Duration::from_secs(600);
    s.services = vec![ServiceOverride {
        name: "payments".to_owned(),
        latency: Some([six; 4]),
        cold_starts: Some((0, Duration::ZERO)),
        ..ServiceOverride::default()
    }];
}

/// A fault that strikes processes whose name starts so.
fn fault(kind: Kind, percent: Ppm, process: &str) -> Rule {
    Rule {
        process: Some(process.into()),
        ..Rule::new(kind, percent * 10_000)
    }
}

/// A fault of that kind at one seam only.
fn fault_at(seam: Seam, kind: Kind, percent: Ppm, process: &str) -> Rule {
    Rule {
        seam: Some(seam),
        ..fault(kind, percent, process)
    }
}
