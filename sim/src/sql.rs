//! Sessions of simulated processes with the simulated database.
//!
//! A statement takes effect at once and answers after a keyed latency; one that must wait for a
//! lock is issued again when the lock is free.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::choice::Site;
use crate::db::{Db, Ended, SessionId, SqlError, Step};
use crate::executor::sleep;
use crate::fault::{Kind, Seam};
use crate::latency::Latency;
use crate::process::ProcessId;
use crate::world::{World, note_waker, try_with, with};

pub(crate) const STATEMENT: Latency = Latency::micros(120, 350, 1_200, 9_000);
pub(crate) const COMMIT: Latency = Latency::micros(300, 900, 4_000, 30_000);
pub(crate) const SITE_STATEMENT: Site = Site::new("db.statement");
pub(crate) const SITE_COMMIT: Site = Site::new("db.commit");
pub(crate) const SITE_NOTIFY: Site = Site::new("db.notify");

/// How long a client waits for a server that does not answer.
pub(crate) const NO_ANSWER: u64 = 5_000_000_000;

/// Why a statement or commit failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server said no.
    Sql(SqlError),
    /// The session is gone, or the server does not answer. A commit is in doubt then.
    Lost(&'static str),
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        if error.ends_session() {
            Self::Lost("the server ended the session")
        } else {
            Self::Sql(error)
        }
    }
}

#[derive(Debug)]
struct Owner {
    process: ProcessId,
    waker: Option<Waker>,
    woken: bool,
}

#[derive(Debug, Default)]
struct Listening {
    notified: bool,
    wakers: Vec<Waker>,
}

/// The database with its clients' sides.
#[derive(Debug, Default)]
pub struct Sql {
    /// The database itself.
    pub db: Db,
    owners: BTreeMap<SessionId, Owner>,
    listeners: BTreeMap<SessionId, (ProcessId, Listening)>,
    woken: Vec<SessionId>,
    notified: Vec<(SessionId, Arc<str>)>,
    down_until: u64,
    partitions: Vec<(Arc<str>, u64)>,
}

impl World {
    /// Calls the database, then wakes whom that lets go on.
    pub fn database<R>(&mut self, call: impl FnOnce(&mut Db) -> R) -> R {
        let now = self.now() as i64;
        self.sql.db.set_now(now);
        let result = call(&mut self.sql.db);
        if self.sql.db.has_news() {
            self.carry_news();
        }
        result
    }

    fn carry_news(&mut self) {
        let mut woken = std::mem::take(&mut self.sql.woken);
        self.sql.db.take_woken(&mut woken);
        for session in woken.drain(..) {
            if let Some(owner) = self.sql.owners.get_mut(&session) {
                owner.woken = true;
                owner.waker.take().into_iter().for_each(Waker::wake);
            }
        }
        self.sql.woken = woken;
        let mut notified = std::mem::take(&mut self.sql.notified);
        self.sql.db.take_notifications(&mut notified);
        for (session, _) in notified.drain(..) {
            self.carry_notification(session);
        }
        self.sql.notified = notified;
    }

    fn carry_notification(&mut self, session: SessionId) {
        let Some((process, _)) = self.sql.listeners.get(&session) else {
            return;
        };
        let process = *process;
        if self.strike_for(Seam::Notify, process, 0, 0).is_some() {
            return;
        }
        let at = self.now() + self.latency(STATEMENT, SITE_NOTIFY, process, 0, 0);
        self.at(at, move |w| {
            if let Some((_, listening)) = w.sql.listeners.get_mut(&session) {
                listening.notified = true;
                listening.wakers.drain(..).for_each(Waker::wake);
            }
        });
    }

    /// The database fails over: every session is cut, and it answers nobody until a time.
    pub fn fail_over(&mut self, lose: usize, until: u64) -> usize {
        self.sql.down_until = until;
        let lost = self.database(|db| db.fail_over(lose));
        for owner in self.sql.owners.values_mut() {
            owner.woken = true;
            owner.waker.take().into_iter().for_each(Waker::wake);
        }
        #[cfg(feature = "postgres")]
        self.cut_all_sessions();
        lost
    }

    /// Keeps processes whose name starts with `prefix` from the database for a while.
    pub fn partition_database(&mut self, prefix: &Arc<str>, until: u64) {
        self.sql.partitions.push((prefix.clone(), until));
    }

    pub(crate) fn database_unreachable(&self, process: ProcessId) -> bool {
        let (now, process_name) = (self.now(), &self.processes[process.0 as usize].name);
        let cut = |p: &(Arc<str>, u64)| p.1 > now && process_name.starts_with(&*p.0);
        self.sql.down_until > now || (!self.is_healed() && self.sql.partitions.iter().any(cut))
    }

