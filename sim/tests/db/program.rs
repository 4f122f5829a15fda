//! The programs that random interleavings are made of: statements, and what they did.

use proptest::prelude::*;
use redeliver_sim::db::{Insert, Key, LockWait, SessionId, SqlError, Step};

use super::{Item, World, row, value_of};

const NAMES: [&str; 3] = ["x", "y", "z"];

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Begin,
    Commit,
    Rollback,
    Insert {
        id: i64,
        name: usize,
    },
    Strict {
        id: i64,
        name: usize,
    },
    Upsert {
        id: i64,
    },
    /// Adds one, if the number is even where `even` asks for that.
    Add {
        id: i64,
        even: bool,
    },
    Rename {
        id: i64,
        name: usize,
    },
    Delete {
        id: i64,
    },
    Lock {
        id: i64,
    },
    /// Reads every row by key, and the index, and compares both with the oracle.
    Read,
    LockOpen {
        limit: usize,
        wait: LockWait,
    },
    Advisory {
        key: i64,
    },
    Cancel,
    Reconnect,
    Terminate,
    FailOver,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let (id, name) = (|| 0..4_i64, || 0..=NAMES.len());
    let wait = prop_oneof![
        Just(LockWait::Block),
        Just(LockWait::SkipLocked),
        Just(LockWait::NoWait)
    ];
    prop_oneof![
        6 => Just(Op::Begin),
        8 => Just(Op::Commit),
        2 => Just(Op::Rollback),
        6 => (id(), name()).prop_map(|(id, name)| Op::Insert { id, name }),
        2 => (id(), name()).prop_map(|(id, name)| Op::Strict { id, name }),
        4 => id().prop_map(|id| Op::Upsert { id }),
        8 => (id(), any::<bool>()).prop_map(|(id, even)| Op::Add { id, even }),
        4 => (id(), name()).prop_map(|(id, name)| Op::Rename { id, name }),
        3 => id().prop_map(|id| Op::Delete { id }),
        3 => id().prop_map(|id| Op::Lock { id }),
        4 => (1..4_usize, wait).prop_map(|(limit, wait)| Op::LockOpen { limit, wait }),
        2 => (0..2_i64).prop_map(|key| Op::Advisory { key }),
        4 => Just(Op::Read),
        1 => Just(Op::Cancel),
        1 => Just(Op::Reconnect),
        1 => Just(Op::Terminate),
        1 => Just(Op::FailOver),
    ]
}

/// What a completed statement did to a row: the value it left, or nothing.
pub(super) type Effect = (i64, Option<Item>);

/// A statement complete, with its effect; or waiting; or failed.
pub(super) type Outcome = Result<Step<Option<Effect>>, SqlError>;

fn new_item(name: usize, number: i64) -> Item {
    Item {
        name: NAMES.get(name).copied(),
        number,
    }
}

fn map<T>(step: Step<T>, effect: impl FnOnce(T) -> Option<Effect>) -> Step<Option<Effect>> {
    match step {
        Step::Done(value) => Step::Done(effect(value)),
        Step::Blocked => Step::Blocked,
    }
}

fn change(w: &mut World, s: SessionId, id: i64, to: impl Fn(&Item) -> Option<Item>) -> Outcome {
    let step =
        w.db.update(s, w.items, &Key::Int(id), |old| to(value_of(old)).map(row))?;
    Ok(map(step, |new| {
        Some((id, Some(value_of::<Item>(&new?).clone())))
    }))
}

/// Issues a statement; `None` for what is no statement.
pub(super) fn issue(w: &mut World, s: SessionId, op: Op) -> Option<Outcome> {
    let items = w.items;
    Some(match op {
        Op::Insert { id, name } => {
            let new = new_item(name, 0);
            let step = w.db.insert(s, items, Key::Int(id), row(new.clone()));
            step.map(|step| {
                map(step, |insert| match insert {
                    Insert::Inserted => Some((id, Some(new))),
                    Insert::Conflict(_) => None,
                })
            })
        }
        Op::Strict { id, name } => {
            let new = new_item(name, 0);
            let step = w.db.insert_strict(s, items, Key::Int(id), row(new.clone()));
            step.map(|step| map(step, |()| Some((id, Some(new)))))
        }
        Op::Upsert { id } => {
            let step = w.db.upsert(s, items, Key::Int(id), |old| {
                row(old.map_or(new_item(9, 0), |old| {
                    let old = value_of::<Item>(old);
                    Item {
                        number: old.number + 1,
                        ..old.clone()
                    }
                }))
            });
            step.map(|step| map(step, |new| Some((id, Some(value_of::<Item>(&new).clone())))))
        }
        Op::Add { id, even } => change(w, s, id, |old| {
            let wanted = !even || old.number % 2 == 0;
            wanted.then(|| Item {
                number: old.number + 1,
                ..old.clone()
            })
        }),
        Op::Rename { id, name } => change(w, s, id, |old| Some(new_item(name, old.number))),
        Op::Delete { id } => {
            let step = w.db.delete(s, items, &Key::Int(id), |_| true);
            step.map(|step| map(step, |gone| gone.then_some((id, None))))
        }
        Op::Lock { id } => {
            let step = w.db.get_for_update(s, items, &Key::Int(id));
            step.map(|step| map(step, |_| None))
        }
        Op::LockOpen { limit, wait } => {
            let open = w.open;
            let step = w.db.scan_for_update(s, open, .., &|_, _| true, limit, wait);
            step.map(|step| map(step, |_| None))
        }
        Op::Advisory { key } => {
            w.db.advisory_xact_lock(s, key)
                .map(|step| map(step, |()| None))
        }
        _ => return None,
    })
}
