//! What is to be expected of a setting.
//!
//! Outages and crashes are rare: a run long enough to meet some of them by chance would be mostly calm.
//! So they are looked at apart. A calm part gives waits, times and what timeouts do; a part with a crash
//! each few minutes gives what one crash does; one part for each length of outage gives what that does.
//! Together they are weighed by how often each comes in a day.

use std::sync::OnceLock;
use std::time::Duration;

use rayon::prelude::*;

use crate::case::{Case, OutageKind, Shape, Target};
use crate::interval::{Estimate, nearest_rank};
use crate::model::{
    Arrivals, Dependency, Draws, Interrupt, Interruption, Outage, Outcome, Scene, Setting, run,
};
use crate::outages::{Never, never_drains};

/// Seconds of a day.
const DAY: f64 = 86_400.0;
/// Independent runs of each part.
const RUNS: u64 = 8;
/// Those of a rough look.
const FEW: usize = 2;
/// From the seed of some runs to that of others.
const OTHERS: u64 = 1_000_003;
/// The fewest messages of a run.
const FEWEST: u32 = 500;
/// An outage of more messages is looked at in a smaller system: of messages, workers and what the
/// dependency can take, the same part each.
const MOST: f64 = 40_000.0;
/// So many seconds after an outage are looked at, or twice its length where that is longer.
pub(crate) const AFTER: f64 = 1_200.0;

/// What one outage does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InOutage {
    /// Of the messages that arrive in it, those that end in the dead letters.
    pub dead: Estimate,
    /// Tries of each message that arrives in it.
    pub tries: Estimate,
    /// Calls of the dependency of each message that arrives in it.
    pub calls: Estimate,
    /// Calls in the busiest tenth of it, or of as long after it, as a multiple of the messages that
    /// arrive in that time.
    pub busiest: Estimate,
    /// Seconds from its end until no more is open than before it; none where the backlog stays.
    pub drained: Option<Estimate>,
}

/// What is to be expected of a setting, each as a mean with its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// Of all messages, those that a timeout of the queue takes back from a live handler.
    pub taken_back: Estimate,
    /// Of all messages, those whose handler is cut off at its limit and runs again.
    pub cut_off: Estimate,
    /// Of all messages, those whose handler begins beside one that still runs.
    pub beside: Estimate,
    /// Of all messages, those whose handler died with its process and runs again.
    pub crashed: Estimate,
    /// Of all messages, those that end in the dead letters though their failure would have passed.
    pub dead: Estimate,
    /// The mean wait for a worker, in seconds.
    pub wait: Estimate,
    /// From arrival to the effect, in seconds: for half, 95 and 99 of 100, and for the share that the
    /// targets ask about.
    pub times: [Estimate; 4],
    /// From a crash to the end of what it interrupted, in seconds, for 95 of 100; none where nothing is
    /// interrupted.
    pub recovery: Option<Estimate>,
    /// Calls in the busiest tenth of an outage, or of as long after it, as a multiple of the messages that
    /// arrive in that time; 1 without outages.
    pub amplification: Estimate,
    /// Each kind of outage, in the order of the case.
    pub outages: Vec<InOutage>,
    /// The share of their time in which workers are in handlers.
    pub busy: Estimate,
    /// Messages that were looked at.
    pub messages: u64,
}

impl Expected {
    /// What a target looks at.
    pub fn of(&self, target: Target) -> Estimate {
        match target {
            Target::Duplicates => self.duplicates(),
            Target::DeadLetters => self.dead,
            Target::Recovery => self.recovery.unwrap_or(NOTHING),
            Target::Amplification => self.amplification,
            Target::Latency => self.times[3],
        }
    }

    /// Of all messages, those whose handler runs again though an earlier run may have acted.
    pub fn duplicates(&self) -> Estimate {
        let parts = [self.cut_off, self.beside, self.crashed];
        sum(&parts.map(|part| (part, 1.0)))
    }

    /// Of all messages, those that the queue hands out again without a retry: taken back by a timeout, or
    /// interrupted by a crash.
    pub fn redelivered(&self) -> Estimate {
        sum(&[(self.taken_back, 1.0), (self.crashed, 1.0)])
    }

