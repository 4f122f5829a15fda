//! What a lane has for itself on the server: a schema, channels, advisory locks.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::program::Program;
use super::waits::failed;
use crate::Failure;

/// Names that no other lane and no other run uses. A schema keeps tables apart; channels and
/// advisory locks are the whole database's.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    schema: String,
    number: i64,
}

impl Lane {
    pub(super) fn new() -> Self {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        Self {
            schema: format!("conform_{high:016x}{low:016x}"),
            number: (low >> 8) as i64,
        }
    }

    pub(super) fn channel(&self, n: usize) -> String {
        format!("{}_{n}", self.schema)
    }

    pub(super) fn channel_number(&self, channel: &str) -> usize {
        let number = channel.rsplit_once('_').map(|(_, number)| number.parse());
        number.and_then(Result::ok).unwrap_or(usize::MAX)
    }

    pub(super) fn advisory(&self, key: i64) -> i64 {
        self.number ^ key
    }

    fn options(&self, url: &str) -> Result<PgConnectOptions, Failure> {
        let options = PgConnectOptions::from_str(url).map_err(failed)?;
        // Each session looks for a deadlock at once, and only once: when it begins to wait. So
        // the one that closes a cycle finds it, and nobody else.
        let settings = [
            ("search_path", self.schema.as_str()),
            ("deadlock_timeout", "1ms"),
        ];
        Ok(options.options(settings))
    }

    /// Sessions as the programs have them.
    pub(super) fn pool(&self, url: &str) -> Result<PgPool, Failure> {
        Ok(PgPoolOptions::new()
            .max_connections(16)
            .test_before_acquire(false)
            .connect_lazy_with(self.options(url)?))
    }

    /// Makes the tables; gives the session by which the others are watched.
    pub(super) async fn make(&self, url: &str) -> Result<PgConnection, Failure> {
        let options = self.options(url)?;
        let mut control = PgConnection::connect_with(&options).await.map_err(failed)?;
        let schema = &self.schema;
        let text = format!(
            "create schema {schema}; \
             create table a (id bigint primary key, v bigint not null, u bigint); \
             create unique index a_u on a (u); \
             create table b (id bigint primary key, v bigint not null, u bigint); \
             create unique index b_u on b (u) where v < 2; \
             create sequence numbers"
        );
        let made = control.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
        made.map_err(failed)?;
        Ok(control)
    }

    /// The tables as the program finds them.
    pub(super) async fn fill(
        &self,
        control: &mut PgConnection,
        program: &Program,
        anew: bool,
    ) -> Result<(), Failure> {
        // A truncated table has new files, which takes longer than to delete a few rows; but dead
        // rows are not to pile up.
        let empty = if anew {
            "truncate a, b; select setval('numbers', 1, false)"
        } else {
            "delete from a; delete from b; select setval('numbers', 1, false)"
        };
        control
            .execute(sqlx::raw_sql(empty))
            .await
            .map_err(failed)?;
        for start in &program.rows {
            let text = format!("insert into {} values ($1, $2, $3)", start.table.name());
            let run = sqlx::query(AssertSqlSafe(text))
                .bind(start.id)
                .bind(start.v)
                .bind(start.u());
            control.execute(run).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Removes the tables.
    pub(super) async fn remove(&self, control: &mut PgConnection) {
        let text = format!("drop schema if exists {} cascade", self.schema);
        // What is left behind does no harm: the schema is of this run only.
        let _ = control.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
    }
}
