//! Priorities: slow processes, and few changes of who is slow.
//!
//! A bug of depth d needs d steps in one order. After Burckhardt and others (PCT, 2010) and Ozkan
//! and others (PCTCP, 2018), each process gets a priority and d - 1 calls, drawn among all calls
//! of a run, at which their process falls behind all others. Here priorities are times: a process
//! takes the longer over every call the lower it stands, and one that falls behind stands still
//! until its claims are over. With n processes and k calls a run meets a bug of depth d with a
//! probability of at least 1 / (n · k^(d - 1)), as far as delays can bring its order about.

use std::sync::Arc;

use redeliver_sim::choice::{Choices, MILLION, below, name};
use redeliver_sim::fault::{Kind, Rule};
use redeliver_sim::reach::Called;

use super::placed::lasts;
use super::strategy::{Strategy, Trial, said};
use super::systematic::{calm, concerned};
use crate::run::result::RunResult;
use crate::scenario::Scenario;

/// Steps in one order, at most.
const DEPTH: u64 = 3;

/// What a call takes longer for each place in the order; one of them is drawn for a run.
const STEPS: [u64; 4] = [100_000, 1_000_000, 20_000_000, 400_000_000];

/// Calls that take time, and how they take longer.
const SLOW: [Kind; 4] = [
    Kind::SlowStatement,
    Kind::LatePublish,
    Kind::LateDelivery,
    Kind::SlowService,
];

/// Draws a priority for each process, and the calls at which a process falls behind.
#[derive(Clone, Debug)]
pub struct Priority {
    calm: Scenario,
    first: u64,
    left: u64,
    drawn: u64,
    /// Of a run without any delay.
    calls: Option<Vec<Called>>,
    processes: Vec<Arc<str>>,
    asked: bool,
    made: u64,
    violated: u64,
}

impl Priority {
    /// So many runs of a small form of the scenario.
    pub fn new(scenario: &Scenario, first: u64, messages: u32, runs: u64) -> Self {
        Self {
            calm: calm(scenario, messages),
            first,
            left: runs,
            drawn: 0,
            calls: None,
            processes: Vec::new(),
            asked: false,
            made: 0,
            violated: 0,
        }
    }

    fn draw(&mut self, calls: &[Called]) -> Trial {
        let seed = self.first.wrapping_add(self.drawn);
        let choices = Choices::new(seed);
        let draw = |what, i: usize, bound: usize| {
            let value = choices.pure(&[name("priority"), name(what), i as u64]);
            below(value, bound as u64) as usize
        };
        let depth = 1 + self.drawn % DEPTH;
        let step = STEPS[draw("step", 0, STEPS.len())];
        self.drawn += 1;
        let mut rules = Vec::new();
        // The change of an order comes first: of the rules for a call the first one strikes.
        let pause = lasts(&self.calm, Kind::Pause);
        let changes = (1..depth as usize).filter(|_| !calls.is_empty());
        rules.extend(changes.map(|i| {
            let call = &calls[draw("change", i, calls.len())];
            call.strike(Kind::Pause, draw("after", i, 2) == 1, pause)
        }));
        let mut order = self.processes.clone();
        for i in (1..order.len()).rev() {
            order.swap(i, draw("order", i, i + 1));
        }
        for (rank, process) in order.iter().enumerate().skip(1) {
            rules.extend(SLOW.map(|kind| Rule {
                process: Some(process.clone()),
                lasts: step * rank as u64,
                ..Rule::new(kind, MILLION)
            }));
        }
        let scenario = Scenario {
            rules,
            seed: Some(seed),
            ..self.calm.clone()
        };
        Trial::new(scenario, seed, false)
    }
}

impl Strategy for Priority {
    fn name(&self) -> &'static str {
        "priority"
    }

    fn next(&mut self, most: usize) -> Vec<Trial> {
        let Some(calls) = self.calls.take() else {
            if std::mem::replace(&mut self.asked, true) || self.left == 0 {
                return Vec::new();
            }
            return vec![Trial::new(self.calm.clone(), self.first, true)];
        };
        let most = self.left.min(most as u64);
        self.left -= most;
        let trials = (0..most).map(|_| self.draw(&calls)).collect();
        self.calls = Some(calls);
        trials
    }

    fn learn(&mut self, _: &Trial, run: &RunResult) {
        if self.calls.is_none() {
            // A process stands still at a call of its own.
            let own = |call: &&Called| Kind::Pause.seams().contains(&call.seam);
            let calls = concerned(&run.calls).into_iter().filter(own);
            let calls: Vec<Called> = calls.cloned().collect();
            let mut processes: Vec<_> = calls.iter().map(|call| call.process.clone()).collect();
            processes.sort_unstable();
            processes.dedup();
            (self.calls, self.processes) = (Some(calls), processes);
            return;
        }
        self.made += 1;
        self.violated += u64::from(!run.anomalies.is_empty());
    }

    fn statements(&self) -> Vec<String> {
        let calls = self.calls.as_ref().map_or(0, Vec::len);
        let more = format!(
            ": depth 1 to {DEPTH}, {} processes, {calls} calls",
            self.processes.len()
        );
        let all = said(self.violated, self.made, "order", "orders", &more);
        all.into_iter().collect()
    }
}
