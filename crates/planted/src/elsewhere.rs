//! A planted bug on a team's own workload: would its scenario notice?
//!
//! Each bug is looked for twice: under the scenario as it is, then under the faults that the bug
//! comes with, [fitted](super::fit) to the workload. The difference between the two is what the
//! scenario does not look at. What the shipped pipeline shows too, on any of the seeds, does not
//! count: a team's handlers may have bugs of their own.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::{Need, Plant, Survey, fit};
use redeliver_harness::checkers;
use redeliver_harness::explore::{Random, Shrunk, Strategy, Target, hunt, pin, shrink};
use redeliver_harness::registry::Registered;
use redeliver_harness::run::RunResult;
use redeliver_harness::scenario::Scenario;
use redeliver_harness::verdict::Anomaly;

/// Runs of the shipped pipeline from which the bound for coming to rest is taken.
const MEASURED: u64 = 5;

/// A run with a bug may take that many times as long to come to rest as the shipped pipeline.
const PATIENCE: u32 = 4;

/// Nor is it given less than that: retries back off.
const LEAST_PATIENCE: Duration = Duration::from_secs(600);

/// A scenario with a bound for coming to rest by what the shipped pipeline takes. The bound that
/// follows from a policy is for proofs, and days long where attempts are many: a bug by which
/// nothing comes to rest would make every run as long.
pub fn bounded(workload: &Registered, scenario: &Scenario, first: u64) -> Scenario {
    let runs = (0..MEASURED).map(|i| (workload.simulate)(scenario, first.wrapping_add(i), false));
    let longest = runs.map(|run| run.virtual_ns).max().unwrap_or_default();
    let rest = Duration::from_nanos(longest).saturating_sub(scenario.faults_until);
    let bound = (rest * PATIENCE).max(LEAST_PATIENCE);
    Scenario {
        settle: Some(scenario.settle.map_or(bound, |settle| settle.min(bound))),
        ..scenario.clone()
    }
}

/// How long a bug is looked for, each time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The first seed.
    pub first: u64,
    /// Seeds.
    pub seeds: u64,
    /// Runs for making a caught one small.
    pub shrink_runs: u32,
}

/// What became of a planted bug on another workload.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Runs with the bug.
    pub seeds: u64,
    /// Until it was caught or given up.
    pub took: Duration,
    /// What was seen.
    pub shown: Shown,
}

/// What was seen of a planted bug.
#[derive(Clone, Debug)]
pub enum Shown {
    /// The scenario catches it as it is.
    AsItIs(Box<Caught>),
    /// The scenario does not; the faults that the bug comes with would.
    ByItsFaults(Box<Caught>),
    /// This workload gives it nothing to spoil.
    Cannot(Vec<Need>),
    /// The shipped pipeline shows the same, on this seed, so nothing can be said.
    ShippedToo(Target, u64),
    /// Neither way.
    Not {
        /// Only the workload's own check could see it.
        only_own_check: bool,
        /// Not one of its faults has struck.
        never_struck: bool,
    },
}

/// A run that shows a bug, made small.
#[derive(Clone, Debug)]
pub struct Caught {
    /// By which anomaly.
    pub target: Target,
    /// The run.
    pub shrunk: Shrunk,
}

impl Plant {
    /// The anomaly by which a run of any workload shows the bug: of an expected kind, found by an
    /// expected checker or by the workload's own check.
    pub fn target_anywhere(&self, run: &RunResult) -> Option<Target> {
        let expected = |found: &&Anomaly| {
            let by = found.checker;
            self.anomalies.contains(&found.kind) && (self.checkers.contains(&by) || is_own(by))
        };
        run.anomalies.iter().find(expected).map(Target::of)
    }

    /// Whether none of its checkers is one that every workload has.
    fn needs_own_check(&self) -> bool {
        self.checkers.iter().all(|name| is_own(name))
    }
}

/// Whether a checker is a workload's own.
fn is_own(name: &str) -> bool {
    checkers::all().iter().all(|known| known.name() != name)
}

/// Looks for a planted bug on the workload of a scenario, which is best [`bounded`].
pub fn look(
    plant: &Plant,
    workload: &Registered,
    scenario: &Scenario,
    survey: &Survey,
    limits: Limits,
) -> Outcome {
    let began = Instant::now();
    let outcome = |seeds, shown| Outcome {
        seeds,
        took: began.elapsed(),
        shown,
    };
    let needs = plant.needs.iter().copied();
    let missing: Vec<_> = needs.filter(|need| !survey.meets(*need)).collect();
    if !missing.is_empty() {
        return outcome(0, Shown::Cannot(missing));
    }
    let hunted = Hunt::new(plant, workload);
    let as_it_is = hunted.catch(scenario, limits);
    let before = match as_it_is {
        Ok((seeds, caught)) => return outcome(seeds, Shown::AsItIs(caught)),
        Err(seeds) => seeds,
    };
    hunted.struck.replace(false);
    // Its services may be slower than those of the scenario: it may take longer to come to rest.
    let fitted = fit::fitted(plant, scenario, survey);
    let unbounded = Scenario {
        settle: None,
        ..fitted.clone()
    };
    let longer = bounded(workload, &unbounded, limits.first).settle;
    let fitted = Scenario {
        settle: fitted
            .settle
            .map(|settle| settle.max(longer.unwrap_or_default())),
        ..fitted
    };
    let strikes = !(fitted.rules.is_empty() && fitted.events.is_empty());
    match hunted.catch(&fitted, limits) {
        Ok((seeds, caught)) => outcome(before + seeds, Shown::ByItsFaults(caught)),
        Err(seeds) => outcome(before + seeds, hunted.given_up(strikes)),
    }
}

