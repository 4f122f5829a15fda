//! Sessions beside the store, for set-up and for readings: compiled here, once.

use std::future::Future;
use std::pin::Pin;

use redeliver_core::boxed::{Boxed, boxed};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Connection, Error, Executor};

/// Opens a session.
pub fn connect(target: &PgConnectOptions) -> Boxed<'_, Result<PgConnection, Error>> {
    boxed(PgConnection::connect_with(target))
}

/// Ends a session in order.
pub fn close(session: PgConnection) -> Boxed<'static, Result<(), Error>> {
    boxed(session.close())
}

/// Carries out SQL of the caller's own, one statement or more; gives the rows, whose values come as
/// text.
pub fn run<'a>(session: &'a mut PgConnection, sql: &str) -> Boxed<'a, Result<Vec<PgRow>, Error>> {
    let sql = sql.to_owned();
    boxed(async move { session.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await })
}

/// Asks a query of the caller's own in a transaction that changes nothing.
pub fn ask<'a>(pool: &'a PgPool, sql: &str) -> Boxed<'a, Result<Vec<PgRow>, Error>> {
    let sql = sql.to_owned();
    boxed(async move {
        let mut tx = pool.begin().await?;
        tx.execute("set transaction read only").await?;
        let rows = tx.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        tx.rollback().await?;
        Ok(rows)
    })
}

/// Runs a team's migrations. Not `Send`: the migrator's own future is not in every lifetime.
///
/// # Errors
/// The migrator's own words.
pub fn migrate<'a>(
    session: &'a mut PgConnection,
    migrator: &'a Migrator,
) -> Pin<Box<dyn Future<Output = Result<(), MigrateError>> + 'a>> {
    Box::pin(async move { migrator.run(session).await })
}