    pub(crate) fn cut_sessions_of(&mut self, process: ProcessId) {
        let mine = |owner: &Owner| owner.process == process;
        let mut gone: Vec<SessionId> = self
            .sql
            .owners
            .iter()
            .filter(|(_, o)| mine(o))
            .map(|(s, _)| *s)
            .collect();
        gone.extend(
            self.sql
                .listeners
                .iter()
                .filter(|(_, l)| l.0 == process)
                .map(|(s, _)| *s),
        );
        for session in gone {
            self.sql.owners.remove(&session);
            self.sql.listeners.remove(&session);
            self.database(|db| db.disconnect(session));
        }
    }
}

/// A session in a transaction. Dropping it rolls back.
#[derive(Debug)]
pub struct Transaction {
    session: SessionId,
    process: ProcessId,
    subject: u64,
    attempt: u32,
    lock_timeout: u64,
}

/// Opens a transaction for the calling process, about the message of that name and attempt.
/// Its statements wait for a lock for `lock_timeout` nanoseconds.
///
/// # Errors
/// [`Error::Lost`] when there is no database.
pub async fn begin(subject: &str, attempt: u32, lock_timeout: u64) -> Result<Transaction, Error> {
    let opened = with(|w| {
        w.enter_work(subject, attempt);
        let process = w
            .current_process()
            .expect("begin is called from a task of the world");
        if w.database_unreachable(process) {
            return Err(Error::Lost("the database does not answer"));
        }
        let session = w.database(Db::connect);
        w.sql.owners.insert(
            session,
            Owner {
                process,
                waker: None,
                woken: false,
            },
        );
        w.database(|db| db.begin(session))?;
        let (subject, attempt) = w.work();
        Ok(Transaction {
            session,
            process,
            subject,
            attempt,
            lock_timeout,
        })
    });
    if matches!(opened, Err(Error::Lost(_))) {
        sleep(NO_ANSWER / 50).await;
    }
    opened
}

/// Runs a statement in autocommit: one round trip, in which it is committed as well if it has
/// changed something.
///
/// # Errors
/// See [`Error`]. [`Failed::Commit`] says that it may have happened.
pub async fn alone<R>(
    (subject, attempt): (&str, u32),
    lock_timeout: u64,
    statement: impl FnMut(&mut Db, SessionId) -> Result<Step<R>, SqlError>,
) -> Result<R, Failed> {
    let begun = begin(subject, attempt, lock_timeout).await;
    let mut transaction = begun.map_err(Failed::Statement)?;
    let (result, slow) = (transaction.carry_out(statement).await).map_err(Failed::Statement)?;
    let session = transaction.session;
    if with(|w| w.sql.db.xact_id(session)).is_some() {
        sleep(slow).await;
        transaction.commit().await.map_err(Failed::Commit)?;
    } else {
        let after = transaction.answer_latency();
        transaction.end();
        sleep(after + slow).await;
    }
    Ok(result)
}

/// Where a statement in autocommit has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Before anything was committed.
    Statement(Error),
    /// At its commit.
    Commit(Error),
}

