//! Sequences: numbers that are handed out once and never taken back.

use super::Db;

/// A sequence of one [`Db`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub(super) u16);

/// How far ahead of itself a sequence writes to the log (`SEQ_LOG_VALS` in PostgreSQL's
/// `sequence.c`). A server that was not shut down cleanly resumes from there.
const LOGGED_AHEAD: i64 = 32;

#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) name: &'static str,
    last: i64,
    logged: i64,
}

impl Sequence {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            last: 0,
            logged: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        (self.last, self.logged) = (0, 0);
    }

    pub(super) fn recover(&mut self) {
        self.last = self.logged;
    }
}

impl Db {
    /// `nextval`, from 1. A rollback does not return the number, so there are gaps; and numbers
    /// are taken before commit, so a higher one may become visible before a lower one
    /// (PostgreSQL documentation, 9.17).
    pub fn nextval(&mut self, sequence: SequenceId) -> i64 {
        let sequence = &mut self.sequences[usize::from(sequence.0)];
        sequence.last += 1;
        if sequence.last > sequence.logged {
            sequence.logged = sequence.last + LOGGED_AHEAD;
        }
        sequence.last
    }
}
