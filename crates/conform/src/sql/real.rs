//! A program on the real server.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sqlx::postgres::PgPool;
use sqlx::{Connection, PgConnection};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::answer::{Answer, Seen};
use super::lane::Lane;
use super::program::{Op, Program};
use super::session::Session;
use super::waits::{Waits, failed};
use crate::Failure;

/// A step that has not ended by then has been forgotten by the server.
const BOUND: Duration = Duration::from_secs(30);

/// A lane's connections.
pub(super) struct Real {
    lane: Lane,
    control: PgConnection,
    pool: PgPool,
    clients: Vec<Client>,
    ended: Rc<Notify>,
    programs: u64,
}

enum Client {
    Idle(Session),
    Busy(Busy),
}

struct Busy {
    pid: i32,
    statement: JoinHandle<(Session, Answer)>,
}

impl Real {
    pub(super) async fn open(url: &str) -> Result<Self, Failure> {
        let lane = Lane::new();
        Ok(Self {
            control: lane.make(url).await?,
            pool: lane.pool(url)?,
            lane,
            clients: Vec::new(),
            ended: Rc::default(),
            programs: 0,
        })
    }

    pub(super) async fn close(mut self) {
        self.clients.clear();
        self.pool.close().await;
        self.lane.remove(&mut self.control).await;
        let _ = self.control.close().await;
    }

    /// What was seen of each step.
    pub(super) async fn run(&mut self, program: &Program) -> Result<Vec<Seen>, Failure> {
        self.programs += 1;
        let anew = self.programs.is_multiple_of(100);
        self.lane.fill(&mut self.control, program, anew).await?;
        while self.clients.len() < program.impatient.len() {
            let session = Session::connect(&self.pool).await?;
            self.clients.push(Client::Idle(session));
        }
        for (client, impatient) in self.clients.iter_mut().zip(&program.impatient) {
            if let Client::Idle(session) = client {
                session.reset(*impatient).await?;
            }
        }
        let mut seen = Vec::new();
        let mut ended = vec![false; program.impatient.len()];
        for (step, (at, op)) in program.all_steps().enumerate() {
            if program.is_over(step, op) && ended[at] {
                seen.push(Seen::default());
                continue;
            }
            ended[at] = program.is_over(step, op) && matches!(self.clients[at], Client::Idle(_));
            seen.push(self.step(program, at, op).await?);
        }
        Ok(seen)
    }

    async fn step(&mut self, program: &Program, at: usize, op: Op) -> Result<Seen, Failure> {
        let waiting = match &self.clients[at] {
            Client::Busy(busy) => Some(busy.pid),
            Client::Idle(_) => None,
        };
        let own = match (op, waiting) {
            (Op::Cancel, Some(pid)) => {
                self.signal("select pg_cancel_backend($1)", pid).await?;
                Some(Answer::Done)
            }
            (Op::Cut, _) => Some(self.cut(program, at).await?),
            (Op::Cancel, None) | (_, Some(_)) => None,
            (Op::CutAtCommit { before }, None) => {
                Some(self.cut_at_commit(program, at, before).await?)
            }
            (_, None) => {
                self.start(at, op)?;
                let patient = !program.impatient[at];
                let mut woken = self.settle(Some(at).filter(|_| !patient), true).await?;
                let own = woken.remove(&at).unwrap_or(Answer::Blocked);
                return Ok(Seen {
                    own: Some(own),
                    woken,
                });
            }
        };
        // A statement that was cancelled ends; that it waits no more is not yet its answer.
        let must_end = Some(at).filter(|_| op == Op::Cancel && own.is_some());
        let woken = self.settle(must_end, false).await?;
        Ok(Seen { own, woken })
    }

    /// Sends a statement.
    fn start(&mut self, at: usize, op: Op) -> Result<(), Failure> {
        let Client::Idle(session) = self.clients.remove(at) else {
            return Err(Failure("a session that waits was asked".to_owned()));
        };
        let (lane, ended, pid) = (self.lane.clone(), self.ended.clone(), session.pid);
        let statement = tokio::task::spawn_local(async move {
            let mut session = session;
            let answer = session.run(op, &lane).await;
            ended.notify_one();
            (session, answer)
        });
        let busy = Client::Busy(Busy { pid, statement });
        self.clients.insert(at, busy);
        Ok(())
    }

