//! Random programs over the store port: clients that take turns, each with a transaction.

use std::fmt;

use proptest::prelude::*;

/// What an inbox row is saved as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Save {
    /// Waiting for its next attempt.
    Open,
    /// Claimed, with a lease that lasts, or is over.
    Claimed {
        /// Whether it lasts.
        lasts: bool,
    },
    /// Done.
    Done,
    /// Given up.
    Dead {
        /// Whether its letter is known to be published.
        published: bool,
    },
}

/// An operation of the port. Those on rows, events, inbox, order and workflows run in the client's
/// transaction, and begin one where there is none; those from `Claim` on are each a transaction
/// of their own, and are left out while the client has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Begin,
    Commit,
    Rollback,
    Emit { key: usize, ordered: bool },
    Insert { id: usize },
    Get { id: usize },
    GetForUpdate { id: usize },
    Update { id: usize, version: i64 },
    Scan { prefix: usize, limit: u32 },
    InboxOpen { key: usize },
    InboxOpenAll,
    InboxSave { key: usize, save: Save },
    OrderPass { key: usize, ahead: u64 },
    WorkflowOpen { flow: usize },
    WorkflowAppend { flow: usize, spoilt: bool },
    Claim { limit: u32, lasts: bool },
    Mark { spoilt: bool },
    Release { delay: bool },
    Purge { young: bool, limit: u32 },
    Renew { key: usize },
    InboxPurge { young: bool, limit: u32 },
    OrderKeep { key: usize, sequence: u64 },
    OrderNext { key: usize },
    OrderTake { key: usize, limit: u32 },
    OrderOverdue { young: bool, limit: u32 },
    OrderForget { key: usize, from: u64 },
    ReadAll,
}

impl Op {
    /// Its name among the operations counted.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::Emit { ordered: false, .. } => "emit",
            Self::Emit { .. } => "emit ordered",
            Self::Insert { .. } => "insert",
            Self::Get { .. } => "get",
            Self::GetForUpdate { .. } => "get for update",
            Self::Update { .. } => "update",
            Self::Scan { .. } => "scan",
            Self::InboxOpen { .. } => "inbox open",
            Self::InboxOpenAll => "inbox open all",
            Self::InboxSave { .. } => "inbox save",
            Self::OrderPass { .. } => "order pass",
            Self::WorkflowOpen { .. } => "workflow open",
            Self::WorkflowAppend { .. } => "workflow append",
            Self::Claim { .. } => "claim",
            Self::Mark { .. } => "mark",
            Self::Release { .. } => "release",
            Self::Purge { .. } => "purge",
            Self::Renew { .. } => "renew",
            Self::InboxPurge { .. } => "inbox purge",
            Self::OrderKeep { .. } => "order keep",
            Self::OrderNext { .. } => "order next",
            Self::OrderTake { .. } => "order take",
            Self::OrderOverdue { .. } => "order overdue",
            Self::OrderForget { .. } => "order forget",
            Self::ReadAll => "read all",
        }
    }

    /// Whether it is a transaction of its own.
    pub(super) fn is_alone(self) -> bool {
        matches!(
            self,
            Self::Claim { .. }
                | Self::Mark { .. }
                | Self::Release { .. }
                | Self::Purge { .. }
                | Self::Renew { .. }
                | Self::InboxPurge { .. }
                | Self::OrderKeep { .. }
                | Self::OrderNext { .. }
                | Self::OrderTake { .. }
                | Self::OrderOverdue { .. }
                | Self::OrderForget { .. }
                | Self::ReadAll
        )
    }
}

/// A program.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// How many clients.
    pub clients: usize,
    /// Which client does what. What a client that still waits should do is left out.
    pub steps: Vec<(usize, Op)>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (client, op)) in self.steps.iter().enumerate() {
            writeln!(f, "  {n:>2}  client {client}: {op:?}")?;
        }
        Ok(())
    }
}

impl Program {
    /// The steps, and those that end and compare everything.
    pub(super) fn all_steps(&self) -> Vec<(usize, Op)> {
        let mut steps = self.steps.clone();
        // Each round lets at least one more client go on.
        for _ in 0..self.clients {
            steps.extend((0..self.clients).map(|client| (client, Op::Rollback)));
        }
        steps.push((0, Op::ReadAll));
        steps
    }
}

pub(super) const CLIENTS: usize = 4;

fn few() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![3 => Just(0_usize), 1 => Just(1)]
}