    /// The targets that are not met.
    pub fn broken(&self, case: &Case) -> Vec<Target> {
        let targets = Target::ALL.into_iter();
        let broken = targets.filter(|target| self.of(*target).mean > case.targets.most(*target));
        broken.collect()
    }
}

const NOTHING: Estimate = Estimate {
    mean: 0.0,
    half: 0.0,
};

/// A share: rare things that come often add up to more than all.
fn at_most_all(share: Estimate) -> Estimate {
    Estimate {
        mean: share.mean.min(1.0),
        ..share
    }
}

/// A weighted sum of independent figures.
fn sum(parts: &[(Estimate, f64)]) -> Estimate {
    let squares: f64 = parts
        .iter()
        .map(|(part, weight)| (part.half * weight).powi(2))
        .sum();
    Estimate {
        mean: parts.iter().map(|(part, weight)| part.mean * weight).sum(),
        half: squares.sqrt(),
    }
}

fn nanos(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds.max(0.0)).map_or(u64::MAX, |it| {
        u64::try_from(it.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// The chance of all parts of a case: made once, and used for every setting, so that what differs
/// between two settings is no chance.
#[derive(Debug)]
pub struct Chances {
    processes: u32,
    messages: u32,
    seed: u64,
    more: OnceLock<Box<Chances>>,
    calm: (Scene, Vec<Draws>),
    crashes: Option<(Scene, Vec<Draws>)>,
    outages: Vec<Part>,
}

/// One kind of outage.
#[derive(Debug)]
struct Part {
    kind: OutageKind,
    scene: Scene,
    draws: Vec<Draws>,
    /// The system is this much smaller.
    smaller: f64,
}

impl Chances {
    /// For a case and the processes that it has, with so many messages in all, from a seed on.
    pub fn new(case: &Case, processes: u32, messages: u32, seed: u64) -> Self {
        // Time enough for some crashes, whatever the rate is.
        let enough = (8.0 * between_crashes(case) * case.rate).min(30_000.0) as u32;
        let of_crashes = (messages / 5 / RUNS as u32).max(FEWEST).max(enough);
        let mut calm = calm(case, of_crashes);
        let draws = |scene: &Scene, part: u64| -> Vec<Draws> {
            let seeds = (0..RUNS).map(|run| seed.wrapping_add(part * RUNS + run));
            seeds.map(|seed| Draws::new(scene, seed)).collect()
        };
        let dies = case.crashes_per_day > 0.0 || case.deploys_per_day > 0.0;
        let crashes = dies.then(|| {
            let scene = Scene {
                interruptions: crashes(case, processes, of_crashes),
                ..calm.clone()
            };
            let draws = draws(&scene, 1);
            (scene, draws)
        });
        let outages = case.outages.iter().enumerate().map(|(at, kind)| {
            let (scene, smaller) = outage(case, kind, &calm);
            let draws = draws(&scene, 2 + at as u64);
            Part {
                kind: kind.clone(),
                scene,
                draws,
                smaller,
            }
        });
        let outages: Vec<Part> = outages.collect();
        // The calm part has what the others leave, and its warm-up beside that.
        let rare = outages.iter().map(|it| it.scene.messages).sum::<u32>() + of_crashes;
        let left = (messages / RUNS as u32)
            .saturating_sub(rare)
            .max(of_crashes);
        calm.warm_up = left / 10;
        calm.messages = left + calm.warm_up + of_crashes / 10;
        let calm_draws = draws(&calm, 0);
        Self {
            processes,
            messages,
            seed,
            more: OnceLock::new(),
            calm: (calm, calm_draws),
            crashes,
            outages,
        }
    }

    /// As many others, for a choice that these leave open.
    pub fn more(&self, case: &Case) -> &Self {
        let others = self.seed.wrapping_add(OTHERS);
        let make = || Box::new(Self::new(case, self.processes, self.messages, others));
        self.more.get_or_init(make)
    }

    /// What is to be expected of a setting.
    pub fn evaluate(&self, case: &Case, setting: &Setting) -> Expected {
        self.of_runs(case, setting, RUNS as usize)
    }

    /// The same, of a few of the runs: enough to leave out what is hopeless.
    pub fn evaluate_roughly(&self, case: &Case, setting: &Setting) -> Expected {
        self.of_runs(case, setting, FEW)
    }

    fn of_runs(&self, case: &Case, setting: &Setting, runs: usize) -> Expected {
        let calm: Vec<Outcome> = made(&self.calm.0, &self.calm.1[..runs], setting);
        let share = |count: fn(&Outcome) -> u64| -> Estimate {
            let counts = calm.iter().map(|it| (count(it), it.messages));
            Estimate::of_share(&counts.collect::<Vec<_>>())
        };
        let time = |quantile: f64| -> Estimate {
            let values = calm
                .iter()
                .map(|it| it.quantile(quantile).unwrap_or(f64::INFINITY));
            Estimate::of(&values.collect::<Vec<_>>())
        };
        let waits: Vec<f64> = calm.iter().map(Outcome::mean_wait).collect();
        let workers = f64::from(setting.processes) * f64::from(setting.policy.consumer.workers);
        let busy: Vec<f64> = calm
            .iter()
            .map(|it| it.busy / it.lasted.max(1e-9) / workers)
            .collect();
        let a_day = case.rate * DAY;
        let crashed = self.crashed(case, setting, runs);
        let calm_dead = share(|it| it.dead);
        let outages: Vec<_> = self
            .outages
            .iter()
            .map(|part| part.evaluate(case, setting, runs, calm_dead.mean))
            .collect();
        let dead_by_outages = outages.iter().map(|it| (it.dead, it.per_day / a_day));
        let dead: Vec<_> = dead_by_outages.chain([(calm_dead, 1.0)]).collect();
        let first = Estimate {
            mean: 1.0,
            half: 0.0,
        };
        let amplification = outages
            .iter()
            .map(|it| it.seen.busiest)
            .fold(first, |most, peak| match peak.mean > most.mean {
                true => peak,
                false => most,
            });
        let looked_at = |runs: &[Outcome]| runs.iter().map(|it| it.messages).sum::<u64>();
        Expected {
            taken_back: share(|it| it.taken_back),
            cut_off: share(|it| it.cut_off),
            beside: share(|it| it.pickups.lease_over + it.pickups.visibility),
            crashed: at_most_all(crashed.as_ref().map_or(NOTHING, |it| it.share)),
            dead: at_most_all(sum(&dead)),
            wait: Estimate::of(&waits),
            times: [0.5, 0.95, 0.99, case.targets.quantile].map(time),
            recovery: crashed.as_ref().and_then(|it| it.recovery),
            amplification,
            outages: outages.iter().map(|it| it.seen).collect(),
            busy: Estimate::of(&busy),
            messages: looked_at(&calm)
                + crashed.map_or(0, |it| it.messages)
                + outages.iter().map(|it| it.messages).sum::<u64>(),
        }
    }

    fn crashed(&self, case: &Case, setting: &Setting, runs: usize) -> Option<Crashed> {
        let (scene, draws) = self.crashes.as_ref()?;
        let runs = made(scene, &draws[..runs], setting);
        let happened = scene.interruptions.len() as f64;
        if happened == 0.0 {
            return None;
        }
        let hit: Vec<f64> = runs
            .iter()
            .map(|it| it.pickups.crash as f64 / happened)
            .collect();
        // A deploy replaces each process once, and interrupts what does not end within the drain: at
        // most what a crash does. Here it is counted by what its drain leaves.
        let processes = f64::from(setting.processes);
        let drain = setting.policy.consumer.drain.as_secs_f64();
        let left = case.handler.mean() - case.handler.limited_mean(drain);
        let deploys = case.deploys_per_day * left / case.handler.mean().max(1e-9);
        let a_day = (case.crashes_per_day + deploys) * processes;
        let weight = a_day / (case.rate * DAY);
        let recovery: Vec<f64> = runs
            .iter()
            .filter_map(|it| nearest_rank(&mut it.recovered.clone(), 0.95, u64::cmp))
            .map(|nanos| nanos as f64 / 1e9)
            .collect();
        Some(Crashed {
            share: sum(&[(Estimate::of(&hit), weight)]),
            recovery: (recovery.len() > 1).then(|| Estimate::of(&recovery)),
            messages: runs.iter().map(|it| it.messages).sum(),
        })
    }
}

/// What a crash does.
struct Crashed {
    share: Estimate,
    recovery: Option<Estimate>,
    messages: u64,
}

fn made(scene: &Scene, draws: &[Draws], setting: &Setting) -> Vec<Outcome> {
    let draws = draws.par_iter();
    draws
        .map(|draws| run(scene, setting, draws, |it| is_hopeless(scene, it)))
        .collect()
}

/// Whether handlers run so often that nothing more can be learned: retries without a wait or an end.
fn is_hopeless(scene: &Scene, outcome: &Outcome) -> bool {
    outcome.begun > 100 * u64::from(scene.messages)
}

/// Seconds from one crash to the next at least: the process is there again, and works.
fn between_crashes(case: &Case) -> f64 {
    // Two crashes may come nearer to each other by half of this.
    let there = (4.0 * case.restart_after).max(1e-3);
    there.max(case.handler.mean())
}

/// When processes die in a run of so many seconds, rising: far enough from each other that a process is
/// there again, and near enough that there are some. Not at equal distances: what waits for a rung of the
/// ladder would come back with the next crash, again and again.
pub fn crash_times(case: &Case, lasts: f64) -> impl Iterator<Item = f64> + use<> {
    let apart = (lasts / 50.0).max(between_crashes(case));
    let spread = |n: f64| 0.5 * (n * GOLDEN).fract();
    (1..)
        .map(move |n| apart * (f64::from(n) + spread(f64::from(n))))
        .take_while(move |at| *at < lasts)
}

/// Multiples of it are spread evenly, and none meets another.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// A crash for each process in turn, as many as there is time for.
fn crashes(case: &Case, processes: u32, messages: u32) -> Vec<Interruption> {
    let times = crash_times(case, f64::from(messages) / case.rate);
    let crashes = times.enumerate().map(|(n, at)| Interruption {
        at: nanos(at),
        process: n as u32 % processes.max(1),
        how: Interrupt::Crash,
    });
    crashes.collect()
}

/// Arrivals of a case, at this rate.
fn arrivals(case: &Case, rate: f64) -> Arrivals {
    match &case.arrivals {
        Shape::Poisson => Arrivals::Poisson(rate),
        Shape::Constant => Arrivals::Constant(rate),
        Shape::Cycle(parts) => Arrivals::Cycle(rate, parts.clone()),
    }
}

/// A run without crashes and outages.
fn calm(case: &Case, messages: u32) -> Scene {
    Scene {
        warm_up: messages / 10,
        fails: case.fails,
        restart_after: nanos(case.restart_after),
        dependency: case.dependency,
        hop: nanos(case.hop),
        calls: case.calls,
        ..Scene::calm(arrivals(case, case.rate), messages, case.handler.clone())
    }
}

/// What one outage does, by itself.
pub fn in_outage(case: &Case, kind: &OutageKind, setting: &Setting, seed: u64) -> InOutage {
    let (scene, smaller) = outage(case, kind, &calm(case, FEWEST));
    let seeds = (0..RUNS).map(|run| seed.wrapping_add(run));
    let part = Part {
        kind: kind.clone(),
        draws: seeds.map(|seed| Draws::new(&scene, seed)).collect(),
        scene,
        smaller,
    };
    part.evaluate(case, setting, RUNS as usize, 0.0).seen
}

/// A run with one outage in it, or several close to each other, and how much smaller its system is.
fn outage(case: &Case, kind: &OutageKind, calm: &Scene) -> (Scene, f64) {
    let whole = kind.whole();
    let after = (2.0 * whole).max(AFTER);
    // Time to become as busy as usual: handlers of days need not be waited for.
    let busy = (20.0 * case.handler.mean()).min(whole + after);
    let before = (f64::from(FEWEST) / case.rate).max(busy);
    // The outage, and time for what it has left behind.
    let lasts = before + whole + after;
    let smaller = (MOST / (case.rate * lasts)).min(1.0);
    let rate = case.rate * smaller;
    let outages = kind.times(before).into_iter();
    let outages = outages.map(|(from, until)| Outage {
        at: nanos(from),
        lasts: nanos(until - from),
        fails_after: case.fails_after.map(nanos),
    });
    let scene = Scene {
        arrivals: arrivals(case, rate),
        messages: ((lasts * rate).ceil() as u32).max(FEWEST),
        warm_up: 0,
        outages: outages.collect(),
        dependency: match case.dependency {
            Dependency::Rate(all) => Dependency::Rate(all * smaller),
            other => other,
        },
        ..calm.clone()
    };
    (scene, smaller)
}

/// What an outage does.
struct Lost {
    /// Messages that end in the dead letters, in each such outage.
    dead: Estimate,
    per_day: f64,
    seen: InOutage,
    messages: u64,
}

/// Calls in the busiest tenth of an outage, or in one after it, as a multiple of the messages that
/// usually arrive in that time. Which one that is, all runs say together: of one alone, chance would.
/// Where less than one message arrives in that time, it is a multiple of one.
fn busiest(runs: &[Outcome], usual: f64) -> Estimate {
    let usual = usual.max(1.0);
    let parts = runs
        .iter()
        .map(|it| it.calls_by_part.len())
        .max()
        .unwrap_or(0);
    let of = |part: usize| -> Estimate {
        let tries = runs.iter().filter_map(|it| it.calls_by_part.get(part));
        Estimate::of(&tries.map(|tries| *tries as f64 / usual).collect::<Vec<_>>())
    };
    let all = (0..parts).map(of);
    all.max_by(|a, b| a.mean.total_cmp(&b.mean))
        .unwrap_or(NOTHING)
}

impl Part {
    /// `calm` is the share of messages that are dead without an outage.
    fn evaluate(&self, case: &Case, setting: &Setting, runs: usize, calm: f64) -> Lost {
        // A backlog that grows without an outage is none of an outage.
        let grows = matches!(
            never_drains(case, setting, 1.0),
            Some(Never::Workers | Never::Dependency)
        );
        let mut setting = setting.clone();
        let consumer = &mut setting.policy.consumer;
        let fewer = |count: u16| ((f64::from(count) * self.smaller).round() as u16).max(1);
        consumer.workers = fewer(consumer.workers);
        consumer.prefetch = fewer(consumer.prefetch).max(consumer.workers);
        let runs = made(&self.scene, &self.draws[..runs], &setting);
        let of = |value: &dyn Fn(&Outcome) -> f64| -> Estimate {
            Estimate::of(&runs.iter().map(value).collect::<Vec<_>>())
        };
        let rate = case.rate * self.smaller;
        // What fails by chance or by the handler's limit alone is counted by the calm part.
        let cut_off = case
            .handler
            .survival(setting.policy.consumer.handler_limit.as_secs_f64());
        let fails = case.fails + (1.0 - case.fails) * cut_off;
        let alone = fails.powf(f64::from(setting.policy.retry.attempts));
        let by_chance = |it: &Outcome| alone.max(calm) * it.messages as f64;
        let drained: Vec<f64> = runs
            .iter()
            .filter_map(|it| it.drained.last()?.map(|it| it as f64 / 1e9))
            .collect();
        let dead = |it: &Outcome| (it.dead as f64 - by_chance(it)).max(0.0);
        let arrivals = |it: &Outcome| it.arrivals_in_outages.max(1) as f64;
        Lost {
            dead: of(&|it| dead(it) / self.smaller),
            per_day: self.kind.per_day,
            seen: InOutage {
                dead: of(&|it| it.dead_of_outages as f64 / arrivals(it)),
                tries: of(&|it| it.tries_in_outages as f64 / arrivals(it)),
                calls: of(&|it| it.calls_in_outages as f64 / arrivals(it)),
                busiest: busiest(&runs, rate * self.kind.lasts / 10.0),
                drained: (drained.len() == runs.len() && !grows).then(|| Estimate::of(&drained)),
            },
            messages: runs.iter().map(|it| it.messages).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Targets;
    use crate::latency::Latency;
    use crate::model::{Backoff, Queue};
    use redeliver_core::policy::Policy;

    fn case(rate: f64, handler: f64) -> Case {
        Case {
            rate,
            arrivals: Shape::Poisson,
            handler: Latency::fixed(handler).unwrap(),
            fails: 0.001,
            outages: vec![OutageKind::single(60.0, 1.0)],
            fails_after: Some(0.05),
            crashes_per_day: 1.0,
            deploys_per_day: 1.0,
            restart_after: 2.0,
            dependency: Dependency::Unlimited,
            hop: 0.0,
            calls: 1,
            targets: Targets {
                duplicates: 0.001,
                dead_letters: 0.001,
                recovery: 300.0,
                amplification: 10.0,
                quantile: 0.95,
                within: 30.0,
            },
        }
    }

    fn setting() -> Setting {
        Setting {
            processes: 2,
            policy: Policy::default(),
            queue: Queue::RabbitMq {
                tick: 60_000_000_000,
            },
            backoff: Backoff::Ladder,
            budget: None,
        }
    }

    #[test]
    fn what_is_rare_is_weighed_by_how_often_it_comes() {
        let case = Case {
            fails: 0.0,
            outages: vec![
                OutageKind::single(300.0, 0.1),
                OutageKind {
                    then: vec![(100.0, 200.0)],
                    ..OutageKind::single(100.0, 0.5)
                },
            ],
            ..case(1.0, 0.5)
        };
        let chances = Chances::new(&case, 2, 20_000, 1);
        // A crash of each process a day, which interrupts its share of what is in hand: half a message in
        // both together. A deploy interrupts nothing that ends within its drain.
        let usual = chances.evaluate(&case, &setting());
        let crashed = 0.5 / 86_400.0;
        let off = (usual.crashed.mean / crashed - 1.0).abs();
        assert!(off < 0.3, "{:?} {crashed}", usual.crashed);
        let mut setting = setting();
        // What fails once is dead: all messages of an outage, and no others.
        setting.policy.retry.attempts = 1;
        let expected = chances.evaluate(&case, &setting);
        let share = (300.0 * 0.1 + (100.0 + 200.0) * 0.5) / 86_400.0;
        let off = (expected.dead.mean / share - 1.0).abs();
        assert!(off < 0.05, "{:?} {share}", expected.dead);
    }

    #[test]
    fn handlers_without_a_bound_need_no_memory_without_a_bound() {
        let case = Case {
            handler: Latency::log_normal(1.0, 86_400.0).unwrap(),
            outages: vec![OutageKind::single(300.0, 0.1)],
            ..case(1.0, 1.0)
        };
        let calm = calm(&case, FEWEST);
        let (scene, _) = outage(&case, &case.outages[0], &calm);
        assert!(
            f64::from(scene.messages) <= MOST + 1.0,
            "{}",
            scene.messages
        );
    }

    #[test]
    fn shares_are_no_more_than_all_and_a_growing_backlog_is_not_gone() {
        let case = Case {
            crashes_per_day: 86_400.0,
            ..case(1.0, 30.0)
        };
        let mut setting = setting();
        setting.policy.consumer.handler_limit = Duration::from_secs(60);
        setting.policy.consumer.workers = 4;
        // 30 workers are needed, and there are 8.
        let expected = Chances::new(&case, 2, 20_000, 1).evaluate(&case, &setting);
        assert!(expected.crashed.mean <= 1.0 && expected.dead.mean <= 1.0);
        assert!(
            expected.outages[0].dead.mean <= 1.0,
            "{:?}",
            expected.outages
        );
        assert_eq!(expected.outages[0].drained, None);
    }

    /// Rates and handlers from one end to the other: every figure is a number.
    #[test]
    fn figures_are_numbers_at_every_rate() {
        for rate in [0.001, 1.0, 10_000.0] {
            for handler in [0.0, 0.001, 3_600.0] {
                let (case, setting) = (case(rate, handler), setting());
                let chances = Chances::new(&case, 2, 4_000, 1);
                let expected = chances.evaluate(&case, &setting);
                for target in Target::ALL {
                    let mean = expected.of(target).mean;
                    // Only of messages of which none is done there is no time.
                    let none = target == Target::Latency && handler > 20.0;
                    assert!(
                        mean.is_finite() || none,
                        "{target:?} at {rate}/s, {handler} s: {mean}"
                    );
                }
                for share in [expected.dead, expected.duplicates()] {
                    let most = f64::from(setting.policy.retry.attempts);
                    assert!(
                        (0.0..=most + 0.1).contains(&share.mean),
                        "{rate}/s, {handler} s: {share:?}"
                    );
                }
                assert!(
                    expected.dead.mean <= 1.01,
                    "{rate}/s, {handler} s: {:?}",
                    expected.dead
                );
            }
        }
    }
}
