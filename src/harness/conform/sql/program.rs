//! Random SQL programs: sessions that take turns over two tiny tables.

use std::fmt;

use proptest::prelude::*;

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
const IDS: i64 = 3;

fn table() -> impl Strategy<Value = Table> + Clone {
    prop_oneof![3 => Just(Table::A), 1 => Just(Table::B)]
}

fn id() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![3 => Just(1_i64), 2 => Just(2), 1 => Just(IDS)]
}

fn name() -> impl Strategy<Value = Option<i64>> + Clone {
    prop_oneof![Just(None), Just(Some(1)), Just(Some(2))]
}

fn below() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![1 => Just(9_i64), 1 => 1..4_i64]
}

fn channel() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![3 => Just(0_usize), 1 => Just(CHANNELS - 1)]
}

fn statement() -> impl Strategy<Value = Op> {
    let row = || (table(), id());
    let wait = prop_oneof![Just(Wait::Block), Just(Wait::Skip), Just(Wait::Fail)];
    let change = prop_oneof![
        3 => Just(Change::Add),
        1 => Just(Change::Zero),
        2 => name().prop_map(Change::Name)
    ];
    prop_oneof![
        6 => (row(), name(), any::<bool>()).prop_map(|((table, id), u, or_nothing)| {
            Op::Insert { table, id, u, or_nothing }
        }),
        3 => (row(), name()).prop_map(|((table, id), u)| Op::Upsert { table, id, u }),
        8 => (row(), change, below()).prop_map(|((table, id), change, below)| {
            Op::Update { table, id, change, below }
        }),
        4 => (row(), below()).prop_map(|((table, id), below)| Op::Delete { table, id, below }),
        1 => row().prop_map(|(table, id)| Op::Read { table, id }),
        1 => table().prop_map(|table| Op::ReadAll { table }),
        3 => row().prop_map(|(table, id)| Op::Lock { table, id }),
        6 => (table(), any::<bool>(), 1..4_i64, wait).prop_map(|(table, by_v, limit, wait)| {
            Op::LockSome { table, by_v, limit, wait }
        }),
        1 => Just(Op::Next),
        3 => channel().prop_map(Op::Notify),
        1 => channel().prop_map(Op::Listen),
        1 => channel().prop_map(Op::Unlisten),
        3 => Just(Op::Hear),
        2 => (1..3_i64).prop_map(Op::Advisory),
        1 => (1..3_i64).prop_map(Op::TryAdvisory),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => Just(Op::Begin),
        6 => Just(Op::Commit),
        3 => Just(Op::Rollback),
        32 => statement(),
        2 => Just(Op::Cancel),
        1 => Just(Op::Cut),
        1 => any::<bool>().prop_map(|before| Op::CutAtCommit { before }),
    ]
}

fn start() -> impl Strategy<Value = Vec<Start>> {
    let row = (any::<bool>(), 0..3_i64, any::<bool>());
    let each = prop::collection::vec(row, 2 * IDS as usize);
    each.prop_map(|rows| {
        let rows = rows.into_iter().enumerate();
        let there = rows.filter(|(_, (there, ..))| *there);
        let start = there.map(|(n, (_, v, named))| {
            let (table, n) = if n < IDS as usize {
                (Table::A, n)
            } else {
                (Table::B, n - IDS as usize)
            };
            Start {
                table,
                id: n as i64 + 1,
                v,
                named,
            }
        });
        start.collect()
    })
}

/// A few steps of a program. Single ones alone would seldom meet at the same row.
#[derive(Clone, Copy, Debug)]
enum Part {
    One(usize, Op),
    /// One session begins and touches a row, another wants it, perhaps something happens, and
    /// the first ends.
    Clash {
        first: usize,
        other: usize,
        ops: [Op; 2],
        between: Option<(usize, Op)>,
        end: Op,
    },
}

