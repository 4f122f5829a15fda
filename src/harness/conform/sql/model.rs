//! A program on the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use redeliver_sim::db::{
    Db, IndexId, Key, LockWait, Row as Stored, SequenceId, SessionId, SqlError, Step, TableDef,
    TableId, get, row,
};

use super::answer::{Answer, Row};
use super::bend::Bend;
use super::program::{CHANNELS, Change, Op, Program, Table, Wait};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    v: i64,
    u: Option<i64>,
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
    db: Db,
    tables: [TableId; 2],
    by_v: [IndexId; 2],
    numbers: SequenceId,
    channels: [Arc<str>; CHANNELS],
    clients: Vec<Client>,
    impatient: Vec<bool>,
    /// Sessions that may go on, in the order of the model.
    ready: Vec<usize>,
    pub(super) bend: Option<Bend>,
    /// Numbers that a bent model takes back: those of each session's transaction.
    pub(super) taken: BTreeMap<usize, i64>,
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

fn def(unique: &'static str, extract: redeliver_sim::db::Extract) -> TableDef {
    TableDef::new()
        .unique(unique, extract)
        .ordered("by_v", |_, row| Some(Key::Int(get::<Item>(row).v)))
}

fn seen(key: &Key, stored: &Stored) -> Row {
    let Key::Int(id) = key else {
        unreachable!("keys are integers")
    };
    let item: &Item = get(stored);
    (*id, item.v, item.u)
}

