//! The search for numbers that meet the targets.
//!
//! One number after the other takes the value that costs least, the others held, until none changes any
//! more. A few runs leave out the values that are hopeless; where the best two cost nearly the same, more runs
//! decide. A value that contradicts another is repaired where the other only has to follow (a lease that
//! must outlast a longer handler), and left out otherwise. Then each number is varied alone, to find how
//! far it may go, and what ends that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rayon::prelude::*;

use crate::case::{Case, Target};
use crate::evaluate::{Chances, Expected};
use crate::model::{Queue, Setting};
use crate::number::{Number, Value, people_choose};
use crate::retention::dedup_window;
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
    /// Of the time from an outage's end until its backlog is gone, as a part of its length.
    pub drain: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            targets: [1.0; 5],
            workers: 0.2,
            retries: 0.2,
            drain: 0.2,
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
    /// Crashes would use up the delivery limit of messages that only wait in their process.
    CrashesCountForPrefetched,
}

impl Bound {
    /// Its name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Target(target) => target.as_str(),
            Self::Check(check) => check.as_str(),
            Self::VisibilityShorterThanHandler => "visibility-shorter-than-handler",
            Self::CrashesCountForPrefetched => "crashes-count-for-prefetched",
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
    /// The lowest value that still meets all targets, the others as recommended; see [`varied`].
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

/// A setting that costs so much more than another by a few runs is not looked at more closely.
const HOPELESS: f64 = 1.0;

/// A backlog that is gone later than this, as a multiple of its outage, costs no more.
const LATEST: f64 = 5.0;

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
    known: Cache,
    /// By a few runs.
    rough: Cache,
    /// By other runs, for choices that were close.
    closer: Cache,
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
            rough: Mutex::default(),
            closer: Mutex::default(),
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
        remembered(&self.known, key(setting), || {
            self.chances.evaluate(self.case, setting)
        })
    }

    /// What a setting costs, by a few runs.
    fn rough_cost(&self, setting: &Setting) -> f64 {
        let expected = remembered(&self.rough, key(setting), || {
            self.chances.evaluate_roughly(self.case, setting)
        });
        self.cost(setting, &expected)
    }

    /// The cheapest of some settings.
    fn cheapest(&self, settings: Vec<Setting>) -> Option<Setting> {
        let rough = settings.into_par_iter().filter_map(|setting| {
            (!self.is_stopped()).then(|| (self.rough_cost(&setting), setting))
        });
        let rough: Vec<_> = rough.collect();
        let least = rough.iter().map(|it| it.0).fold(f64::INFINITY, f64::min);
        let hopeful = rough.into_par_iter().filter(|it| it.0 <= least + HOPELESS);
        let full = hopeful.filter_map(|(_, setting)| {
            if self.is_stopped() {
                return None;
            }
            let expected = self.expected(&setting);
            let unsure = self.unsure(&expected);
            Some((self.cost(&setting, &expected), unsure, setting))
        });
        let mut full: Vec<_> = full.collect();
        full.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let [first, second, ..] = &mut full[..]
            && second.0 - first.0 < first.1.min(HOPELESS)
            && !self.is_stopped()
        {
            // Nearly the same: as many runs again decide.
            (first.0, second.0) = rayon::join(
                || self.with_more_runs(first.0, &first.2),
                || self.with_more_runs(second.0, &second.2),
            );
            if second.0 < first.0 {
                full.swap(0, 1);
            }
        }
        full.into_iter().next().map(|it| it.2)
    }

    /// The mean of a cost and of what as many other runs say.
    fn with_more_runs(&self, cost: f64, setting: &Setting) -> f64 {
        let chances = self.chances.more(self.case);
        let expected = remembered(&self.closer, key(setting), || {
            chances.evaluate(self.case, setting)
        });
        (cost + self.cost(setting, &expected)) / 2.0
    }

    /// How far a cost may be from the true one.
    fn unsure(&self, expected: &Expected) -> f64 {
        let parts = Target::ALL.iter().zip(self.weights.targets);
        let parts = parts.map(|(target, weight)| {
            let most = self.case.targets.most(*target).max(1e-9);
            weight * (expected.of(*target).half / most).min(1.0)
        });
        parts.sum()
    }

    /// Why a setting contradicts itself.
    fn contradiction(&self, setting: &Setting) -> Option<Bound> {
        if let Queue::Managed {
            visibility,
            extend_every: None,
            ..
        } = setting.queue
        {
            let limit = setting.policy.consumer.handler_limit;
            if Duration::from_nanos(visibility) < limit + limit / 10 {
                return Some(Bound::VisibilityShorterThanHandler);
            }
        }
        let consumer = &setting.policy.consumer;
        if matches!(setting.queue, Queue::DelayedRetry { .. })
            && consumer.prefetch > consumer.workers
        {
            return Some(Bound::CrashesCountForPrefetched);
        }
        let found = setting
            .policy
            .contradictions()
            .into_iter()
            .map(|it| it.check);
        let managed = matches!(setting.queue, Queue::Managed { .. });
        let mut found = found.filter(|check| match check {
            Check::LeaseShorterThanHandler | Check::RenewalTooRare => setting.queue.has_claims(),
            Check::ConsumerTimeoutTooShort | Check::PrefetchTooDeep | Check::DelayBeyondLadder => {
                !managed
            }
            Check::PrefetchBelowWorkers | Check::RetryUnbounded | Check::Zero => true,
            // The window follows from the others, and the relay has numbers of its own. The messages
            // of a batch are not chosen here.
            Check::DedupWindowTooShort | Check::RelayLeaseTooShort | Check::BatchBeyondPrefetch => {
                false
            }
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
        let consumer = &mut setting.policy.consumer;
        if matches!(setting.queue, Queue::DelayedRetry { .. })
            && consumer.prefetch > consumer.workers
        {
            match number {
                Number::Prefetch if !self.fixed.contains(&Number::Workers) => {
                    consumer.workers = consumer.prefetch;
                }
                _ if !self.fixed.contains(&Number::Prefetch) => {
                    consumer.prefetch = consumer.workers;
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
        // A deploy waits for what the limit allows.
        let consumer = &mut setting.policy.consumer;
        if consumer.drain < consumer.handler_limit {
            let longest = people_choose(consumer.handler_limit.as_secs_f64());
            consumer.drain = Duration::from_secs_f64(longest);
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
        // Where the backlog stays for as long as the run looks, it is gone later than that.
        let outages = self.case.outages.iter().zip(&expected.outages);
        let drained = outages.map(|(kind, seen)| match seen.drained {
            Some(drained) => (drained.mean / kind.whole()).min(LATEST),
            None => LATEST,
        });
        let drained = drained.fold(0.0, f64::max);
        targets
            + self.weights.drain * drained
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
        for _ in 0..ROUNDS {
            let before = best.clone();
            for number in Number::of(present.queue) {
                if self.fixed.contains(&number) || self.is_stopped() {
                    continue;
                }
                let settings = number.candidates(&best).into_iter();
                let settings = settings.filter_map(|value| self.with(&best, number, value));
                // The present value is among them.
                if let Some(setting) = self.cheapest(settings.collect())
                    && !self.is_stopped()
                {
                    best = setting;
                }
            }
            if best == before {
                break;
            }
        }
        // The window follows from the others.
        best.policy.consumer.dedup_window = Duration::from_secs_f64(dedup_window(&best));
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
            settings: self.looked_at(),
        })
    }

    /// How many settings were looked at, closely or not.
    fn looked_at(&self) -> usize {
        let keys = |cache: &Cache| lock(cache).keys().cloned().collect::<Vec<_>>();
        let all = [keys(&self.known), keys(&self.rough)];
        all.concat().into_iter().collect::<BTreeSet<_>>().len()
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
        let alone = |value: Value| varied(best, number, value);
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

/// A setting with another value of one number, the others held. Prefetch keeps its distance to the workers.
pub fn varied(setting: &Setting, number: Number, value: Value) -> Setting {
    let mut changed = setting.clone();
    number.set(&mut changed, value);
    if number == Number::Workers {
        let (before, now) = (&setting.policy.consumer, &mut changed.policy.consumer);
        let more = before.prefetch.saturating_sub(before.workers);
        now.prefetch = now.workers.saturating_add(more);
    }
    changed
}

/// What is to be expected of settings, by their numbers.
type Cache = Mutex<BTreeMap<Vec<u64>, Expected>>;

fn lock(cache: &Cache) -> MutexGuard<'_, BTreeMap<Vec<u64>, Expected>> {
    cache
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn remembered(cache: &Cache, key: Vec<u64>, make: impl FnOnce() -> Expected) -> Expected {
    if let Some(known) = lock(cache).get(&key) {
        return known.clone();
    }
    let expected = make();
    lock(cache).insert(key, expected.clone());
    expected
}

/// All numbers of a setting that matter.
fn key(setting: &Setting) -> Vec<u64> {
    let numbers = Number::of(setting.queue).into_iter();
    let drain = setting.policy.consumer.drain.as_secs_f64();
    numbers
        .map(|it| it.get(setting).map_or(u64::MAX, f64::to_bits))
        .chain([drain.to_bits()])
        .collect()
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
