//! Statements that read, and those that lock what they read.

use std::ops::{Bound, RangeBounds};

use super::index::OrderedIndex;
use super::lock::LockName;
use super::statement::Stop;
use super::table::{Slot, Table};
use super::{Db, IndexId, Key, Row, SessionId, SqlError, Step, TableId};

/// What a scan runs over: a table by primary key, or an ordered index by its own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The whole table, by primary key.
    Table(TableId),
    /// The rows of an index, by index key and then primary key.
    Index(IndexId),
}

impl From<TableId> for Over {
    fn from(table: TableId) -> Self {
        Self::Table(table)
    }
}

impl From<IndexId> for Over {
    fn from(index: IndexId) -> Self {
        Self::Index(index)
    }
}

impl Over {
    fn table(self) -> TableId {
        match self {
            Self::Table(table) => table,
            Self::Index(index) => index.table,
        }
    }
}

/// What a locking scan does about a row that another transaction has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWait {
    /// `FOR UPDATE`: waits, keeping the rows locked so far.
    Block,
    /// `FOR UPDATE SKIP LOCKED`: leaves the row out.
    SkipLocked,
    /// `FOR UPDATE NOWAIT`: fails with 55P03.
    NoWait,
}

/// A condition on a row, given its primary key.
pub type Filter<'a> = &'a dyn Fn(&Key, &Row) -> bool;

impl Db {
    /// `SELECT … WHERE key = …`.
    ///
    /// # Errors
    ///
    /// 25P02, or the session is gone.
    pub fn get(
        &mut self,
        session: SessionId,
        table: TableId,
        key: &Key,
    ) -> Result<Option<Row>, SqlError> {
        self.immediate(session, |db, _| {
            let slot = db.table(table).rows.get(key);
            Ok(slot.and_then(|slot| slot.visible(session)).cloned())
        })
    }

    /// `SELECT … WHERE key = … FOR UPDATE`. A row that is not visible is not waited for.
    ///
    /// # Errors
    ///
    /// 40P01, 25P02, or the session is gone.
    pub fn get_for_update(
        &mut self,
        session: SessionId,
        table: TableId,
        key: &Key,
    ) -> Result<Step<Option<Row>>, SqlError> {
        self.statement(session, |db, place| {
            let Some(slot) = db.table_mut(table).rows.get_mut(key) else {
                return Ok(None);
            };
            let Some(row) = slot.visible(session).cloned() else {
                return Ok(None);
            };
            if slot.is_locked_against(session) {
                return Err(Stop::Wait(LockName::Row(table, key.clone())));
            }
            if slot.owner.replace(session).is_none() {
                db.hold(place, table, key);
            }
            Ok(Some(row))
        })
    }

    /// `SELECT … WHERE … ORDER BY … LIMIT …` over a table or an ordered index. The bounds are of
    /// the primary key or of the index key.
    ///
    /// # Errors
    ///
    /// 25P02, or the session is gone.
    pub fn scan(
        &mut self,
        session: SessionId,
        over: impl Into<Over>,
        range: impl RangeBounds<Key>,
        filter: Filter<'_>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, SqlError> {
        let over = over.into();
        self.immediate(session, |db, _| {
            let mut found = Vec::new();
            let table = db.table(over.table());
            candidates(table, over, &range, |key, slot, index| {
                if found.len() < limit
                    && let Some(row) = matching(session, key, slot, index, filter)
                {
                    found.push((key.clone(), row.clone()));
                }
                found.len() < limit
            });
            Ok(found)
        })
    }

