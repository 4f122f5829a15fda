//! Faults with their places: a strike of one call, or something that happens at a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::fault::{Event, Kind, Rule, Seam};
use redeliver_sim::reach::Called;

use crate::scenario::Scenario;
use crate::watch::history::{History, What};
use crate::watch::reached::{Cell, Part};
use redeliver_core::ports::env::nanos;

/// How long a server is away: long enough for every connection to notice.
const AWAY: Duration = Duration::from_secs(2);

/// A fault with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// Strikes one call.
    Call(Rule),
    /// Happens just after a call was made: it has taken effect, and its caller does not know yet.
    Moment(Event),
}

impl Placed {
    /// Puts it into a scenario.
    pub(super) fn add_to(self, scenario: &mut Scenario) {
        match self {
            Self::Call(rule) => scenario.rules.push(rule),
            Self::Moment(event) => scenario.events.push(event),
        }
    }

    /// When it strikes in a run with these calls, if it does.
    pub(super) fn at(&self, calls: &[Called]) -> Option<u64> {
        match self {
            Self::Call(rule) => {
                let after = rule.after == Some(true);
                let same = |call: &&Called| call.strike(rule.kind, after, rule.lasts) == *rule;
                calls.iter().find(same).map(|call| call.at)
            }
            Self::Moment(event) => Some(event.at),
        }
    }
}

/// Consumers whose queues are not unbound.
pub(super) type Spared = BTreeSet<Arc<str>>;

/// Consumers that share an event with another one. A broker returns what reaches no queue; what
/// reaches one of two it confirms, and no pipeline hears of the other.
pub(super) fn sharing(history: &History) -> Spared {
    let mut heard: BTreeMap<&str, BTreeSet<&Arc<str>>> = BTreeMap::new();
    for entry in &history.entries {
        if let What::Delivered {
            consumer,
            key: Some(key),
            ..
        } = &entry.what
        {
            heard.entry(key).or_default().insert(consumer);
        }
    }
    let shared = heard.into_values().filter(|consumers| consumers.len() > 1);
    shared.flatten().cloned().collect()
}

/// Every fault that can strike these calls, and every one that can happen just after them. Calls
/// of one moment have that in common.
pub(super) fn faults(scenario: &Scenario, calls: &[&Called], spared: &Spared) -> Vec<Placed> {
    let mut placed = Vec::new();
    let mut last = None;
    for call in calls {
        let kinds = Cell::kinds_at(call.seam);
        let rules = kinds.map(|(kind, after)| call.strike(kind, after, lasts(scenario, kind)));
        placed.extend(rules.map(Placed::Call));
        if last != Some(call.at) {
            let events = events(scenario, call, spared).into_iter();
            placed.extend(events.map(Placed::Moment));
        }
        last = Some(call.at);
    }
    placed
}

/// How many of those are moments: places where something can happen to everybody.
pub(super) fn moments(calls: &[&Called]) -> u64 {
    let mut moments: Vec<u64> = calls.iter().map(|call| call.at).collect();
    moments.dedup();
    moments.len() as u64
}

/// What can happen to servers just after a call, and to the process that made it.
fn events(scenario: &Scenario, call: &Called, spared: &Spared) -> Vec<Event> {
    let event = |kind: Kind, lasts: Duration, target: Option<&str>| Event {
        kind,
        at: call.at + 1,
        lasts: nanos(lasts),
        target: target.map(Into::into),
        amount: 0,
    };
    let policy = &scenario.policy.consumer;
    let (process, long) = (&*call.process, policy.lease * 3 / 2);
    let mut events = vec![
        event(Kind::BrokerRestart, AWAY, None),
        event(Kind::BrokerKill, AWAY, None),
        event(Kind::LeaderChange, Duration::ZERO, None),
        event(Kind::BlockedPublishers, AWAY, None),
        event(Kind::FailOver, AWAY, None),
        event(Kind::RollingDeploy, AWAY, None),
        event(Kind::Partition, long, Some(process)),
        event(Kind::Partition, long, Some(&format!("{process}@database"))),
    ];
    let lease = i64::try_from(nanos(long)).unwrap_or(i64::MAX);
    for amount in [lease, -lease] {
        events.push(Event {
            amount,
            ..event(Kind::ClockJump, Duration::ZERO, Some(process))
        });
    }
    if Part::of(process) == Part::Worker
        && let Some((consumer, _)) = process.rsplit_once('-')
        && !spared.contains(consumer)
    {
        events.push(event(Kind::UnboundQueue, AWAY, Some(consumer)));
    }
    if call.seam == Seam::Service {
        events.push(event(Kind::ServiceDown, policy.handler_limit, None));
    }
    events
}

/// Long enough to hurt: a worker that stands still loses its claim, and a call that takes long is
/// given up.
pub(super) fn lasts(scenario: &Scenario, kind: Kind) -> u64 {
    let policy = &scenario.policy.consumer;
    let long = match kind {
        Kind::Pause | Kind::LateDelivery | Kind::LatePublish => policy.lease * 3 / 2,
        Kind::SlowService => policy.handler_limit * 3 / 2,
        Kind::SlowStart => policy.lease,
        Kind::SlowStatement => policy.handler_limit / 2,
        _ => Duration::from_secs(1),
    };
    nanos(long)
}