impl Part {
    fn steps(self, sessions: usize) -> Vec<(usize, Op)> {
        match self {
            Self::One(session, op) => vec![(session % sessions, op)],
            Self::Clash {
                first,
                other,
                ops,
                between,
                end,
            } => {
                let first = first % sessions;
                let other = (first + 1 + other % (sessions - 1)) % sessions;
                let mut steps = vec![(first, Op::Begin), (first, ops[0]), (other, ops[1])];
                steps.extend(between.map(|(session, op)| (session % sessions, op)));
                steps.push((first, end));
                steps
            }
        }
    }
}

/// Statements about one row, which [`at`] names.
fn about_a_row() -> impl Strategy<Value = Op> {
    let (table, id) = (Table::A, 1);
    let change = prop_oneof![
        3 => Just(Change::Add),
        1 => Just(Change::Zero),
        2 => name().prop_map(Change::Name)
    ];
    let update = (change, below());
    prop_oneof![
        5 => update.prop_map(move |(change, below)| Op::Update { table, id, change, below }),
        2 => below().prop_map(move |below| Op::Delete { table, id, below }),
        2 => (name(), any::<bool>())
            .prop_map(move |(u, or_nothing)| Op::Insert { table, id, u, or_nothing }),
        1 => name().prop_map(move |u| Op::Upsert { table, id, u }),
        1 => Just(Op::Lock { table, id }),
        2 => (any::<bool>(), 1..4_i64, prop_oneof![2 => Just(Wait::Block), 1 => Just(Wait::Skip)])
            .prop_map(move |(by_v, limit, wait)| Op::LockSome { table, by_v, limit, wait }),
    ]
}

fn at(mut op: Op, (in_table, row): (Table, i64)) -> Op {
    match &mut op {
        Op::Insert { table, id, .. }
        | Op::Upsert { table, id, .. }
        | Op::Update { table, id, .. }
        | Op::Delete { table, id, .. }
        | Op::Lock { table, id } => (*table, *id) = (in_table, row),
        Op::LockSome { table, .. } => *table = in_table,
        _ => {}
    }
    op
}

fn part() -> impl Strategy<Value = Part> {
    let end = prop_oneof![3 => Just(Op::Commit), 1 => Just(Op::Rollback), 1 => Just(Op::Cut)];
    let between = prop::option::of((0..SESSIONS, op()));
    let who = (0..SESSIONS, 0..SESSIONS);
    let ops = (about_a_row(), about_a_row());
    let clash = (who, (table(), id()), ops, between, end);
    let clash = clash.prop_map(|((first, other), row, ops, between, end)| Part::Clash {
        first,
        other,
        ops: [at(ops.0, row), at(ops.1, row)],
        between,
        end,
    });
    prop_oneof![
        5 => (0..SESSIONS, op()).prop_map(|(session, op)| Part::One(session, op)),
        1 => clash,
    ]
}

/// All programs.
pub(super) fn programs() -> BoxedStrategy<Program> {
    // Most sessions begin with BEGIN, or there would be few locks to wait for; some listen.
    let client = (
        prop::bool::weighted(0.07),
        prop::bool::weighted(0.6),
        prop::bool::weighted(0.4),
    );
    let clients = prop::collection::vec(client, 2..=SESSIONS);
    let parts = prop::collection::vec(part(), 1..20);
    (start(), clients, parts)
        .prop_map(|(rows, clients, parts)| {
            let numbers = || clients.iter().enumerate();
            let listens = numbers().filter(|(_, client)| client.2);
            let begins = numbers().filter(|(_, client)| client.1);
            let opening = listens
                .map(|(session, _)| (session, Op::Listen(0)))
                .chain(begins.map(|(session, _)| (session, Op::Begin)));
            let rest = parts.iter().flat_map(|part| part.steps(clients.len()));
            Program {
                rows,
                steps: opening.chain(rest).collect(),
                impatient: clients.iter().map(|client| client.0).collect(),
            }
        })
        .boxed()
}
