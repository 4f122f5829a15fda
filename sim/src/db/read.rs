//! Statements that read, and those that lock what they read.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

use super::index::OrderedIndex;
use super::lock::LockName;
use super::resume::Resume;
use super::statement::Stop;
use super::table::{Slot, SlotNo, Table};
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

    /// Goes on with a locking scan that has met a locked row, up to the next one.
    fn go_on(
        &mut self,
        place: usize,
        over: Over,
        range: &impl RangeBounds<Key>,
        filter: Filter<'_>,
        limit: usize,
        mut scan: Scan,
    ) -> Result<Vec<(Key, Row)>, Stop> {
        let (id, session) = (over.table(), self.sessions[place].id);
        while scan.found.len() < limit
            && let Some((key, born)) = scan.rest.front().cloned()
        {
            let found = self.table(id).find(&key);
            if let Some((at, slot)) = found.filter(|(_, slot)| slot.is_version_of(session, born)) {
                if slot.is_locked_against(session) {
                    let Scan { found, rest } = scan;
                    self.sessions[place].resume = Some(Resume::Scan { over, found, rest });
                    return Err(Stop::Wait(LockName::Row(id, key)));
                }
                self.lock(place, id, at);
                let table = self.table(id);
                let fits = still_fits(table, over, range, table.slot(at), session, filter);
                scan.found.extend(fits.map(|row| (key, row.clone())));
            }
            scan.rest.pop_front();
        }
        Ok(scan.found)
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
        let tx = &mut self.sessions[place].tx;
        if tx.xid == 0 {
            tx.xid = self.next_xid;
            self.next_xid += 1;
        }
        tx.held.push((table, at));
        self.held += 1;
    }
}

/// A locking scan: what it has locked, and what it has seen but not reached.
#[derive(Default)]
struct Scan {
    found: Vec<(Key, Row)>,
    rest: VecDeque<(Key, u64)>,
}

/// The newest version of a row that a scan saw, if the scan still wants it.
fn still_fits<'a>(
    table: &Table,
    over: Over,
    range: &impl RangeBounds<Key>,
    slot: &'a Slot,
    session: SessionId,
    filter: Filter<'_>,
) -> Option<&'a Row> {
    let row = slot.visible(session)?;
    if let Over::Index(index) = over {
        let index = &table.ordered[usize::from(index.index)];
        let value = index.of(slot, Some(row));
        value.filter(|value| range.contains(value))?;
    }
    filter(&slot.key, row).then_some(row)
}

/// The index a slot was found by, and the key it was found under.
type Entry<'a> = Option<(&'a OrderedIndex, &'a Key)>;

/// Visits the rows of a range that the scan wants, in order, until `visit` answers false. Each
/// comes in the version that the session sees.
fn candidates(
    table: &mut Table,
    session: SessionId,
    over: Over,
    range: &impl RangeBounds<Key>,
    filter: Filter<'_>,
    mut visit: impl FnMut(SlotNo, &Slot, &Row) -> bool,
) {
    let (start, end) = (range.start_bound(), range.end_bound());
    if is_empty(start, end) {
        return;
    }
    let mut visit = |at, slot: &Slot, entry: Entry<'_>| {
        matching(session, slot, entry, filter).is_none_or(|row| visit(at, slot, row))
    };
    match over {
        Over::Table(_) if matches!((start, end), (Bound::Unbounded, Bound::Unbounded)) => {
            // Whoever reads a whole table looks for a few of its rows: only those are put in
            // order.
            let wanted = table.unordered();
            let wanted = wanted.filter(|(_, slot)| matching(session, slot, None, filter).is_some());
            let mut wanted: Vec<(SlotNo, &Slot)> = wanted.collect();
            wanted.sort_unstable_by(|(_, one), (_, two)| one.key.cmp(&two.key));
            let _ = wanted.into_iter().all(|(at, slot)| visit(at, slot, None));
        }
        Over::Table(_) => {
            table.sort();
            let mut rows = table.range((start, end));
            let _ = rows.all(|(at, slot)| visit(at, slot, None));
        }
        Over::Index(index) => {
            let index = &table.ordered[usize::from(index.index)];
            let from = widen(start, Key::Lowest, Key::Highest);
            let to = widen(end, Key::Highest, Key::Lowest);
            let mut entries = index.entries.range((from, to));
            let _ =
                entries.all(|((value, _), at)| visit(*at, table.slot(*at), Some((index, value))));
        }
    }
}

/// The version the session sees, if the scan wants it. An index has entries for versions that
/// this session may not see, so the version is asked whether the entry is its own.
fn matching<'a>(
    session: SessionId,
    slot: &'a Slot,
    entry: Entry<'_>,
    filter: Filter<'_>,
) -> Option<&'a Row> {
    let row = slot.visible(session)?;
    if slot.is_changed()
        && let Some((index, value)) = entry
        && index.of(slot, Some(row)).as_ref() != Some(value)
    {
        return None;
    }
    filter(&slot.key, row).then_some(row)
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
