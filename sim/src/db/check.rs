//! What must always hold, and what a run asks at its end.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{OrderedIndex, UniqueIndex};
use super::lock::LockName;
use super::session::{Life, TxState};
use super::table::Table;
use super::{Db, Key, Row, SessionId, TableId};

/// Counters since the database was made or reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions committed, those of single statements included.
    pub commits: u64,
    /// Transactions rolled back, those of single statements included.
    pub rollbacks: u64,
    /// Times a statement began to wait for a lock.
    pub waits: u64,
    /// Waits refused because they would have closed a cycle.
    pub deadlocks: u64,
}

impl Db {
    /// The counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Sessions the server has open: each is a connection somebody must still close.
    pub fn open_sessions(&self) -> usize {
        self.sessions
            .iter()
            .filter(|session| session.life == Life::Open)
            .count()
    }

    /// Row locks and advisory locks held.
    pub fn held_locks(&self) -> usize {
        self.held
    }

    /// Statements waiting for a lock.
    pub fn waiting(&self) -> usize {
        self.waits.len()
    }

    /// Whether an ordered index holds no row, committed or about to be.
    pub fn is_empty(&self, index: super::IndexId) -> bool {
        let ordered = &self.table(index.table).ordered;
        ordered[usize::from(index.index)].entries.is_empty()
    }

    /// The committed rows of a table by primary key.
    pub fn committed(&self, table: TableId) -> impl Iterator<Item = (&Key, &Row)> {
        let rows = self.table(table).all();
        rows.filter_map(|slot| Some((&slot.key, slot.committed.as_ref()?)))
    }

    /// Asserts what holds between any two calls. Reads everything: for tests, and for the end of
    /// a run.
    ///
    /// # Panics
    ///
    /// When it does not hold, which is a bug in the model.
    pub fn check_invariants(&self) {
        self.check_locks();
        self.check_waits();
        for table in &self.tables {
            check_slots(table);
            for (number, index) in table.unique.iter().enumerate() {
                check_unique(table, number, index);
            }
            table
                .ordered
                .iter()
                .for_each(|index| check_ordered(table, index));
        }
    }

    fn check_locks(&self) {
        let mut held = 0;
        for session in &self.sessions {
            let tx = &session.tx;
            let over = session.life != Life::Open;
            assert!(
                !over || tx.state == TxState::Idle,
                "{:?} has ended",
                session.id
            );
            if matches!(tx.state, TxState::Idle | TxState::Failed) {
                assert!(tx.held.is_empty() && tx.advisory.is_empty() && tx.xid == 0);
                assert!(tx.notifies.is_empty() && tx.listens.is_empty());
            }
            if tx.state == TxState::Idle {
                assert!(session.inbox.is_empty(), "nothing holds notifications back");
            }
            assert!(
                tx.state != TxState::Implicit || session.waiting,
                "left in a statement"
            );
            for (table, at) in &tx.held {
                let slot = self.table(*table).slot(*at);
                assert_eq!(slot.owner, Some(session.id), "lock of {:?}", slot.key);
            }
            for key in &tx.advisory {
                assert_eq!(self.advisory[key], session.id);
            }
            held += tx.held.len() + tx.advisory.len();
        }
        let rows = self.tables.iter().flat_map(|table| table.unordered());
        let owned = rows.filter(|(_, slot)| slot.owner.is_some()).count();
        assert_eq!(
            owned + self.advisory.len(),
            held,
            "every lock is in one transaction"
        );
        assert_eq!(self.held, held);
    }

    fn check_waits(&self) {
        let mut heads: Vec<&LockName> = Vec::new();
        for wait in &self.waits {
            assert_eq!(self.sessions[wait.place].id, wait.session);
            assert!(self.sessions[wait.place].waiting);
            let alone = matches!(wait.name, LockName::Transaction(_));
            if alone || !heads.contains(&&wait.name) {
                heads.push(&wait.name);
                let held = self.holder(&wait.name) == Some(wait.holder);
                assert!(wait.woken || held, "{wait:?} sleeps beside a free lock");
            }
            self.check_no_cycle(wait.session);
        }
        let waiting = self
            .sessions
            .iter()
            .filter(|session| session.waiting)
            .count();
        assert_eq!(waiting, self.waits.len(), "one wait a session");
    }

    fn check_no_cycle(&self, from: SessionId) {
        let next = |at| {
            let wait = self
                .waits
                .iter()
                .find(|wait| wait.session == at && !wait.woken)?;
            self.holder(&wait.name)
        };
        let mut seen = BTreeSet::from([from]);
        let mut at = from;
        while let Some(holder) = next(at) {
            assert!(seen.insert(holder), "a deadlock nobody noticed: {seen:?}");
            at = holder;
        }
    }
}

fn check_slots(table: &Table) {
    let mut rows = 0;
    for (at, slot) in table.unordered() {
        let key = &slot.key;
        assert_eq!(table.rows.get(key), Some(&at), "{key:?} is found");
        assert!(
            !slot.is_changed() || slot.owner.is_some(),
            "{key:?} changed unlocked"
        );
        rows += 1;
    }
    assert_eq!(table.rows.len(), rows, "a key of nothing");
}

fn check_unique(table: &Table, number: usize, index: &UniqueIndex) {
    let mut committed = BTreeMap::new();
    let mut pending = BTreeMap::new();
    for slot in table.all() {
        let (old, new) = (
            index.of(slot, slot.committed.as_ref()),
            index.of(slot, slot.indexed(number)),
        );
        if let Some(value) = old.clone() {
            let twin = committed.insert(value, slot.key.clone());
            assert_eq!(twin, None, "{} has a value twice", index.name);
        }
        if let Some(value) = new.filter(|new| Some(new) != old.as_ref()) {
            let owner = slot.owner.expect("a changed row is locked");
            let twin = pending.insert(value, (owner, slot.key.clone()));
            assert_eq!(twin, None, "{} has a value twice", index.name);
        }
    }
    for (value, holders) in &index.entries {
        assert_eq!(holders.committed, committed.remove(value), "{}", index.name);
        assert_eq!(holders.pending, pending.remove(value), "{}", index.name);
        assert!(holders.committed.is_some() || holders.pending.is_some());
    }
    assert!(
        committed.is_empty() && pending.is_empty(),
        "{} lacks entries",
        index.name
    );
}

fn check_ordered(table: &Table, index: &OrderedIndex) {
    let mut expected = BTreeMap::new();
    for slot in table.all() {
        let at = table.rows[&slot.key];
        for version in [slot.committed.as_ref(), slot.latest()] {
            expected.extend(
                index
                    .of(slot, version)
                    .map(|value| ((value, slot.key.clone()), at)),
            );
        }
    }
    assert_eq!(index.entries, expected, "{}", index.name);
}
