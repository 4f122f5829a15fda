//! A program on the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use redeliver_sim::db::{
    Db, Extract, IndexId, Key, SequenceId, SessionId, SqlError, TableDef, TableId, get, row,
};

use super::answer::Answer;
use super::bend::Bend;
use super::program::{CHANNELS, Op, Program};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) v: i64,
    pub(super) u: Option<i64>,
}

#[derive(Debug)]
struct Client {
    session: SessionId,
    waits: Option<Op>,
    heard: Vec<usize>,
}

/// The model, and its clients.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) db: Db,
    pub(super) tables: [TableId; 2],
    pub(super) by_v: [IndexId; 2],
    numbers: SequenceId,
    channels: [Arc<str>; CHANNELS],
    clients: Vec<Client>,
    impatient: Vec<bool>,
    /// Sessions that may go on, in the order of the model.
    ready: Vec<usize>,
    /// Sessions in the order in which each was blocked last.
    blocked: Vec<usize>,
    pub(super) bend: Option<Bend>,
    /// Numbers that a bent model takes back: those of each session's transaction.
    taken: BTreeMap<usize, i64>,
    back: i64,
}

const LOCK_TIMEOUT: SqlError = SqlError {
    code: SqlError::LOCK_NOT_AVAILABLE,
    message: std::borrow::Cow::Borrowed("canceling statement due to lock timeout"),
    constraint: None,
};

const DEADLOCK: SqlError = SqlError {
    code: SqlError::DEADLOCK_DETECTED,
    message: std::borrow::Cow::Borrowed("deadlock detected"),
    constraint: None,
};

fn def(unique: &'static str, extract: Extract) -> TableDef {
    TableDef::new()
        .unique(unique, extract)
        .ordered("by_v", |_, row| Some(Key::Int(get::<Item>(row).v)))
}

impl Model {
    pub(super) fn new(program: &Program, bend: Option<Bend>) -> Self {
        let mut db = Db::new();
        // Who looks first is a choice.
        db.leave_deadlocks();
        let whole: Extract = |_, row| get::<Item>(row).u.map(Key::Int);
        let partial: Extract = |_, row| {
            let item: &Item = get(row);
            item.u.filter(|_| item.v < 2).map(Key::Int)
        };
        let is_whole = bend == Some(Bend::PartialIndexIsWhole);
        let (a, b) = (
            def("a_u", whole),
            def("b_u", if is_whole { whole } else { partial }),
        );
        let tables = [db.create_table("a", a), db.create_table("b", b)];
        let by_v = tables.map(|table| db.index(table, "by_v"));
        let numbers = db.create_sequence("numbers");
        let filler = db.connect();
        for start in &program.rows {
            let item = Item {
                v: start.v,
                u: start.u(),
            };
            let table = tables[start.table as usize];
            let filled = db.insert(filler, table, Key::Int(start.id), row(item));
            debug_assert!(filled.is_ok_and(|step| !step.is_blocked()));
        }
        db.disconnect(filler);
        let client = |db: &mut Db| Client {
            session: db.connect(),
            waits: None,
            heard: Vec::new(),
        };
        Self {
            clients: program.impatient.iter().map(|_| client(&mut db)).collect(),
            impatient: program.impatient.clone(),
            db,
            tables,
            by_v,
            numbers,
            channels: [Arc::from("zero"), Arc::from("one")],
            ready: Vec::new(),
            blocked: Vec::new(),
            bend,
            taken: BTreeMap::new(),
            back: 0,
        }
    }

    pub(super) fn waits(&self, at: usize) -> bool {
        self.clients[at].waits.is_some()
    }

    /// Sessions that wait, but have not been told that they may go on.
    pub(super) fn behind(&self) -> Vec<usize> {
        let all = 0..self.clients.len();
        all.filter(|at| self.waits(*at) && !self.ready.contains(at))
            .collect()
    }

    /// Sessions that may go on. Each is to issue its statement again.
    pub(super) fn ready(&mut self) -> &[usize] {
        let mut woken = Vec::new();
        self.db.take_woken(&mut woken);
        for session in woken {
            let client = self.clients.iter().position(|c| c.session == session);
            self.ready
                .extend(client.filter(|at| self.clients[*at].waits.is_some()));
        }
        &self.ready
    }

    /// Lets a waiting session issue its statement again; its answer, if there is one now.
    pub(super) fn again(&mut self, at: usize) -> Option<Answer> {
        self.ready.retain(|ready| *ready != at);
        let op = self.clients[at].waits?;
        Some(self.issue(at, op, true)).filter(|answer| *answer != Answer::Blocked)
    }

    /// Sessions that would find themselves in a deadlock; who closed the cycle comes first.
    pub(super) fn deadlocked(&self) -> Vec<usize> {
        let last_first = self.blocked.iter().rev().copied();
        last_first
            .filter(|at| self.db.is_deadlocked(self.clients[*at].session))
            .collect()
    }

    /// Fails the waiting statement of a session as the victim of a deadlock.
    pub(super) fn sacrifice(&mut self, at: usize) -> Answer {
        self.fail(at, DEADLOCK)
    }

    /// Fails the waiting statement of a session that has no patience; its answer, if it is one.
    pub(super) fn time_out(&mut self, at: usize) -> Option<Answer> {
        let is_over = self.waits(at) && self.impatient[at];
        is_over.then(|| self.fail(at, LOCK_TIMEOUT))
    }