impl Model {
    pub(super) fn new(program: &Program, bend: Option<Bend>) -> Self {
        let mut db = Db::new();
        let a = def("a_u", |_, row| get::<Item>(row).u.map(Key::Int));
        let b = def("b_u", |_, row| {
            let item: &Item = get(row);
            item.u.filter(|_| item.v < 2).map(Key::Int)
        });
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

    /// Fails the waiting statement of a session as the victim of a deadlock.
    pub(super) fn sacrifice(&mut self, at: usize) -> Answer {
        self.clients[at].waits = None;
        self.ready.retain(|ready| *ready != at);
        let error = self.db.inject(self.clients[at].session, DEADLOCK);
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
        let mut answer = self.issue(at, op, false);
        if answer == Answer::Blocked && self.impatient[at] {
            self.clients[at].waits = None;
            let error = self.db.inject(self.clients[at].session, LOCK_TIMEOUT);
            answer = self.answer_of(at, Err(error));
        }
        answer
    }

    fn issue(&mut self, at: usize, op: Op, again: bool) -> Answer {
        let result = self.call(at, op, again);
        let answer = self.answer_of(at, result);
        let blocked = answer == Answer::Blocked;
        self.clients[at].waits = blocked.then_some(op);
        self.deliver();
        answer
    }

    fn answer_of(&mut self, at: usize, result: Result<Answer, SqlError>) -> Answer {
        result.unwrap_or_else(|error| {
            self.take_back(at);
            let constraint = error.constraint.as_deref().map(str::to_owned);
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

    fn write(&mut self, s: SessionId, op: Op, again: bool) -> Result<Answer, SqlError> {
        let db = &mut self.db;
        let count = |written: bool| Answer::Count(u64::from(written));
        Ok(match op {
            Op::Insert {
                table,
                id,
                u,
                or_nothing,
            } => {
                let (table, key) = (self.tables[table as usize], Key::Int(id));
                let new = row(Item { v: 0, u });
                let written = if or_nothing {
                    let step = db.insert(s, table, key, new)?;
                    step.done().map(|insert| insert.is_inserted())
                } else {
                    db.insert_strict(s, table, key, new)?.done().map(|()| true)
                };
                if written.is_none() && self.bend == Some(Bend::UnsettledKeysFail) {
                    let error = SqlError::new(SqlError::UNIQUE_VIOLATION, "bent");
                    return Err(db.inject(s, error));
                }
                written.map_or(Answer::Blocked, count)
            }
            Op::Upsert { table, id, u } => {
                let (table, key) = (self.tables[table as usize], Key::Int(id));
                let step = db.upsert(s, table, key.clone(), |there| {
                    let new = |item: &Item| Item {
                        v: item.v + 1,
                        ..*item
                    };
                    row(there.map_or(Item { v: 0, u }, |there| new(get(there))))
                })?;
                let rows = |stored: Stored| Answer::Rows(vec![seen(&key, &stored)]);
                step.done().map_or(Answer::Blocked, rows)
            }
            Op::Update {
                table,
                id,
                change,
                below,
            } => {
                let (table, key) = (self.tables[table as usize], Key::Int(id));
                let blind = again && self.bend == Some(Bend::NoLookAgain);
                let step = db.update(s, table, &key, |there| {
                    let item: &Item = get(there);
                    (item.v < below || blind).then(|| row(changed(*item, change)))
                })?;
                let rows = |new: Option<Stored>| {
                    Answer::Rows(new.iter().map(|stored| seen(&key, stored)).collect())
                };
                step.done().map_or(Answer::Blocked, rows)
            }
            Op::Delete { table, id, below } => {
                let (table, key) = (self.tables[table as usize], Key::Int(id));
                let blind = again && self.bend == Some(Bend::NoLookAgain);
                let fits = |there: &Stored| get::<Item>(there).v < below || blind;
                let step = db.delete(s, table, &key, fits)?;
                step.done().map_or(Answer::Blocked, count)
            }
            _ => Answer::Done,
        })
    }

    fn read(&mut self, s: SessionId, op: Op) -> Result<Answer, SqlError> {
        let db = &mut self.db;
        let rows = |found: Vec<(Key, Stored)>| {
            Answer::Rows(
                found
                    .iter()
                    .map(|(key, stored)| seen(key, stored))
                    .collect(),
            )
        };
        let index = |table: Table| table as usize;
        Ok(match op {
            Op::Read { table, id } => {
                let found = db.get(s, self.tables[index(table)], &Key::Int(id))?;
                rows(found.map(|row| (Key::Int(id), row)).into_iter().collect())
            }
            Op::ReadAll { table } => {
                rows(db.scan(s, self.by_v[index(table)], .., &|_, _| true, 99)?)
            }
            Op::Lock { table, id } => {
                let key = Key::Int(id);
                let step = if self.bend == Some(Bend::LocksNotKept) {
                    Step::Done(db.get(s, self.tables[index(table)], &key)?)
                } else {
                    db.get_for_update(s, self.tables[index(table)], &key)?
                };
                let found =
                    |row: Option<Stored>| rows(row.map(|row| (key, row)).into_iter().collect());
                step.done().map_or(Answer::Blocked, found)
            }
            Op::LockSome {
                table,
                by_v,
                limit,
                wait,
            } => {
                let limit = usize::try_from(limit).unwrap_or_default();
                let wait = match wait {
                    Wait::Skip if self.bend == Some(Bend::SkipWaits) => LockWait::Block,
                    Wait::Skip => LockWait::SkipLocked,
                    Wait::Block => LockWait::Block,
                    Wait::Fail => LockWait::NoWait,
                };
                let step = if by_v {
                    let index = self.by_v[index(table)];
                    db.scan_for_update(s, index, Key::Int(1).., &|_, _| true, limit, wait)?
                } else {
                    let table = self.tables[index(table)];
                    let fits = |_: &Key, stored: &Stored| get::<Item>(stored).v < 2;
                    db.scan_for_update(s, table, .., &fits, limit, wait)?
                };
                step.done().map_or(Answer::Blocked, rows)
            }
            _ => Answer::Done,
        })
    }
}

fn changed(item: Item, change: Change) -> Item {
    match change {
        Change::Add => Item {
            v: item.v + 1,
            ..item
        },
        Change::Zero => Item { v: 0, ..item },
        Change::Name(u) => Item { u, ..item },
    }
}
