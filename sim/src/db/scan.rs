//! How a scan goes over rows, and how a locking one goes on after a wait.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

use super::index::OrderedIndex;
use super::lock::LockName;
use super::read::{Filter, Over};
use super::resume::Resume;
use super::statement::Stop;
use super::table::{Slot, SlotNo, Table};
use super::{Db, Key, Row, SessionId};

impl Db {
    /// Goes on with a locking scan that has met a locked row, up to the next one.
    pub(super) fn go_on(
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
}

/// A locking scan: what it has locked, and what it has seen but not reached.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) found: Vec<(Key, Row)>,
    pub(super) rest: VecDeque<(Key, u64)>,
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
pub(super) fn candidates(
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
