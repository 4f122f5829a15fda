//! A model of PostgreSQL at READ COMMITTED, as far as a message pipeline leans on it.
//!
//! A synchronous state machine: it knows no time but the clock it is told, no network and no
//! randomness, and the same calls always give the same answers. Whoever drives it adds latency,
//! crashes and cut connections.
//!
//! ```text
//!   begin ──► statement ──► Done ──► statement … ──► commit ──► versions settle, locks go,
//!                │  ▲                                            waiters wake, NOTIFY leaves
//!                │  └─ woken: issue it again ◄── take_woken
//!                ├──► Blocked: waits for a lock, has written nothing
//!                └──► Err: the transaction is poisoned (25P02) until rollback or commit
//! ```
//!
//! Modelled: row versions (what is committed, and what a writer has not yet committed), row locks
//! and their queues, unique keys that wait for an uncommitted rival, `ON CONFLICT`, `FOR UPDATE`
//! with `SKIP LOCKED` and `NOWAIT`, deadlocks, sequences with gaps, `LISTEN` and `NOTIFY`,
//! transaction-level advisory locks, transaction ids, failed transactions, ended sessions,
//! failover.
//!
//! Left out: other isolation levels (a snapshot taken at `BEGIN` would need older versions in
//! `table.rs`; its write conflicts belong where a lock wait ends), savepoints, foreign keys, share
//! locks, table locks, changes of a primary key, session-level advisory locks, payloads of
//! notifications, vacuum.

mod check;
mod error;
mod fail_over;
mod half;
mod index;
mod key;
mod lock;
mod notify;
mod read;
mod resume;
mod scan;
mod sequence;
mod session;
mod statement;
mod table;
mod transaction;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use check::Stats;
pub use error::SqlError;
pub use index::Extract;
pub use key::{Key, Row, get, row};
use lock::LockName;
pub use read::{Filter, LockWait, Over};
pub use sequence::SequenceId;
pub use session::SessionId;
pub use statement::Step;
pub use table::{IndexId, TableDef, TableId};
pub use transaction::Ended;
pub use write::Insert;

/// A database.
#[derive(Debug, Default)]
pub struct Db {
    tables: Vec<table::Table>,
    sequences: Vec<sequence::Sequence>,
    sessions: Vec<session::Session>,
    /// Places among the sessions that may be used again.
    free: Vec<usize>,
    waits: Vec<lock::Wait>,
    woken: Vec<SessionId>,
    /// Whether cycles of waits are left to whoever drives the database.
    leaves_deadlocks: bool,
    advisory: BTreeMap<i64, SessionId>,
    /// Locks held, of rows and advisory.
    held: usize,
    listeners: BTreeMap<Arc<str>, Vec<SessionId>>,
    notifications: Vec<(SessionId, Arc<str>)>,
    clock: i64,
    /// Transaction ids given so far.
    xids: u64,
    undo: fail_over::Undo,
    stats: Stats,
}

impl Db {
    /// An empty database.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a table.
    ///
    /// # Panics
    ///
    /// When the name is taken.
    pub fn create_table(&mut self, name: &str, def: TableDef) -> TableId {
        assert!(
            self.tables.iter().all(|table| *table.name != *name),
            "{name} exists"
        );
        let id = TableId(u16::try_from(self.tables.len()).expect("at most 65,536 tables"));
        self.tables.push(table::Table::new(name, def));
        id
    }

    /// The ordered index of a table by its name.
    ///
    /// # Panics
    ///
    /// When the table has no such index.
    pub fn index(&self, table: TableId, name: &str) -> IndexId {
        let declared = &self.table(table).ordered;
        let index = declared.iter().position(|index| index.name == name);
        let index = index.unwrap_or_else(|| panic!("no ordered index {name}"));
        IndexId {
            table,
            index: u16::try_from(index).expect("at most 65,536 indexes"),
        }
    }

    /// Declares a sequence that starts at 1.
    ///
    /// # Panics
    ///
    /// When the name is taken.
    pub fn create_sequence(&mut self, name: &'static str) -> SequenceId {
        assert!(
            self.sequences.iter().all(|known| known.name != name),
            "{name} exists"
        );
        let id = u16::try_from(self.sequences.len()).expect("at most 65,536 sequences");
        self.sequences.push(sequence::Sequence::new(name));
        SequenceId(id)
    }

    /// Forgets everything but the declared tables and sequences, for the next run.
    pub fn reset(&mut self) {
        self.tables.iter_mut().for_each(table::Table::clear);
        self.sequences
            .iter_mut()
            .for_each(sequence::Sequence::reset);
        *self = Self {
            tables: std::mem::take(&mut self.tables),
            sequences: std::mem::take(&mut self.sequences),
            ..Self::new()
        };
    }

    /// The id that the next transaction gets.
    fn next_xid(&self) -> u64 {
        FIRST_XID + self.xids
    }

    fn table(&self, id: TableId) -> &table::Table {
        &self.tables[usize::from(id.0)]
    }

    fn table_mut(&mut self, id: TableId) -> &mut table::Table {
        &mut self.tables[usize::from(id.0)]
    }
}

/// PostgreSQL's first normal transaction id; those below are reserved.
const FIRST_XID: u64 = 3;
