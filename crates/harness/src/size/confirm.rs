//! What the model expects of a setting, confirmed by the whole pipeline in the seeded world.
//!
//! The same parts as in the model: a calm one, one with crashes, one for each length of outage. Each is a
//! scenario of its own, judged by all checkers; what its history shows of the consumer stands beside what
//! the model says of the same part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::fault::{Event, Kind};
use redeliver_sizing::case::{Case, OutageKind, Target};
use redeliver_sizing::interval::Estimate;
use redeliver_sizing::model::Setting;

use super::{Question, Unclear, of_service, unclear};
use crate::run::result::RunResult;
use crate::scenario::Scenario;
use crate::team::workload::ServiceModel;
use crate::watch::history::{Ended, History, Settled, What};
use redeliver_core::ports::env::nanos;

/// A part of the confirmation.
#[derive(Clone, Debug, PartialEq)]
pub enum PartOf {
    /// Without crashes and outages.
    Calm,
    /// A process of the consumer dies again and again.
    Crashes,
    /// The service is away once.
    Outage(OutageKind),
}

/// A part as a scenario.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which.
    pub of: PartOf,
    /// To be run, and judged.
    pub scenario: Scenario,
    /// Requests that arrive during the outage, in seconds since the start.
    pub outage: Option<(f64, f64)>,
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
    services: &[ServiceModel],
    simulate: impl Fn(&Scenario, u64, bool) -> RunResult,
) -> Result<Confirmation, Unclear> {
    let named = question
        .service
        .as_deref()
        .or(question.size.service.as_deref());
    let (handler, service) = of_service(scenario, services, named)?;
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
            // Failures by chance are none that the seeded world is asked for here.
            fails: 0.0,
            handler,
            ..question.case.clone()
        },
        service,
    })
}

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
        Part {
            of,
            scenario: made,
            outage: None,
            setting: setting.clone(),
            rate,
        }
    };
    let calm = part(PartOf::Calm, case.rate, MESSAGES / case.rate, setting);
    let mut parts = vec![calm];
    if case.crashes_per_day > 0.0 {
        let lasts = MESSAGES / case.rate;
        let mut crashes = part(PartOf::Crashes, case.rate, lasts, setting);
        // One that is over before the next.
        let apart = (lasts / 50.0)
            .max(2.0 * case.restart_after)
            .max(case.handler.mean());
        let times = (1..)
            .map(|n| apart * f64::from(n))
            .take_while(|at| *at < lasts);
        crashes.scenario.events = times
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
    // A call that hangs is none that a service of the seeded world can be asked for.
    let outages = question.size.fails_after.map_or(&[][..], |_| &case.outages);
    for kind in outages {
        let smaller = (MESSAGES / (case.rate * kind.lasts)).min(1.0);
        let rate = case.rate * smaller;
        let before = (200.0 / rate).min(kind.lasts);
        let mut less = setting.clone();
        let consumer = &mut less.policy.consumer;
        let fewer = |count: u16| ((f64::from(count) * smaller).round() as u16).max(1);
        consumer.workers = fewer(consumer.workers);
        consumer.prefetch = fewer(consumer.prefetch).max(consumer.workers);
        let mut outage = part(
            PartOf::Outage(*kind),
            rate,
            before + 2.0 * kind.lasts,
            &less,
        );
        outage.outage = Some((before, before + kind.lasts));
        outage.scenario.events = vec![Event {
            kind: Kind::ServiceDown,
            at: nanos(Duration::from_secs_f64(before)),
            lasts: nanos(Duration::from_secs_f64(kind.lasts)),
            target: Some(Arc::from(to.service.as_str())),
            amount: 0,
        }];
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
    begun: bool,
    ended: bool,
    open: Vec<u64>,
    dropped: bool,
    crashed: Option<u64>,
}

/// What a history shows of a consumer, whose handlers have this limit.
pub fn measure(
    history: &History,
    consumer: &str,
    limit: Duration,
    outage: Option<(f64, f64)>,
) -> Measured {
    let mut measured = Measured::default();
    let mut committed: BTreeMap<&str, u64> = BTreeMap::new();
    let mut works: BTreeMap<Arc<str>, Work> = BTreeMap::new();
    // Of each run that goes on: the message, when it began, and in which process.
    let mut runs: BTreeMap<u64, (Arc<str>, u64, Arc<str>)> = BTreeMap::new();
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    let within = |at: u64| outage.is_some_and(|(from, until)| (from..until).contains(&seconds(at)));
    for entry in &history.entries {
        let at = entry.at;
        match &entry.what {
            What::Commit {
                on,
                effects,
                seen: crate::watch::history::Seen::Ok,
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
                ..
            } if &**of == consumer => measured.redelivered += 1,
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
                work.open.push(*run);
                measured.tries += 1;
                measured.tries_in_outage += u64::from(within(at));
                if let Some((from, until)) = outage {
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
    measured
}

/// A crash has interrupted it.
fn interrupted(work: Option<&mut Work>, at: u64) {
    if let Some(work) = work.filter(|work| !work.ended) {
        work.dropped = true;
        work.crashed.get_or_insert(at);
    }
}

/// The value that a share of others does not exceed.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share).ceil() as usize;
    values.get(at.clamp(1, values.len().max(1)) - 1).copied()
}

/// An estimate over runs, where each has a value.
pub fn over(runs: &[Measured], of: impl Fn(&Measured) -> Option<f64>) -> Option<Estimate> {
    let values: Vec<f64> = runs.iter().filter_map(of).collect();
    (values.len() > 1).then(|| Estimate::of(&values))
}
