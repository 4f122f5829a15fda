//! What a statement that waits has already seen and done.
//!
//! A statement sees the rows that were committed when it began (PostgreSQL documentation, 13.2.1).
//! That holds after a wait as well: it goes on with the newest version of each row it saw, if
//! that still fits, and sees no row that came meanwhile. A row deleted and inserted again is
//! another row. An insert that may do nothing looks through the unique indexes one after the other,
//! and having waited at one does not look at those before it again (`execIndexing.c`,
//! `ExecCheckIndexConstraints`): a conflict behind ends it first. And where a unique index makes it wait, the new version is already in the table,
//! and in the indexes before that one: it is in the way of others.

use std::collections::VecDeque;

use super::read::Over;
use super::statement::Stop;
use super::table::SlotNo;
use super::{Db, Key, LockName, Row, TableId};

/// The state of a waiting statement.
#[derive(Debug)]
pub(super) enum Resume {
    /// A statement about one row waits for its lock.
    Row { table: TableId, key: Key, born: u64 },
    /// A locking scan, with the rows it has locked and those still to come.
    Scan {
        over: Over,
        found: Vec<(Key, Row)>,
        rest: VecDeque<(Key, u64)>,
    },
    /// An insert that may do nothing has found no conflict in the indexes before this one.
    Check { table: TableId, index: usize },
    /// A version is written, but not in every unique index.
    Half { table: TableId, at: SlotNo },
}

impl Db {
    /// Waits for the lock of a row, to go on with that row and no other.
    pub(super) fn wait_for_row(
        &mut self,
        place: usize,
        table: TableId,
        key: &Key,
        born: u64,
    ) -> Stop {
        let key = key.clone();
        self.sessions[place].resume = Some(Resume::Row {
            table,
            key: key.clone(),
            born,
        });
        Stop::Wait(LockName::Row(table, key))
    }

    /// The row that the statement has waited for, if it has.
    pub(super) fn waited_for(&mut self, place: usize, table: TableId, key: &Key) -> Option<u64> {
        match self.sessions[place].resume.take()? {
            Resume::Row {
                table: in_table,
                key: of,
                born,
            } if in_table == table && of == *key => Some(born),
            _ => None,
        }
    }

    /// The index at which an insert that may do nothing has waited, if it has.
    pub(super) fn checked_to(&mut self, place: usize, table: TableId) -> Option<usize> {
        match self.sessions[place].resume {
            Some(Resume::Check { table: of, index }) if of == table => {
                self.sessions[place].resume = None;
                Some(index)
            }
            _ => None,
        }
    }

    /// Forgets how a statement is to go on: its transaction ends.
    pub(super) fn forget_resume(&mut self, place: usize) {
        self.take_back_half(place);
        self.sessions[place].resume = None;
    }

    /// Takes back a version that is not in every index, for the statement to write it again.
    pub(super) fn take_back_half(&mut self, place: usize) {
        let Some(Resume::Half { table, at }) = self.sessions[place].resume else {
            return;
        };
        self.sessions[place].resume = None;
        let session = self.sessions[place].id;
        if self.table_mut(table).take_back_half(session, at) {
            let held = &mut self.sessions[place].tx.held;
            held.retain(|lock| *lock != (table, at));
            self.held -= 1;
        }
    }
}