    fn fail(&mut self, at: usize, error: SqlError) -> Answer {
        self.clients[at].waits = None;
        self.ready.retain(|ready| *ready != at);
        let error = self.db.inject(self.clients[at].session, error);
        self.answer_of(at, Err(error))
    }

    /// Cancels the waiting statement of a session.
    pub(super) fn cancel(&mut self, at: usize) -> Option<Answer> {
        self.clients[at].waits = None;
        self.ready.retain(|ready| *ready != at);
        let error = self.db.cancel_wait(self.clients[at].session)?;
        Some(self.answer_of(at, Err(error)))
    }

    /// Ends a session; its client connects again.
    pub(super) fn cut(&mut self, at: usize) {
        let session = self.clients[at].session;
        self.take_back(at);
        if self.bend == Some(Bend::CutsCommit) && self.clients[at].waits.is_none() {
            // It fails only where there is nothing to keep.
            let _ = self.db.commit(session);
        }
        self.db.terminate_session(session);
        self.db.disconnect(session);
        self.ready.retain(|ready| *ready != at);
        self.deliver();
        self.clients[at] = Client {
            session: self.db.connect(),
            waits: None,
            heard: Vec::new(),
        };
    }

    /// Issues a statement.
    pub(super) fn statement(&mut self, at: usize, op: Op) -> Answer {
        self.issue(at, op, false)
    }

    fn issue(&mut self, at: usize, op: Op, again: bool) -> Answer {
        let result = self.call(at, op, again);
        let answer = self.answer_of(at, result);
        let blocked = answer == Answer::Blocked;
        self.clients[at].waits = blocked.then_some(op);
        if blocked {
            self.blocked.retain(|other| *other != at);
            self.blocked.push(at);
        }
        self.deliver();
        answer
    }

    fn answer_of(&mut self, at: usize, result: Result<Answer, SqlError>) -> Answer {
        result.unwrap_or_else(|error| {
            self.take_back(at);
            let constraint = error.constraint.as_deref().map(str::to_owned);
            let is_deadlock = error.code == SqlError::DEADLOCK_DETECTED;
            if is_deadlock && self.bend == Some(Bend::DeadlocksTimeOut) {
                return Answer::Error(LOCK_TIMEOUT.code.to_owned(), constraint);
            }
            Answer::Error(error.code.to_owned(), constraint)
        })
    }

    /// What has left the server reaches its listeners.
    fn deliver(&mut self) {
        let mut notified = Vec::new();
        self.db.take_notifications(&mut notified);
        for (session, channel) in notified {
            let number = self.channels.iter().position(|known| *known == channel);
            let client = self.clients.iter_mut().find(|c| c.session == session);
            if let (Some(client), Some(number)) = (client, number) {
                client.heard.push(number);
            }
        }
    }

    /// A bent sequence takes back the numbers of a transaction that rolls back.
    fn take_back(&mut self, at: usize) {
        let taken = self.taken.remove(&at).unwrap_or_default();
        if self.bend == Some(Bend::NumbersTakenBack) {
            self.back += taken;
        }
    }

    fn call(&mut self, at: usize, op: Op, again: bool) -> Result<Answer, SqlError> {
        let s = self.clients[at].session;
        let done = |()| Answer::Done;
        match op {
            Op::Begin => self.db.begin(s).map(done),
            Op::Commit => {
                self.taken.remove(&at);
                self.db.commit(s).map(|_| Answer::Done)
            }
            Op::Rollback => {
                self.take_back(at);
                self.db.rollback(s).map(done)
            }
            Op::Insert { .. } | Op::Upsert { .. } | Op::Update { .. } | Op::Delete { .. } => {
                self.write(s, op, again)
            }
            Op::Read { .. } | Op::ReadAll { .. } | Op::Lock { .. } | Op::LockSome { .. } => {
                self.read(s, op)
            }
            Op::Next => {
                // A failed transaction draws no number.
                self.db.get(s, self.tables[0], &Key::Int(0))?;
                if self.db.in_transaction(s) {
                    *self.taken.entry(at).or_default() += 1;
                }
                Ok(Answer::Number(self.db.nextval(self.numbers) - self.back))
            }
            Op::Notify(n) => {
                let sender = self.sender(s);
                self.db.notify(sender, &self.channels[n]).map(done)
            }
            Op::Listen(n) => self.db.listen(s, &self.channels[n]).map(done),
            Op::Unlisten(n) => self.db.unlisten(s, &self.channels[n]).map(done),
            Op::Hear => Ok(Answer::Heard(std::mem::take(&mut self.clients[at].heard))),
            Op::Advisory(key) => {
                let step = self.db.advisory_xact_lock(s, key)?;
                Ok(step.done().map_or(Answer::Blocked, done))
            }
            Op::TryAdvisory(key) if self.bend == Some(Bend::TriesWait) => {
                let step = self.db.advisory_xact_lock(s, key)?;
                let taken = |()| Answer::Flag(true);
                Ok(step.done().map_or(Answer::Blocked, taken))
            }
            Op::TryAdvisory(key) => self.db.try_advisory_xact_lock(s, key).map(Answer::Flag),
            Op::Cancel | Op::Cut | Op::CutAtCommit { .. } => Ok(Answer::Done),
        }
    }

    /// A bent model lets a notification leave at once, as if another session had sent it.
    fn sender(&mut self, s: SessionId) -> SessionId {
        let poisoned = self.db.get(s, self.tables[0], &Key::Int(0)).is_err();
        if self.bend == Some(Bend::NotifyAtOnce) && !poisoned {
            return self.db.connect();
        }
        s
    }
}
