//! Statements that read, and those that lock what they read.

use std::ops::RangeBounds;

use super::resume::Resume;
use super::scan::{Scan, candidates};
use super::table::SlotNo;
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
    pub(super) fn table(self) -> TableId {
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
            let found = db.table(table).find(key);
            Ok(found.and_then(|(_, slot)| slot.visible(session)).cloned())
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
            let waited = db.waited_for(place, table, key);
            let Some((at, slot)) = db.table(table).find(key) else {
                return Ok(None);
            };
            let born = waited.unwrap_or_else(|| slot.born(session));
            if !slot.is_version_of(session, born) {
                return Ok(None);
            }
            if slot.is_locked_against(session) {
                return Err(db.wait_for_row(place, table, key, born));
            }
            let row = slot.visible(session).cloned();
            db.lock(place, table, at);
            Ok(row)
        })
    }

    /// `SELECT … WHERE key = … FOR UPDATE SKIP LOCKED`: whether the row is locked now.
    ///
    /// # Errors
    ///
    /// 25P02, or the session is gone.
    pub fn lock_if_free(
        &mut self,
        session: SessionId,
        table: TableId,
        key: &Key,
    ) -> Result<bool, SqlError> {
        self.immediate(session, |db, place| {
            let found = db.table(table).find(key);
            let free = found.filter(|(_, slot)| {
                slot.visible(session).is_some() && !slot.is_locked_against(session)
            });
            let Some((at, _)) = free else {
                return Ok(false);
            };
            db.lock(place, table, at);
            Ok(true)
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
            let table = db.table_mut(over.table());
            candidates(table, session, over, &range, filter, |_, slot, row| {
                if found.len() < limit {
                    found.push((slot.key.clone(), row.clone()));
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
            match db.sessions[place].resume.take() {
                Some(Resume::Scan {
                    over: before,
                    found,
                    rest,
                }) if before == over => {
                    let scan = Scan { found, rest };
                    return db.go_on(place, over, &range, filter, limit, scan);
                }
                _ => {}
            }
            let id = over.table();
            let (mut scan, mut slots, mut locked) = (Scan::default(), Vec::new(), false);
            let table = db.table_mut(id);
            candidates(table, session, over, &range, filter, |at, slot, row| {
                if scan.found.len() >= limit {
                    return false;
                }
                if locked {
                    // What it saw when it began is all it will ever see.
                    scan.rest.push_back((slot.key.clone(), slot.born(session)));
                } else if !slot.is_locked_against(session) {
                    scan.found.push((slot.key.clone(), row.clone()));
                    slots.push(at);
                } else if wait != LockWait::SkipLocked {
                    locked = true;
                    scan.rest.push_back((slot.key.clone(), slot.born(session)));
                }
                scan.found.len() < limit && !(locked && wait == LockWait::NoWait)
            });
            slots.into_iter().for_each(|at| db.lock(place, id, at));
            match locked {
                false => Ok(scan.found),
                true if wait == LockWait::Block => {
                    db.go_on(place, over, &range, filter, limit, scan)
                }
                true => Err(SqlError::lock_not_available(&db.table(id).name).into()),
            }
        })
    }

    /// Locks a row that no other session has locked.
    pub(super) fn lock(&mut self, place: usize, table: TableId, at: SlotNo) {
        let session = self.sessions[place].id;
        if self.table_mut(table).lock(session, at) {
            self.hold(place, table, at);
        }
    }

    /// Notes a lock just taken, for the end of the transaction. The first gives the transaction
    /// its id: a row lock is written into the row (documentation, 13.3.2).
    pub(super) fn hold(&mut self, place: usize, table: TableId, at: SlotNo) {
        let next = self.next_xid();
        let tx = &mut self.sessions[place].tx;
        if tx.xid == 0 {
            tx.xid = next;
            self.xids += 1;
        }
        tx.held.push((table, at));
        self.held += 1;
    }
}