fn within() -> impl Strategy<Value = Op> {
    let save = prop_oneof![
        Just(Save::Open),
        any::<bool>().prop_map(|lasts| Save::Claimed { lasts }),
        Just(Save::Done),
        any::<bool>().prop_map(|published| Save::Dead { published }),
    ];
    prop_oneof![
        3 => few().prop_map(|key| Op::Emit { key, ordered: false }),
        5 => few().prop_map(|key| Op::Emit { key, ordered: true }),
        3 => few().prop_map(|id| Op::Insert { id }),
        1 => few().prop_map(|id| Op::Get { id }),
        2 => few().prop_map(|id| Op::GetForUpdate { id }),
        3 => (few(), 1..4_i64).prop_map(|(id, version)| Op::Update { id, version }),
        1 => (few(), 1..3_u32).prop_map(|(prefix, limit)| Op::Scan { prefix, limit }),
        3 => few().prop_map(|key| Op::InboxOpen { key }),
        1 => Just(Op::InboxOpenAll),
        4 => (few(), save).prop_map(|(key, save)| Op::InboxSave { key, save }),
        4 => (few(), prop_oneof![5 => Just(0), 1 => Just(1)])
            .prop_map(|(key, ahead)| Op::OrderPass { key, ahead }),
        2 => few().prop_map(|flow| Op::WorkflowOpen { flow }),
        2 => (few(), prop::bool::weighted(0.3))
            .prop_map(|(flow, spoilt)| Op::WorkflowAppend { flow, spoilt }),
    ]
}

fn alone() -> impl Strategy<Value = Op> {
    let young = || any::<bool>();
    prop_oneof![
        4 => (1..4_u32, any::<bool>()).prop_map(|(limit, lasts)| Op::Claim { limit, lasts }),
        3 => prop::bool::weighted(0.2).prop_map(|spoilt| Op::Mark { spoilt }),
        2 => any::<bool>().prop_map(|delay| Op::Release { delay }),
        1 => (young(), 1..3_u32).prop_map(|(young, limit)| Op::Purge { young, limit }),
        2 => few().prop_map(|key| Op::Renew { key }),
        1 => (young(), 1..3_u32).prop_map(|(young, limit)| Op::InboxPurge { young, limit }),
        4 => (few(), 1..5_u64).prop_map(|(key, sequence)| Op::OrderKeep { key, sequence }),
        1 => few().prop_map(|key| Op::OrderNext { key }),
        2 => (few(), 1..4_u32).prop_map(|(key, limit)| Op::OrderTake { key, limit }),
        2 => (young(), 1..4_u32).prop_map(|(young, limit)| Op::OrderOverdue { young, limit }),
        1 => (few(), 1..5_u64).prop_map(|(key, from)| Op::OrderForget { key, from }),
        1 => Just(Op::ReadAll),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::Begin),
        8 => Just(Op::Commit),
        2 => Just(Op::Rollback),
        16 => within(),
        9 => alone(),
    ]
}

/// What a relay does with an event. Single operations alone would seldom come so far.
fn relayed() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let settle = prop_oneof![
        prop::bool::weighted(0.1).prop_map(|spoilt| Op::Mark { spoilt }),
        any::<bool>().prop_map(|delay| Op::Release { delay }),
    ];
    let after = prop_oneof![
        Just(Op::Claim {
            limit: 3,
            lasts: true
        }),
        any::<bool>().prop_map(|young| Op::Purge { young, limit: 2 }),
    ];
    let who = (0..CLIENTS, 0..CLIENTS);
    (who, few(), any::<bool>(), settle, after).prop_map(
        |((client, relay), key, lasts, op, after)| {
            vec![
                (client, Op::Emit { key, ordered: true }),
                (client, Op::Commit),
                (relay, Op::Rollback),
                (relay, Op::Claim { limit: 3, lasts }),
                (relay, op),
                (relay, after),
            ]
        },
    )
}

/// Messages of an ordered key come before their turn, and their turn comes.
fn early() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let after = prop_oneof![
        any::<bool>().prop_map(|young| Op::OrderOverdue { young, limit: 3 }),
        Just(Op::OrderTake { key: 0, limit: 2 }),
        Just(Op::OrderForget { key: 0, from: 2 }),
    ];
    (0..CLIENTS, 0..CLIENTS, after).prop_map(|(client, other, after)| {
        let keep = |sequence| (client, Op::OrderKeep { key: 0, sequence });
        let ends = (client, Op::Commit);
        vec![
            ends,
            keep(2),
            keep(3),
            (client, Op::OrderPass { key: 0, ahead: 0 }),
            ends,
            (other, Op::Rollback),
            (other, Op::OrderTake { key: 0, limit: 3 }),
            (other, after),
        ]
    })
}

/// Two clients want the same row.
fn clash() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let touch = || {
        prop_oneof![
            2 => Just(Op::GetForUpdate { id: 0 }),
            1 => Just(Op::Update { id: 0, version: 1 }),
        ]
    };
    let who = (0..CLIENTS, 1..CLIENTS);
    (who, touch(), touch()).prop_map(|((first, next), one, two)| {
        let other = first + next;
        vec![
            (first, Op::Insert { id: 0 }),
            (first, Op::Commit),
            (first, one),
            (other, two),
            (first, Op::Commit),
            (other, Op::Commit),
        ]
    })
}

/// All programs.
pub(super) fn programs() -> BoxedStrategy<Program> {
    let part = prop_oneof![
        24 => (0..CLIENTS, op()).prop_map(|step| vec![step]),
        1 => relayed(),
        1 => clash(),
        1 => early(),
    ];
    let parts = prop::collection::vec(part, 1..26);
    (2..=CLIENTS, parts)
        .prop_map(|(clients, parts)| {
            let steps = parts.into_iter().flatten();
            Program {
                clients,
                steps: steps.map(|(n, op)| (n % clients, op)).collect(),
            }
        })
        .boxed()
}
