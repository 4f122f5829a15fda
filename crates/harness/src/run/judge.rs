//! From a view of a run to its result.

use redeliver_sim::fault::Rule;
use redeliver_sim::reach::Called;
use redeliver_sim::trace::Entry;

use redeliver_pipeline::client::CLIENT;

use crate::checkers::{self, Index, View};
use crate::run::any_workload::Facts;
use crate::run::named;
use crate::run::plan::Plan;
use crate::run::result::RunResult;
use crate::scenario::{Scenario, unwanted_rows};
use crate::team::invariant::Evidence;
use crate::team::request::Request;
use crate::verdict::{Anomaly, AnomalyKind, Verdict};
use crate::watch::ends::{Ends, Unplanned, Worked};
use crate::watch::history::{History, Seen, What};
use crate::watch::legs::{self, Leg};
use crate::watch::reached::Reached;
use crate::watch::{pickups, state};
use crate::words::{counted, grouped};
use redeliver_core::ports::env::nanos;
use redeliver_core::topology::Topology;

/// What the world itself says about a run.
#[derive(Debug, Default)]
pub struct Measured {
    /// The seed.
    pub seed: u64,
    /// Polls of tasks.
    pub steps: u64,
    /// Virtual time, or wall time of a real run.
    pub virtual_ns: u64,
    /// Faults that struck.
    pub faults: Vec<(&'static str, u64)>,
    /// Where faults could have struck, and where they did.
    pub reached: Reached,
    /// Every call that a fault could have struck, if recorded.
    pub calls: Vec<Called>,
    /// Whether strikes and trace were kept.
    pub recorded: bool,
    /// Every strike as a rule of its own, if recorded.
    pub strikes: Vec<Rule>,
    /// Trace hash.
    pub hash: u64,
    /// The trace, if recorded.
    pub trace: Vec<Entry>,
    /// Panics outside handlers.
    pub panics: Vec<String>,
    /// Why the run cannot be repeated.
    pub unrepeatable: Option<String>,
    /// Whether it was stopped as a livelock.
    pub livelock: bool,
    /// Whether somebody else has taken the times of its messages.
    pub timed: bool,
    /// Whether it was ended from outside, by [`halt`](super::halt).
    pub halted: bool,
}

/// The result of a run that could not begin.
pub fn not_run(seed: u64, why: &dyn std::fmt::Display) -> RunResult {
    RunResult {
        seed,
        verdict: Verdict::Inconclusive,
        inconclusive: Some(why.to_string()),
        ..RunResult::default()
    }
}

/// Polls that each message and each delivery may cost, each second of a run, and each run: five
/// times and more what the built-in workloads take, so that only a loop without a wait exceeds it.
const STEPS_PER_MESSAGE: u64 = 3_000;
const STEPS_PER_SECOND: u64 = 200;
const STEPS_OF_ALL: u64 = 50_000;

/// A pipeline that works and works though it has nothing to do.
fn busy_loop(measured: &Measured, messages: u64, deliveries: u64) -> Option<Anomaly> {
    let seconds = measured.virtual_ns / 1_000_000_000;
    let bound =
        STEPS_OF_ALL + STEPS_PER_MESSAGE * (messages + deliveries) + STEPS_PER_SECOND * seconds;
    let steps = measured.steps;
    (steps > bound && !measured.livelock).then(|| Anomaly {
        kind: AnomalyKind::Stuck,
        promise: "What a pipeline does is bounded by its messages and by time.",
        ..fault_of_our_own(
            "busy-loop",
            &format!(
                "{} of tasks for {}, {} and {seconds} s; at most {} are expected: something runs \
                 in a circle without a wait",
                counted(steps, "poll"),
                counted(messages, "message"),
                match deliveries {
                    1 => "1 delivery".to_owned(),
                    more => format!("{} deliveries", grouped(more)),
                },
                grouped(bound)
            ),
        )
    })
}

/// Judges a run.
pub fn result(
    workload: &dyn Facts,
    scenario: &Scenario,
    plan: &Plan,
    view: &View<'_>,
    measured: Measured,
) -> RunResult {
    let index = Index::new(view);
    let mut anomalies = checkers::check(view, &index);
    let (ends, unplanned, worked) = index.ends(view);
    let accepted = accepted(plan, view);
    if view.settled {
        anomalies.extend(workload.check(&accepted, view.reading));
        let totals = workload.totals(&accepted, view.reading);
        anomalies.extend(workload.check_totals(&totals));
    }
    anomalies.extend(
        measured
            .panics
            .iter()
            .map(|panic| fault_of_our_own("panic", panic)),
    );
    if measured.livelock {
        let seen = format!("nothing came to rest within {} steps", measured.steps);
        anomalies.push(Anomaly {
            kind: AnomalyKind::Stuck,
            ..fault_of_our_own("livelock", &seen)
        });
    }
    if view.settled {
        anomalies.extend(unwanted_rows(&view.reading.no_rows));
        let evidence = Evidence {
            history: view.history,
            reading: view.reading,
            accepted: &accepted,
        };
        let own = workload.invariants();
        let all = own.iter().chain(&scenario.expect.invariants);
        anomalies.extend(all.filter_map(|invariant| invariant.broken(&evidence)));
    }
    let pickups = pickups::pickups(view.history);
    let mechanisms = pickups::mechanisms(&pickups);
    let expect = &scenario.expect;
    anomalies.extend(expect.judge(view.reading, view.settled, &pickups));
    if expect.asks_for_repeats() {
        anomalies.extend(expect.judge_repeats(&index.repeats()));
    }
    named::name_messages(&mut anomalies, view.reading);
    let entries = &view.history.entries;
    let deliveries = entries
        .iter()
        .filter(|e| matches!(e.what, What::Delivered { kept: false, .. }))
        .count();
    // Rows of published events may be gone by now; those of commits in doubt are known by them alone.
    let messages = index
        .committed()
        .max(view.reading.store.outbox.len() as u64);
    anomalies.extend(busy_loop(&measured, messages, deliveries as u64));
    let halted = measured.halted;
    if halted {
        anomalies.clear();
    }
    let inconclusive = match measured.unrepeatable {
        _ if halted => Some("it was stopped from outside".to_owned()),
        Some(why) => Some(format!("the run cannot be repeated: {why}")),
        None if view.stopped => Some("it was stopped before it came to rest".to_owned()),
        None if messages == 0 => Some("no message was accepted".to_owned()),
        // A run that was made small is there for one message, whatever becomes of it.
        None if scenario.only.is_empty() => completed_nothing(&plan.topology, &worked, &ends),
        None => None,
    };
    let mut result = RunResult {
        seed: measured.seed,
        verdict: Verdict::default(),
        anomalies,
        inconclusive,
        messages,
        deliveries: deliveries as u64,
        events: entries.len() as u64 + measured.steps,
        virtual_ns: measured.virtual_ns,
        faults: measured.faults,
        reached: measured.reached,
        mechanisms,
        calls: measured.calls,
        strikes: measured.strikes,
        requests: match measured.recorded {
            true => plan.requests.iter().map(|r| r.key.clone()).collect(),
            false => Vec::new(),
        },
        hash: measured.hash,
        state: state::of(&view.reading.store),
        history: match measured.recorded {
            true => view.history.clone(),
            false => History::default(),
        },
        trace: measured.trace,
        times: match measured.timed || halted {
            true => Vec::new(),
            false => times(plan, view),
        },
        ends,
        halted,
        unplanned: match halted {
            true => Vec::new(),
            false => self::unplanned(scenario, unplanned),
        },
    };
    result.judge();
    result
}

/// The dead letters that need a cause: none where the scenario says how many there may be, since the
/// run was judged by that.
pub(crate) fn unplanned(scenario: &Scenario, found: Vec<Unplanned>) -> Vec<Unplanned> {
    match scenario.expect.dead_letters {
        Some(_) => Vec::new(),
        None => found,
    }
}

/// The times of the messages of a run.
fn times(plan: &Plan, view: &View<'_>) -> Vec<(Leg, u64)> {
    let due = plan.requests.iter();
    let due = due.map(|request| (&request.key, nanos(request.at)));
    legs::times(view.history, view.topology, due)
}

/// A consumer that was given work and completed none of it was not tested.
pub(crate) fn completed_nothing(
    topology: &Topology,
    worked: &[Worked],
    ends: &Ends,
) -> Option<String> {
    let consumers = topology.subscriptions.iter().zip(worked);
    let idle = consumers.filter(|(_, worked)| worked.wanted && !worked.completed);
    let idle: Vec<&str> = idle.map(|(of, _)| &*of.consumer).collect();
    let (first, rest) = idle.split_first()?;
    let others = match rest.len() {
        0 => String::new(),
        more => format!(", nor did {more} more"),
    };
    let of_all = ends.describe();
    Some(format!(
        "consumer {first} completed nothing of what it was sent{others}; of all messages {of_all}"
    ))
}

/// The requests whose commit was seen, or whose event stands in the outbox.
pub(crate) fn accepted(plan: &Plan, view: &View<'_>) -> Vec<Request> {
    let mut keys: std::collections::BTreeSet<&str> = view
        .reading
        .store
        .outbox
        .iter()
        .map(|r| &*r.outgoing.event.idempotency_key)
        .collect();
    for entry in &view.history.entries {
        if let What::Commit {
            on, seen: Seen::Ok, ..
        } = &entry.what
            && *on.consumer == *CLIENT
        {
            keys.insert(&on.subject);
        }
    }
    // What nobody can read yet was not carried out as the workload would have done it.
    let counts =
        |request: &&Request| keys.contains(&*request.key) && !plan.unknown.contains(&request.key);
    plan.requests.iter().filter(counts).cloned().collect()
}

fn fault_of_our_own(checker: &'static str, seen: &str) -> Anomaly {
    let promise = "No task outside a handler panics, and every run comes to rest.";
    Anomaly::broken(checker, promise, seen)
}
