//! For a team's `cargo test`: its workload over many seeds.
//!
//! ```ignore
//! #[test]
//! fn checkout_survives_lost_confirms() {
//!     Check::new(Checkout)
//!         .seeds(500)
//!         .fault(Rule::new(Fault::LostConfirm, 50_000))
//!         .check();
//! }
//! ```
//!
//! A failing test tells the story of the first violated seed and how to run that seed alone:
//! `REDELIVER_SEED=17 cargo test checkout_survives_lost_confirms`.
//!
//! It also makes that run small and leaves it as a capsule, by default in `redeliver/` within
//! cargo's target directory. [`Check::scenario`] runs a capsule like any scenario file: put into a
//! repository beside its test it is a regression test.

mod capsules;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;
pub use redeliver_sim::fault::{Event, Kind, Rule, Seam};

use crate::explore::{Outcome, compare};
use crate::report::Tally;
use crate::run::database::{NotReady, ready};
use crate::run::existing;
use crate::run::plan::topology;
use crate::run::result::RunResult;
use crate::run::simulate::simulate;
use crate::scenario::Scenario;
use crate::story;
pub use crate::team::invariant::{Evidence, Invariant};
use crate::team::workload::Workload;
use crate::verdict::Verdict;
use redeliver_core::policy::Policy;

/// When set, the one seed that [`Check::check`] runs, with its whole trace.
pub const SEED_VARIABLE: &str = "REDELIVER_SEED";

/// When set, the folder in which [`Check::check`] leaves the capsule of a violated seed; `off` for
/// none.
pub const CAPSULES_VARIABLE: &str = "REDELIVER_CAPSULES";

/// Seeds that run between two looks at whether one was violated.
const CHUNK: u64 = 256;

/// A workload with faults, to be run over many seeds.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `check`"]
pub struct Check<L> {
    workload: L,
    scenario: Scenario,
    /// The running test, which is what has to be named to run it again.
    test: String,
    seeds: u64,
    first: u64,
}

impl<L: Workload> Check<L> {
    /// A calm scenario of this workload, over 100 seeds from 1 on.
    pub fn new(workload: L) -> Self {
        let test = test_name();
        Self {
            workload,
            scenario: Scenario::new(&test, L::NAME),
            test,
            seeds: 100,
            first: 1,
        }
    }

    /// A scenario from a file. From a capsule it is the one run that was kept: the test fails while
    /// that run breaks a promise, and says whether it is still the same one.
    ///
    /// # Panics
    /// With the mistakes in that file.
    pub fn scenario(workload: L, path: impl AsRef<Path>) -> Self {
        let scenario = match Scenario::load(path.as_ref(), &[L::NAME]) {
            Ok(scenario) => scenario,
            Err(error) => panic!("{error}"),
        };
        let seeds = u64::from(scenario.seeds);
        let first = scenario.capsule.as_ref().and(scenario.seed);
        Self {
            workload,
            scenario,
            test: test_name(),
            seeds,
            first: first.unwrap_or(1),
        }
    }

    /// How many seeds.
    pub fn seeds(mut self, seeds: u64) -> Self {
        self.seeds = seeds;
        self
    }

    /// The first seed.
    pub fn from_seed(mut self, seed: u64) -> Self {
        self.first = seed;
        self
    }

    /// How many requests a run has, and over which time they come.
    pub fn messages(mut self, messages: u32, over: Duration) -> Self {
        self.scenario.messages = messages;
        self.scenario.over = over;
        self.healing()
    }

