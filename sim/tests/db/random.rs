//! Random interleavings of sessions, against an oracle that knows nothing of concurrency.
//!
//! Every write replaces what a transaction has locked, so the committed state must equal the
//! replay of the committed transactions, one after the other in the order of their commits: what
//! a transaction did is noted when its statements complete, and replayed when it commits. Rows
//! carry the number of their last writer, which is checked against the version the statement saw.

use std::collections::BTreeMap;

use proptest::prelude::*;
use redeliver_sim::db::{Ended, Key, SessionId, Step};

use super::program::{Effect, Op, issue, op};
use super::{Item, World, numbers, value_of, world};

#[derive(Default)]
struct Oracle {
    /// What is committed.
    rows: BTreeMap<i64, Item>,
    /// What each session's open transaction has done.
    open: BTreeMap<SessionId, Vec<Effect>>,
    explicit: BTreeMap<SessionId, bool>,
}

impl Oracle {
    fn commit(&mut self, session: SessionId) {
        for (id, item) in self.open.remove(&session).unwrap_or_default() {
            match item {
                Some(item) => drop(self.rows.insert(id, item)),
                None => drop(self.rows.remove(&id)),
            }
        }
        self.explicit.remove(&session);
    }

    fn forget(&mut self, session: SessionId) {
        self.open.remove(&session);
        self.explicit.remove(&session);
    }

    fn done(&mut self, session: SessionId, effect: Option<Effect>) {
        self.open.entry(session).or_default().extend(effect);
        if !self.explicit.contains_key(&session) {
            self.commit(session);
        }
    }

    /// What a session sees: the committed rows, and over them its own effects.
    fn seen(&self, session: SessionId, id: i64) -> Option<&Item> {
        let own = self.open.get(&session).into_iter().flatten().rev();
        match own.into_iter().find(|(changed, _)| *changed == id) {
            Some((_, item)) => item.as_ref(),
            None => self.rows.get(&id),
        }
    }
}

struct Client {
    session: SessionId,
    /// The statement that waits.
    blocked: Option<Op>,
}

struct Run {
    w: World,
    oracle: Oracle,
    clients: Vec<Client>,
}

impl Run {
    fn new(clients: usize) -> Self {
        let mut w = world();
        let connect = |_| Client {
            session: w.db.connect(),
            blocked: None,
        };
        let clients = (0..clients).map(connect).collect();
        Self {
            w,
            oracle: Oracle::default(),
            clients,
        }
    }

    fn step(&mut self, at: usize, op: Op) {
        let session = self.clients[at].session;
        let waiting = self.clients[at].blocked.is_some();
        match op {
            Op::Begin | Op::Commit if waiting => {}
            Op::Begin => {
                if self.w.db.begin(session).is_ok() {
                    self.oracle.explicit.insert(session, true);
                }
            }
            Op::Commit => self.commit(session),
            Op::Rollback => {
                let rolled = self.w.db.rollback(session);
                assert_eq!(rolled.is_ok(), self.w.db.is_open(session));
                self.oracle.forget(session);
                self.clients[at].blocked = None;
            }
            Op::Cancel => {
                let cancelled = self.w.db.cancel_wait(session).is_some();
                assert!(!cancelled || waiting);
                if cancelled {
                    self.failed(at);
                }
            }
            Op::Reconnect => {
                self.w.db.disconnect(session);
                self.oracle.forget(session);
                let session = self.w.db.connect();
                self.clients[at] = Client {
                    session,
                    blocked: None,
                };
            }
            Op::Terminate => {
                self.w.db.terminate_session(session);
                self.oracle.forget(session);
            }
            Op::FailOver => {
                self.w.db.fail_over(0);
                self.clients
                    .iter()
                    .for_each(|client| self.oracle.forget(client.session));
            }
            _ if waiting => {}
            Op::Read => self.read(session),
            statement => self.statement(at, statement),
        }
        self.resume();
        self.check();
    }

    fn commit(&mut self, session: SessionId) {
        match self.w.db.commit(session) {
            Ok(Ended::Committed) => self.oracle.commit(session),
            Ok(Ended::RolledBack) | Err(_) => self.oracle.forget(session),
        }
    }

