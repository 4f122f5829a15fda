//! PostgreSQL itself, as far as the pipeline leans on it: sessions that take turns, and what each
//! step shows. The model of the database and the server have to show the same.
//!
//! Most of these are minimal programs that once told the two apart.

mod locks;
mod reading;
mod sessions;
mod unique;

use redeliver_conform::Arm;
use redeliver_conform::servers::Urls;
use redeliver_conform::sql::{Change, Op, Program, SqlArm, Start, Table, Wait};
use redeliver_core::secret::Secret;

use crate::table::{Outcome, Suite};

pub(crate) const SUITES: &[&Suite] = &[
    &reading::CASES,
    &unique::CASES,
    &locks::CASES,
    &sessions::CASES,
];

/// Whoever looks for a deadlock first is its victim. That is who closed the cycle, unless a busy
/// machine made the other one late, so a deadlock may be tried again.
const TRIES: usize = 9;

/// Rows there are, and steps: which session does what, and what is to be seen of it.
pub(crate) struct Script {
    rows: Vec<Start>,
    impatient: Option<usize>,
    steps: Vec<(usize, Op, &'static str)>,
}

impl Script {
    fn program(&self) -> Program {
        let sessions = self.steps.iter().map(|(session, ..)| session + 1).max();
        let impatient = (0..sessions.unwrap_or(1)).map(|n| self.impatient == Some(n));
        Program {
            rows: self.rows.clone(),
            impatient: impatient.collect(),
            steps: self.steps.iter().map(|(n, op, _)| (*n, *op)).collect(),
        }
    }

    fn expected(&self) -> Vec<&str> {
        self.steps.iter().map(|(.., seen)| *seen).collect()
    }

    fn judge(&self, seen: &[String]) {
        let steps = self.steps.iter().enumerate();
        let told: Vec<String> = steps
            .zip(seen)
            .map(|((n, (session, op, _)), seen)| format!("{n}: {session} {op:?}: {seen}"))
            .collect();
        assert_eq!(seen, self.expected(), "{}", told.join("\n"));
    }
}

/// Runs a case on the model.
pub(crate) fn simulated(case: impl Fn() -> Script) -> Outcome {
    let script = case();
    script.judge(&SqlArm::on_model(&script.program()));
    Outcome::Passed
}

/// Runs a case on PostgreSQL.
pub(crate) fn real(case: impl Fn() -> Script) -> Outcome {
    let Some(url) = redeliver_testing::server("DATABASE_URL") else {
        return Outcome::LeftOut;
    };
    let script = case();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let urls = Urls {
        database: Secret::new(url),
        ..Urls::default()
    };
    let local = tokio::task::LocalSet::new();
    let seen = local.block_on(&runtime, async {
        let mut arm = SqlArm::open(&urls, 0).await?;
        let mut seen = arm.on_server(&script.program()).await;
        for _ in 0..TRIES {
            let told = seen.as_ref().is_ok_and(|seen| *seen != script.expected());
            if !told || !script.expected().iter().any(|seen| seen.contains("40P01")) {
                break;
            }
            seen = arm.on_server(&script.program()).await;
        }
        arm.close().await;
        seen
    });
    script.judge(&seen.expect("the server answers"));
    Outcome::Passed
}

/// A script over rows of `a` that are given as `id, v, named` (`u` is then `id`).
fn script(rows: &[(i64, i64, bool)], steps: &[(usize, Op, &'static str)]) -> Script {
    let start = |&(id, v, named): &(i64, i64, bool)| Start {
        table: A,
        id,
        v,
        named,
    };
    Script {
        rows: rows.iter().map(start).collect(),
        impatient: None,
        steps: steps.to_vec(),
    }
}

const A: Table = Table::A;
const BEGIN: Op = Op::Begin;
const COMMIT: Op = Op::Commit;
const ROLLBACK: Op = Op::Rollback;
const READ_ALL: Op = Op::ReadAll { table: A };

fn insert(id: i64, u: Option<i64>) -> Op {
    Op::Insert {
        table: A,
        id,
        u,
        or_nothing: false,
    }
}

fn insert_or_nothing(id: i64, u: Option<i64>) -> Op {
    Op::Insert {
        table: A,
        id,
        u,
        or_nothing: true,
    }
}

fn upsert(id: i64) -> Op {
    Op::Upsert {
        table: A,
        id,
        u: None,
    }
}

/// Adds one.
fn add(id: i64) -> Op {
    add_below(id, 99)
}

/// Adds one to a number below another.
fn add_below(id: i64, below: i64) -> Op {
    Op::Update {
        table: A,
        id,
        change: Change::Add,
        below,
    }
}

fn rename(id: i64, u: Option<i64>) -> Op {
    Op::Update {
        table: A,
        id,
        change: Change::Name(u),
        below: 99,
    }
}

fn delete(id: i64) -> Op {
    Op::Delete {
        table: A,
        id,
        below: 99,
    }
}

fn read(id: i64) -> Op {
    Op::Read { table: A, id }
}

fn lock(id: i64) -> Op {
    Op::Lock { table: A, id }
}

/// Locks rows with `v < 2`, by id.
fn lock_some(limit: i64, wait: Wait) -> Op {
    Op::LockSome {
        table: A,
        by_v: false,
        limit,
        wait,
    }
}

/// Locks rows with `v >= 1`, by `v`.
fn lock_by_v(limit: i64) -> Op {
    Op::LockSome {
        table: A,
        by_v: true,
        limit,
        wait: Wait::Block,
    }
}