impl Transaction {
    /// Runs a statement, waiting for locks.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run<R>(
        &mut self,
        statement: impl FnMut(&mut Db, SessionId) -> Result<Step<R>, SqlError>,
    ) -> Result<R, Error> {
        let (result, slow) = self.carry_out(statement).await?;
        let after = self.answer_latency();
        sleep(after + slow).await;
        Ok(result)
    }

    fn answer_latency(&self) -> u64 {
        let (process, subject) = (self.process, self.subject);
        with(|w| w.latency(STATEMENT, SITE_STATEMENT, process, subject, self.attempt))
    }

    /// The same without the time until its answer is there; with that for which it is slow.
    async fn carry_out<R>(
        &mut self,
        mut statement: impl FnMut(&mut Db, SessionId) -> Result<Step<R>, SqlError>,
    ) -> Result<(R, u64), Error> {
        let call = with(|w| w.strike_message(Seam::Statement, self.subject, self.attempt));
        let mut slow = 0;
        match call.act().await {
            Some(Kind::Abort) => {
                return Err(with(|w| {
                    let error = SqlError::new("40001", "could not serialize access");
                    w.database(|db| db.inject(self.session, error))
                })
                .into());
            }
            Some(_) => slow = call.lasts(),
            None => {}
        }
        loop {
            let session = self.session;
            let step = with(|w| {
                if w.database_unreachable(self.process) {
                    return Ok(None);
                }
                w.database(|db| statement(db, session)).map(Some)
            })?;
            match step {
                Some(Step::Done(result)) => {
                    call.act_after().await;
                    return Ok((result, slow));
                }
                Some(Step::Blocked) => self.wait_for_lock().await?,
                None => {
                    sleep(NO_ANSWER).await;
                    return Err(Error::Lost("the database does not answer"));
                }
            }
        }
    }

    /// Runs a statement that never waits.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run_now<R>(
        &mut self,
        mut statement: impl FnMut(&mut Db, SessionId) -> Result<R, SqlError>,
    ) -> Result<R, Error> {
        self.run(|db, session| statement(db, session).map(Step::Done))
            .await
    }

    async fn wait_for_lock(&mut self) -> Result<(), Error> {
        let session = self.session;
        let mut limit = std::pin::pin!(sleep(self.lock_timeout));
        std::future::poll_fn(|cx| {
            let woken = with(|w| {
                let Some(owner) = w.sql.owners.get_mut(&session) else {
                    return Some(Ok(()));
                };
                if std::mem::take(&mut owner.woken) {
                    return Some(Ok(()));
                }
                owner.waker = Some(cx.waker().clone());
                None
            });
            if let Some(result) = woken {
                return Poll::Ready(result);
            }
            match limit.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    let error = with(|w| w.database(|db| db.cancel_wait(session)));
                    let error = error.unwrap_or_else(|| SqlError::new("55P03", "lock timeout"));
                    Poll::Ready(Err(error.into()))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Commits.
    ///
    /// # Errors
    /// [`Error::Lost`] when no answer came: it may have happened. [`Error::Sql`] when the
    /// transaction had failed before.
    pub async fn commit(mut self) -> Result<(), Error> {
        let call = with(|w| w.strike_message(Seam::Commit, self.subject, self.attempt));
        let struck = call.act().await;
        let session = self.session;
        let ended = with(|w| {
            if struck == Some(Kind::LostCommit) || w.database_unreachable(self.process) {
                w.sql.owners.remove(&session);
                w.database(|db| db.disconnect(session));
                return Err(Error::Lost("the session was cut at COMMIT"));
            }
            let ended = w.database(|db| db.commit(session))?;
            if struck == Some(Kind::CommitInDoubt) {
                return Err(Error::Lost("the session was cut at COMMIT"));
            }
            Ok(ended)
        });
        call.act_after().await;
        let after = with(|w| {
            w.latency(
                COMMIT,
                SITE_COMMIT,
                self.process,
                self.subject,
                self.attempt,
            )
        });
        sleep(after).await;
        self.end();
        match ended? {
            Ended::Committed => Ok(()),
            Ended::RolledBack => Err(Error::Sql(SqlError::new(
                "25P02",
                "the transaction had failed and was rolled back",
            ))),
        }
    }

    /// Rolls back.
    pub async fn rollback(mut self) {
        let after = with(|w| {
            w.database(|db| db.rollback(self.session)).ok();
            w.latency(
                STATEMENT,
                SITE_STATEMENT,
                self.process,
                self.subject,
                self.attempt,
            )
        });
        self.end();
        sleep(after).await;
    }

    fn end(&mut self) {
        let session = self.session;
        try_with(|w| {
            if w.sql.owners.remove(&session).is_some() {
                w.database(|db| db.disconnect(session));
            }
        });
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for notifications on a channel.
#[derive(Debug)]
pub struct Listener {
    session: SessionId,
}

impl Listener {
    /// Starts to listen. A server that does not answer now never notifies: poll as well.
    pub fn listen(channel: &Arc<str>) -> Self {
        with(|w| {
            let process = w
                .current_process()
                .expect("listen is called from a task of the world");
            let session = w.database(Db::connect);
            w.sql
                .listeners
                .insert(session, (process, Listening::default()));
            w.database(|db| db.listen(session, channel)).ok();
            Self { session }
        })
    }

    /// Completes when a notification has come since the last call.
    pub async fn notified(&self) {
        std::future::poll_fn(|cx| {
            with(|w| {
                let Some((_, listening)) = w.sql.listeners.get_mut(&self.session) else {
                    return Poll::Pending;
                };
                if std::mem::take(&mut listening.notified) {
                    return Poll::Ready(());
                }
                note_waker(&mut listening.wakers, cx.waker());
                Poll::Pending
            })
        })
        .await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        try_with(|w| {
            if w.sql.listeners.remove(&self.session).is_some() {
                w.database(|db| db.disconnect(self.session));
            }
        });
    }
}
