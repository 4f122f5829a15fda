//! The search for numbers that meet the targets.
//!
//! One number after the other takes the value that costs least, the others held, until none changes any
//! more. A value that contradicts another is repaired where the other only has to follow (a lease that
//! must outlast a longer handler), and left out otherwise. Then each number is varied alone, to find how
//! far it may go, and what ends that.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rayon::prelude::*;

use crate::case::{Case, Target};
use crate::evaluate::{Chances, Expected};
use crate::model::{Queue, Setting};
use crate::number::{Number, Value};
use redeliver_core::policy::Check;

/// What is weighed against what, once all targets are met: each is the weight of a target's value, as a
/// part of what the target allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of each target, in the order of [`Target::ALL`].
    pub targets: [f64; 5],
    /// Of a worker, as a part of those that are busy on average.
    pub workers: f64,
    /// Of the first wait before a retry, as a part of the time in which messages have to end.
    pub retries: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            targets: [1.0; 5],
            workers: 0.2,
            retries: 0.2,
        }
    }
}

/// Why a value is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A target is not met any more.
    Target(Target),
    /// It contradicts another number.
    Check(Check),
    /// A managed queue would show a message again while its handler may still run.
    VisibilityShorterThanHandler,
}

impl Bound {
    /// Its name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Target(target) => target.as_str(),
            Self::Check(check) => check.as_str(),
            Self::VisibilityShorterThanHandler => "visibility-shorter-than-handler",
        }
    }
}

/// One number, sized.
#[derive(Clone, Debug, PartialEq)]
pub struct Sized {
    /// Which.
    pub number: Number,
    /// Its value now.
    pub present: Value,
    /// The value to be given to it.
    pub recommended: Value,
    /// The lowest value that still meets all targets, the others as recommended.
    pub lowest: Value,
    /// The highest.
    pub highest: Value,
    /// The next lower value, and why it is not possible; none where no lower one is looked at.
    pub below: Option<(Value, Bound)>,
    /// The next higher value.
    pub above: Option<(Value, Bound)>,
    /// A fifth less, and a fifth more: the value, and what is to be expected, or why it is not possible.
    pub neighbours: Vec<(Value, Result<Expected, Bound>)>,
    /// It was given, and not chosen.
    pub fixed: bool,
}

/// What the search has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// All numbers together.
    pub recommended: Setting,
    /// What is to be expected of them.
    pub expected: Expected,
    /// What is to be expected of the present ones.
    pub present: Expected,
    /// Each by itself; none where the search was stopped.
    pub numbers: Vec<Sized>,
    /// Targets that cannot be met, with the nearest that can be had.
    pub impossible: Vec<(Target, f64)>,
    /// How many settings were looked at.
    pub settings: usize,
}

/// A handler's limit is this much longer than the times for which it is made: a value at the edge is left
/// for one that is not, where targets allow it.
const HEADROOM: f64 = 1.1;

/// Values of a curve are this many times smaller or larger than its middle at most.
const FAR: f64 = 12.0;

/// So often all numbers are gone through at most.
const ROUNDS: u32 = 6;

/// A search.
pub struct Search<'a> {
    case: &'a Case,
    chances: &'a Chances,
    weights: Weights,
    fixed: &'a [Number],
    stop: Option<&'a AtomicBool>,
    known: Mutex<BTreeMap<Vec<u64>, Expected>>,
}

impl std::fmt::Debug for Search<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Search")
            .field("case", self.case)
            .finish_non_exhaustive()
    }
}

impl<'a> Search<'a> {
    /// Of a case. Numbers that are fixed keep their values.
    pub fn new(
        case: &'a Case,
        chances: &'a Chances,
        weights: Weights,
        fixed: &'a [Number],
    ) -> Self {
        Self {
            case,
            chances,
            weights,
            fixed,
            stop: None,
            known: Mutex::default(),
        }
    }

