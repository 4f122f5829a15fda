//! What the model expects of a setting, confirmed by the whole pipeline in the seeded world.
//!
//! The same parts as in the model: a calm one, one with crashes, one for each length of outage. Each is a
//! scenario of its own, judged by all checkers; what its history shows of the consumer stands beside what
//! the model says of the same part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::choice::MILLION;
use redeliver_sim::fault::{Event, Kind, Rule};
use redeliver_sizing::case::{Case, OutageKind, Shape, Target};
use redeliver_sizing::evaluate::crash_times;
use redeliver_sizing::interval::{Estimate, nearest_rank};
use redeliver_sizing::latency::Latency;
use redeliver_sizing::model::Setting;

use super::{Question, Unclear, of_service, unclear};
use crate::run::result::RunResult;
use crate::scenario::{Scenario, ServiceOverride};
use crate::team::workload::ServiceModel;
use crate::watch::history::{Ended, History, Seen, Settled, What};
use redeliver_core::ports::env::nanos;

/// A part of the confirmation.
#[derive(Clone, Debug, PartialEq)]
pub enum PartOf {
    /// Without crashes and outages.
    Calm,
    /// A process of the consumer dies again and again.
    Crashes,
    /// The service is away.
    Outage(OutageKind),
    /// One call in ten fails between each two layers.
    Faults,
}

/// One call in ten.
const TENTH: u32 = 100_000;

/// A part as a scenario.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which.
    pub of: PartOf,
    /// To be run, and judged.
    pub scenario: Scenario,
    /// When the service is away: from and until, in seconds since the start.
    pub outages: Vec<(f64, f64)>,
    /// The consumer's numbers in it: in a smaller system where the outage would have too many messages.
    pub setting: Setting,
    /// Messages a second.
    pub rate: f64,
}

/// Messages of a part.
const MESSAGES: f64 = 1_500.0;

/// What the whole pipeline needs, to be compared with the model: the question with handler times that a
/// service of the seeded world can have.
#[derive(Clone, Debug)]
pub struct Confirmation {
    /// The consumer whose handler calls the service.
    pub consumer: String,
    /// The service.
    pub service: String,
    /// The question, with those times.
    pub case: Case,
    /// What the scenario changes about services, so that they have those times.
    pub services: Vec<ServiceOverride>,
}

impl Confirmation {
    /// Whom a history is looked at for: the consumer and the service.
    pub fn observed(&self) -> (&str, &str) {
        (&self.consumer, &self.service)
    }
}

/// The part of a name before the number of its process.
fn role(process: &str) -> &str {
    process.rsplit_once('-').map_or(process, |(role, _)| role)
}

/// What is to be run, and compared with the model: `simulate` runs the workload in the seeded world.
///
/// # Errors
/// The workload has no service, or no handler calls it.
pub fn confirmation(
    question: &Question,
    scenario: &Scenario,
    models: &[ServiceModel],
    simulate: impl Fn(&Scenario, u64, bool) -> RunResult,
) -> Result<Confirmation, Unclear> {
    let named = question
        .service
        .as_deref()
        .or(question.size.service.as_deref());
    let (of_workload, service) = of_service(scenario, models, named)?;
    // Times that the question gives itself become those of the service, as nearly as it can have them.
    let (handler, services) = match question.service {
        Some(_) => (of_workload, scenario.services.clone()),
        None => {
            let given = as_service(&service, &question.case.handler);
            let others = scenario.services.iter().filter(|it| it.name != service);
            let services: Vec<_> = others.cloned().chain([given]).collect();
            let changed = Scenario {
                services: services.clone(),
                ..scenario.clone()
            };
            let models = models.iter().filter(|it| it.name == service);
            let models: Vec<_> = models.cloned().collect();
            (of_service(&changed, &models, Some(&service))?.0, services)
        }
    };
    let calm = Scenario {
        messages: 5,
        ..scenario.without_faults()
    };
    let run = simulate(&calm, 1, true);
    let calls = run
        .history
        .entries
        .iter()
        .find_map(|entry| match &entry.what {
            What::Call { service: of, .. } if *of == service => Some(role(&entry.process)),
            _ => None,
        });
    let Some(consumer) = calls else {
        return unclear(format!("no handler calls the service {service}"));
    };
    Ok(Confirmation {
        consumer: consumer.to_owned(),
        case: Case {
            // Failures by chance, a client library that repeats calls, and a rate that changes are none
            // that the seeded world is asked for here.
            fails: 0.0,
            calls: 1,
            arrivals: Shape::Poisson,
            handler,
            ..question.case.clone()
        },
        service,
        services,
    })
}

