//! Random SQL programs.

use proptest::prelude::*;

use super::program::{CHANNELS, Change, Op, Program, SESSIONS, Start, Table, Wait};

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
    /// Two sessions have touched a row each, and each wants the other's.
    Cycle {
        first: usize,
        other: usize,
        ops: [Op; 4],
    },
}

fn two(first: usize, other: usize, sessions: usize) -> (usize, usize) {
    let first = first % sessions;
    (first, (first + 1 + other % (sessions - 1)) % sessions)
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
                let (first, other) = two(first, other, sessions);
                let mut steps = vec![(first, Op::Begin), (first, ops[0]), (other, ops[1])];
                steps.extend(between.map(|(session, op)| (session % sessions, op)));
                steps.push((first, end));
                steps
            }
            Self::Cycle { first, other, ops } => {
                let (first, other) = two(first, other, sessions);
                let [one, two, three, four] = ops;
                let begin = [(first, Op::Begin), (other, Op::Begin)];
                let wants = [(first, one), (other, two), (first, three), (other, four)];
                begin.into_iter().chain(wants).collect()
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
    let who = (0..SESSIONS, 0..SESSIONS);
    let cycle = (who, table(), prop::collection::vec(about_a_row(), 4));
    let cycle = cycle.prop_map(|((first, other), table, ops)| Part::Cycle {
        first,
        other,
        ops: [(0, 1), (1, 2), (2, 2), (3, 1)].map(|(n, id): (usize, i64)| at(ops[n], (table, id))),
    });
    prop_oneof![
        20 => (0..SESSIONS, op()).prop_map(|(session, op)| Part::One(session, op)),
        4 => clash,
        1 => cycle,
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
