//! What is run next: strategies that own every choice of a run.
//!
//! A strategy makes trials: a scenario and a seed, which together decide everything. Several may
//! be run at the same time, and the strategy learns what came of each in the order in which it
//! made them, so the same strategy makes the same trials on any number of cores.

use crate::run::result::RunResult;
use crate::scenario::Scenario;

/// A run that a strategy wants made.
#[derive(Clone, Debug)]
pub struct Trial {
    /// With the faults that the strategy has placed, and no others.
    pub scenario: Scenario,
    /// Decides what the strategy has left open.
    pub seed: u64,
    /// Whether the strategy wants to see its calls.
    pub recorded: bool,
    /// Which strategy of a portfolio it is for.
    pub(super) of: usize,
}

impl Trial {
    pub(super) fn new(scenario: Scenario, seed: u64, recorded: bool) -> Self {
        Self {
            scenario,
            seed,
            recorded,
            of: 0,
        }
    }
}

/// A way through the choices of a scenario.
pub trait Strategy {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// At most `most` trials. None where nothing is left to try.
    fn next(&mut self, most: usize) -> Vec<Trial>;

    /// What came of a trial.
    fn learn(&mut self, trial: &Trial, run: &RunResult);

    /// What can be said now, with its numbers: one line each.
    fn statements(&self) -> Vec<String>;
}

/// Runs by seed: the scenario's own faults, by chance.
#[derive(Clone, Debug)]
pub struct Random {
    scenario: Scenario,
    next: u64,
    left: u64,
    made: u64,
    violated: u64,
}

impl Random {
    /// So many runs from this seed on.
    pub fn new(scenario: &Scenario, first: u64, runs: u64) -> Self {
        Self {
            scenario: scenario.clone(),
            next: first,
            left: runs,
            made: 0,
            violated: 0,
        }
    }
}

impl Strategy for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn next(&mut self, most: usize) -> Vec<Trial> {
        let most = self.left.min(most as u64);
        self.left -= most;
        let first = self.next;
        self.next = first.wrapping_add(most);
        (0..most)
            .map(|i| Trial::new(self.scenario.clone(), first.wrapping_add(i), false))
            .collect()
    }

    fn learn(&mut self, _: &Trial, run: &RunResult) {
        self.made += 1;
        self.violated += u64::from(!run.anomalies.is_empty());
    }

    fn statements(&self) -> Vec<String> {
        let all = said(self.violated, self.made, "seed", "seeds", "");
        all.into_iter().collect()
    }
}

/// `no seed of 200 breaks this scenario`, `3 seeds of 200 break it`; of none nothing can be said.
pub(super) fn said(bad: u64, all: u64, one: &str, many: &str, more: &str) -> Option<String> {
    use crate::words::grouped;
    let of = grouped(all);
    match bad {
        _ if all == 0 => None,
        0 => Some(format!("no {one} of {of} breaks this scenario{more}")),
        1 => Some(format!("1 {one} of {of} breaks this scenario{more}")),
        bad => Some(format!(
            "{} {many} of {of} break this scenario{more}",
            grouped(bad)
        )),
    }
}

/// Several strategies in turn, so that a bug that one of them is blind to is found by another.
pub struct Portfolio {
    of: Vec<Box<dyn Strategy + Send>>,
    turn: usize,
}

impl std::fmt::Debug for Portfolio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.of.iter().map(|strategy| strategy.name());
        f.debug_list().entries(names).finish()
    }
}

impl Portfolio {
    /// Of these.
    pub fn new(of: Vec<Box<dyn Strategy + Send>>) -> Self {
        Self { of, turn: 0 }
    }

    /// The name of the strategy that made a trial.
    pub fn maker(&self, trial: &Trial) -> &'static str {
        self.of[trial.of].name()
    }
}

impl Strategy for Portfolio {
    fn name(&self) -> &'static str {
        "portfolio"
    }

    fn next(&mut self, most: usize) -> Vec<Trial> {
        for _ in 0..self.of.len() {
            let at = self.turn % self.of.len();
            self.turn += 1;
            let mut trials = self.of[at].next(most);
            if !trials.is_empty() {
                trials.iter_mut().for_each(|trial| trial.of = at);
                return trials;
            }
        }
        Vec::new()
    }

    fn learn(&mut self, trial: &Trial, run: &RunResult) {
        self.of[trial.of].learn(trial, run);
    }

    fn statements(&self) -> Vec<String> {
        let all = self.of.iter();
        all.flat_map(|strategy| {
            let of = strategy.statements().into_iter();
            of.map(|text| format!("{}: {text}", strategy.name()))
        })
        .collect()
    }
}
