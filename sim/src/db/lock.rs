//! Waiting for locks: queues, waking, deadlocks, advisory locks.
//!
//! Every lock here is exclusive and is held until its transaction ends or fails. A statement that meets a
//! lock answers [`Step::Blocked`](super::Step) and joins the queue; when the lock is free the
//! first of the queue is woken and issues its statement again. It keeps its place until that
//! statement is done, so whoever slips in between (PostgreSQL allows that too: a free row is
//! taken without looking at the queue) delays it and cannot overtake it in the queue.

use super::session::TxState;
use super::statement::Stop;
use super::{Db, Key, SessionId, SqlError, Step, TableId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LockName {
    Row(TableId, Key),
    Advisory(i64),
    /// The end of a transaction that decides about a unique key. Nobody queues for that: all who
    /// wait are woken together.
    Transaction(SessionId),
}

/// A statement in a queue. All queues share one vector in the order of arrival: there are never
/// more entries than sessions.
///
/// Invariant: the first entry for a lock is woken, or `holder` holds the lock.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) session: SessionId,
    pub(super) place: usize,
    pub(super) name: LockName,
    pub(super) holder: SessionId,
    pub(super) woken: bool,
}

impl Db {
    pub(super) fn holder(&self, name: &LockName) -> Option<SessionId> {
        match name {
            LockName::Row(table, key) => self.table(*table).find(key)?.1.owner,
            LockName::Advisory(key) => self.advisory.get(key).copied(),
            LockName::Transaction(session) => {
                let tx = &self.sessions[self.open(*session).ok()?].tx;
                let runs = matches!(tx.state, TxState::Open | TxState::Implicit);
                runs.then_some(*session)
            }
        }
    }

    /// Queues the statement of a session behind a lock that another holds.
    ///
    /// # Errors
    ///
    /// 40P01 when the wait would close a cycle. PostgreSQL looks for cycles only after
    /// `deadlock_timeout` (one second), and the victim is whoever looks first; here it is always
    /// the session that closes the cycle, at once, unless deadlocks are
    /// [left](Self::leave_deadlocks).
    pub(super) fn block(&mut self, place: usize, name: LockName) -> Result<(), SqlError> {
        let session = self.sessions[place].id;
        let holder = self.holder(&name).expect("only a held lock blocks");
        debug_assert_ne!(holder, session);
        if !self.leaves_deadlocks && self.closes_cycle(session, holder) {
            self.stats.deadlocks += 1;
            return Err(SqlError::deadlock_detected());
        }
        if self.sessions[place].waiting {
            let wait = self.waits.iter_mut().find(|wait| wait.session == session);
            let wait = wait.expect("a waiting session is among the waits");
            if wait.name == name {
                wait.holder = holder;
                if std::mem::take(&mut wait.woken) {
                    self.woken.retain(|woken| *woken != session);
                }
                return Ok(());
            }
            self.remove_wait(place, false);
        }
        self.stats.waits += 1;
        self.sessions[place].waiting = true;
        self.waits.push(Wait {
            session,
            place,
            name,
            holder,
            woken: false,
        });
        Ok(())
    }

    /// Follows who waits for whom, from the holder of the wanted lock. A woken session is running
    /// again, so it waits for nobody; if it must wait once more it looks for cycles itself.
    fn closes_cycle(&self, session: SessionId, holder: SessionId) -> bool {
        let mut at = holder;
        for _ in 0..=self.waits.len() {
            if at == session {
                return true;
            }
            let wait = self
                .waits
                .iter()
                .find(|wait| wait.session == at && !wait.woken);
            match wait.and_then(|wait| self.holder(&wait.name)) {
                Some(next) => at = next,
                None => return false,
            }
        }
        unreachable!("a cycle was let in before")
    }

    /// From now on a wait that closes a cycle is a wait like any other, as it is in PostgreSQL
    /// until somebody looks. Whoever drives the database looks for itself, with
    /// [`is_deadlocked`](Self::is_deadlocked), and ends a cycle with [`inject`](Self::inject).
    pub fn leave_deadlocks(&mut self) {
        self.leaves_deadlocks = true;
    }

    /// Whether a session that looked for a deadlock now would find itself in one. It waits for
    /// who holds the lock, and for those ahead of it in the queue.
    pub fn is_deadlocked(&self, session: SessionId) -> bool {
        let (mut seen, mut next) = (Vec::new(), self.waits_for(session));
        while let Some(at) = next.pop() {
            if at == session {
                return true;
            }
            if !seen.contains(&at) {
                seen.push(at);
                next.extend(self.waits_for(at));
            }
        }
        false
    }

