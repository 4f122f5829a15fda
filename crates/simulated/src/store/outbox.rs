//! The outbox table of the simulated store.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use redeliver_sim::db::{Db, Key, LockWait, Row, SessionId, SqlError, Step, get, row};

use super::{Tables, before, done, step, time_key};
use crate::env::at;
use redeliver_core::event::Outgoing;
use redeliver_core::outbox::{ClaimedRow, OutboxRow, RelayClaim};
use redeliver_core::ports::Timestamp;

#[derive(Clone)]
pub(super) struct Stored {
    outgoing: Outgoing,
    lease_until: Option<Timestamp>,
    token: i64,
    failures: u32,
    available_at: Timestamp,
    published_at: Option<Timestamp>,
}

impl Stored {
    pub(super) fn new(outgoing: Outgoing) -> Self {
        Self {
            outgoing,
            lease_until: None,
            token: 0,
            failures: 0,
            available_at: Timestamp(0),
            published_at: None,
        }
    }

    pub(super) fn reading(&self, id: i64) -> OutboxRow {
        OutboxRow {
            id,
            outgoing: self.outgoing.clone(),
            published_at: self.published_at,
            lease_until: self.lease_until,
        }
    }

    fn claimable(&self, now: Timestamp) -> bool {
        self.lease_until.is_none_or(|until| until <= now) && self.available_at <= now
    }
}

/// The partial index over what is still to be published.
pub(super) fn if_unpublished(key: &Key, stored: &Row) -> Option<Key> {
    get::<Stored>(stored)
        .published_at
        .is_none()
        .then(|| key.clone())
}

/// The index over what is published, by when.
pub(super) fn if_published(_: &Key, stored: &Row) -> Option<Key> {
    get::<Stored>(stored).published_at.map(time_key)
}

/// Oldest first; of an ordered scope a run from its first unpublished row, or nothing. Rows that
/// others are claiming at this moment are skipped, and block their scope.
pub(super) fn claim(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    claim: &RelayClaim,
) -> Result<Vec<ClaimedRow>, SqlError> {
    let now = at(db.clock_timestamp());
    let limit = claim.limit as usize;
    let mut open: BTreeMap<String, bool> = BTreeMap::new();
    let mut claimed = Vec::new();
    let mut waiting = Waiting::default();
    while claimed.len() < limit
        && let Some((key, stored)) = waiting.next(db, session, tables, limit)?
    {
        let stored: &Stored = get(&stored);
        let event = &stored.outgoing.event;
        let scope = event.sequence.map(|_| event.order_scope());
        let passes = scope
            .as_ref()
            .is_none_or(|scope| *open.get(scope).unwrap_or(&true));
        let taken =
            passes && stored.claimable(now) && db.lock_if_free(session, tables.outbox, &key)?;
        if let Some(scope) = scope {
            open.insert(scope, taken);
        }
        if !taken {
            continue;
        }
        let mut next = stored.clone();
        next.token += 1;
        next.lease_until = Some(now.after(claim.lease));
        let Key::Int(id) = key else {
            unreachable!("outbox ids are integers")
        };
        claimed.push(ClaimedRow {
            id,
            token: next.token,
            failures: next.failures,
            outgoing: next.outgoing.clone(),
        });
        let written = db.update(session, tables.outbox, &key, |_| Some(row(next)))?;
        debug_assert!(!written.is_blocked(), "the row is locked by this session");
    }
    Ok(claimed)
}

/// What is still to be published, oldest first, read in parts: a claim needs only the beginning
/// of a long backlog.
#[derive(Default)]
struct Waiting {
    rows: std::vec::IntoIter<(Key, Row)>,
    last: Option<Key>,
    over: bool,
}

impl Waiting {
    fn next(
        &mut self,
        db: &mut Db,
        session: SessionId,
        tables: Tables,
        limit: usize,
    ) -> Result<Option<(Key, Row)>, SqlError> {
        if self.rows.len() == 0 && !self.over {
            let from = self.last.take().map_or(Bound::Unbounded, Bound::Excluded);
            let range = (from, Bound::Unbounded);
            let rows = db.scan(session, tables.unpublished, range, &|_, _| true, limit)?;
            self.over = rows.len() < limit;
            self.last = rows.last().map(|(key, _)| key.clone());
            self.rows = rows.into_iter();
        }
        Ok(self.rows.next())
    }
}

/// How far a statement over several rows came before it had to wait for a lock.
#[derive(Default)]
pub(super) struct Progress {
    at: usize,
    changed: u64,
}

/// Changes unpublished rows that still carry their token, where `with` agrees; gives how many.
/// Issued again after a wait it goes on where it stopped.
fn change(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    rows: &[(i64, i64)],
    progress: &mut Progress,
    with: impl Fn(&mut Stored) -> bool,
) -> Result<Step<u64>, SqlError> {
    while let Some((id, token)) = rows.get(progress.at) {
        let updated = step!(db.update(session, tables.outbox, &Key::Int(*id), |there| {
            let there: &Stored = get(there);
            if there.token != *token || there.published_at.is_some() {
                return None;
            }
            let mut next = there.clone();
            with(&mut next).then(|| row(next))
        }));
        progress.at += 1;
        progress.changed += u64::from(updated.is_some());
    }
    done(progress.changed)
}

pub(super) fn mark(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    rows: &[(i64, i64)],
    progress: &mut Progress,
) -> Result<Step<u64>, SqlError> {
    let now = at(db.clock_timestamp());
    change(db, session, tables, rows, progress, |row| {
        row.published_at = Some(now);
        row.lease_until = None;
        true
    })
}

pub(super) fn release(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    rows: &[(i64, i64)],
    delay: Duration,
    progress: &mut Progress,
) -> Result<Step<u64>, SqlError> {
    let now = at(db.clock_timestamp());
    change(db, session, tables, rows, progress, |row| {
        let held = row.lease_until.take().is_some();
        row.failures += 1;
        row.available_at = now.after(delay);
        held
    })
}

/// Removes what was published first, of equals what was put in first.
pub(super) fn purge(
    db: &mut Db,
    session: SessionId,
    tables: Tables,
    age: Duration,
    limit: u32,
) -> Result<Step<u64>, SqlError> {
    let range = ..time_key(before(db, age));
    let limit = limit as usize;
    let old = db.scan_for_update(
        session,
        tables.published,
        range,
        &|_, _| true,
        limit,
        LockWait::SkipLocked,
    );
    let old = step!(old);
    for (key, _) in &old {
        step!(db.delete(session, tables.outbox, key, |_| true));
    }
    done(old.len() as u64)
}
