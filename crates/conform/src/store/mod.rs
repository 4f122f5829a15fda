//! Random programs over the store port: the same clients on the PostgreSQL store and on the
//! simulated one.
//!
//! What may differ, and why. Nothing else may.
//!
//! 1. *Times* are compared with the database's own clock only: a lease lasts or is over.
//! 2. *The words of errors*; their kind is compared, as the pipeline acts on nothing else.
//! 3. *Whose turn* it is where one commit lets several clients go on: the operating system says
//!    that on the real server, the seed does in the simulated world. So a program is explained if
//!    the world of some seed shows what was seen.
//! 4. *The victim of a deadlock* is whoever looks for one first: who closed the cycle, unless a
//!    busy machine made an earlier one late. So a program in which a client that had waited was
//!    the victim is run again.

pub mod bend;
mod client;
mod program;
mod real;
mod say;
mod sim;

use std::collections::BTreeMap;
use std::fmt;

use proptest::prelude::*;

use super::servers::Urls;
use super::{Arm, Divergence, Failure, Outcome};
use bend::Bend;
use client::Said;
pub use program::Program;
use real::Real;

/// Worlds to look for an explanation in.
const SEEDS: u64 = 24;

/// See the fourth rule.
const TRIES: usize = 3;

const BLOCKED: &str = "blocked";

/// Runs programs over the store port on both sides.
pub struct StoreArm {
    real: Real,
}

impl fmt::Debug for StoreArm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreArm").finish_non_exhaustive()
    }
}

/// What is seen of a step: what its client says (nothing where it was left out), and what those
/// say who had waited.
#[derive(Clone, Default, PartialEq, Eq)]
struct Seen {
    own: Option<Said>,
    woken: BTreeMap<usize, Said>,
}

impl Seen {
    fn has_late_victim(&self) -> bool {
        let mut woken = self.woken.values();
        woken.any(|(_, words)| words == "error: transient")
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.own.as_ref().map_or("left out", |said| &said.1);
        write!(f, "{own}")?;
        for (client, (_, words)) in &self.woken {
            write!(f, "; client {client} goes on: {words}")?;
        }
        Ok(())
    }
}

impl StoreArm {
    /// Which of these bends keep the simulated store from explaining what is seen on the server.
    ///
    /// # Errors
    /// The server could not be asked.
    pub async fn catches(
        &mut self,
        program: &Program,
        bends: &[Bend],
    ) -> Result<Vec<bool>, Failure> {
        let seen = self.real.run(program).await?;
        // What is not explained without a bend says nothing about one.
        if explain(program, &seen, None).is_some() {
            return Ok(vec![false; bends.len()]);
        }
        let catch = |bend: &Bend| explain(program, &seen, Some(*bend)).is_some();
        Ok(bends.iter().map(catch).collect())
    }
}

impl Arm for StoreArm {
    const NAME: &'static str = "store";
    const OPERATIONS: &'static [&'static str] = &[
        "begin",
        "commit",
        "rollback",
        "emit",
        "emit ordered",
        "insert",
        "get",
        "get for update",
        "update",
        "scan",
        "inbox open",
        "inbox save",
        "order pass",
        "workflow open",
        "workflow append",
        "claim",
        "mark",
        "release",
        "purge",
        "renew",
        "inbox purge",
        "order keep",
        "order next",
        "order take",
        "order overdue",
        "order forget",
        "read all",
        // What is to be seen of them at least once.
        "went on after a wait",
        "error: refused",
        "error: transient",
    ];
    type Program = Program;

    fn programs() -> BoxedStrategy<Program> {
        program::programs()
    }

    async fn open(urls: &Urls, _: usize) -> Result<Self, Failure> {
        let real = Real::open(urls.database.expose()).await?;
        Ok(Self { real })
    }

    async fn run(&mut self, program: &Program) -> Result<Outcome, Failure> {
        let mut seen = self.real.run(program).await?;
        let mut divergence = explain(program, &seen, None);
        for _ in 0..TRIES {
            if divergence.is_none() || !seen.iter().any(Seen::has_late_victim) {
                break;
            }
            seen = self.real.run(program).await?;
            divergence = explain(program, &seen, None);
        }
        Ok(Outcome {
            succeeded: count(program, &seen),
            divergence,
        })
    }

    async fn close(self) {
        self.real.close().await;
    }
}

/// What the simulated store says instead, if no seed lets it say this.
fn explain(program: &Program, seen: &[Seen], bend: Option<Bend>) -> Option<Divergence> {
    let mut best: Option<Divergence> = None;
    for seed in 0..SEEDS {
        let divergence = compare(program, seen, &sim::run(program, seed, bend))?;
        if best.as_ref().is_none_or(|best| best.step < divergence.step) {
            best = Some(divergence);
        }
    }
    best
}

fn compare(program: &Program, real: &[Seen], simulated: &[Seen]) -> Option<Divergence> {
    let steps = program.all_steps();
    let step = (0..real.len()).find(|step| simulated.get(*step) != real.get(*step))?;
    let (client, op) = steps.get(step)?;
    let words = |seen: Option<&Seen>| seen.map_or("stands still".to_owned(), |s| format!("{s:?}"));
    Some(Divergence {
        step,
        operation: format!("client {client}: {op:?}"),
        real: words(real.get(step)),
        model: words(simulated.get(step)),
    })
}

/// How often each operation succeeded, and each thing happened that is to be seen.
fn count(program: &Program, seen: &[Seen]) -> BTreeMap<&'static str, u64> {
    let mut succeeded = BTreeMap::new();
    let mut note = |kind: &'static str| *succeeded.entry(kind).or_default() += 1;
    let mut last = vec![None; program.clients];
    for ((at, op), seen) in program.all_steps().into_iter().zip(seen) {
        for (client, (success, _)) in &seen.woken {
            if *success {
                note("went on after a wait");
                last[*client].into_iter().for_each(&mut note);
            }
        }
        match &seen.own {
            Some((true, _)) => note(op.kind()),
            Some((false, words)) if words == BLOCKED => last[at] = Some(op.kind()),
            _ => {}
        }
        let said = seen.own.iter().chain(seen.woken.values());
        let words = said.map(|(_, words)| words.as_str());
        let kinds = StoreArm::OPERATIONS.iter().copied();
        for words in words.filter(|words| words.starts_with("error")) {
            kinds
                .clone()
                .filter(|kind| *kind == words)
                .for_each(&mut note);
        }
    }
    succeeded
}
