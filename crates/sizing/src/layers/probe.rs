//! The runs that provoke conflicts.

use super::{Conflict, Counterexample, story};
use crate::case::Case;
use crate::latency::Latency;
use crate::model::{
    Arrivals, Draws, Interrupt, Interruption, Outage, Outcome, Queue, Scene, Setting, Step, Steps,
    Why, run_with_steps,
};
use crate::retention::longest_try;

/// Chance decides the ticks of a channel and the spread of waits, so some runs may miss what others show.
const SEEDS: u64 = 8;
/// Handler runs after which a run is given up: its retries do not end.
const ENDLESS: u64 = 2_000;
/// The worst moment for an interruption: so long after a handler has begun, in seconds.
const SOON: f64 = 0.1;

/// A run, and the harm that it looks for.
pub(super) struct Probe {
    conflict: Conflict,
    scene: Scene,
    handler: f64,
    /// Finds the message that is harmed.
    harm: Harm,
}

/// Finds the message that is harmed and the step that harms it, in what came of a run.
type Harm = Box<dyn Fn(&Outcome, &Steps) -> Option<(u32, usize)>>;

/// The first message is harmed if this is so of the whole run.
fn all_in_all(is: impl Fn(&Outcome) -> bool + 'static) -> Harm {
    Box::new(move |outcome, steps| is(outcome).then_some((0, steps.len())))
}

fn nanos(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9).min(u64::MAX as f64 / 4.0) as u64
}

/// From the first crash to the next try, in seconds.
pub fn taken_over_after(steps: &Steps) -> Option<f64> {
    let crashed = |it: &&(u64, Step)| matches!(it.1, Step::Crashed { .. });
    let crash = steps.iter().find(crashed)?.0;
    let begins = |it: &&(u64, Step)| it.0 > crash && matches!(it.1, Step::Began { .. });
    let next = steps.iter().find(begins)?.0;
    Some((next - crash) as f64 / 1e9)
}

/// The first step of which this is so, with its message.
fn first(steps: &Steps, is: impl Fn(&Step) -> bool) -> Option<(u32, usize)> {
    let at = steps.iter().position(|(_, step)| is(step))?;
    Some((steps[at].1.message()?, at))
}

