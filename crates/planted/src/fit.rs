//! The faults that show a bug, on another workload than the one they were written for.
//!
//! A planted bug comes with the smallest scenario that shows it: faults that strike a consumer by
//! its name, services by theirs. Another workload has others. So what was aimed at one consumer is
//! aimed at each, a call to a service that nobody makes is replaced by a statement that fails, and
//! the numbers of the policy are the team's, but for those without which the bug does not show.

use std::sync::Arc;

use redeliver_sim::fault::{Event, Kind, Rule, Seam};

use super::{Plant, Survey};
use redeliver_core::policy::Policy;
use redeliver_harness::scenario::Scenario;
use redeliver_harness::team::workload::Workload;
use redeliver_harness::watch::reached::Part;
use redeliver_workloads::Orders;

/// A statement is one of several in an attempt, a call to a service is one: so that as many
/// attempts fail.
const STATEMENTS: u32 = 3;

/// The scenario of a plant, for the workload of another scenario.
pub fn fitted(plant: &Plant, team: &Scenario, survey: &Survey) -> Scenario {
    let own = (plant.scenario)();
    let home = own.workload == team.workload;
    let mut scenario = Scenario {
        policy: grafted(&team.policy, &own.policy),
        allow: team.allow.clone(),
        workload: team.workload.clone(),
        broker: team.broker,
        settle: own.settle.or(team.settle),
        ..own
    };
    if home {
        return scenario;
    }
    let (rules, events) = (scenario.rules, scenario.events);
    scenario.rules = rules.iter().flat_map(|r| aimed(r, survey)).collect();
    scenario.events = events.iter().flat_map(|e| placed(e, survey)).collect();
    let overrides = std::mem::take(&mut scenario.services);
    if let Some(given) = overrides.into_iter().next() {
        let of = |name: &Arc<str>| redeliver_harness::scenario::ServiceOverride {
            name: name.to_string(),
            latency: given.latency.or(usual_latency()),
            ..given.clone()
        };
        scenario.services = survey.services.iter().map(of).collect();
    }
    scenario
}

/// That of the service for which the overrides were written, and which they leave as it is: a claim
/// that ends too early is not seen where calls are quick.
fn usual_latency() -> Option<[std::time::Duration; 4]> {
    let services = Orders.services();
    services.first().map(|payments| payments.latency)
}

/// Relays and clients are called alike in every workload; consumers are not.
fn is_consumer(process: &str) -> bool {
    let role = process
        .rsplit_once('-')
        .filter(|(_, n)| n.parse::<u32>().is_ok());
    let role = role.map_or(process, |(role, _)| role);
    Part::of(&format!("{role}-1")) == Part::Worker
}

/// A rule about a consumer, as one about each consumer that can be struck so.
fn aimed(rule: &Rule, survey: &Survey) -> Vec<Rule> {
    if !rule.process.as_deref().is_some_and(is_consumer) {
        return vec![rule.clone()];
    }
    let outside = rule.seam == Some(Seam::Service) || rule.kind.seams() == [Seam::Service];
    let called = !survey.services.is_empty();
    let consumers = survey.consumers.iter();
    let struck = consumers.filter(|consumer| !(outside && called) || survey.calls(consumer));
    struck
        .map(|consumer| {
            let mut rule = rule.clone();
            rule.process = Some(consumer.clone());
            if outside && !called {
                inside(&mut rule);
            }
            rule
        })
        .collect()
}

/// What fails an attempt without a service: its statements are aborted, or its process meets its
/// fate at the commit.
fn inside(rule: &mut Rule) {
    match rule.kind {
        Kind::Crash | Kind::Pause => rule.seam = Some(Seam::Commit),
        Kind::SlowService => rule.kind = Kind::SlowStatement,
        _ => {
            rule.kind = Kind::Abort;
            rule.seam = None;
            rule.ppm /= STATEMENTS;
        }
    }
}

/// An event that happens to a consumer, or to one of its processes, for each consumer.
fn placed(event: &Event, survey: &Survey) -> Vec<Event> {
    let Some(target) = event.target.as_deref().filter(|target| is_consumer(target)) else {
        return vec![event.clone()];
    };
    let number = target.rsplit_once('-').map(|(_, number)| number);
    let number = number.filter(|number| number.parse::<u32>().is_ok());
    // Of two consumers one: what a batch loses in part is another bug than what it loses whole.
    let most = match event.kind {
        Kind::UnboundQueue => 1,
        _ => usize::MAX,
    };
    let consumers = survey.consumers.iter().take(most);
    consumers
        .map(|consumer| Event {
            target: Some(match number {
                Some(number) => format!("{consumer}-{number}").into(),
                None => consumer.clone(),
            }),
            ..event.clone()
        })
        .collect()
}

/// The team's policy, but for the numbers that a plant's scenario sets on purpose.
fn grafted(team: &Policy, plant: &Policy) -> Policy {
    let (mut policy, usual) = (team.clone(), Policy::default());
    macro_rules! graft {
        ($($part:ident.$number:ident),*) => {
            $(if plant.$part.$number != usual.$part.$number {
                policy.$part.$number = plant.$part.$number;
            })*
        };
    }
    graft!(
        retry.attempts,
        retry.first,
        retry.total,
        consumer.workers,
        consumer.prefetch,
        consumer.lease,
        consumer.renew_every,
        consumer.purge_every,
        relay.backoff
    );
    policy
}
