//! Sessions and tables.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::{PgOptions, PgStore, WRITTEN_SCHEMA, error};
use crate::ports::store::StoreError;

/// Tables, in the order in which they came to be. An entry that was released never changes.
const MIGRATIONS: &[(i32, &str)] = &[(1, include_str!("../../../migrations/0001_tables.sql"))];

/// Sets the time-outs of a new session.
pub(super) async fn prepare_session(
    connection: &mut PgConnection,
    options: &PgOptions,
) -> Result<(), sqlx::Error> {
    let millis = |d: std::time::Duration| d.as_millis().to_string();
    // The last one lets the server notice a client that went away during a lock wait; it exists
    // from PostgreSQL 14 on.
    sqlx::query(
        "select set_config(name, value, false) from (values \
            ('statement_timeout', $1), \
            ('lock_timeout', $2), \
            ('idle_in_transaction_session_timeout', $3), \
            ('client_connection_check_interval', '1000')) as wanted (name, value) \
         join pg_settings using (name)",
    )
    .bind(millis(options.statement_timeout))
    .bind(millis(options.lock_timeout))
    .bind(millis(options.idle_in_transaction_timeout))
    .execute(connection)
    .await
    .map(drop)
}

impl PgStore {
    /// Creates the schema and its tables where they are missing. Several processes may do so at
    /// the same time; an advisory lock lets one after the other.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be reached or does not allow it.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut tx = self.locked().await?;
        let schema = self.schema();
        let head = format!(
            "create schema if not exists {schema}; \
             create table if not exists {schema}.migration ( \
                version integer primary key, \
                applied_at timestamptz not null default clock_timestamp())"
        );
        tx.execute(sqlx::raw_sql(AssertSqlSafe(head)))
            .await
            .map_err(|e| error::within(&e))?;
        let rows = sqlx::query(self.shared.sql("select version from redeliver.migration"))
            .fetch_all(&mut *tx)
            .await
            .map_err(|e| error::within(&e))?;
        let applied: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        for (version, text) in MIGRATIONS.iter().filter(|(v, _)| !applied.contains(v)) {
            let text = text.replace(WRITTEN_SCHEMA, &format!("{schema}."));
            tx.execute(sqlx::raw_sql(AssertSqlSafe(text)))
                .await
                .map_err(|e| error::within(&e))?;
            let insert = "insert into redeliver.migration (version) values ($1)";
            sqlx::query(self.shared.sql(insert))
                .bind(version)
                .execute(&mut *tx)
                .await
                .map_err(|e| error::within(&e))?;
        }
        tx.commit().await.map_err(error::alone)
    }

    /// Removes the schema with all its tables; fine if there is none.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be reached or does not allow it.
    pub async fn drop_schema(&self) -> Result<(), StoreError> {
        let mut tx = self.locked().await?;
        let text = format!("drop schema if exists {} cascade", self.schema());
        tx.execute(sqlx::raw_sql(AssertSqlSafe(text)))
            .await
            .map_err(|e| error::within(&e))?;
        tx.commit().await.map_err(error::alone)
    }

    /// A transaction in which nobody else changes this schema's tables.
    async fn locked(&self) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, StoreError> {
        let mut tx = self.shared.pool.begin().await.map_err(error::connecting)?;
        tx.execute("set local lock_timeout = 0; set local statement_timeout = 0")
            .await
            .map_err(|e| error::within(&e))?;
        sqlx::query("select pg_advisory_xact_lock(hashtext('redeliver'), hashtext($1))")
            .bind(self.schema())
            .execute(&mut *tx)
            .await
            .map_err(|e| error::within(&e))?;
        Ok(tx)
    }
}
