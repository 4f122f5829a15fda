//! One session on the real server.

use sqlx::postgres::{PgListener, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Error, Executor, Row};

use super::answer::Answer;
use super::lane::Lane;
use super::program::{Change, Op, Table, Wait};
use super::waits::failed;
use crate::Failure;

/// A session. The listener is its only connection: it runs the statements as well.
pub(super) struct Session {
    connection: PgListener,
    pub(super) pid: i32,
}

const ROW: &str = "id, v, u";

impl Session {
    pub(super) async fn connect(pool: &PgPool) -> Result<Self, Failure> {
        let mut connection = PgListener::connect_with(pool).await.map_err(failed)?;
        let pid = sqlx::query_scalar("select pg_backend_pid()");
        let pid = pid.fetch_one(&mut connection).await.map_err(failed)?;
        Ok(Self { connection, pid })
    }

    /// As if new, with a time-out of its own.
    pub(super) async fn reset(&mut self, impatient: bool) -> Result<(), Failure> {
        let text = if impatient {
            "unlisten *; set lock_timeout = 30"
        } else {
            "unlisten *; set lock_timeout = 0"
        };
        self.simple(text).await.map_err(failed)?;
        while self.connection.next_buffered().is_some() {}
        Ok(())
    }

    /// Runs a statement to its end.
    pub(super) async fn run(&mut self, op: Op, lane: &Lane) -> Answer {
        match self.answer(op, lane).await {
            Ok(answer) => answer,
            Err(Error::Database(error)) => {
                let code = error.code().unwrap_or_default().into_owned();
                // The server's last word to a session that it ends.
                if code == "57P01" {
                    return Answer::Lost;
                }
                // The error is told before the transaction has let its locks go. That the session
                // takes a statement again says that it has.
                if self.simple(";").await.is_err() {
                    return Answer::Lost;
                }
                Answer::Error(code, error.constraint().map(str::to_owned))
            }
            Err(_) => Answer::Lost,
        }
    }

    async fn simple(&mut self, text: &'static str) -> Result<Answer, Error> {
        self.connection.execute(sqlx::raw_sql(text)).await?;
        Ok(Answer::Done)
    }

    /// A statement with numbers, and the rows it gives.
    async fn rows(&mut self, text: String, numbers: &[Option<i64>]) -> Result<Vec<PgRow>, Error> {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for number in numbers {
            query = query.bind(*number);
        }
        query.fetch_all(&mut self.connection).await
    }

    async fn selected(&mut self, text: String, numbers: &[Option<i64>]) -> Result<Answer, Error> {
        let rows = self.rows(text, numbers).await?;
        let row = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        let rows: Result<_, Error> = rows.iter().map(row).collect();
        Ok(Answer::Rows(rows?))
    }

    async fn counted(&mut self, text: String, numbers: &[Option<i64>]) -> Result<Answer, Error> {
        let rows = self.rows(text, numbers).await?;
        Ok(Answer::Count(rows.len() as u64))
    }

    async fn answer(&mut self, op: Op, lane: &Lane) -> Result<Answer, Error> {
        match op {
            Op::Begin => self.simple("begin").await,
            Op::Commit => self.simple("commit").await,
            Op::Rollback => self.simple("rollback").await,
            Op::Insert { .. } | Op::Upsert { .. } | Op::Update { .. } | Op::Delete { .. } => {
                self.write(op).await
            }
            Op::Read { .. } | Op::ReadAll { .. } | Op::Lock { .. } | Op::LockSome { .. } => {
                self.read(op).await
            }
            Op::Next => {
                let rows = self
                    .rows("select nextval('numbers')".to_owned(), &[])
                    .await?;
                let number = rows.first().ok_or(Error::RowNotFound)?;
                Ok(Answer::Number(number.try_get(0)?))
            }
            Op::Notify(n) => {
                let query = sqlx::query("select pg_notify($1, '')").bind(lane.channel(n));
                query.execute(&mut self.connection).await?;
                Ok(Answer::Done)
            }
            Op::Listen(n) => self.subscribe("listen", &lane.channel(n)).await,
            Op::Unlisten(n) => self.subscribe("unlisten", &lane.channel(n)).await,
            Op::Hear => self.hear(lane).await,
            Op::Advisory(key) => {
                let text = "select pg_advisory_xact_lock($1)".to_owned();
                self.rows(text, &[Some(lane.advisory(key))]).await?;
                Ok(Answer::Done)
            }
            Op::TryAdvisory(key) => {
                let text = "select pg_try_advisory_xact_lock($1)".to_owned();
                let rows = self.rows(text, &[Some(lane.advisory(key))]).await?;
                let row = rows.first().ok_or(Error::RowNotFound)?;
                Ok(Answer::Flag(row.try_get(0)?))
            }
            Op::Cancel | Op::Cut | Op::CutAtCommit { .. } => Ok(Answer::Done),
        }
    }

