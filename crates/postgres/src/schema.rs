//! Sessions and tables.

use redeliver_core::boxed::boxed;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};
use std::future::Future;

use super::{OutboxMapping, PgOptions, PgStore, WRITTEN_SCHEMA, error, mapping};
use redeliver_core::ports::store::StoreError;

/// Tables, in the order in which they came to be. An entry that was released never changes.
const MIGRATIONS: &[(i32, &str, &str)] = &[
    (1, "tables", include_str!("../migrations/0001_tables.sql")),
    (2, "enqueue", include_str!("../migrations/0002_enqueue.sql")),
    (3, "kept", include_str!("../migrations/0003_kept.sql")),
    (4, "claim", include_str!("../migrations/0004_claim.sql")),
    (5, "lean", include_str!("../migrations/0005_lean.sql")),
];

/// One step of what the pipeline needs in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// From 1; none for the mapping of an outbox, which follows the tables and may change.
    pub version: Option<i32>,
    /// What it brings.
    pub name: &'static str,
    /// DDL, to be run in one transaction.
    pub sql: String,
}

/// All that [`PgStore::migrate`] would do in an empty database, for those who apply it by other
/// means. What is applied so is known to [`PgStore::migrate`].
///
/// # Errors
/// [`StoreError::Refused`] where an option makes no sense.
pub fn migrations(options: &PgOptions) -> Result<Vec<Migration>, StoreError> {
    options.check()?;
    let schema = &options.schema;
    let mut all: Vec<Migration> = MIGRATIONS
        .iter()
        .map(|&(version, name, text)| Migration {
            version: Some(version),
            name,
            sql: format!(
                "{}insert into {schema}.migration (version) values ({version});\n",
                text.replace(WRITTEN_SCHEMA, &format!("{schema}.")),
            ),
        })
        .collect();
    if let Some(first) = all.first_mut() {
        first.sql.insert_str(0, &head(schema));
    }
    all.extend(options.outbox.as_ref().map(|mapping| Migration {
        version: None,
        name: "outbox mapping",
        sql: mapped(options, mapping),
    }));
    Ok(all)
}

/// What comes before everything else.
fn head(schema: &str) -> String {
    format!(
        "create schema if not exists {schema};\n\
         create table if not exists {schema}.migration (\n    \
         version    integer primary key,\n    \
         applied_at timestamptz not null default clock_timestamp()\n);\n"
    )
}

/// Puts a mapping in place, and marks it.
fn mapped(options: &PgOptions, mapping: &OutboxMapping) -> String {
    format!(
        "{}comment on view {}.outbox is '{}';\n",
        mapping::apply(options, mapping),
        options.schema,
        mapping::mark(options, mapping)
    )
}

/// Sets the time-outs of a new session.
pub(super) async fn prepare_session(
    connection: &mut PgConnection,
    options: &PgOptions,
) -> Result<(), sqlx::Error> {
    let millis = |d: std::time::Duration| d.as_millis().to_string();
    // Not by a join with pg_settings, which computes all of the server's settings to find four.
    const SETTINGS: &str = "\
        select set_config('statement_timeout', $1, false), \
            set_config('lock_timeout', $2, false), \
            set_config('idle_in_transaction_session_timeout', $3, false)";
    // The last one lets the server notice a client that went away during a lock wait; it exists
    // from PostgreSQL 14 on.
    const SETTINGS_14: &str = "\
        select set_config('statement_timeout', $1, false), \
            set_config('lock_timeout', $2, false), \
            set_config('idle_in_transaction_session_timeout', $3, false), \
            set_config('client_connection_check_interval', '1000', false)";
    let knows_it = connection.server_version_num() >= Some(140_000);
    sqlx::query(if knows_it { SETTINGS_14 } else { SETTINGS })
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
    pub fn migrate(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        boxed(async move {
            let mut tx = self.locked().await?;
            let schema = self.schema();
            run(&mut tx, head(schema)).await?;
            let rows = sqlx::query(self.shared.sql("select version from redeliver.migration"))
                .fetch_all(&mut *tx)
                .await
                .map_err(|e| error::within(&e))?;
            let applied: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
            for step in migrations(&self.shared.options)? {
                let missing = match step.version {
                    Some(version) => !applied.contains(&version),
                    None => !self.is_mapped(&mut tx).await?,
                };
                if missing {
                    run(&mut tx, step.sql).await?;
                }
            }
            if self.shared.options.outbox.is_none() {
                self.refuse_a_mapped_outbox(&mut tx).await?;
            }
            tx.commit().await.map_err(error::alone)
        })
    }

    /// Removes the schema with all its tables; fine if there is none.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be reached or does not allow it.
    pub fn drop_schema(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        boxed(async move {
            let mut tx = self.locked().await?;
            run(
                &mut tx,
                format!("drop schema if exists {} cascade", self.schema()),
            )
            .await?;
            tx.commit().await.map_err(error::alone)
        })
    }

    /// Whether the mapping of these options is in place.
    async fn is_mapped(&self, tx: &mut PgConnection) -> Result<bool, StoreError> {
        let Some(mapping) = &self.shared.options.outbox else {
            return Ok(true);
        };
        let comment = "select obj_description(to_regclass($1), 'pg_class')";
        let comment: Option<String> = sqlx::query_scalar(comment)
            .bind(format!("{}.outbox", self.schema()))
            .fetch_one(tx)
            .await
            .map_err(|e| error::within(&e))?;
        Ok(comment == Some(mapping::mark(&self.shared.options, mapping)))
    }

    /// A process without the mapping would emit and publish as if there were none.
    async fn refuse_a_mapped_outbox(&self, tx: &mut PgConnection) -> Result<(), StoreError> {
        let kind = "select relkind::text from pg_class where oid = to_regclass($1)";
        let kind: Option<String> = sqlx::query_scalar(kind)
            .bind(format!("{}.outbox", self.schema()))
            .fetch_optional(tx)
            .await
            .map_err(|e| error::within(&e))?;
        if kind.as_deref() == Some("v") {
            return Err(StoreError::Refused(format!(
                "{}.outbox is a mapping of another table, and these options have none: say the \
                 same mapping in every process",
                self.schema()
            )));
        }
        Ok(())
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

async fn run(tx: &mut PgConnection, text: String) -> Result<(), StoreError> {
    tx.execute(sqlx::raw_sql(AssertSqlSafe(text.clone())))
        .await
        .map(drop)
        .map_err(|e| error::in_script(&e, &text))
}