    fn statement(&mut self, at: usize, op: Op) {
        let session = self.clients[at].session;
        let outcome = issue(&mut self.w, session, op).expect("a statement");
        self.clients[at].blocked = None;
        match outcome {
            Ok(Step::Done(effect)) => {
                self.judge(session, op, effect.as_ref());
                self.oracle.done(session, effect);
            }
            Ok(Step::Blocked) => self.clients[at].blocked = Some(op),
            Err(_) => self.failed(at),
        }
    }

    fn read(&mut self, session: SessionId) {
        let (items, open) = (self.w.items, self.w.open);
        let mut indexed = Vec::new();
        for id in 0..4 {
            let Ok(read) = self.w.db.get(session, items, &Key::Int(id)) else {
                return;
            };
            let read = read.as_ref().map(value_of::<Item>);
            assert_eq!(read, self.oracle.seen(session, id));
            indexed.extend(read.map(|item| (item.number, id)));
        }
        indexed.sort_unstable();
        let rows = self
            .w
            .db
            .scan(session, open, .., &|_, _| true, 9)
            .expect("as before");
        let scanned = rows.iter().map(|(key, row)| numbers((key, row)));
        assert!(scanned.map(|(id, number)| (number, id)).eq(indexed));
    }

    /// A failed transaction does nothing more; its effects never count.
    fn failed(&mut self, at: usize) {
        self.clients[at].blocked = None;
        if let Some(effects) = self.oracle.open.get_mut(&self.clients[at].session) {
            effects.clear();
        }
    }

    /// A statement that wrote must have built on exactly what its session sees: no lost update.
    fn judge(&self, session: SessionId, op: Op, effect: Option<&Effect>) {
        let Some((id, new)) = effect else { return };
        let old = self.oracle.seen(session, *id);
        match op {
            Op::Insert { .. } | Op::Strict { .. } => assert_eq!(old, None),
            Op::Upsert { .. } | Op::Add { .. } => {
                let number = new.as_ref().expect("written").number;
                assert_eq!(number, old.map_or(0, |old| old.number + 1));
            }
            Op::Rename { .. } => {
                let number = new.as_ref().expect("written").number;
                assert_eq!(Some(number), old.map(|old| old.number));
            }
            _ => assert!(old.is_some(), "only what is there can be deleted"),
        }
    }

    /// Lets every woken session issue its statement again, until none is woken.
    fn resume(&mut self) {
        let mut woken = Vec::new();
        for _ in 0..100 {
            self.w.db.take_woken(&mut woken);
            if woken.is_empty() {
                return;
            }
            for session in woken.drain(..) {
                let found = self
                    .clients
                    .iter()
                    .position(|client| client.session == session);
                let at = found.expect("only sessions that wait are woken");
                if let Some(op) = self.clients[at].blocked {
                    self.statement(at, op);
                }
            }
        }
        panic!("waking never ends");
    }

    fn check(&self) {
        self.w.db.check_invariants();
        let blocked = self
            .clients
            .iter()
            .filter(|client| client.blocked.is_some())
            .count();
        assert_eq!(blocked, self.w.db.waiting(), "nobody sleeps unnoticed");
        let committed: BTreeMap<i64, Item> = (self.w.db.committed(self.w.items))
            .map(|(key, row)| (numbers((key, row)).0, value_of::<Item>(row).clone()))
            .collect();
        assert_eq!(committed, self.oracle.rows);
    }

    fn finish(mut self) {
        for at in 0..self.clients.len() {
            self.step(at, Op::Reconnect);
            let session = self.clients[at].session;
            self.w.db.disconnect(session);
        }
        let db = &self.w.db;
        assert_eq!(
            (db.open_sessions(), db.held_locks(), db.open_transactions()),
            (0, 0, 0)
        );
    }
}

proptest! {
    #[test]
    fn committed_state_is_the_replay_of_commits(
        clients in 2..=4_usize,
        ops in prop::collection::vec((0..4_usize, op()), 1..80),
    ) {
        let mut run = Run::new(clients);
        for (at, op) in ops {
            run.step(at % clients, op);
        }
        run.finish();
    }
}