    fn waits_for(&self, session: SessionId) -> Vec<SessionId> {
        let mut waits = self.waits.iter();
        let Some(at) = waits.position(|wait| wait.session == session && !wait.woken) else {
            return Vec::new();
        };
        let name = &self.waits[at].name;
        let queues = !matches!(name, LockName::Transaction(_));
        let ahead = self.waits[..at].iter();
        let ahead = ahead.filter(|wait| queues && wait.name == *name);
        ahead
            .map(|wait| wait.session)
            .chain(self.holder(name))
            .collect()
    }

    /// Takes a session out of its queue and passes the turn on. With `wake` the session itself is
    /// told, if it was not already.
    pub(super) fn remove_wait(&mut self, place: usize, wake: bool) {
        if !std::mem::take(&mut self.sessions[place].waiting) {
            return;
        }
        let at = self.waits.iter().position(|wait| wait.place == place);
        let wait = self
            .waits
            .remove(at.expect("a waiting session is among the waits"));
        if wake && !wait.woken {
            self.woken.push(wait.session);
        } else if !wake && wait.woken {
            self.woken.retain(|woken| *woken != wait.session);
        }
        let holder = self.holder(&wait.name);
        if let Some(next) = self.waits.iter_mut().find(|next| next.name == wait.name)
            && !next.woken
        {
            match holder {
                Some(holder) => next.holder = holder,
                None => {
                    next.woken = true;
                    self.woken.push(next.session);
                }
            }
        }
    }

    /// Wakes the first of every queue behind a session whose locks are free now, and all who wait
    /// for its transaction.
    pub(super) fn wake_behind(&mut self, session: SessionId) {
        for at in 0..self.waits.len() {
            let (before, rest) = self.waits.split_at_mut(at);
            let wait = &mut rest[0];
            let behind = wait.holder == session && !wait.woken;
            let alone = matches!(wait.name, LockName::Transaction(_));
            if behind && (alone || !before.iter().any(|earlier| earlier.name == wait.name)) {
                wait.woken = true;
                self.woken.push(wait.session);
            }
        }
    }

    /// Whether [`take_woken`](Self::take_woken) or
    /// [`take_notifications`](Self::take_notifications) would give anything.
    pub fn has_news(&self) -> bool {
        !self.woken.is_empty() || !self.notifications.is_empty()
    }

    /// Moves the sessions that may go on into `out`, first come first. Each must issue its
    /// statement again, or give up with [`cancel_wait`](Self::cancel_wait) or
    /// [`disconnect`](Self::disconnect): whoever queues behind it depends on that.
    pub fn take_woken(&mut self, out: &mut Vec<SessionId>) {
        out.append(&mut self.woken);
    }

    /// Gives up a wait, as `statement_timeout` or a cancel request does: the transaction fails.
    /// Answers the error the client sees, or `None` when the session was not waiting.
    pub fn cancel_wait(&mut self, session: SessionId) -> Option<SqlError> {
        let place = self.open(session).ok()?;
        if !self.sessions[place].waiting {
            return None;
        }
        self.fail(place);
        Some(SqlError::query_canceled())
    }

    /// `pg_advisory_xact_lock`: held until the transaction ends, and granted again to its holder
    /// (PostgreSQL documentation, 13.3.5).
    ///
    /// # Errors
    ///
    /// 40P01, 25P02, or the session is gone.
    pub fn advisory_xact_lock(
        &mut self,
        session: SessionId,
        key: i64,
    ) -> Result<Step<()>, SqlError> {
        self.statement(session, |db, place| match db.take_advisory(place, key) {
            true => Ok(()),
            false => Err(Stop::Wait(LockName::Advisory(key))),
        })
    }

    /// `pg_try_advisory_xact_lock`: whether the lock was free, or one's own.
    ///
    /// # Errors
    ///
    /// 25P02, or the session is gone.
    pub fn try_advisory_xact_lock(
        &mut self,
        session: SessionId,
        key: i64,
    ) -> Result<bool, SqlError> {
        self.immediate(session, |db, place| Ok(db.take_advisory(place, key)))
    }

    fn take_advisory(&mut self, place: usize, key: i64) -> bool {
        let session = &mut self.sessions[place];
        match self.advisory.get(&key) {
            Some(holder) => *holder == session.id,
            None => {
                self.advisory.insert(key, session.id);
                session.tx.advisory.push(key);
                self.held += 1;
                true
            }
        }
    }

    /// How many transactions are open, those of waiting single statements included.
    pub fn open_transactions(&self) -> usize {
        self.sessions
            .iter()
            .filter(|session| session.tx.state != TxState::Idle)
            .count()
    }
}
