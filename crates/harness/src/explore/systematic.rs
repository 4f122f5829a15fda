//! One fault at every call, then two.
//!
//! A run without faults shows every call that its processes make at a seam. Each of them is then
//! struck, by every kind of fault that can strike it, one run each; and just after each of them
//! everything happens that can happen to servers and to whoever made the call. Then pairs of faults
//! are tried, where the calls are counted anew after the first. So that "no single fault at 214
//! places breaks this" can be said, the workload is small.

use std::collections::VecDeque;
use std::time::Duration;

use redeliver_sim::choice::{Choices, below, name};
use redeliver_sim::reach::Called;

use super::placed::{Placed, Spared, faults, moments, sharing};
use super::strategy::{Strategy, Trial, said};
use crate::run::result::RunResult;
use crate::scenario::{Expect, Scenario};

/// So long after the last call about a message, calls still count: acks, marks, renewals.
const AFTERMATH: u64 = 1_000_000_000;

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Requests at most.
    pub messages: u32,
    /// Base schedules: seeds whose latencies and order of tasks the faults are placed in.
    pub bases: u32,
    /// Pairs of faults in all.
    pub pairs: u64,
}

impl Default for Extent {
    fn default() -> Self {
        Self {
            messages: 3,
            bases: 3,
            pairs: 1_000,
        }
    }
}

/// What a trial is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Base,
    Single,
    Pair,
}

/// Strikes every call of a run by one fault, then pairs of calls.
#[derive(Clone, Debug)]
pub struct Systematic {
    /// Without any fault.
    calm: Scenario,
    extent: Extent,
    bases: VecDeque<u64>,
    singles: VecDeque<(u64, Placed)>,
    pairs: VecDeque<(u64, [Placed; 2])>,
    /// The trials that were made and not learnt of yet: what they are there for, and for a single
    /// fault that fault.
    made: VecDeque<(Stage, Option<Placed>)>,
    /// Places (calls), moments and single faults in all; those of bases not run yet are unknown.
    places: u64,
    moments: u64,
    faults: u64,
    /// Pairs that there would be.
    pairs_known: u64,
    /// Consumers whose queues stay bound.
    spared: Spared,
    runs: [u64; 3],
    violated: [u64; 3],
}

impl Systematic {
    /// All single faults over several schedules of a small form of the scenario, then pairs.
    pub fn new(scenario: &Scenario, first: u64, extent: Extent) -> Self {
        let seeds = u64::from(extent.bases.max(1));
        Self {
            calm: calm(scenario, extent.messages),
            extent,
            bases: (0..seeds).map(|i| first.wrapping_add(i)).collect(),
            singles: VecDeque::new(),
            pairs: VecDeque::new(),
            made: VecDeque::new(),
            places: 0,
            moments: 0,
            faults: 0,
            pairs_known: 0,
            spared: Spared::new(),
            runs: [0; 3],
            violated: [0; 3],
        }
    }

    fn trial(&self, seed: u64, faults: impl IntoIterator<Item = Placed>, stage: Stage) -> Trial {
        let mut scenario = Scenario {
            seed: Some(seed),
            ..self.calm.clone()
        };
        for fault in faults {
            fault.add_to(&mut scenario);
        }
        Trial::new(scenario, seed, stage != Stage::Pair)
    }

    /// Every fault of every call of a base.
    fn place(&mut self, run: &RunResult) {
        let calls = concerned(&run.calls);
        self.places += calls.len() as u64;
        self.moments += moments(&calls);
        self.spared.extend(sharing(&run.history));
        let faults = faults(&self.calm, &calls, &self.spared);
        self.faults += faults.len() as u64;
        let placed = faults.into_iter().map(|fault| (run.seed, fault));
        self.singles.extend(placed);
    }

    /// Some second faults after the first: an equal share of the pairs for each single fault,
    /// drawn from all those that could follow.
    fn follow(&mut self, first: &Placed, run: &RunResult) {
        let Some(struck) = first.at(&run.calls) else {
            return;
        };
        let mut later = concerned(&run.calls);
        later.retain(|call| call.at >= struck);
        let mut second = faults(&self.calm, &later, &self.spared);
        second.retain(|fault| fault != first);
        self.pairs_known += second.len() as u64;
        let share = self.extent.pairs.div_ceil(self.faults.max(1));
        let choices = Choices::new(run.seed);
        for i in 0..share {
            if second.is_empty() {
                return;
            }
            let words = [name("pair"), self.runs[Stage::Single as usize], i];
            let at = below(choices.pure(&words), second.len() as u64);
            let chosen = second.swap_remove(at as usize);
            self.pairs.push_back((run.seed, [first.clone(), chosen]));
        }
    }
}

