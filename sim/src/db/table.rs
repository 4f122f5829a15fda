//! A table: its rows, the uncommitted version a row may have, and its indexes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::half::Half;
use super::index::{Clash, Extract, OrderedIndex, UniqueIndex};
use super::{Key, Row, SessionId};
use crate::hash::QuickMap;

/// A table of one [`Db`](super::Db).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub(super) u16);

/// An ordered index of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexId {
    pub(super) table: TableId,
    pub(super) index: u16,
}

/// What a table has beyond its primary key.
#[derive(Clone, Debug, Default)]
pub struct TableDef {
    unique: Vec<(&'static str, Extract)>,
    ordered: Vec<(&'static str, Extract)>,
}

impl TableDef {
    /// A table with a primary key only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a unique index. A row for which `extract` gives `None` is not indexed, so it clashes
    /// with no other: a `NULL` column, or a row outside a partial index's `WHERE`.
    #[must_use]
    pub fn unique(mut self, name: &'static str, extract: Extract) -> Self {
        self.unique.push((name, extract));
        self
    }

    /// Adds an index to scan by: the rows for which `extract` gives a key, in the order of that
    /// key and then of the primary key. With `None` for most rows it is a partial index, and a
    /// scan costs only the rows in it however large the table is.
    #[must_use]
    pub fn ordered(mut self, name: &'static str, extract: Extract) -> Self {
        self.ordered.push((name, extract));
        self
    }
}

/// The uncommitted change of a row, made by the session that holds its lock.
#[derive(Debug, Default)]
pub(super) enum Pending {
    /// Locked at most.
    #[default]
    Unchanged,
    /// Inserted or updated.
    Row(Row),
    Deleted,
}

impl Pending {
    /// The version there is after this change.
    pub(super) fn over<'a>(&'a self, committed: Option<&'a Row>) -> Option<&'a Row> {
        match self {
            Self::Unchanged => committed,
            Self::Row(row) => Some(row),
            Self::Deleted => None,
        }
    }
}

/// Where a slot is, for as long as its row has a version or a lock.
pub(super) type SlotNo = u32;

/// One row: what everyone sees, and what its writer sees.
///
/// One uncommitted version is enough, because a writer holds the row's lock until its transaction
/// ends. Invariant: a slot without a committed version has an owner.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    pub(super) committed: Option<Row>,
    pub(super) pending: Pending,
    /// Which row the committed version is one of, and which the pending: a row that is deleted
    /// and inserted again is another one under the same key.
    born: u64,
    pub(super) pending_born: u64,
    /// The change that a version written to some of the unique indexes only came after.
    pub(super) half: Option<Half>,
    pub(super) owner: Option<SessionId>,
}

impl Slot {
    /// Which row a statement of this session sees.
    pub(super) fn born(&self, session: SessionId) -> u64 {
        if self.is_changed() && self.owner == Some(session) {
            self.pending_born
        } else {
            self.born
        }
    }

    /// Whether what the session sees is a version of that row.
    pub(super) fn is_version_of(&self, session: SessionId, born: u64) -> bool {
        self.visible(session).is_some() && self.born(session) == born
    }

    /// The version that counts in the unique index of that number.
    pub(super) fn indexed(&self, number: usize) -> Option<&Row> {
        match &self.half {
            Some(half) if half.claims <= number => half.before.over(self.committed.as_ref()),
            _ => self.latest(),
        }
    }

    /// The version a statement of this session sees (PostgreSQL documentation, 13.2.1: rows
    /// committed before the statement began, and the transaction's own changes).
    pub(super) fn visible(&self, session: SessionId) -> Option<&Row> {
        match &self.pending {
            Pending::Unchanged => self.committed.as_ref(),
            _ if self.owner != Some(session) => self.committed.as_ref(),
            Pending::Row(row) => Some(row),
            Pending::Deleted => None,
        }
    }

    /// The version there is if the owner commits.
    pub(super) fn latest(&self) -> Option<&Row> {
        self.pending.over(self.committed.as_ref())
    }

    pub(super) fn is_changed(&self) -> bool {
        !matches!(self.pending, Pending::Unchanged)
    }

