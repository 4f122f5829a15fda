//! What every statement has around it: its session, its transaction, its failure.

use super::lock::LockName;
use super::session::TxState;
use super::{Db, SessionId, SqlError};

/// How far a statement came.
///
/// `Blocked`: it wrote nothing and waits in the queue of a lock. The caller keeps the session
/// still until [`Db::take_woken`] lists it and then issues the same statement again. Locks taken
/// on the way stay taken, also for a single statement outside `BEGIN`, as PostgreSQL keeps them:
/// two scans that lock the same rows in different orders do deadlock.
///
/// Issuing again goes on as PostgreSQL does after a wait: with the rows that the statement saw
/// when it began, in their newest versions (documentation, 13.2.1). A row whose new version no
/// longer fits is left out and stays locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step<T> {
    /// The statement is complete.
    Done(T),
    /// The statement waits for a lock.
    Blocked,
}

impl<T> Step<T> {
    /// The answer, when there is one.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Blocked => None,
        }
    }

    /// Whether the statement waits.
    pub fn is_blocked(&self) -> bool {
        matches!(self, Self::Blocked)
    }
}

/// Why a statement stopped short.
#[derive(Debug)]
pub(super) enum Stop {
    Wait(LockName),
    Fail(SqlError),
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Self {
        Self::Fail(error)
    }
}

impl Db {
    /// Runs a statement in the session's transaction, or in one of its own.
    pub(super) fn statement<T>(
        &mut self,
        session: SessionId,
        run: impl FnOnce(&mut Self, usize) -> Result<T, Stop>,
    ) -> Result<Step<T>, SqlError> {
        let place = self.open(session)?;
        let clock = self.clock;
        let tx = &mut self.sessions[place].tx;
        match tx.state {
            TxState::Open | TxState::Implicit => {}
            TxState::Failed => return Err(SqlError::in_failed_transaction()),
            TxState::Idle => {
                tx.state = TxState::Implicit;
                tx.started_at = clock;
            }
        }
        self.take_back_half(place);
        let stop = match run(self, place) {
            Ok(value) => {
                self.sessions[place].resume = None;
                if self.sessions[place].waiting {
                    self.remove_wait(place, false);
                }
                if self.sessions[place].tx.state == TxState::Implicit {
                    self.end_transaction(place, true);
                }
                return Ok(Step::Done(value));
            }
            Err(stop) => stop,
        };
        let error = match stop {
            Stop::Wait(name) => match self.block(place, name) {
                Ok(()) => return Ok(Step::Blocked),
                Err(deadlock) => deadlock,
            },
            Stop::Fail(error) => error,
        };
        self.fail(place);
        Err(error)
    }

    /// A statement that never waits.
    pub(super) fn immediate<T>(
        &mut self,
        session: SessionId,
        run: impl FnOnce(&mut Self, usize) -> Result<T, Stop>,
    ) -> Result<T, SqlError> {
        match self.statement(session, run)? {
            Step::Done(value) => Ok(value),
            Step::Blocked => unreachable!("a statement without locks cannot wait"),
        }
    }

    /// The statement of a session failed: its transaction is poisoned, or, outside `BEGIN`, over.
    /// A poisoned transaction has lost its locks already.
    pub(super) fn fail(&mut self, place: usize) {
        self.remove_wait(place, false);
        match self.sessions[place].tx.state {
            TxState::Implicit => self.end_transaction(place, false),
            TxState::Open => self.abort(place),
            TxState::Idle | TxState::Failed => {}
        }
    }

    /// Fails the session's current statement with an error of the caller's choice: the place for
    /// an injected fault. Poisons an open transaction, ends a wait, and hands the error back.
    pub fn inject(&mut self, session: SessionId, error: SqlError) -> SqlError {
        match self.open(session) {
            Ok(place) => {
                self.fail(place);
                error
            }
            Err(gone) => gone,
        }
    }
}