/// A handler's times as a service of the seeded world can have them: four quantiles, and cold starts where
/// some calls take just as long as the longest.
fn as_service(name: &str, handler: &Latency) -> ServiceOverride {
    let longest = handler.longest().min(handler.quantile(ALMOST_ALL));
    let cold = handler.survival(longest * (1.0 - 1e-6));
    let cold = if (RARE..1.0).contains(&cold) {
        cold
    } else {
        0.0
    };
    let warm = [1.0 - ALMOST_ALL, 0.5, 0.95, ALMOST_ALL].map(|share| {
        let seconds = handler.quantile(share * (1.0 - cold)).min(longest);
        Duration::from_secs_f64(seconds)
    });
    // A share of nothing cannot be written in a file: one in a million is as good.
    let share = ((cold * f64::from(MILLION)).round() as u32).max(1);
    ServiceOverride {
        name: name.to_owned(),
        latency: Some(warm),
        cold_starts: Some((share, Duration::from_secs_f64(longest))),
        ..ServiceOverride::default()
    }
}

/// Fewer calls than this share are no cold starts, but the end of a distribution.
const RARE: f64 = 0.001;
/// Longer handlers than this share of them are left out.
const ALMOST_ALL: f64 = 0.9999;

/// The parts for a setting.
pub fn parts(
    question: &Question,
    scenario: &Scenario,
    to: &Confirmation,
    setting: &Setting,
) -> Vec<Part> {
    let case = &to.case;
    let part = |of: PartOf, rate: f64, lasts: f64, setting: &Setting| -> Part {
        let messages = (rate * lasts).ceil().max(20.0);
        let mut made = Scenario {
            messages: messages as u32,
            over: Duration::from_secs_f64(lasts),
            policy: setting.policy.clone(),
            worker_processes: setting.processes,
            services: to.services.clone(),
            only: Vec::new(),
            poison: crate::scenario::Poison::default(),
            expect: crate::scenario::Expect {
                dead_letters: Some((0, u64::MAX)),
                ..crate::scenario::Expect::default()
            },
            size: None,
            faults_until: Duration::from_secs_f64(lasts),
            ..scenario.without_faults()
        };
        made.policy.consumer.dedup_window =
            made.policy.retry.longest() + made.policy.redrive_horizon;
        // What the scenario allows may not be needed any more, and its file would be refused.
        let contradictions = made.policy.contradictions();
        made.allow = contradictions.iter().map(|it| it.check).collect();
        Part {
            of,
            scenario: made,
            outages: Vec::new(),
            setting: setting.clone(),
            rate,
        }
    };
    let calm = part(PartOf::Calm, case.rate, MESSAGES / case.rate, setting);
    let mut parts = vec![calm];
    if case.crashes_per_day > 0.0 {
        let lasts = MESSAGES / case.rate;
        let mut crashes = part(PartOf::Crashes, case.rate, lasts, setting);
        crashes.scenario.events = crash_times(case, lasts)
            .enumerate()
            .map(|(n, at)| Event {
                kind: Kind::Crash,
                at: nanos(Duration::from_secs_f64(at)),
                lasts: 0,
                target: Some(Arc::from(format!(
                    "{}-{}",
                    to.consumer,
                    n as u32 % setting.processes + 1
                ))),
                amount: 0,
            })
            .collect();
        parts.push(crashes);
    }
    // What clients and relays repeat shows only where their own calls fail.
    let mut faults = part(
        PartOf::Faults,
        case.rate,
        MESSAGES / 5.0 / case.rate,
        setting,
    );
    let rule = |kind: Kind, process: &str| Rule {
        process: Some(Arc::from(process)),
        ..Rule::new(kind, TENTH)
    };
    faults.scenario.rules = vec![
        rule(Kind::CommitInDoubt, "client"),
        rule(Kind::LostConfirm, "relay"),
        rule(Kind::LostAck, &to.consumer),
        rule(Kind::ServiceInDoubt, &to.consumer),
    ];
    parts.push(faults);
    // A call that hangs is none that a service of the seeded world can be asked for.
    let outages = question.size.fails_after.map_or(&[][..], |_| &case.outages);
    for kind in outages {
        let whole = kind.whole();
        let smaller = (MESSAGES / (case.rate * whole)).min(1.0);
        let rate = case.rate * smaller;
        let before = (200.0 / rate).min(whole);
        let mut less = setting.clone();
        let consumer = &mut less.policy.consumer;
        let fewer = |count: u16| ((f64::from(count) * smaller).round() as u16).max(1);
        consumer.workers = fewer(consumer.workers);
        consumer.prefetch = fewer(consumer.prefetch).max(consumer.workers);
        let mut outage = part(
            PartOf::Outage(kind.clone()),
            rate,
            before + 2.0 * whole,
            &less,
        );
        outage.outages = kind.times(before);
        outage.scenario.events = outage
            .outages
            .iter()
            .map(|(from, until)| Event {
                kind: Kind::ServiceDown,
                at: nanos(Duration::from_secs_f64(*from)),
                lasts: nanos(Duration::from_secs_f64(until - from)),
                target: Some(Arc::from(to.service.as_str())),
                amount: 0,
            })
            .collect();
        parts.push(outage);
    }
    parts
}

