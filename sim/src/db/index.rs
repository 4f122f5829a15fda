//! Secondary indexes: unique ones, and ordered ones to scan by.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::table::{Slot, SlotNo, Table};
use super::{Key, Row, SessionId};

/// Reads an index key from a row. Must be a pure function of its arguments; the first is the
/// row's primary key.
pub type Extract = fn(&Key, &Row) -> Option<Key>;

/// Why a unique index refuses a row.
#[derive(Debug)]
pub(super) enum Clash {
    /// This session's transaction decides: it is changing the row that has the value.
    Wait(SessionId),
    /// The row under this primary key has the value.
    Duplicate { constraint: Arc<str>, holder: Key },
}

/// Who has a value of a unique index: at most one committed row, and at most one row that will
/// have it if its transaction commits.
#[derive(Debug, Default)]
pub(super) struct Holders {
    pub(super) committed: Option<Key>,
    pub(super) pending: Option<(SessionId, Key)>,
}

#[derive(Debug)]
pub(super) struct UniqueIndex {
    pub(super) name: Arc<str>,
    pub(super) extract: Extract,
    pub(super) entries: BTreeMap<Key, Holders>,
}

impl UniqueIndex {
    pub(super) fn new(name: &'static str, extract: Extract) -> Self {
        Self {
            name: name.into(),
            extract,
            entries: BTreeMap::new(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Whether `session` may store `row` under `key`.
    ///
    /// A value is contested not only by an uncommitted insert. A row that another transaction is
    /// updating or deleting makes the newcomer wait even if the update keeps the value, because
    /// PostgreSQL looks at the old version's `xmax` and no further (`_bt_check_unique` and
    /// `check_exclusion_or_unique_constraint`: "if this tuple is being updated by other
    /// transaction then we have to wait for its commit/abort").
    pub(super) fn clash(
        &self,
        table: &Table,
        session: SessionId,
        key: &Key,
        row: &Row,
    ) -> Option<Clash> {
        let value = (self.extract)(key, row)?;
        let holders = self.entries.get(&value)?;
        if let Some((owner, rival)) = &holders.pending
            && rival != key
        {
            return Some(if *owner == session {
                self.duplicate(rival)
            } else {
                Clash::Wait(*owner)
            });
        }
        let rival = holders.committed.as_ref().filter(|rival| *rival != key)?;
        let (_, slot) = table.find(rival).expect("an indexed row is in its table");
        if !slot.is_changed() {
            return Some(self.duplicate(rival));
        }
        if let Some(owner) = slot.owner.filter(|owner| *owner != session) {
            return Some(Clash::Wait(owner));
        }
        let kept = self.of(slot, slot.latest());
        (kept.as_ref() == Some(&value)).then(|| self.duplicate(rival))
    }

    /// Moves the claim of an uncommitted row from its last version to `new`.
    pub(super) fn write(&mut self, session: SessionId, slot: &Slot, new: Option<&Row>) {
        let (old, new) = (self.of(slot, slot.latest()), self.of(slot, new));
        if old == new {
            return;
        }
        let committed = self.of(slot, slot.committed.as_ref());
        if let Some(value) = old
            && Some(&value) != committed.as_ref()
        {
            self.release(&value, |holders| holders.pending = None);
        }
        if let Some(value) = new
            && Some(&value) != committed.as_ref()
        {
            self.entries.entry(value).or_default().pending = Some((session, slot.key.clone()));
        }
    }

    /// The end of the transaction that changed the row.
    pub(super) fn settle(&mut self, slot: &Slot, commit: bool) {
        let old = self.of(slot, slot.committed.as_ref());
        let new = self.of(slot, slot.latest());
        if old == new {
            return;
        }
        if !commit {
            if let Some(value) = new {
                self.release(&value, |holders| holders.pending = None);
            }
            return;
        }
        if let Some(value) = old {
            // The transaction may have given the value to another row, settled before this one.
            self.release(&value, |holders| {
                holders.committed.take_if(|holder| *holder == slot.key);
            });
        }
        if let Some(value) = new {
            let holders = self.entries.entry(value).or_default();
            *holders = Holders {
                committed: Some(slot.key.clone()),
                pending: None,
            };
        }
    }

    pub(super) fn of(&self, slot: &Slot, row: Option<&Row>) -> Option<Key> {
        row.and_then(|row| (self.extract)(&slot.key, row))
    }

    fn duplicate(&self, holder: &Key) -> Clash {
        Clash::Duplicate {
            constraint: Arc::clone(&self.name),
            holder: holder.clone(),
        }
    }

    fn release(&mut self, value: &Key, change: impl FnOnce(&mut Holders)) {
        if let Some(holders) = self.entries.get_mut(value) {
            change(holders);
            if holders.committed.is_none() && holders.pending.is_none() {
                self.entries.remove(value);
            }
        }
    }
}

/// An index to scan by. Like PostgreSQL's it has an entry for every version there is, committed
/// or not; a scan asks the row which version it may see.
#[derive(Debug)]
pub(super) struct OrderedIndex {
    pub(super) name: &'static str,
    pub(super) extract: Extract,
    pub(super) entries: BTreeMap<(Key, Key), SlotNo>,
}

impl OrderedIndex {
    pub(super) fn new(name: &'static str, extract: Extract) -> Self {
        Self {
            name,
            extract,
            entries: BTreeMap::new(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn write(&mut self, at: SlotNo, slot: &Slot, new: Option<&Row>) {
        let (old, new) = (self.of(slot, slot.latest()), self.of(slot, new));
        if old == new {
            return;
        }
        let committed = self.of(slot, slot.committed.as_ref());
        if let Some(value) = old
            && Some(&value) != committed.as_ref()
        {
            self.entries.remove(&(value, slot.key.clone()));
        }
        if let Some(value) = new {
            self.entries.insert((value, slot.key.clone()), at);
        }
    }

    pub(super) fn settle(&mut self, slot: &Slot, commit: bool) {
        let old = self.of(slot, slot.committed.as_ref());
        let new = self.of(slot, slot.latest());
        if old == new {
            return;
        }
        let stale = if commit { old } else { new };
        if let Some(value) = stale {
            self.entries.remove(&(value, slot.key.clone()));
        }
    }

    pub(super) fn of(&self, slot: &Slot, row: Option<&Row>) -> Option<Key> {
        row.and_then(|row| (self.extract)(&slot.key, row))
    }
}