    /// Whether another session holds the lock.
    pub(super) fn is_locked_against(&self, session: SessionId) -> bool {
        self.owner.is_some_and(|owner| owner != session)
    }
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: Arc<str>,
    pub(super) primary: Arc<str>,
    pub(super) rows: QuickMap<Key, SlotNo>,
    /// The rows in the order of their keys, but for those made since anybody last asked for an
    /// order: most tables are only ever looked into.
    pub(super) sorted: BTreeMap<Key, SlotNo>,
    /// Slots that are perhaps not in `sorted`.
    unsorted: Vec<SlotNo>,
    /// The slots of the rows; a transaction finds those it holds without a look-up.
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<SlotNo>,
    births: u64,
    pub(super) unique: Vec<UniqueIndex>,
    pub(super) ordered: Vec<OrderedIndex>,
}

impl Table {
    pub(super) fn new(name: &str, def: TableDef) -> Self {
        Self {
            name: name.into(),
            primary: format!("{name}_pkey").into(),
            rows: QuickMap::default(),
            sorted: BTreeMap::new(),
            unsorted: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            births: 0,
            unique: def
                .unique
                .into_iter()
                .map(|(n, e)| UniqueIndex::new(n, e))
                .collect(),
            ordered: def
                .ordered
                .into_iter()
                .map(|(n, e)| OrderedIndex::new(n, e))
                .collect(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.sorted.clear();
        self.unsorted.clear();
        self.slots.clear();
        self.free.clear();
        self.unique.iter_mut().for_each(UniqueIndex::clear);
        self.ordered.iter_mut().for_each(OrderedIndex::clear);
    }

    pub(super) fn find(&self, key: &Key) -> Option<(SlotNo, &Slot)> {
        self.rows.get(key).map(|at| (*at, self.slot(*at)))
    }

    pub(super) fn slot(&self, at: SlotNo) -> &Slot {
        &self.slots[at as usize]
    }

    /// The slots in the order of their keys.
    pub(super) fn all(&self) -> impl Iterator<Item = &Slot> {
        let mut slots: Vec<&Slot> = self.unordered().map(|(_, slot)| slot).collect();
        slots.sort_unstable_by(|one, two| one.key.cmp(&two.key));
        slots.into_iter()
    }

    /// The slots of rows in no order that means anything.
    pub(super) fn unordered(&self) -> impl Iterator<Item = (SlotNo, &Slot)> {
        let numbered = (0..).zip(&self.slots);
        numbered.filter(|(_, slot)| slot.committed.is_some() || slot.is_changed())
    }

    /// Makes ready for [`range`](Self::range).
    pub(super) fn sort(&mut self) {
        for at in self.unsorted.drain(..) {
            let slot = &self.slots[at as usize];
            // The row may be gone, and its slot in use for another.
            if slot.committed.is_some() || slot.is_changed() {
                self.sorted.insert(slot.key.clone(), at);
            }
        }
    }

    /// The slots of a range of keys in their order; the table was sorted just now.
    pub(super) fn range(
        &self,
        range: (Bound<&Key>, Bound<&Key>),
    ) -> impl Iterator<Item = (SlotNo, &Slot)> {
        debug_assert!(self.unsorted.is_empty(), "sort first");
        let found = self.sorted.range(range);
        found.map(|(_, at)| (*at, self.slot(*at)))
    }

    /// Takes the lock of a row that no other session holds; true when it is new.
    pub(super) fn lock(&mut self, session: SessionId, at: SlotNo) -> bool {
        let slot = &mut self.slots[at as usize];
        debug_assert!(!slot.is_locked_against(session));
        slot.owner.replace(session).is_none()
    }

    /// Makes a slot for a key that has none. It is to be written before anything else happens.
    pub(super) fn create(&mut self, key: Key) -> SlotNo {
        assert!(key.is_storable(), "a bound is no key: {key:?}");
        let slot = Slot {
            key: key.clone(),
            committed: None,
            pending: Pending::Unchanged,
            born: 0,
            pending_born: 0,
            half: None,
            owner: None,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                SlotNo::try_from(self.slots.len() - 1).expect("at most four billion rows")
            }
        };
        let twin = self.rows.insert(key, at);
        debug_assert!(twin.is_none());
        self.unsorted.push(at);
        at
    }

    /// Whether a secondary unique index refuses this version of the row, and which.
    pub(super) fn clash(&self, session: SessionId, key: &Key, row: &Row) -> Option<(usize, Clash)> {
        self.clash_from(0, session, key, row)
    }

    /// The same, of the indexes from this number on.
    pub(super) fn clash_from(
        &self,
        first: usize,
        session: SessionId,
        key: &Key,
        row: &Row,
    ) -> Option<(usize, Clash)> {
        let mut indexes = self.unique.iter().enumerate().skip(first);
        indexes.find_map(|(number, index)| Some((number, index.clash(self, session, key, row)?)))
    }

    /// Writes the session's uncommitted version, taking the lock; true when the lock is new.
    /// The caller has made sure that no other session holds the lock and that nothing clashes.
    pub(super) fn write(&mut self, session: SessionId, at: SlotNo, new: Option<Row>) -> bool {
        self.write_to(session, at, new, self.unique.len())
    }

    /// The same, with claims in the first unique indexes only.
    pub(super) fn write_to(
        &mut self,
        session: SessionId,
        at: SlotNo,
        new: Option<Row>,
        claims: usize,
    ) -> bool {
        let slot = &mut self.slots[at as usize];
        for index in &mut self.unique[..claims] {
            index.write(session, slot, new.as_ref());
        }
        for index in &mut self.ordered {
            index.write(at, slot, new.as_ref());
        }
        if slot.latest().is_none() {
            self.births += 1;
            slot.pending_born = self.births;
        } else if !slot.is_changed() {
            slot.pending_born = slot.born;
        }
        slot.pending = new.map_or(Pending::Deleted, Pending::Row);
        self.lock(session, at)
    }

    /// Ends a lock: the uncommitted version becomes the committed one, or is forgotten. Answers
    /// the version before, when the row changed.
    pub(super) fn settle(&mut self, at: SlotNo, commit: bool) -> Option<Option<Row>> {
        let slot = &mut self.slots[at as usize];
        slot.owner = None;
        if !slot.is_changed() {
            return None;
        }
        for index in &mut self.unique {
            index.settle(slot, commit);
        }
        for index in &mut self.ordered {
            index.settle(slot, commit);
        }
        debug_assert!(slot.half.is_none(), "its statement is over");
        let pending = std::mem::take(&mut slot.pending);
        if commit {
            slot.born = slot.pending_born;
        }
        let before = commit.then(|| {
            let now = match pending {
                Pending::Row(row) => Some(row),
                Pending::Deleted | Pending::Unchanged => None,
            };
            std::mem::replace(&mut slot.committed, now)
        });
        if slot.committed.is_none() {
            self.rows.remove(&slot.key);
            self.sorted.remove(&slot.key);
            self.free.push(at);
        }
        before
    }

    /// Puts a committed version back in place of the current one; nobody holds the lock.
    pub(super) fn restore(&mut self, key: &Key, before: Option<Row>) {
        let at = match self.rows.get(key) {
            Some(at) => *at,
            None => self.create(key.clone()),
        };
        self.write(SessionId::NOBODY, at, before);
        self.settle(at, true);
    }
}