    /// `SELECT … FOR UPDATE [SKIP LOCKED | NOWAIT]`: a scan that locks the rows it returns, in
    /// the order of the scan, and no others.
    ///
    /// # Errors
    ///
    /// 55P03 with `NoWait`, 40P01 with `Block`, 25P02, or the session is gone.
    pub fn scan_for_update(
        &mut self,
        session: SessionId,
        over: impl Into<Over>,
        range: impl RangeBounds<Key>,
        filter: Filter<'_>,
        limit: usize,
        wait: LockWait,
    ) -> Result<Step<Vec<(Key, Row)>>, SqlError> {
        let over = over.into();
        self.statement(session, |db, place| {
            let id = over.table();
            let (mut found, mut locked) = (Vec::new(), None);
            candidates(db.table(id), over, &range, |key, slot, index| {
                if found.len() < limit
                    && let Some(row) = matching(session, key, slot, index, filter)
                {
                    if !slot.is_locked_against(session) {
                        found.push((key.clone(), row.clone()));
                    } else if wait != LockWait::SkipLocked {
                        locked = Some(key.clone());
                    }
                }
                found.len() < limit && locked.is_none()
            });
            for (key, _) in &found {
                let slot = db.table_mut(id).rows.get_mut(key).expect("found above");
                if slot.owner.replace(session).is_none() {
                    db.hold(place, id, key);
                }
            }
            match locked {
                None => Ok(found),
                Some(key) if wait == LockWait::Block => Err(Stop::Wait(LockName::Row(id, key))),
                Some(_) => Err(SqlError::lock_not_available(&db.table(id).name).into()),
            }
        })
    }

    /// Notes a lock just taken, for the end of the transaction. The first gives the transaction
    /// its id: a row lock is written into the row (documentation, 13.3.2).
    pub(super) fn hold(&mut self, place: usize, table: TableId, key: &Key) {
        let tx = &mut self.sessions[place].tx;
        if tx.xid == 0 {
            tx.xid = self.next_xid;
            self.next_xid += 1;
        }
        tx.held.push((table, key.clone()));
        self.held += 1;
    }
}

/// Visits the rows of a range in order until `visit` answers false.
fn candidates(
    table: &Table,
    over: Over,
    range: &impl RangeBounds<Key>,
    mut visit: impl FnMut(&Key, &Slot, Option<&(Key, &OrderedIndex)>) -> bool,
) {
    let (start, end) = (range.start_bound(), range.end_bound());
    if is_empty(start, end) {
        return;
    }
    match over {
        Over::Table(_) => {
            for (key, slot) in table.rows.range((start, end)) {
                if !visit(key, slot, None) {
                    return;
                }
            }
        }
        Over::Index(index) => {
            let index = &table.ordered[usize::from(index.index)];
            let from = widen(start, Key::Lowest, Key::Highest);
            let to = widen(end, Key::Highest, Key::Lowest);
            for (value, key) in index.entries.range((from, to)) {
                if !visit(key, &table.rows[key], Some(&(value.clone(), index))) {
                    return;
                }
            }
        }
    }
}

/// The version the session sees, if the scan wants it. An index has entries for versions that
/// this session may not see, so the version is asked whether the entry is its own.
fn matching<'a>(
    session: SessionId,
    key: &Key,
    slot: &'a Slot,
    entry: Option<&(Key, &OrderedIndex)>,
    filter: Filter<'_>,
) -> Option<&'a Row> {
    let row = slot.visible(session)?;
    if slot.is_changed()
        && let Some((value, index)) = entry
        && index.of(key, Some(row)).as_ref() != Some(value)
    {
        return None;
    }
    filter(key, row).then_some(row)
}

/// Whether nothing lies between the bounds; `BTreeMap::range` panics on some of those.
fn is_empty(start: Bound<&Key>, end: Bound<&Key>) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start >= end,
    }
}

/// A bound of an index key as a bound of index key and primary key. `past` is on the far side of
/// every primary key, `near` on this side.
fn widen(bound: Bound<&Key>, near: Key, past: Key) -> Bound<(Key, Key)> {
    match bound {
        Bound::Included(key) => Bound::Included((key.clone(), near)),
        Bound::Excluded(key) => Bound::Excluded((key.clone(), past)),
        Bound::Unbounded => Bound::Unbounded,
    }
}
