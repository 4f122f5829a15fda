//! A program on the PostgreSQL store.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::Seen;
use super::client::{Client, Said};
use super::program::{Op, Program};
use crate::Failure;
use crate::sql::waits::{Waits, failed};
use redeliver_postgres::{PgOptions, PgStore};

/// A step that has not ended by then has been forgotten by the server.
const BOUND: Duration = Duration::from_secs(30);

const TABLES: [&str; 8] = [
    "outbox",
    "outbox_order",
    "inbox",
    "inbox_order",
    "inbox_kept",
    "workflow",
    "audit",
    "row_store",
];

/// A lane's store, in a schema of its own.
pub(super) struct Real {
    store: PgStore,
    control: PgConnection,
    ended: Rc<Notify>,
    programs: u64,
}

#[expect(clippy::large_enum_variant, reason = "there are four of them")]
enum Turn {
    Idle(Client<PgStore>),
    Busy(JoinHandle<(Client<PgStore>, Option<Said>)>),
}

fn named(url: &str, name: &str) -> String {
    let with = if url.contains('?') { '&' } else { '?' };
    // Each session looks for a deadlock once, when it begins to wait, so the one that closes a
    // cycle finds it.
    format!("{url}{with}application_name={name}&options[deadlock_timeout]=1ms")
}

impl Real {
    pub(super) async fn open(url: &str) -> Result<Self, Failure> {
        let schema = format!("conform_{}", uuid::Uuid::new_v4().simple());
        let options = PgOptions {
            lock_timeout: Duration::from_secs(60),
            statement_timeout: Duration::from_secs(60),
            answer_within: Duration::from_secs(70),
            ..PgOptions::in_schema(&schema)
        };
        let store = PgStore::connect(&named(url, &schema), options).map_err(failed)?;
        store.migrate().await.map_err(failed)?;
        Ok(Self {
            store,
            control: PgConnection::connect(url).await.map_err(failed)?,
            ended: Rc::default(),
            programs: 0,
        })
    }

    pub(super) async fn close(self) {
        // What is left behind does no harm: the schema is of this run only.
        let _ = self.store.drop_schema().await;
        self.store.close().await;
        let _ = self.control.close().await;
    }

    async fn empty(&mut self) -> Result<(), Failure> {
        self.programs += 1;
        let schema = self.store.schema();
        let tables = TABLES.map(|table| format!("{schema}.{table}"));
        // To truncate takes longer than to delete a few rows, but dead rows are not to pile up.
        let mut text = if self.programs.is_multiple_of(50) {
            format!("truncate {};", tables.join(", "))
        } else {
            let delete = |table: &String| format!("delete from {table};");
            tables.iter().map(delete).collect()
        };
        text += &format!("alter sequence {schema}.outbox_id_seq restart");
        let emptied = self.control.execute(sqlx::raw_sql(AssertSqlSafe(text)));
        emptied.await.map(drop).map_err(failed)
    }

    /// What was seen of each step.
    pub(super) async fn run(&mut self, program: &Program) -> Result<Vec<Seen>, Failure> {
        self.empty().await?;
        let client = |number| Turn::Idle(Client::new(self.store.clone(), number));
        let mut clients: Vec<Turn> = (0..program.clients).map(client).collect();
        let mut seen = Vec::new();
        for (step, (at, op)) in program.all_steps().into_iter().enumerate() {
            if matches!(clients[at], Turn::Busy(_)) {
                seen.push(Seen::default());
                continue;
            }
            self.start(&mut clients, step, at, op);
            let mut woken = self.settle(&mut clients).await?;
            let own = match woken.remove(&at) {
                Some(own) => own,
                None => Some((false, super::BLOCKED.to_owned())),
            };
            let woken = woken.into_iter().filter_map(|(at, said)| Some((at, said?)));
            seen.push(Seen {
                own,
                woken: woken.collect(),
            });
        }
        Ok(seen)
    }

    fn start(&self, clients: &mut Vec<Turn>, step: usize, at: usize, op: Op) {
        match clients.remove(at) {
            Turn::Busy(task) => clients.insert(at, Turn::Busy(task)),
            Turn::Idle(mut client) => {
                let ended = self.ended.clone();
                let task = tokio::task::spawn_local(async move {
                    let said = client.run(step, op).await;
                    ended.notify_one();
                    (client, said)
                });
                clients.insert(at, Turn::Busy(task));
            }
        }
    }

    /// Waits until every operation has ended, or waits for a lock of a session that does not go
    /// on by itself.
    async fn settle(
        &mut self,
        clients: &mut [Turn],
    ) -> Result<BTreeMap<usize, Option<Said>>, Failure> {
        let mut said = BTreeMap::new();
        let since = Instant::now();
        loop {
            let moment = Duration::from_millis(2);
            let _ = tokio::time::timeout(moment, self.ended.notified()).await;
            for (at, client) in clients.iter_mut().enumerate() {
                if let Turn::Busy(task) = client
                    && task.is_finished()
                {
                    let (idle, what) = task.await.map_err(failed)?;
                    *client = Turn::Idle(idle);
                    said.insert(at, what);
                }
            }
            let busy = clients.iter().filter(|c| matches!(c, Turn::Busy(_)));
            let busy = busy.count();
            if busy == 0 || self.is_settled(busy).await? {
                return Ok(said);
            }
            if since.elapsed() > BOUND {
                return Err(Failure(format!("no end within {BOUND:?}")));
            }
        }
    }

    async fn is_settled(&mut self, busy: usize) -> Result<bool, Failure> {
        let text = "select pid from pg_stat_activity where application_name = $1";
        let pids = sqlx::query_scalar(text).bind(self.store.schema().to_owned());
        let pids: Vec<i32> = pids.fetch_all(&mut self.control).await.map_err(failed)?;
        let waits = Waits::read(&mut self.control).await?;
        let waiting = waits.among(&pids);
        Ok(waiting.len() == busy && waiting.iter().all(|pid| waits.is_settled(*pid)))
    }
}
