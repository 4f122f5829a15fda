//! Sessions, and what each remembers of its transaction.

use std::sync::Arc;

use super::resume::Resume;
use super::table::SlotNo;
use super::{Db, SqlError, TableId};

/// A connection, as the server sees it. Never names another session once it has ended, short of
/// 65,536 later ones in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u32);

impl SessionId {
    /// No session: the owner of a change the server makes to itself.
    pub(super) const NOBODY: Self = Self(u32::MAX);

    fn new(place: usize, generation: u16) -> Self {
        let place = u16::try_from(place).expect("at most 65,535 sessions at a time");
        Self(u32::from(generation) << 16 | u32::from(place))
    }

    fn place(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// Ended by the server; the client has not closed its side.
    Terminated,
    /// Closed by the client: the place may be used again.
    Closed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TxState {
    #[default]
    Idle,
    /// The transaction of one statement outside `BEGIN`; it outlives the call only while the
    /// statement waits for a lock.
    Implicit,
    Open,
    Failed,
}

/// A transaction. Its vectors keep their capacity from one transaction to the next.
#[derive(Debug, Default)]
pub(super) struct Tx {
    pub(super) state: TxState,
    /// `transaction_timestamp()`.
    pub(super) started_at: i64,
    /// Zero until the transaction locks or writes a row.
    pub(super) xid: u64,
    /// The rows locked, in the order of locking.
    pub(super) held: Vec<(TableId, SlotNo)>,
    pub(super) advisory: Vec<i64>,
    pub(super) notifies: Vec<Arc<str>>,
    /// `LISTEN` (true) and `UNLISTEN` (false), in order; they take effect at commit.
    pub(super) listens: Vec<(Arc<str>, bool)>,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) life: Life,
    pub(super) tx: Tx,
    /// Whether it has an entry among the waits.
    pub(super) waiting: bool,
    /// How its waiting statement goes on.
    pub(super) resume: Option<Resume>,
    /// Notifications that arrived inside a transaction, held back until it ends.
    pub(super) inbox: Vec<Arc<str>>,
}

impl Db {
    /// Opens a session.
    pub fn connect(&mut self) -> SessionId {
        let place = self.free.pop().unwrap_or(self.sessions.len());
        if place == self.sessions.len() {
            self.sessions.push(Session {
                id: SessionId::new(place, 0),
                life: Life::Open,
                tx: Tx::default(),
                waiting: false,
                resume: None,
                inbox: Vec::new(),
            });
        } else {
            let session = &mut self.sessions[place];
            session.id = SessionId::new(place, session.id.generation().wrapping_add(1));
            session.life = Life::Open;
        }
        self.sessions[place].id
    }

    /// The client closes its side, or its process is gone: an open transaction rolls back, and
    /// locks, waits and subscriptions go. Closing twice does nothing.
    pub fn disconnect(&mut self, session: SessionId) {
        let Some(place) = self.place(session) else {
            return;
        };
        match self.sessions[place].life {
            Life::Open => self.end_session(place, Life::Closed),
            Life::Terminated => self.sessions[place].life = Life::Closed,
            Life::Closed => return,
        }
        self.free.push(place);
    }

    /// The server ends a session, as `pg_terminate_backend` does. A statement that was waiting
    /// is listed as woken, to find out; statements answer 57P01 from now on.
    pub fn terminate_session(&mut self, session: SessionId) {
        let Some(place) = self.place(session) else {
            return;
        };
        if self.sessions[place].life == Life::Open {
            self.end_session(place, Life::Terminated);
        }
    }

    /// Whether the server still has this session.
    pub fn is_open(&self, session: SessionId) -> bool {
        self.place(session)
            .is_some_and(|place| self.sessions[place].life == Life::Open)
    }

    fn end_session(&mut self, place: usize, life: Life) {
        let id = self.sessions[place].id;
        self.remove_wait(place, life == Life::Terminated);
        if self.sessions[place].tx.state != TxState::Idle {
            self.end_transaction(place, false);
        }
        let session = &mut self.sessions[place];
        session.life = life;
        session.inbox.clear();
        self.unsubscribe(id);
    }

    fn place(&self, session: SessionId) -> Option<usize> {
        let place = session.place();
        self.sessions
            .get(place)
            .filter(|known| known.id == session)
            .map(|_| place)
    }

    /// The place of a session that can be spoken to.
    pub(super) fn open(&self, session: SessionId) -> Result<usize, SqlError> {
        let place = session.place();
        match self.sessions.get(place) {
            Some(known) if known.id == session => match known.life {
                Life::Open => Ok(place),
                Life::Terminated => Err(SqlError::admin_shutdown()),
                Life::Closed => Err(SqlError::no_such_session()),
            },
            _ => Err(SqlError::no_such_session()),
        }
    }
}