impl Strategy for Systematic {
    fn name(&self) -> &'static str {
        "systematic"
    }

    fn next(&mut self, most: usize) -> Vec<Trial> {
        let mut trials = Vec::new();
        while trials.len() < most {
            let (trial, made) = if let Some(seed) = self.bases.pop_front() {
                (self.trial(seed, None, Stage::Base), (Stage::Base, None))
            } else if let Some((seed, fault)) = self.singles.pop_front() {
                let made = (Stage::Single, Some(fault.clone()));
                (self.trial(seed, Some(fault), Stage::Single), made)
            } else if self.made.iter().any(|(stage, _)| *stage != Stage::Pair) {
                // What these show decides what comes next.
                break;
            } else if self.runs[Stage::Pair as usize] + self.waiting() >= self.extent.pairs {
                break;
            } else if let Some((seed, faults)) = self.pairs.pop_front() {
                (self.trial(seed, faults, Stage::Pair), (Stage::Pair, None))
            } else {
                break;
            };
            self.made.push_back(made);
            trials.push(trial);
        }
        trials
    }

    fn learn(&mut self, _: &Trial, run: &RunResult) {
        let Some((stage, first)) = self.made.pop_front() else {
            return;
        };
        self.runs[stage as usize] += 1;
        self.violated[stage as usize] += u64::from(!run.anomalies.is_empty());
        match (stage, first) {
            (Stage::Base, _) => self.place(run),
            (Stage::Single, Some(first)) => self.follow(&first, run),
            _ => {}
        }
    }

    fn statements(&self) -> Vec<String> {
        use crate::words::grouped;
        let [bases, singles, pairs] = self.runs;
        let [_, bad_singles, bad_pairs] = self.violated;
        let schedules = if bases == 1 { "schedule" } else { "schedules" };
        let requests = if self.calm.messages == 1 {
            "request"
        } else {
            "requests"
        };
        let places = format!(
            ": {} places and {} moments, {bases} {schedules}, {} {requests}",
            grouped(self.places),
            grouped(self.moments),
            self.calm.messages
        );
        let (one, many) = ("single fault", "single faults");
        let mut lines = Vec::from_iter(said(bad_singles, singles, one, many, &places));
        if self.violated[Stage::Base as usize] > 0 {
            lines.insert(0, "it is violated without any fault".to_owned());
        }
        if singles < self.faults {
            let left = grouped(self.faults - singles);
            lines.push(format!("{left} single faults were not tried"));
        }
        if !self.spared.is_empty() {
            let names: Vec<_> = self.spared.iter().map(|name| &**name).collect();
            let names = names.join(", ");
            lines.push(format!(
                "not tried: unbound-queue of {names}: they share events, and a broker confirms \
                 what reaches one of two queues"
            ));
        }
        let (one, many) = ("pair of faults", "pairs of faults");
        let known = format!(", drawn from {}", grouped(self.pairs_known));
        lines.extend(said(bad_pairs, pairs, one, many, &known));
        lines
    }
}

impl Systematic {
    /// Pairs that run now.
    fn waiting(&self) -> u64 {
        self.made.len() as u64
    }
}

/// The scenario with few requests and without a fault. What it expects of many seeds is left out:
/// the checkers judge.
pub(super) fn calm(scenario: &Scenario, messages: u32) -> Scenario {
    let messages = scenario.messages.min(messages).max(1);
    Scenario {
        messages,
        over: scenario.over.min(Duration::from_secs(u64::from(messages))),
        rules: Vec::new(),
        events: Vec::new(),
        swarm: false,
        seeds: 1,
        expect: Expect::default(),
        ..scenario.clone()
    }
}

/// The calls up to where the work is done; what is polled for ever after is left out.
pub(super) fn concerned(calls: &[Called]) -> Vec<&Called> {
    let about = calls.iter().filter(|call| call.subject.is_some());
    let end = about.map(|call| call.at).max().unwrap_or(0) + AFTERMATH;
    calls.iter().filter(|call| call.at <= end).collect()
}