/// What a run shows of a consumer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Messages that it was given.
    pub messages: u64,
    /// Handler runs.
    pub tries: u64,
    /// Deliveries that the broker had taken back before.
    pub redelivered: u64,
    /// Handler runs that were stopped at the limit.
    pub cut_off: u64,
    /// Handler runs that began while an earlier one still ran.
    pub beside: u64,
    /// Handler runs that began after one had died with its process.
    pub crashed: u64,
    /// Messages that it gave up.
    pub dead: u64,
    /// From commit to the first handler, in seconds, each.
    pub waits: Vec<f64>,
    /// From commit to effect, in seconds, each.
    pub times: Vec<f64>,
    /// From a crash to the end of what it interrupted, in seconds, each.
    pub recovered: Vec<f64>,
    /// Handler runs that began within the outage.
    pub tries_in_outage: u64,
    /// Messages that were committed within it.
    pub arrivals_in_outage: u64,
    /// Handler runs that began in each tenth of the outage, and in as many as long after it again.
    pub tries_by_part: [u64; 20],
    /// What each layer repeats.
    pub layers: Layers,
}

/// How often each layer does what it has to do once. Each counts what came of its own repetitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Requests that clients sent, and the ones that were accepted.
    pub client: (u64, u64),
    /// Publishes of the consumer's messages by relays, and these messages.
    pub relay: (u64, u64),
    /// Handler runs, and those that did not follow from a message that the broker delivered again.
    pub broker: (u64, u64),
    /// Handler runs that did not follow from a redelivery, and messages.
    pub consumer: (u64, u64),
    /// Calls of the service, and messages.
    pub calls: (u64, u64),
}