/// Runs with a bug, each that shows it held against the shipped pipeline.
struct Hunt<'a> {
    plant: &'a Plant,
    workload: &'a Registered,
    /// The first run that the shipped pipeline shows too.
    blamed: RefCell<Option<(Target, u64)>>,
    struck: RefCell<bool>,
}

impl<'a> Hunt<'a> {
    fn new(plant: &'a Plant, workload: &'a Registered) -> Self {
        Self {
            plant,
            workload,
            blamed: RefCell::default(),
            struck: RefCell::new(false),
        }
    }

    /// A run with the bug, without what the shipped pipeline shows as well.
    fn run(&self, scenario: &Scenario, seed: u64, record: bool) -> RunResult {
        let build = (self.plant.build)();
        let mut run = (self.workload.altered)(&build, scenario, seed, record);
        *self.struck.borrow_mut() |= run.faults.iter().any(|(_, times)| *times > 0);
        let Some(target) = self.plant.target_anywhere(&run) else {
            return run;
        };
        let shipped = (self.workload.simulate)(scenario, seed, false);
        let too = |found: &Anomaly| Target::of(found).is_shown_by(&shipped);
        let before = run.anomalies.len();
        run.anomalies.retain(|found| !too(found));
        if run.anomalies.len() < before {
            self.blamed.borrow_mut().get_or_insert((target, seed));
        }
        run
    }

    fn catch(&self, scenario: &Scenario, limits: Limits) -> Result<(u64, Box<Caught>), u64> {
        let simulate = |scenario: &Scenario, seed, record| self.run(scenario, seed, record);
        let mut strategy = Random::new(scenario, limits.first, limits.seeds);
        let strategy: &mut dyn Strategy = &mut strategy;
        let shows = |run: &RunResult| self.plant.target_anywhere(run).is_some();
        let (seeds, trial, run) = hunt(&simulate, strategy, limits.seeds, shows)?;
        let target = self.plant.target_anywhere(&run).ok_or(seeds)?;
        // A bug changes the course of a run: what the shipped pipeline shows only on other seeds may
        // now show on this one.
        if let Some(seed) = self.shown_by_shipped(&trial.scenario, target, limits) {
            self.blamed.borrow_mut().get_or_insert((target, seed));
            return Err(seeds);
        }
        let pinned = pin(&trial.scenario, &run);
        let shrunk = shrink(&simulate, pinned, run, target, limits.shrink_runs);
        Ok((seeds, Box::new(Caught { target, shrunk })))
    }

    /// The first seed on which the shipped pipeline shows it.
    fn shown_by_shipped(&self, scenario: &Scenario, target: Target, limits: Limits) -> Option<u64> {
        (0..limits.seeds)
            .map(|i| limits.first.wrapping_add(i))
            .find(|seed| target.is_shown_by(&(self.workload.simulate)(scenario, *seed, false)))
    }

    /// `strikes`: whether it has been given faults that strike.
    fn given_up(&self, strikes: bool) -> Shown {
        match *self.blamed.borrow() {
            Some((target, seed)) => Shown::ShippedToo(target, seed),
            None => Shown::Not {
                only_own_check: self.plant.needs_own_check(),
                never_struck: strikes && !*self.struck.borrow(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redeliver_harness::verdict::AnomalyKind;
    use redeliver_workloads::orders::Orders;

    /// A run in which something is lost.
    fn lossy(scenario: &Scenario, seed: u64, record: bool) -> RunResult {
        let mut run = redeliver_harness::run::simulate(&Orders, scenario, seed, record);
        run.anomalies.push(Anomaly {
            kind: AnomalyKind::Lost,
            checker: "lost",
            message: "order-1".into(),
            message_id: None,
            consumer: "ship".into(),
            promise: "Nothing is lost.",
            seen: "it is".to_owned(),
            also: Vec::new(),
        });
        run
    }

    /// The pipeline as it is, on a seed that the bug is not caught on first.
    fn lossy_on_the_third(scenario: &Scenario, seed: u64, record: bool) -> RunResult {
        match seed {
            3 => lossy(scenario, seed, record),
            _ => redeliver_harness::run::simulate(&Orders, scenario, seed, record),
        }
    }

    /// What the shipped pipeline shows by itself is no planted bug's doing, on whatever seed.
    #[test]
    fn what_the_shipped_pipeline_shows_too_is_not_the_bugs() {
        let dual_write = |plant: &&Plant| plant.name == "dual-write";
        let plant = crate::ALL.iter().find(dual_write);
        let plant = plant.expect("a planted bug of this name");
        let mut workload = redeliver_harness::workloads![Orders][0];
        workload.altered = |_, scenario, seed, record| lossy(scenario, seed, record);
        let mut scenario = Scenario::new("lossy", "orders");
        scenario.messages = 1;
        let found = |workload: &Registered, seeds| {
            let limits = Limits {
                first: 1,
                seeds,
                shrink_runs: 1,
            };
            Hunt::new(plant, workload).catch(&scenario, limits)
        };
        assert!(found(&workload, 3).is_ok(), "the shipped pipeline is whole");
        workload.simulate = lossy_on_the_third;
        assert!(found(&workload, 2).is_ok(), "on these two seeds, too");
        let refused = found(&workload, 3);
        assert_eq!(refused.err(), Some(1), "on the third it shows the same");
    }
}