impl Probe {
    /// The one for a conflict; none where the case cannot bring it about.
    pub(super) fn of(
        conflict: Conflict,
        case: &Case,
        setting: &Setting,
        key_lifetime: Option<f64>,
    ) -> Option<Self> {
        let consumer = &setting.policy.consumer;
        let retry = &setting.policy.retry;
        let limit = consumer.handler_limit.as_secs_f64();
        // The longest that a handler takes; distributions without an end are cut where 1 in 10,000 is left.
        let longest = case.handler.longest().min(case.handler.quantile(0.9999));
        let within = longest.min(limit);
        let made = |handler: f64, at: Vec<f64>, harm: Harm| -> Option<Self> {
            let messages = at.len() as u32;
            let at = at.into_iter().map(nanos).collect();
            let latency = Latency::fixed(handler).ok()?;
            Some(Self {
                conflict,
                scene: Scene {
                    restart_after: nanos(case.restart_after),
                    hop: nanos(case.hop),
                    ..Scene::calm(Arrivals::At(at), messages, latency)
                },
                handler,
                harm,
            })
        };
        let one = || vec![0.0];
        // As many at once as all processes take.
        let full = || {
            let all = setting.processes.max(1) * u32::from(consumer.prefetch.max(consumer.workers));
            vec![0.0; all as usize]
        };
        let fails = |mut probe: Self| {
            probe.scene.fails = 1.0;
            probe
        };
        let interrupted = |mut probe: Self, how: Interrupt| {
            probe.scene.interruptions = vec![Interruption {
                at: nanos(case.hop + SOON),
                process: 0,
                how,
            }];
            probe
        };
        let taken_back = |running: bool| -> Harm {
            Box::new(move |_, steps| {
                first(
                    steps,
                    |step| matches!(step, Step::TakenBack { running: it, .. } if *it == running),
                )
            })
        };
        let beside = || -> Harm {
            Box::new(|_, steps| {
                first(steps, |step| {
                    matches!(step, Step::Began { beside: true, .. })
                })
            })
        };
        match conflict {
            Conflict::LeaseShorterThanHandler => {
                made(within, one(), beside()).map(|it| interrupted(it, Interrupt::Disconnect))
            }
            Conflict::ConsumerTimeoutShorterThanHandler => {
                // At different times of the broker's tick.
                let tick = match setting.queue {
                    Queue::RabbitMq { tick } => tick as f64 / 1e9,
                    _ => 0.0,
                };
                let apart = within + 1.37 * tick + 7.0;
                let at = (0..12).map(|n| apart * f64::from(n)).collect();
                made(within, at, taken_back(true))
            }
            Conflict::ConsumerTimeoutShorterThanPrefetch => made(within, full(), taken_back(false)),
            Conflict::VisibilityShorterThanHandler => made(within, one(), beside()),
            Conflict::VisibilityShorterThanPrefetch => made(within, full(), taken_back(false)),
            Conflict::DrainShorterThanHandler => {
                let harm = all_in_all(|it| it.pickups.crash > 0);
                made(within, one(), harm).map(|it| interrupted(it, Interrupt::Deploy))
            }
            Conflict::HandlerLimitShorterThanHandler => {
                let harm: Harm = Box::new(|it, steps| {
                    let cut = |step: &Step| matches!(step, Step::Failed { cut_off: true, .. });
                    first(steps, cut).filter(|_| it.tries > 1)
                });
                made(longest, one(), harm)
            }
            Conflict::TakeoverLaterThanRecovery => {
                let most = case.targets.recovery;
                // A process that is away for so long is not taken over from, and a handler of that length
                // misses the target by itself.
                if case.restart_after >= most || within >= most {
                    return None;
                }
                let harm: Harm = Box::new(move |_, steps| {
                    let after = taken_over_after(steps)?;
                    (after > most).then_some((0, steps.len()))
                });
                made(within, one(), harm).map(|it| interrupted(it, Interrupt::Crash))
            }
            Conflict::RetriesShorterThanOutage => {
                let outages = case.outages.iter().flat_map(|kind| {
                    let then = kind.then.iter().map(|it| it.1);
                    std::iter::once(kind.lasts).chain(then)
                });
                let lasts = outages.fold(0.0, f64::max);
                if lasts == 0.0 {
                    return None;
                }
                let ends = nanos(lasts + SOON);
                let harm: Harm = Box::new(move |_, steps| {
                    let early = |it: &(u64, Step)| it.0 < ends && matches!(it.1, Step::Dead { .. });
                    steps.iter().position(early).map(|at| (0, at))
                });
                let mut probe = made(within.min(SOON), vec![2.0 * SOON], harm)?;
                probe.scene.outages = vec![Outage {
                    at: nanos(SOON),
                    lasts: nanos(lasts),
                    fails_after: case.fails_after.map(nanos),
                }];
                Some(probe)
            }
            Conflict::TotalEndsBeforeAttempts => {
                let all = retry.attempts;
                let harm: Harm = Box::new(move |_, steps| {
                    first(steps, |step| {
                        matches!(step, Step::Dead { why: Why::Total, attempts, .. }
                            if *attempts < all)
                    })
                });
                // Handlers that fail at once: the waits alone are longer than the total time.
                made(SOON.min(within), one(), harm).map(fails)
            }
            Conflict::DeliveryLimitBelowAttempts => {
                let all = retry.attempts;
                let harm: Harm = Box::new(move |_, steps| {
                    first(steps, |step| {
                        matches!(step, Step::Dead { why: Why::DeliveryLimit, attempts, .. }
                            if *attempts < all)
                    })
                });
                made(SOON.min(within), one(), harm).map(fails)
            }
            Conflict::CrashesCountForPrefetched => {
                let harm: Harm = Box::new(|_, steps| {
                    first(steps, |step| matches!(step, Step::Dead { attempts: 0, .. }))
                });
                // As many killers as there are workers, so that those behind them wait in hand.
                let probe = made(within, full(), harm);
                let workers = setting.processes.max(1) * u32::from(consumer.workers);
                probe.map(|mut probe| {
                    let after = nanos((within / 2.0).min(SOON));
                    probe.scene.killers = (0..workers).map(|it| (it, after)).collect();
                    probe
                })
            }
            Conflict::NackIsNotCounted => {
                let harm = all_in_all(|it| it.begun > ENDLESS);
                made(SOON.min(within), one(), harm).map(fails)
            }
            Conflict::FailuresAreNotDelayed => {
                let harm: Harm = Box::new(|it, steps| {
                    let waits = |(_, step): &(u64, Step)| matches!(step, Step::Waits { .. });
                    let again = it.tries > 1 && !steps.iter().any(waits);
                    again.then_some((0, steps.len()))
                });
                made(SOON.min(within), one(), harm).map(fails)
            }
            Conflict::NoDeadLetterExchange => {
                let harm = all_in_all(|it| it.dropped > 0);
                made(SOON.min(within), one(), harm).map(fails)
            }
            Conflict::DedupWindowShorterThanRedrive => {
                let harm = all_in_all(|it| it.forgotten > 0);
                let late = longest_try(setting) + setting.policy.redrive_horizon.as_secs_f64();
                made(within, one(), harm).map(|mut probe| {
                    probe.scene.late_copies = vec![(nanos(late), 0)];
                    probe
                })
            }
            Conflict::KeyLifetimeShorterThanRetries => {
                let lifetime = key_lifetime?;
                let harm = all_in_all(|it| it.acted_again > 0);
                let horizon = setting.policy.redrive_horizon.as_secs_f64();
                let late = longest_try(setting) + horizon;
                made(within, one(), harm).map(fails).map(|mut probe| {
                    probe.scene.in_doubt = true;
                    probe.scene.key_lifetime = Some(nanos(lifetime));
                    probe.scene.late_copies = vec![(nanos(late), 0)];
                    probe
                })
            }
            Conflict::RetentionShorterThanRetries => {
                let harm = all_in_all(|it| it.expired > 0);
                made(SOON.min(within), one(), harm).map(fails)
            }
        }
    }

    /// Runs it until one run shows the harm.
    pub(super) fn run(&self, setting: &Setting) -> Option<Counterexample> {
        (0..SEEDS).find_map(|seed| {
            let draws = Draws::new(&self.scene, seed);
            let (outcome, steps) = run_with_steps(&self.scene, setting, &draws, |so_far| {
                so_far.begun > ENDLESS
            });
            let (message, at) = (self.harm)(&outcome, &steps)?;
            Some(Counterexample {
                conflict: self.conflict,
                message,
                steps: story(&steps, message, at),
                handler: self.handler,
            })
        })
    }
}
