//! Random SQL programs: sessions that take turns, and block each other, on PostgreSQL and on the
//! model of it in `redeliver_sim::db`.
//!
//! ```text
//!   program ──► real: one step after the other; a step ends, or is seen to wait in pg_locks
//!      │                 │ what was seen of each step
//!      └──► explain ◄────┘
//!              └─ model, driven through the same steps, once for each way the rules leave open
//! ```
//!
//! As in PostgreSQL's own isolation tests a statement that waits keeps its session busy, and the
//! program goes on with the others. `explain.rs` states what may legally differ.

mod answer;
pub mod bend;
mod explain;
mod lane;
mod model;
mod program;
mod real;
mod rows;
mod session;
mod strategies;
pub(super) mod waits;

use proptest::prelude::*;

use super::servers::Urls;
use super::{Arm, Failure, Outcome};
use answer::{Answer, Seen};
use bend::Bend;
pub use program::{Change, Op, Program, Start, Table, Wait};
use real::Real;

/// Runs SQL programs on both sides.
pub struct SqlArm {
    real: Real,
}

impl SqlArm {
    /// What is seen of each step on the server, one line for each.
    ///
    /// # Errors
    /// The server could not be asked.
    pub async fn on_server(&mut self, program: &Program) -> Result<Vec<String>, Failure> {
        let seen = self.real.run(program).await?;
        Ok(lines(program, &seen))
    }

    /// What is seen of each step on the model, with nobody out of turn.
    pub fn on_model(program: &Program) -> Vec<String> {
        lines(program, &explain::in_turn(program))
    }

    /// Which of these bends keep the model from explaining what is seen on the server.
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
        if explain::explain(program, &seen, None).is_some() {
            return Ok(vec![false; bends.len()]);
        }
        let catch = |bend: &Bend| explain::explain(program, &seen, Some(*bend)).is_some();
        Ok(bends.iter().map(catch).collect())
    }
}

/// The program's own steps in words.
fn lines(program: &Program, seen: &[Seen]) -> Vec<String> {
    let own = seen.iter().take(program.steps.len());
    own.map(|seen| format!("{seen:?}")).collect()
}

impl std::fmt::Debug for SqlArm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlArm").finish_non_exhaustive()
    }
}

impl Arm for SqlArm {
    const NAME: &'static str = "sql";
    const OPERATIONS: &'static [&'static str] = &[
        "begin",
        "commit",
        "rollback",
        "insert",
        "insert or nothing",
        "upsert",
        "update",
        "delete",
        "read",
        "read all",
        "lock",
        "lock some",
        "skip locked",
        "nowait",
        "nextval",
        "notify",
        "listen",
        "unlisten",
        "hear",
        "advisory lock",
        "try advisory lock",
        "cancel",
        "cut",
        "cut at commit",
        // What is to be seen of them at least once.
        "went on after a wait",
        "23505",
        "25P02",
        "40P01",
        "55P03",
        "57014",
    ];
    type Program = Program;

    fn programs() -> BoxedStrategy<Program> {
        strategies::programs()
    }

    async fn open(urls: &Urls, _: usize) -> Result<Self, Failure> {
        let real = Real::open(urls.database.expose()).await?;
        Ok(Self { real })
    }

    async fn run(&mut self, program: &Program) -> Result<Outcome, Failure> {
        let seen = self.real.run(program).await?;
        Ok(Outcome {
            succeeded: count(program, &seen),
            divergence: explain::explain(program, &seen, None),
        })
    }

    async fn close(self) {
        self.real.close().await;
    }
}

/// How often each operation succeeded, and each thing happened that is to be seen.
fn count(program: &Program, seen: &[Seen]) -> std::collections::BTreeMap<&'static str, u64> {
    let mut succeeded = std::collections::BTreeMap::new();
    let mut note = |kind: &'static str| *succeeded.entry(kind).or_default() += 1;
    let mut last = vec![None; program.impatient.len()];
    let kinds = SqlArm::OPERATIONS;
    let code = |answer: &Answer| {
        kinds
            .iter()
            .find(|kind| answer.code() == Some(kind))
            .copied()
    };
    for ((at, op), seen) in program.all_steps().zip(seen) {
        for (session, answer) in &seen.woken {
            code(answer).into_iter().for_each(&mut note);
            if answer.succeeded() {
                note("went on after a wait");
                last[*session].into_iter().for_each(&mut note);
            }
        }
        let Some(answer) = &seen.own else { continue };
        code(answer).into_iter().for_each(&mut note);
        match answer {
            Answer::Blocked => last[at] = Some(op.kind()),
            answer if answer.succeeded() => note(op.kind()),
            _ => {}
        }
    }
    succeeded
}