impl Layers {
    /// With those of another run.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let sum = |a: (u64, u64), b: (u64, u64)| (a.0 + b.0, a.1 + b.1);
        Self {
            client: sum(self.client, other.client),
            relay: sum(self.relay, other.relay),
            broker: sum(self.broker, other.broker),
            consumer: sum(self.consumer, other.consumer),
            calls: sum(self.calls, other.calls),
        }
    }

    /// The factor of each layer: client, relay, broker, consumer.
    pub fn factors(&self) -> [f64; 4] {
        [self.client, self.relay, self.broker, self.consumer].map(factor)
    }

    /// All of them multiplied: calls for each request, if nothing recognised what was repeated.
    pub fn product(&self) -> f64 {
        self.factors().iter().product()
    }

    /// Calls of the service for each message.
    pub fn at_service(&self) -> f64 {
        factor(self.calls)
    }
}

fn factor((made, needed): (u64, u64)) -> f64 {
    match needed {
        0 => 1.0,
        _ => made as f64 / needed as f64,
    }
}

/// A single run is looked at in so many parts, to see how its times vary.
const PARTS: usize = 5;

impl Measured {
    /// With all times multiplied.
    #[must_use]
    pub fn times(mut self, factor: f64) -> Self {
        for times in [&mut self.waits, &mut self.times, &mut self.recovered] {
            times.iter_mut().for_each(|time| *time *= factor);
        }
        self
    }

    /// Its times in parts, one after the other. The counts are in none of them.
    pub fn by_parts(&self) -> Vec<Self> {
        let part = |times: &[f64], at: usize| {
            let long = times.len().div_ceil(PARTS).max(1);
            times.chunks(long).nth(at).unwrap_or(&[]).to_vec()
        };
        let parts = (0..PARTS).map(|at| Self {
            waits: part(&self.waits, at),
            times: part(&self.times, at),
            recovered: part(&self.recovered, at),
            ..Self::default()
        });
        parts.collect()
    }
}

/// What a run shows of a target; none where its part has nothing to say about it.
pub fn shown(target: Target, part: &Part, measured: &Measured, case: &Case) -> Option<f64> {
    let share = |count: u64, of: u64| Some(count as f64 / of.max(1) as f64);
    match (target, &part.of) {
        (Target::Duplicates, PartOf::Calm) => {
            share(measured.cut_off + measured.beside, measured.messages)
        }
        (Target::DeadLetters, PartOf::Calm) => share(measured.dead, measured.messages),
        (Target::DeadLetters, PartOf::Outage(_)) => {
            share(measured.dead, measured.arrivals_in_outage)
        }
        (Target::Recovery, PartOf::Crashes) => quantile(&measured.recovered, 0.95),
        (Target::Latency, PartOf::Calm) => quantile(&measured.times, case.targets.quantile),
        (Target::Amplification, PartOf::Outage(kind)) => {
            let usual = part.rate * kind.lasts / 10.0;
            let most = measured.tries_by_part.iter().max()?;
            Some(*most as f64 / usual)
        }
        _ => None,
    }
}

#[derive(Default)]
struct Work {
    committed: u64,
    tries: u64,
    /// Of them, those that followed a redelivery.
    again: u64,
    calls: u64,
    /// Whether the broker has delivered it again since its last handler began.
    redelivered: bool,
    begun: bool,
    ended: bool,
    open: Vec<u64>,
    dropped: bool,
    crashed: Option<u64>,
}