    async fn subscribe(&mut self, what: &str, channel: &str) -> Result<Answer, Error> {
        let text = AssertSqlSafe(format!("{what} {channel}"));
        self.connection.execute(sqlx::raw_sql(text)).await?;
        Ok(Answer::Done)
    }

    /// A statement's answer brings along what was notified before: the server signals a listener
    /// before it answers the COMMIT, and the listener sends what it was signalled for before it
    /// says that it is ready again. An empty statement is one also in a failed transaction.
    async fn hear(&mut self, lane: &Lane) -> Result<Answer, Error> {
        self.simple(";").await?;
        let mut heard = Vec::new();
        while let Some(notification) = self.connection.next_buffered() {
            heard.push(lane.channel_number(notification.channel()));
        }
        Ok(Answer::Heard(heard))
    }

    async fn write(&mut self, op: Op) -> Result<Answer, Error> {
        match op {
            Op::Insert {
                table,
                id,
                u,
                or_nothing,
            } => {
                let table = table.name();
                let conflict = if or_nothing {
                    "on conflict do nothing"
                } else {
                    ""
                };
                let text =
                    format!("insert into {table} values ($1, 0, $2) {conflict} returning {ROW}");
                self.counted(text, &[Some(id), u]).await
            }
            Op::Upsert { table, id, u } => {
                let table = table.name();
                let text = format!(
                    "insert into {table} as t values ($1, 0, $2) \
                     on conflict (id) do update set v = t.v + 1 returning {ROW}"
                );
                self.selected(text, &[Some(id), u]).await
            }
            Op::Update {
                table,
                id,
                change,
                below,
            } => {
                let table = table.name();
                let (set, name) = match change {
                    Change::Add => ("v = v + 1 + coalesce($3, 0)", None),
                    Change::Zero => ("v = coalesce($3, 0)", None),
                    Change::Name(u) => ("u = $3", u),
                };
                let text =
                    format!("update {table} set {set} where id = $1 and v < $2 returning {ROW}");
                self.selected(text, &[Some(id), Some(below), name]).await
            }
            Op::Delete { table, id, below } => {
                let table = table.name();
                let text = format!("delete from {table} where id = $1 and v < $2 returning {ROW}");
                self.counted(text, &[Some(id), Some(below)]).await
            }
            _ => Ok(Answer::Done),
        }
    }

    async fn read(&mut self, op: Op) -> Result<Answer, Error> {
        let from = |table: Table| format!("select {ROW} from {}", table.name());
        match op {
            Op::Read { table, id } => {
                let text = format!("{} where id = $1", from(table));
                self.selected(text, &[Some(id)]).await
            }
            Op::ReadAll { table } => {
                let text = format!("{} order by v, id", from(table));
                self.selected(text, &[]).await
            }
            Op::Lock { table, id } => {
                let text = format!("{} where id = $1 for update", from(table));
                self.selected(text, &[Some(id)]).await
            }
            Op::LockSome {
                table,
                by_v,
                limit,
                wait,
            } => {
                let part = if by_v {
                    "where v >= 1 order by v, id"
                } else {
                    "where v < 2 order by id"
                };
                let wait = match wait {
                    Wait::Block => "",
                    Wait::Skip => "skip locked",
                    Wait::Fail => "nowait",
                };
                let text = format!("{} {part} limit $1 for update {wait}", from(table));
                self.selected(text, &[Some(limit)]).await
            }
            _ => Ok(Answer::Done),
        }
    }
}
