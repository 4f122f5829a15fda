//! A version that waits for a unique index: it stands in the table, and in the indexes before.

use super::table::{Pending, SlotNo, Table};
use super::{Row, SessionId};

/// The change that such a version came after, and how far it is itself.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) before: Pending,
    before_born: u64,
    /// In how many of the unique indexes the version is.
    pub(super) claims: usize,
}

impl Table {
    /// Writes a version that has to wait for one of the unique indexes: it is in those before.
    pub(super) fn write_half(
        &mut self,
        session: SessionId,
        at: SlotNo,
        new: Row,
        claims: usize,
    ) -> bool {
        let slot = &mut self.slots[at as usize];
        let before = match &slot.pending {
            Pending::Unchanged => Pending::Unchanged,
            Pending::Row(row) => Pending::Row(row.clone()),
            Pending::Deleted => Pending::Deleted,
        };
        let half = Half {
            before,
            before_born: slot.pending_born,
            claims,
        };
        let is_new = self.write_to(session, at, Some(new), claims);
        self.slots[at as usize].half = Some(half);
        is_new
    }

    /// Takes such a version back; true when that leaves nothing in the slot, not even a lock.
    pub(super) fn take_back_half(&mut self, session: SessionId, at: SlotNo) -> bool {
        let slot = &mut self.slots[at as usize];
        let Some(half) = slot.half.take() else {
            return false;
        };
        let before = half.before.over(slot.committed.as_ref());
        for index in &mut self.unique[..half.claims] {
            index.write(session, slot, before);
        }
        for index in &mut self.ordered {
            index.write(at, slot, before);
        }
        slot.pending = half.before;
        slot.pending_born = half.before_born;
        let nothing = slot.committed.is_none() && !slot.is_changed();
        if nothing {
            for index in &mut self.unique {
                index.forget(&slot.key);
            }
            slot.owner = None;
            self.rows.remove(&slot.key);
            self.sorted.remove(&slot.key);
            self.free.push(at);
        }
        nothing
    }
}