/// What a history shows of a consumer and of the service that it calls, whose handlers have this limit and whose service is away at these
/// times.
pub fn measure(
    history: &History,
    (consumer, service): (&str, &str),
    limit: Duration,
    outages: &[(f64, f64)],
) -> Measured {
    let mut measured = Measured::default();
    let mut committed: BTreeMap<&str, u64> = BTreeMap::new();
    let mut works: BTreeMap<Arc<str>, Work> = BTreeMap::new();
    // Of each run that goes on: the message, when it began, and in which process.
    let mut runs: BTreeMap<u64, (Arc<str>, u64, Arc<str>)> = BTreeMap::new();
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    let within = |at: u64| {
        let at = seconds(at);
        outages
            .iter()
            .any(|(from, until)| (*from..*until).contains(&at))
    };
    let mut published: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut sent, mut accepted) = (0, BTreeSet::new());
    for entry in &history.entries {
        let at = entry.at;
        if let What::Commit {
            on, effects, seen, ..
        } = &entry.what
            && role(&entry.process) == "client"
            && !effects.emitted.is_empty()
        {
            sent += 1;
            if matches!(seen, Seen::Ok) {
                accepted.insert(&*on.subject);
            }
        }
        match &entry.what {
            What::Publish { event, .. } if role(&entry.process) == "relay" => {
                *published.entry(&event.idempotency_key).or_default() += 1;
            }
            What::Call {
                service: of,
                seen: None,
                key,
                ..
            } if *of == service => {
                if let Some(work) = works.get_mut(key) {
                    work.calls += 1;
                }
            }
            _ => {}
        }
        match &entry.what {
            What::Commit {
                on,
                effects,
                seen: Seen::Ok,
                ..
            } => {
                for event in &effects.emitted {
                    committed.entry(&event.idempotency_key).or_insert(at);
                }
                let done = effects.inbox.iter().any(|row| row.state == "done");
                if &*on.consumer == consumer
                    && done
                    && let Some(work) = works.get_mut(&on.subject).filter(|it| !it.ended)
                {
                    work.ended = true;
                    measured.times.push(seconds(at - work.committed));
                    if let Some(crashed) = work.crashed {
                        measured.recovered.push(seconds(at - crashed));
                    }
                }
            }
            What::Delivered {
                consumer: of,
                redelivered: true,
                key,
                ..
            } if &**of == consumer => {
                measured.redelivered += 1;
                if let Some(work) = key.as_ref().and_then(|key| works.get_mut(key)) {
                    work.redelivered = true;
                }
            }
            What::HandlerStart { on, run, .. } if &*on.consumer == consumer => {
                let work = works.entry(on.subject.clone()).or_insert_with(|| Work {
                    committed: committed.get(&*on.subject).copied().unwrap_or(at),
                    ..Work::default()
                });
                if !work.begun {
                    work.begun = true;
                    measured.messages += 1;
                    measured.waits.push(seconds(at - work.committed));
                    measured.arrivals_in_outage += u64::from(within(work.committed));
                }
                measured.crashed += u64::from(work.dropped);
                measured.beside += u64::from(!work.dropped && !work.open.is_empty());
                work.dropped = false;
                work.tries += 1;
                work.again += u64::from(std::mem::take(&mut work.redelivered));
                work.open.push(*run);
                measured.tries += 1;
                measured.tries_in_outage += u64::from(within(at));
                if let Some((from, until)) = outages.first() {
                    let tenth = (seconds(at) - from) / ((until - from) / 10.0);
                    let parts = &mut measured.tries_by_part;
                    if tenth >= 0.0
                        && let Some(count) = parts.get_mut(tenth as usize)
                    {
                        *count += 1;
                    }
                }
                runs.insert(*run, (on.subject.clone(), at, entry.process.clone()));
            }
            What::HandlerEnd { run, ended } => {
                let Some((subject, began, _)) = runs.remove(run) else {
                    continue;
                };
                if let Some(work) = works.get_mut(&subject) {
                    work.open.retain(|known| known != run);
                }
                // A little less: timers round.
                let stopped = Duration::from_nanos(at - began) + Duration::from_millis(2) >= limit;
                let cut_off = !matches!(ended, Ended::Ok) && stopped;
                measured.cut_off += u64::from(cut_off);
                if matches!(ended, Ended::Dropped) && !cut_off {
                    interrupted(works.get_mut(&subject), at);
                }
            }
            What::Process { what: "crashed" } => {
                let of = |it: &(u64, &(Arc<str>, u64, Arc<str>))| it.1.2 == entry.process;
                let all = runs.iter().map(|(run, known)| (*run, known));
                let dead: Vec<u64> = all.filter(of).map(|it| it.0).collect();
                for run in dead {
                    if let Some((subject, ..)) = runs.remove(&run) {
                        let mut work = works.get_mut(&subject);
                        if let Some(work) = &mut work {
                            work.open.retain(|known| *known != run);
                        }
                        interrupted(work, at);
                    }
                }
            }
            What::Settled {
                consumer: of,
                key: Some(key),
                how: Settled::DeadLetter(_),
                ..
            } if &**of == consumer => {
                if let Some(work) = works.get_mut(key).filter(|it| !it.ended) {
                    work.ended = true;
                    measured.dead += 1;
                }
            }
            _ => {}
        }
    }
    // In an outage only what arrives in it: the others are calm.
    let concerned = works
        .iter()
        .filter(|(_, work)| outages.is_empty() || within(work.committed));
    let mut layers = Layers {
        client: (sent, accepted.len() as u64),
        ..Layers::default()
    };
    for (key, work) in concerned {
        if let Some(times) = published.get(&**key) {
            layers.relay.0 += times;
            layers.relay.1 += 1;
        }
        layers.broker.0 += work.tries;
        layers.broker.1 += work.tries - work.again;
        layers.consumer.0 += work.tries - work.again;
        layers.consumer.1 += 1;
        layers.calls.0 += work.calls;
        layers.calls.1 += 1;
    }
    measured.layers = layers;
    measured
}