    /// Waits until every statement has ended or waits for a lock of a session that does not go
    /// on by itself. `must_end` has to end.
    async fn settle(
        &mut self,
        must_end: Option<usize>,
        started: bool,
    ) -> Result<BTreeMap<usize, Answer>, Failure> {
        let mut answers = BTreeMap::new();
        let since = Instant::now();
        // To ask the server costs more than most statements take, so a new one gets a moment.
        let mut ask = !started;
        loop {
            if ask && self.is_settled(must_end).await? {
                return Ok(answers);
            }
            if since.elapsed() > BOUND {
                return Err(Failure(format!("no end within {BOUND:?}")));
            }
            let moment = Duration::from_millis(1);
            let _ = tokio::time::timeout(moment, self.ended.notified()).await;
            self.collect(&mut answers).await?;
            ask = true;
        }
    }

    /// Takes the answers of statements that have ended.
    async fn collect(&mut self, answers: &mut BTreeMap<usize, Answer>) -> Result<(), Failure> {
        for (at, client) in self.clients.iter_mut().enumerate() {
            if let Client::Busy(busy) = client
                && busy.statement.is_finished()
            {
                let (session, answer) = (&mut busy.statement).await.map_err(failed)?;
                *client = Client::Idle(session);
                answers.insert(at, answer);
            }
        }
        Ok(())
    }

    async fn is_settled(&mut self, must_end: Option<usize>) -> Result<bool, Failure> {
        let busy = |client: &Client| match client {
            Client::Busy(busy) => Some(busy.pid),
            Client::Idle(_) => None,
        };
        if must_end.is_some_and(|at| busy(&self.clients[at]).is_some()) {
            return Ok(false);
        }
        let pids: Vec<i32> = self.clients.iter().filter_map(busy).collect();
        if pids.is_empty() {
            return Ok(true);
        }
        let waits = Waits::read(&mut self.control).await?;
        Ok(pids.iter().all(|pid| waits.is_settled(*pid)))
    }

    async fn signal(&mut self, text: &'static str, pid: i32) -> Result<(), Failure> {
        let query = sqlx::query(text).bind(pid);
        query.execute(&mut self.control).await.map_err(failed)?;
        Ok(())
    }

    /// Ends a session by the server, and waits until its process has gone. The client connects
    /// again.
    async fn cut(&mut self, program: &Program, at: usize) -> Result<Answer, Failure> {
        let pid = match &self.clients[at] {
            Client::Idle(session) => session.pid,
            Client::Busy(busy) => busy.pid,
        };
        self.signal("select pg_terminate_backend($1, 20000)", pid)
            .await?;
        if let Client::Busy(busy) = &mut self.clients[at] {
            (&mut busy.statement).await.map_err(failed)?;
        }
        self.reconnect(program, at).await?;
        Ok(Answer::Done)
    }

    async fn reconnect(&mut self, program: &Program, at: usize) -> Result<(), Failure> {
        let mut session = Session::connect(&self.pool).await?;
        session.reset(program.impatient[at]).await?;
        self.clients[at] = Client::Idle(session);
        Ok(())
    }

    /// COMMIT and the end of the session race. Which wins is for the model to explain; what the
    /// client was told must be true.
    async fn cut_at_commit(
        &mut self,
        program: &Program,
        at: usize,
        before: bool,
    ) -> Result<Answer, Failure> {
        let Client::Idle(session) = &self.clients[at] else {
            return Ok(Answer::Blocked);
        };
        let pid = session.pid;
        if before {
            self.signal("select pg_terminate_backend($1)", pid).await?;
        }
        self.start(at, Op::Commit)?;
        tokio::task::yield_now().await;
        self.signal("select pg_terminate_backend($1, 20000)", pid)
            .await?;
        let Client::Busy(busy) = &mut self.clients[at] else {
            return Ok(Answer::Blocked);
        };
        let (_, answer) = (&mut busy.statement).await.map_err(failed)?;
        self.reconnect(program, at).await?;
        Ok(answer)
    }
}