    /// The numbers of the pipeline.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.scenario.policy = policy;
        self
    }

    /// Adds faults that strike by chance.
    pub fn faults(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.scenario.rules.extend(rules);
        self.healing()
    }

    /// Adds a fault that strikes by chance.
    pub fn fault(self, rule: Rule) -> Self {
        self.faults([rule])
    }

    /// Adds a fault that happens at a time.
    pub fn event(mut self, event: Event) -> Self {
        self.scenario.events.push(event);
        self.healing()
    }

    /// Lets each seed choose among the faults.
    pub fn swarm(mut self) -> Self {
        self.scenario.swarm = true;
        self
    }

    /// Adds a query that gives no rows at the end of each run. For workloads with a real database:
    /// see [`Workload::postgres`].
    pub fn expect_no_rows(mut self, sql: &str) -> Self {
        self.scenario.expect.no_rows.push(Arc::from(sql));
        self
    }

    /// Adds a promise over all that was seen of a run: what clients, relays and workers saw, and
    /// what stands in tables, queues and ledgers at its end.
    ///
    /// ```ignore
    /// .expect("Nobody is charged after a refund.", |run| match late_charges(run.reading) {
    ///     0 => Ok(()),
    ///     n => Err(format!("{n} charges came later")),
    /// })
    /// ```
    pub fn expect(
        mut self,
        promise: &'static str,
        judge: impl Fn(&Evidence<'_>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let invariant = Invariant::new(promise, judge);
        self.scenario.expect.invariants.push(invariant);
        self
    }

    /// Whatever else a scenario has.
    pub fn with(mut self, change: impl FnOnce(&mut Scenario)) -> Self {
        change(&mut self.scenario);
        self
    }

    fn healing(mut self) -> Self {
        self.scenario.faults_until = self.scenario.last_fault();
        self
    }

    /// Runs all seeds, on all cores.
    ///
    /// # Panics
    /// With the story of the first violated seed, or with the reason why nothing can be said.
    pub fn check(self) {
        self.refuse_contradictions();
        self.refuse_what_cannot_run();
        if let Some(seed) = alone() {
            return self.judge(seed, true);
        }
        if self.scenario.capsule.is_some() {
            return self.again();
        }
        let mut tally = Tally::new(&self.scenario, self.first);
        let mut next = 0;
        while next < self.seeds {
            let end = self.seeds.min(next + CHUNK);
            let runs: Vec<RunResult> = (next..end)
                .into_par_iter()
                .map(|i| self.run(self.first.wrapping_add(i), false))
                .collect();
            for run in runs {
                if run.verdict == Verdict::Violated {
                    return self.judge(run.seed, false);
                }
                tally.add(run);
            }
            next = end;
        }
        if let Some(why) = tally.judgement().why() {
            panic!("inconclusive: {why}");
        }
        println!("{} seeds are valid: {}", tally.seeds, tally.ends.describe());
    }

    fn refuse_contradictions(&self) {
        for found in self.scenario.policy.contradictions() {
            assert!(self.scenario.allow.contains(&found.check), "{found}");
        }
    }

    /// Before any seed runs: without its database none can.
    fn refuse_what_cannot_run(&self) {
        if let Some(existing) = self.workload.topology() {
            let needed = topology(&self.workload, &self.scenario);
            if let Err(why) = existing::ready(&existing, &needed) {
                panic!("{why}");
            }
        }
        match ready(self.workload.postgres(), &self.scenario) {
            Ok(()) => {}
            Err(NotReady::NoServer(why)) => panic!("{why}"),
            Err(NotReady::NothingToAsk) => panic!(
                "no rows are expected of a query, and there is a model in place of a database: \
                 see Workload::postgres"
            ),
        }
    }

    fn run(&self, seed: u64, record: bool) -> RunResult {
        simulate(&self.workload, &self.scenario, seed, record)
    }

    /// Runs a capsule: fixed, or still broken.
    fn again(&self) {
        let (Some(kept), Some(seed)) = (&self.scenario.capsule, self.scenario.seed) else {
            return;
        };
        let run = self.run(seed, true);
        let outcome = compare(kept, &run);
        let remark = outcome.remark(kept.anomaly);
        let path = self.scenario.path.display();
        match outcome {
            Outcome::Fixed => println!("{path}: {remark}"),
            Outcome::Inconclusive(_) => panic!("{path}: {remark}"),
            _ => {
                let replay = self.command(seed);
                let told = story::render(&self.scenario, &run, &replay);
                panic!("{path}: {remark}\n{told}");
            }
        }
    }

    /// The line that runs a seed of this test alone.
    fn command(&self, seed: u64) -> String {
        format!("{SEED_VARIABLE}={seed} cargo test {}", self.test)
    }

    /// Runs one seed with recording, and panics with its story.
    fn judge(&self, seed: u64, full: bool) {
        let run = self.run(seed, true);
        if full {
            for line in &run.trace {
                println!("{line}");
            }
        }
        let replay = self.command(seed);
        match run.verdict {
            Verdict::Valid if full => println!("seed {seed} is valid"),
            Verdict::Valid => panic!("seed {seed} was violated, and is valid when recorded"),
            Verdict::Violated => {
                let told = story::render(&self.scenario, &run, &replay);
                // Whoever asks for one seed has been told of it before.
                let kept = match full {
                    true => String::new(),
                    false => self.keep(run),
                };
                panic!("{told}{kept}");
            }
            Verdict::Inconclusive => panic!(
                "seed {seed} is inconclusive: {}\n  {replay}",
                run.inconclusive
                    .as_deref()
                    .unwrap_or("nothing was measured")
            ),
        }
    }
}

impl<L: Workload> Check<L> {
    /// Leaves the run as a capsule, and says where.
    fn keep(&self, run: RunResult) -> String {
        let simulate =
            |scenario: &Scenario, seed, record| simulate(&self.workload, scenario, seed, record);
        capsules::keep(&simulate, &self.scenario, run, &self.test)
    }
}

/// The seed of the environment.
fn alone() -> Option<u64> {
    let text = std::env::var(SEED_VARIABLE).ok()?;
    match redeliver_sim::seed::parse(&text) {
        Ok(seed) => Some(seed),
        Err(why) => panic!("{SEED_VARIABLE}: {why}"),
    }
}

/// The running test, by the name of its thread.
fn test_name() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or("test").to_owned()
}
