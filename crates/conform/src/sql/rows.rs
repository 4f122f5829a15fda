//! Statements about rows, on the model.

use redeliver_sim::db::{Key, LockWait, Row as Stored, SessionId, SqlError, Step, get, row};

use super::answer::{Answer, Row};
use super::bend::Bend;
use super::model::{Item, Model};
use super::program::{Change, Op, Table, Wait};

fn seen(key: &Key, stored: &Stored) -> Row {
    let Key::Int(id) = key else {
        unreachable!("keys are integers")
    };
    let item: &Item = get(stored);
    (*id, item.v, item.u)
}

impl Model {
    pub(super) fn write(&mut self, s: SessionId, op: Op, again: bool) -> Result<Answer, SqlError> {
        let db = &mut self.db;
        let count = |written: bool| Answer::Count(u64::from(written));
        Ok(match op {
            Op::Insert {
                table,
                id,
                u,
                or_nothing,
            } => {
                let (table, key) = (self.tables[table as usize], Key::Int(id));
                let new = row(Item { v: 0, u });
                let written = if or_nothing {
                    let step = db.insert(s, table, key, new)?;
                    step.done().map(|insert| insert.is_inserted())
                } else {
                    db.insert_strict(s, table, key, new)?.done().map(|()| true)
                };
                if written.is_none() && self.bend == Some(Bend::UnsettledKeysFail) {
                    let error = SqlError::new(SqlError::UNIQUE_VIOLATION, "bent");
                    return Err(db.inject(s, error));
                }
                written.map_or(Answer::Blocked, count)
            }
            Op::Upsert { table, id, u } => {
                let (table, key) = (self.tables[table as usize], Key::Int(id));
                let step = db.upsert(s, table, key.clone(), |there| {
                    let new = |item: &Item| Item {
                        v: item.v + 1,
                        ..*item
                    };
                    row(there.map_or(Item { v: 0, u }, |there| new(get(there))))
                })?;
                let rows = |stored: Stored| Answer::Rows(vec![seen(&key, &stored)]);
                step.done().map_or(Answer::Blocked, rows)
            }
            Op::Update {
                table,
                id,
                change,
                below,
            } => {
                let (table, key) = (self.tables[table as usize], Key::Int(id));
                let blind = again && self.bend == Some(Bend::NoLookAgain);
                let step = db.update(s, table, &key, |there| {
                    let item: &Item = get(there);
                    (item.v < below || blind).then(|| row(changed(*item, change)))
                })?;
                let rows = |new: Option<Stored>| {
                    Answer::Rows(new.iter().map(|stored| seen(&key, stored)).collect())
                };
                step.done().map_or(Answer::Blocked, rows)
            }
            Op::Delete { table, id, below } => {
                let (table, key) = (self.tables[table as usize], Key::Int(id));
                let blind = again && self.bend == Some(Bend::NoLookAgain);
                let fits = |there: &Stored| get::<Item>(there).v < below || blind;
                let step = db.delete(s, table, &key, fits)?;
                step.done().map_or(Answer::Blocked, count)
            }
            _ => Answer::Done,
        })
    }

    pub(super) fn read(&mut self, s: SessionId, op: Op) -> Result<Answer, SqlError> {
        let db = &mut self.db;
        let rows = |found: Vec<(Key, Stored)>| {
            Answer::Rows(
                found
                    .iter()
                    .map(|(key, stored)| seen(key, stored))
                    .collect(),
            )
        };
        let index = |table: Table| table as usize;
        Ok(match op {
            Op::Read { table, id } => {
                let (table, key) = (self.tables[index(table)], Key::Int(id));
                let step = if self.bend == Some(Bend::ReadsWait) {
                    db.get_for_update(s, table, &key)?
                } else {
                    Step::Done(db.get(s, table, &key)?)
                };
                let Step::Done(found) = step else {
                    return Ok(Answer::Blocked);
                };
                rows(found.map(|row| (Key::Int(id), row)).into_iter().collect())
            }
            Op::ReadAll { table } => {
                rows(db.scan(s, self.by_v[index(table)], .., &|_, _| true, 99)?)
            }
            Op::Lock { table, id } => {
                let key = Key::Int(id);
                let step = if self.bend == Some(Bend::LocksNotKept) {
                    Step::Done(db.get(s, self.tables[index(table)], &key)?)
                } else {
                    db.get_for_update(s, self.tables[index(table)], &key)?
                };
                let found =
                    |row: Option<Stored>| rows(row.map(|row| (key, row)).into_iter().collect());
                step.done().map_or(Answer::Blocked, found)
            }
            Op::LockSome {
                table,
                by_v,
                limit,
                wait,
            } => {
                let limit = usize::try_from(limit).unwrap_or_default();
                let wait = match wait {
                    Wait::Skip if self.bend == Some(Bend::SkipWaits) => LockWait::Block,
                    Wait::Skip => LockWait::SkipLocked,
                    Wait::Block => LockWait::Block,
                    Wait::Fail if self.bend == Some(Bend::NoWaitSkips) => LockWait::SkipLocked,
                    Wait::Fail => LockWait::NoWait,
                };
                let step = if by_v {
                    let index = self.by_v[index(table)];
                    db.scan_for_update(s, index, Key::Int(1).., &|_, _| true, limit, wait)?
                } else {
                    let table = self.tables[index(table)];
                    let fits = |_: &Key, stored: &Stored| get::<Item>(stored).v < 2;
                    db.scan_for_update(s, table, Key::Int(1).., &fits, limit, wait)?
                };
                step.done().map_or(Answer::Blocked, rows)
            }
            _ => Answer::Done,
        })
    }
}

fn changed(item: Item, change: Change) -> Item {
    match change {
        Change::Add => Item {
            v: item.v + 1,
            ..item
        },
        Change::Zero => Item { v: 0, ..item },
        Change::Name(u) => Item { u, ..item },
    }
}
