//! SQL programs: sessions that take turns over two tiny tables.

use std::fmt;

/// `a` has a unique index on `u`, `b` one on the `u` of rows with `v < 2` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// See above.
    A,
    /// See above.
    B,
}

impl Table {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// What a locking scan does about a locked row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// `FOR UPDATE`.
    Block,
    /// `FOR UPDATE SKIP LOCKED`.
    Skip,
    /// `FOR UPDATE NOWAIT`.
    Fail,
}

/// What an update does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `v = v + 1`
    Add,
    /// `v = 0`
    Zero,
    /// `u = …`
    Name(Option<i64>),
}

/// A statement, or what happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `BEGIN`
    Begin,
    /// `COMMIT`
    Commit,
    /// `ROLLBACK`
    Rollback,
    /// `INSERT`, with `ON CONFLICT DO NOTHING` or without.
    Insert {
        /// Into which table.
        table: Table,
        /// Primary key.
        id: i64,
        /// Under the unique index.
        u: Option<i64>,
        /// With `ON CONFLICT DO NOTHING`.
        or_nothing: bool,
    },
    /// `INSERT (id, u) … ON CONFLICT (id) DO UPDATE SET v = v + 1 RETURNING *`
    Upsert {
        /// Into which table.
        table: Table,
        /// Primary key.
        id: i64,
        /// Of a new row.
        u: Option<i64>,
    },
    /// `UPDATE … WHERE id = … AND v < … RETURNING *`
    Update {
        /// Which table.
        table: Table,
        /// Which row.
        id: i64,
        /// What it does.
        change: Change,
        /// The condition on `v`.
        below: i64,
    },
    /// `DELETE … WHERE id = … AND v < …`
    Delete {
        /// Which table.
        table: Table,
        /// Which row.
        id: i64,
        /// The condition on `v`.
        below: i64,
    },
    /// `SELECT … WHERE id = …`
    Read {
        /// Which table.
        table: Table,
        /// Which row.
        id: i64,
    },
    /// `SELECT … ORDER BY v, id`
    ReadAll {
        /// Which table.
        table: Table,
    },
    /// `SELECT … WHERE id = … FOR UPDATE`
    Lock {
        /// Which table.
        table: Table,
        /// Which row.
        id: i64,
    },
    /// `SELECT … WHERE v < 2 ORDER BY id LIMIT … FOR UPDATE …`, or, by `v`,
    /// `SELECT … WHERE v >= 1 ORDER BY v, id LIMIT … FOR UPDATE …`.
    LockSome {
        /// Which table.
        table: Table,
        /// Which of the two.
        by_v: bool,
        /// At most so many rows.
        limit: i64,
        /// About locked rows.
        wait: Wait,
    },
    /// `nextval`
    Next,
    /// `NOTIFY`
    Notify(usize),
    /// `LISTEN`
    Listen(usize),
    /// `UNLISTEN`
    Unlisten(usize),
    /// What has been notified since the session was asked last.
    Hear,
    /// `pg_advisory_xact_lock`
    Advisory(i64),
    /// `pg_try_advisory_xact_lock`
    TryAdvisory(i64),
    /// Another session cancels the statement that waits.
    Cancel,
    /// Another session ends this one; its client connects again.
    Cut,
    /// The same at `COMMIT`: before it is sent, or once it is.
    CutAtCommit {
        /// Before it is sent.
        before: bool,
    },
}

impl Op {
    /// Its name among the operations counted.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::Insert {
                or_nothing: false, ..
            } => "insert",
            Self::Insert { .. } => "insert or nothing",
            Self::Upsert { .. } => "upsert",
            Self::Update { .. } => "update",
            Self::Delete { .. } => "delete",
            Self::Read { .. } => "read",
            Self::ReadAll { .. } => "read all",
            Self::Lock { .. } => "lock",
            Self::LockSome { wait, .. } => match wait {
                Wait::Block => "lock some",
                Wait::Skip => "skip locked",
                Wait::Fail => "nowait",
            },
            Self::Next => "nextval",
            Self::Notify(_) => "notify",
            Self::Listen(_) => "listen",
            Self::Unlisten(_) => "unlisten",
            Self::Hear => "hear",
            Self::Advisory(_) => "advisory lock",
            Self::TryAdvisory(_) => "try advisory lock",
            Self::Cancel => "cancel",
            Self::Cut => "cut",
            Self::CutAtCommit { .. } => "cut at commit",
        }
    }
}

/// A row before the program begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// In which table.
    pub table: Table,
    /// Primary key.
    pub id: i64,
    /// Its number.
    pub v: i64,
    /// Whether `u` is `id`, or null.
    pub named: bool,
}

impl Start {
    pub(super) fn u(self) -> Option<i64> {
        self.named.then_some(self.id)
    }
}

/// A program.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// Rows there are, no key twice.
    pub rows: Vec<Start>,
    /// One for each session: whether it has a short `lock_timeout`.
    pub impatient: Vec<bool>,
    /// Which session does what, one after the other. What a session that still waits should do
    /// is left out.
    pub steps: Vec<(usize, Op)>,
}

/// A line for each step, as it is read best.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Start {
            table,
            id,
            v,
            named,
        } in &self.rows
        {
            let u = if *named { "id" } else { "null" };
            writeln!(f, "  row of {table:?}: id {id}, v {v}, u {u}")?;
        }
        writeln!(f, "  impatient: {:?}", self.impatient)?;
        for (n, (session, op)) in self.steps.iter().enumerate() {
            writeln!(f, "  {n:>2}  session {session}: {op:?}")?;
        }
        Ok(())
    }
}

impl Program {
    /// Whether that step is one of those that end all transactions.
    pub(super) fn is_over(&self, step: usize, op: Op) -> bool {
        step >= self.steps.len() && op == Op::Rollback
    }

    /// The steps, and those that end and compare everything.
    pub(super) fn all_steps(&self) -> impl Iterator<Item = (usize, Op)> {
        let sessions = self.impatient.len();
        // Each round lets at least one more session go on; one that has had its turn is left out.
        let ends = (0..sessions * sessions).map(move |n| (n % sessions, Op::Rollback));
        let hears = (0..sessions).map(|session| (session, Op::Hear));
        let reads = [
            Op::ReadAll { table: Table::A },
            Op::ReadAll { table: Table::B },
            Op::Next,
        ];
        let steps = self.steps.iter().copied();
        let reads = reads.into_iter().map(|op| (0, op));
        steps.chain(ends).chain(hears).chain(reads)
    }
}

/// The most sessions of a program.
pub(super) const SESSIONS: usize = 4;
pub(super) const CHANNELS: usize = 2;