    /// Ends early, with what it knows by then, once this is set.
    #[must_use]
    pub fn until(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// What is to be expected of a setting.
    pub fn expected(&self, setting: &Setting) -> Expected {
        let numbers = Number::of(setting.queue).into_iter();
        let key: Vec<u64> = numbers
            .map(|it| it.get(setting).map_or(u64::MAX, f64::to_bits))
            .collect();
        let lock = || {
            self.known
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        };
        if let Some(known) = lock().get(&key) {
            return known.clone();
        }
        let expected = self.chances.evaluate(self.case, setting);
        lock().insert(key, expected.clone());
        expected
    }

    /// Why a setting contradicts itself.
    fn contradiction(&self, setting: &Setting) -> Option<Bound> {
        let managed = match setting.queue {
            Queue::Managed {
                visibility,
                extend_every,
                ..
            } => {
                let limit = setting.policy.consumer.handler_limit;
                let visible = Duration::from_nanos(visibility);
                if extend_every.is_none() && visible < limit + limit / 10 {
                    return Some(Bound::VisibilityShorterThanHandler);
                }
                true
            }
            Queue::RabbitMq { .. } => false,
        };
        let found = setting
            .policy
            .contradictions()
            .into_iter()
            .map(|it| it.check);
        let mut found = found.filter(|check| match check {
            Check::LeaseShorterThanHandler
            | Check::RenewalTooRare
            | Check::ConsumerTimeoutTooShort
            | Check::PrefetchTooDeep
            | Check::DelayBeyondLadder => !managed,
            Check::PrefetchBelowWorkers | Check::RetryUnbounded | Check::Zero => true,
            // The window follows from the others, and the relay has numbers of its own.
            Check::DedupWindowTooShort | Check::RelayLeaseTooShort => false,
        });
        found.next().map(Bound::Check)
    }

    /// Changes what only has to follow a number.
    fn repair(&self, number: Number, setting: &mut Setting) {
        let free = |other: Number| !self.fixed.contains(&other) && other != number;
        let consumer = &setting.policy.consumer;
        let margin = consumer.handler_limit.as_secs_f64() * 1.1;
        let turns = f64::from(consumer.prefetch).max(1.0) / f64::from(consumer.workers.max(1));
        let in_hand = consumer.handler_limit.as_secs_f64() * turns.ceil();
        if consumer.prefetch < consumer.workers {
            match number {
                Number::Prefetch if free(Number::Workers) => {
                    let prefetch = Number::Prefetch.get(setting);
                    Number::Workers.set(setting, prefetch);
                }
                _ if free(Number::Prefetch) => {
                    let workers = Number::Workers.get(setting);
                    Number::Prefetch.set(setting, workers);
                }
                _ => {}
            }
        }
        let renewed = setting.policy.consumer.renew_every.is_some();
        if free(Number::Lease) && !renewed {
            raise(Number::Lease, setting, margin);
        }
        if free(Number::Visibility) {
            raise(Number::Visibility, setting, margin);
        }
        if free(Number::ConsumerTimeout) && setting.policy.consumer_timeout.is_some() {
            raise(Number::ConsumerTimeout, setting, margin.max(in_hand));
        }
        if let Some(every) = setting.policy.consumer.renew_every {
            let least = every.as_secs_f64() * 3.0;
            if free(Number::Lease) && number == Number::RenewEvery {
                raise(Number::Lease, setting, least);
            }
        }
        let first = setting.policy.retry.first.as_secs_f64();
        if free(Number::Cap) {
            raise(Number::Cap, setting, first);
        }
        if free(Number::Total) {
            raise(Number::Total, setting, first);
        }
    }

    fn cost(&self, setting: &Setting, expected: &Expected) -> f64 {
        let parts = Target::ALL.iter().zip(self.weights.targets);
        let targets: f64 = parts
            .map(|(target, weight)| {
                let most = self.case.targets.most(*target);
                let of_most = match most > 0.0 {
                    true => expected.of(*target).mean / most,
                    false => expected.of(*target).mean * 1e9,
                };
                // What is not met outweighs everything else, and is the better the nearer it is.
                let missed = match of_most > 1.0 {
                    true => 1_000.0 + 100.0 * of_most.min(1e6).ln(),
                    false => 0.0,
                };
                missed + weight * of_most.min(1.0)
            })
            .sum();
        let workers = f64::from(setting.processes) * f64::from(setting.policy.consumer.workers);
        let busy = (self.case.rate * self.case.handler.mean()).max(1e-9);
        let attempts = f64::from(setting.policy.retry.attempts);
        let renews = f64::from(setting.policy.consumer.renew_every.is_some());
        let policy = &setting.policy;
        // Of what is equal otherwise: fewer attempts, no renewal, and no more in hand than needed.
        let in_hand = f64::from(policy.consumer.prefetch);
        let little = 0.001 * attempts + 0.05 * renews + 0.000_1 * in_hand;
        // What failed once by chance should come back in the time in which messages are expected.
        let first = policy.retry.first.as_secs_f64() / self.case.targets.within.max(1e-9);
        // A handler that is a tenth slower than today must not be the end of it.
        let limit = policy.consumer.handler_limit.as_secs_f64() / HEADROOM;
        let tight = self.case.handler.survival(limit) > self.case.targets.duplicates;
        let short = f64::from(u8::from(tight));
        targets
            + self.weights.workers * workers / busy.max(1.0)
            + self.weights.retries * first
            + short
            + little
    }

    /// With other numbers, if they do not contradict each other.
    fn with(&self, setting: &Setting, number: Number, value: Value) -> Option<Setting> {
        let mut changed = setting.clone();
        number.set(&mut changed, value);
        self.repair(number, &mut changed);
        self.contradiction(&changed).is_none().then_some(changed)
    }

    /// Searches, from the present setting on. Nothing that is found contradicts itself, even where the
    /// present setting does.
    ///
    /// # Errors
    /// Numbers that are fixed contradict each other.
    pub fn find(&self, present: &Setting) -> Result<Found, Bound> {
        let mut best = self.consistent(present)?;
        let mut cost = self.cost(&best, &self.expected(&best));
        for _ in 0..ROUNDS {
            let before = best.clone();
            for number in Number::of(present.queue) {
                if self.fixed.contains(&number) || self.is_stopped() {
                    continue;
                }
                let tried = number
                    .candidates(&best)
                    .into_par_iter()
                    .filter_map(|value| {
                        if self.is_stopped() {
                            return None;
                        }
                        let setting = self.with(&best, number, value)?;
                        let cost = self.cost(&setting, &self.expected(&setting));
                        Some((cost, setting))
                    });
                let tried: Vec<_> = tried.collect();
                let least = tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
                if let Some((least, setting)) = least.filter(|(least, _)| *least < cost - 1e-9) {
                    (cost, best) = (least, setting);
                }
            }
            if best == before {
                break;
            }
        }
        let expected = self.expected(&best);
        let broken = expected.broken(self.case);
        // Ranges take as long as the search: of one that was stopped there are none.
        let numbers = match self.is_stopped() {
            true => Vec::new(),
            false => Number::of(present.queue),
        };
        let numbers = numbers.into_par_iter();
        let numbers = numbers
            .map(|number| self.sized(number, present, &best, &broken))
            .collect();
        Ok(Found {
            impossible: (broken.iter())
                .map(|target| (*target, expected.of(*target).mean))
                .collect(),
            present: self.expected(present),
            recommended: best,
            expected,
            numbers,
            settings: self.known.lock().map_or(0, |known| known.len()),
        })
    }

    /// The present setting, without its contradictions.
    fn consistent(&self, present: &Setting) -> Result<Setting, Bound> {
        let mut setting = present.clone();
        let numbers = [
            Number::Workers,
            Number::HandlerLimit,
            Number::RenewEvery,
            Number::First,
        ];
        for number in numbers {
            self.repair(number, &mut setting);
        }
        match self.contradiction(&setting) {
            None => Ok(setting),
            Some(bound) => Err(bound),
        }
    }

    /// What the values of a number do that are not too far from a setting, the others held, rising. Also
    /// those that contradict another number, as far as anything can run with them.
    pub fn curve(&self, setting: &Setting, number: Number) -> Vec<(Value, Expected)> {
        let middle = number.get(setting);
        let near = |value: &Value| match (value, middle) {
            (Some(value), Some(middle)) => (middle / FAR..=middle * FAR).contains(value),
            _ => false,
        };
        let values: Vec<Value> = number
            .candidates(setting)
            .into_iter()
            .filter(near)
            .collect();
        let curve = values.into_par_iter().filter_map(|value| {
            let mut changed = setting.clone();
            number.set(&mut changed, value);
            let runs = changed.policy.contradictions().iter().all(|found| {
                !matches!(
                    found.check,
                    Check::RetryUnbounded | Check::DelayBeyondLadder | Check::Zero
                )
            });
            runs.then(|| (value, self.expected(&changed)))
        });
        curve.collect()
    }

    /// The targets that two numbers miss together, the others as in a setting or following them; none
    /// where they contradict something.
    pub fn missed(&self, setting: &Setting, numbers: [(Number, f64); 2]) -> Option<Vec<Target>> {
        let [(first, one), (second, other)] = numbers;
        let changed = self.with(setting, first, Some(one))?;
        let mut changed = self.with(&changed, second, Some(other))?;
        // What followed the second must not have moved the first.
        first.set(&mut changed, Some(one));
        match self.contradiction(&changed) {
            Some(_) => None,
            None => Some(self.expected(&changed).broken(self.case)),
        }
    }

    /// Why a value of one number alone is not possible; `broken` are targets that nothing can meet.
    fn bound(&self, setting: &Setting, broken: &[Target]) -> Option<Bound> {
        if let Some(bound) = self.contradiction(setting) {
            return Some(bound);
        }
        let found = self.expected(setting).broken(self.case);
        let first = found.into_iter().find(|target| !broken.contains(target));
        first.map(Bound::Target)
    }

    fn sized(&self, number: Number, present: &Setting, best: &Setting, broken: &[Target]) -> Sized {
        let recommended = number.get(best);
        let alone = |value: Value| {
            let mut changed = best.clone();
            number.set(&mut changed, value);
            changed
        };
        let candidates = number.candidates(best);
        let at = candidates
            .iter()
            .position(|value| *value == recommended)
            .unwrap_or(0);
        let reach = |values: &mut dyn Iterator<Item = Value>| {
            let mut last = recommended;
            for value in values {
                match self.bound(&alone(value), broken) {
                    None => last = value,
                    Some(bound) => return (last, Some((value, bound))),
                }
            }
            (last, None)
        };
        let (lowest, below) = reach(&mut candidates[..at].iter().rev().copied());
        let (highest, above) = reach(&mut candidates[at..].iter().skip(1).copied());
        let fifth = |value: f64, factor: f64| match number.is_count() {
            true if factor < 1.0 => (value * factor).floor().min(value - 1.0).max(1.0),
            true => (value * factor).ceil(),
            false => value * factor,
        };
        let neighbours = recommended.into_iter().flat_map(|value| {
            [0.8, 1.2].map(|factor| {
                let value = Some(fifth(value, factor));
                let setting = alone(value);
                let found = match self.contradiction(&setting) {
                    Some(bound) => Err(bound),
                    None => Ok(self.expected(&setting)),
                };
                (value, found)
            })
        });
        Sized {
            number,
            present: number.get(present),
            recommended,
            lowest,
            highest,
            below,
            above,
            neighbours: neighbours.collect(),
            fixed: self.fixed.contains(&number),
        }
    }
}

/// Raises a time to the least that people choose, if it is below.
fn raise(number: Number, setting: &mut Setting, least: f64) {
    let Some(value) = number.get(setting).filter(|value| *value < least) else {
        return;
    };
    let candidates = number.candidates(setting).into_iter().flatten();
    let raised = candidates
        .filter(|it| *it >= least)
        .fold(f64::INFINITY, f64::min);
    let raised = if raised.is_finite() {
        raised
    } else {
        least.max(value)
    };
    number.set(setting, Some(raised));
}

#[cfg(test)]
mod tests;
