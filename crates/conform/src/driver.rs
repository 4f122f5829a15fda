//! Makes programs, runs them in lanes, shrinks what diverges.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::servers::Urls;
use super::{Arm, Divergence, Failure, Outcome};

/// How many programs, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many programs.
    pub programs: u64,
    /// Program `i` is made from `seed + i`.
    pub seed: u64,
    /// How many run at a time.
    pub lanes: usize,
    /// How many runs the shrinking of one divergence may take.
    pub shrink_runs: u32,
}

/// What came of all programs of an arm.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many were run.
    pub programs: u64,
    /// How often an operation of each kind succeeded.
    pub succeeded: BTreeMap<&'static str, u64>,
    /// The programs that diverged, shrunk.
    pub found: Vec<Found>,
}

/// A program that the model does not explain.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed that makes the program.
    pub seed: u64,
    /// How many runs shrinking took.
    pub shrink_runs: u32,
    /// The minimal program.
    pub program: String,
    /// Where the two part.
    pub divergence: Divergence,
}

impl Report {
    /// Operations that never succeeded: with any of them the run counts for nothing.
    pub fn never<A: Arm>(&self) -> Vec<&'static str> {
        let missing = A::OPERATIONS.iter().copied();
        missing
            .filter(|name| !self.succeeded.contains_key(name))
            .collect()
    }

    fn count(&mut self, outcome: &Outcome) {
        self.programs += 1;
        for (name, times) in &outcome.succeeded {
            *self.succeeded.entry(name).or_default() += times;
        }
    }
}

/// Runs programs until all are run, a lane fails, or `stop` is set. `progress` hears of each.
///
/// # Errors
/// The first failure of a lane.
///
/// # Panics
/// Where a lane panics.
pub fn run<A: Arm>(
    urls: &Urls,
    options: &Options,
    stop: &AtomicBool,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, Failure> {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let (next, failed) = (&next, &failed);
    let report = Mutex::new(Report::default());
    let lane = |number: usize| -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure(format!("no runtime: {error}")))?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let mut arm = A::open(urls, number).await?;
            let over = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
            while !over() {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= options.programs {
                    break;
                }
                let (outcome, found) = one(&mut arm, options, options.seed + index, &over).await?;
                let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                report.count(&outcome);
                report.found.extend(found);
                progress(report.programs);
            }
            arm.close().await;
            Ok(())
        })
    };
    let results: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
        let lanes = (0..options.lanes.max(1)).map(|number| {
            scope.spawn(move || {
                let result = lane(number);
                if result.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                result
            })
        });
        let lanes: Vec<_> = lanes.collect();
        let joined = lanes.into_iter().map(|lane| lane.join());
        joined
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    results.into_iter().collect::<Result<(), Failure>>()?;
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.found.sort_by_key(|found| found.seed);
    Ok(report)
}

/// The program of a seed.
pub fn program<A: Arm>(seed: u64) -> A::Program {
    tree::<A>(seed).current()
}

/// The program of a seed, and all smaller ones.
fn tree<A: Arm>(seed: u64) -> Box<dyn ValueTree<Value = A::Program>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = A::programs().new_tree(&mut runner);
    tree.expect("programs are made without rejection")
}

async fn one<A: Arm>(
    arm: &mut A,
    options: &Options,
    seed: u64,
    over: &impl Fn() -> bool,
) -> Result<(Outcome, Option<Found>), Failure> {
    let mut tree = tree::<A>(seed);
    let mut program = tree.current();
    let outcome = arm.run(&program).await?;
    let Some(mut divergence) = outcome.divergence.clone() else {
        return Ok((outcome, None));
    };
    // Down as long as it diverges, back up where it does not: proptest's own way.
    let mut shrink_runs = 0;
    let mut smaller = tree.simplify();
    while smaller && shrink_runs < options.shrink_runs && !over() {
        shrink_runs += 1;
        let candidate = tree.current();
        smaller = match arm.run(&candidate).await?.divergence {
            Some(found) => {
                (program, divergence) = (candidate, found);
                tree.simplify()
            }
            None => tree.complicate(),
        };
    }
    let program = format!("{program:#?}");
    let found = Found {
        seed,
        shrink_runs,
        program,
        divergence,
    };
    Ok((outcome, Some(found)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A server that adds, and a model that is wrong from 100 on.
    struct Adder {
        sum: u32,
    }

    impl Arm for Adder {
        const NAME: &'static str = "adder";
        const OPERATIONS: &'static [&'static str] = &["add", "never"];
        type Program = Vec<u32>;

        fn programs() -> BoxedStrategy<Vec<u32>> {
            proptest::collection::vec(0u32..50, 1..12).boxed()
        }
        async fn open(_: &Urls, _: usize) -> Result<Self, Failure> {
            Ok(Self { sum: 0 })
        }
        async fn run(&mut self, program: &Vec<u32>) -> Result<Outcome, Failure> {
            self.sum = 0;
            let mut outcome = Outcome::default();
            for (step, add) in program.iter().enumerate() {
                self.sum += add;
                *outcome.succeeded.entry("add").or_default() += 1;
                if self.sum >= 100 && outcome.divergence.is_none() {
                    outcome.divergence = Some(Divergence {
                        step,
                        operation: format!("add {add}"),
                        real: self.sum.to_string(),
                        model: "99".to_owned(),
                    });
                }
            }
            Ok(outcome)
        }
        async fn close(self) {}
    }

    fn options(lanes: usize) -> Options {
        Options {
            programs: 40,
            seed: 7,
            lanes,
            shrink_runs: 2_000,
        }
    }

    fn report(lanes: usize) -> Report {
        let stop = AtomicBool::new(false);
        run::<Adder>(&Urls::default(), &options(lanes), &stop, &|_| {}).expect("it answers")
    }

    #[test]
    fn what_diverges_is_found_and_shrunk_to_a_minimal_program() {
        let report = report(1);
        assert_eq!(report.programs, 40);
        assert!(!report.found.is_empty());
        for found in &report.found {
            let numbers = found.program.split(|c: char| !c.is_ascii_digit());
            let numbers: Vec<u32> = numbers.filter_map(|n| n.parse().ok()).collect();
            assert_eq!(numbers.iter().sum::<u32>(), 100, "{numbers:?}");
        }
    }

    #[test]
    fn lanes_change_nothing() {
        let (one, four) = (report(1), report(4));
        let seeds = |report: &Report| report.found.iter().map(|f| f.seed).collect::<Vec<_>>();
        assert_eq!(seeds(&one), seeds(&four));
        assert_eq!(one.succeeded, four.succeeded);
    }

    #[test]
    fn an_operation_that_never_succeeded_is_named() {
        assert_eq!(report(2).never::<Adder>(), ["never"]);
    }

    #[test]
    fn a_stop_ends_it() {
        let stop = AtomicBool::new(true);
        let report = run::<Adder>(&Urls::default(), &options(2), &stop, &|_| {});
        assert_eq!(report.expect("it answers").programs, 0);
    }
}