/// A crash has interrupted it.
fn interrupted(work: Option<&mut Work>, at: u64) {
    if let Some(work) = work.filter(|work| !work.ended) {
        work.dropped = true;
        work.crashed = Some(at);
    }
}

/// The value that a share of others does not exceed.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    nearest_rank(&mut values.to_vec(), share, f64::total_cmp)
}

/// An estimate over runs, where each has a value.
pub fn over(runs: &[Measured], of: impl Fn(&Measured) -> Option<f64>) -> Option<Estimate> {
    let values: Vec<f64> = runs.iter().filter_map(of).collect();
    (values.len() > 1).then(|| Estimate::of(&values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_handler_become_those_of_a_service() {
        let warm = [(0.0, 0.2), (0.5, 2.0), (0.95, 12.0), (1.0, 19.0)];
        let warm = Latency::quantiles(&warm).expect("they rise");
        let cold = Latency::fixed(45.0).expect("a time");
        let both = Latency::mixture(vec![(0.02, cold), (0.98, warm.clone())]);
        let service = as_service("payments", &both.expect("all of them"));
        let (share, takes) = service.cold_starts.expect("cold starts");
        assert_eq!((share, takes.as_secs()), (20_000, 45));
        let [min, median, p95, max] = service.latency.expect("times").map(|it| it.as_secs_f64());
        assert!(
            (min - 0.2).abs() < 0.01 && (median - 2.0).abs() < 0.01,
            "{min} {median}"
        );
        assert!(
            (p95 - 12.0).abs() < 0.01 && (max - 19.0).abs() < 0.1,
            "{p95} {max}"
        );
        // Without an end, and without cold starts.
        let service = as_service("payments", &Latency::exponential(2.0).expect("a mean"));
        assert_eq!(service.cold_starts.map(|it| it.0), Some(1));
        let [_, median, _, max] = service.latency.expect("times").map(|it| it.as_secs_f64());
        assert!(
            (median - 2.0 * 2f64.ln()).abs() < 0.01 && max > 15.0,
            "{median} {max}"
        );
        let service = as_service("payments", &Latency::fixed(3.0).expect("a time"));
        assert_eq!(service.latency, Some([Duration::from_secs(3); 4]));
    }
}
