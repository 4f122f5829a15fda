//! Beginning and ending transactions, and the database's clock.

use super::session::TxState;
use super::{Db, SessionId, SqlError};

/// How `COMMIT` ended: the command tag PostgreSQL answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// `COMMIT`.
    Committed,
    /// `ROLLBACK`: the transaction had failed before. This is no error in PostgreSQL's protocol,
    /// so a client that does not read the tag takes it for a commit.
    RolledBack,
}

impl Db {
    /// `BEGIN`, at READ COMMITTED. Inside a transaction it only warns, as in PostgreSQL.
    ///
    /// # Errors
    ///
    /// 25P02, or the session is gone.
    pub fn begin(&mut self, session: SessionId) -> Result<(), SqlError> {
        let place = self.open(session)?;
        let clock = self.clock;
        debug_assert!(
            !self.sessions[place].waiting,
            "a waiting session is to be left alone"
        );
        let tx = &mut self.sessions[place].tx;
        match tx.state {
            TxState::Idle => {
                tx.state = TxState::Open;
                tx.started_at = clock;
                Ok(())
            }
            TxState::Open | TxState::Implicit => Ok(()),
            TxState::Failed => Err(SqlError::in_failed_transaction()),
        }
    }

    /// `COMMIT`. A failed transaction rolls back; outside a transaction it only warns.
    ///
    /// # Errors
    ///
    /// The session is gone; the transaction was rolled back when it went.
    pub fn commit(&mut self, session: SessionId) -> Result<Ended, SqlError> {
        let place = self.open(session)?;
        debug_assert!(
            !self.sessions[place].waiting,
            "a waiting session is to be left alone"
        );
        match self.sessions[place].tx.state {
            TxState::Idle => Ok(Ended::Committed),
            TxState::Open | TxState::Implicit => {
                self.end_transaction(place, true);
                Ok(Ended::Committed)
            }
            TxState::Failed => {
                self.end_transaction(place, false);
                Ok(Ended::RolledBack)
            }
        }
    }

    /// `ROLLBACK`; outside a transaction it only warns.
    ///
    /// # Errors
    ///
    /// The session is gone; the transaction was rolled back when it went.
    pub fn rollback(&mut self, session: SessionId) -> Result<(), SqlError> {
        let place = self.open(session)?;
        self.remove_wait(place, false);
        if self.sessions[place].tx.state != TxState::Idle {
            self.end_transaction(place, false);
        }
        Ok(())
    }

    /// Whether the session is inside `BEGIN`, failed or not.
    pub fn in_transaction(&self, session: SessionId) -> bool {
        self.open(session).is_ok_and(|place| {
            matches!(
                self.sessions[place].tx.state,
                TxState::Open | TxState::Failed
            )
        })
    }

    /// Sets the database's own clock, in nanoseconds since an epoch of the caller's choice. It
    /// may go backwards: skew and jumps are the caller's.
    pub fn set_now(&mut self, nanoseconds: i64) {
        // A timestamp has a resolution of one microsecond (documentation, 8.5).
        self.clock = nanoseconds - nanoseconds.rem_euclid(1_000);
    }

    /// `clock_timestamp()`: the clock now, in whole microseconds expressed as nanoseconds.
    pub fn clock_timestamp(&self) -> i64 {
        self.clock
    }

    /// `now()`, which is `transaction_timestamp()`: the clock when the session's transaction
    /// began, however long ago that was (documentation, 9.9.5).
    pub fn now(&self, session: SessionId) -> i64 {
        match self.open(session) {
            Ok(place) if self.sessions[place].tx.state != TxState::Idle => {
                self.sessions[place].tx.started_at
            }
            _ => self.clock,
        }
    }

    /// `pg_current_xact_id()` of a transaction that has locked or written a row, or `None`, as
    /// `pg_current_xact_id_if_assigned()`. Ids are given in the order of the first lock, not of
    /// commit: a reader that remembers the highest id it saw misses those that commit later.
    pub fn xact_id(&self, session: SessionId) -> Option<u64> {
        let place = self.open(session).ok()?;
        Some(self.sessions[place].tx.xid).filter(|xid| *xid != 0)
    }

    /// `pg_snapshot_xmin(pg_current_snapshot())`: every transaction with a lower id has ended.
    pub fn snapshot_xmin(&self) -> u64 {
        let open = self
            .sessions
            .iter()
            .map(|session| session.tx.xid)
            .filter(|xid| *xid != 0);
        open.min().unwrap_or_else(|| self.next_xid())
    }

    /// Ends the transaction: versions settle, locks go, waiters wake, notifications leave. One
    /// that has failed did most of it then.
    pub(super) fn end_transaction(&mut self, place: usize, commit: bool) {
        if self.sessions[place].tx.state != TxState::Failed {
            self.release(place, commit);
        }
        self.sessions[place].tx.state = TxState::Idle;
        self.hand_over(place);
        if commit {
            self.publish_all(place);
        }
    }

    /// A statement inside `BEGIN` failed. PostgreSQL aborts the transaction there and then
    /// (`AbortCurrentTransaction`): others see its locks go. What is left is a session that
    /// refuses everything until its client ends the block.
    pub(super) fn abort(&mut self, place: usize) {
        self.release(place, false);
        self.sessions[place].tx.state = TxState::Failed;
    }

    fn release(&mut self, place: usize, commit: bool) {
        self.sessions[place].tx.xid = 0;
        if commit {
            self.stats.commits += 1;
        } else {
            self.stats.rollbacks += 1;
        }
        self.forget_resume(place);
        if !self.sessions[place].tx.held.is_empty() {
            self.settle_rows(place, commit);
        }
        let session = &mut self.sessions[place];
        for key in session.tx.advisory.drain(..) {
            self.advisory.remove(&key);
            self.held -= 1;
        }
        if !self.waits.is_empty() {
            let id = self.sessions[place].id;
            self.wake_behind(id);
        }
        self.settle_listens(place, commit);
    }

    fn settle_rows(&mut self, place: usize, commit: bool) {
        let keep = self.undo.limit > 0 && commit;
        let mut changes = Vec::new();
        let held = &mut self.sessions[place].tx.held;
        self.held -= held.len();
        for (id, at) in held.drain(..) {
            let table = &mut self.tables[usize::from(id.0)];
            let key = keep.then(|| table.slot(at).key.clone());
            if let (Some(before), Some(key)) = (table.settle(at, commit), key) {
                changes.push((id, key, before));
            }
        }
        if keep && !changes.is_empty() {
            self.undo.push(changes);
        }
    }
}
