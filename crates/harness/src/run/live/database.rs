//! The database of a real run.
//!
//! A workload without SQL of its own needs a schema. One with migrations gets a whole database: a
//! team's tables stand where its migrations put them, and must not meet the real ones.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, Row, ValueRef};

use crate::run::live::LiveError;
use crate::team::postgres::Postgres;
use crate::watch::reading::Answer;
use redeliver_core::ports::{Store, StoreError};
use redeliver_postgres::{PgOptions, PgStore, session};

/// How long a server may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// A database or a schema of its own, removed when the run is over.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) store: PgStore,
    /// Where it is.
    server: PgConnectOptions,
    own: Option<Own>,
}

/// A database of the run's own.
#[derive(Clone)]
struct Own {
    /// Where it can be made and removed.
    server: PgConnectOptions,
    name: String,
    looks: Postgres,
}

impl Database {
    /// Under this name on the server of `url`; nothing is made yet.
    pub(crate) fn new(
        url: &str,
        name: &str,
        connections: u32,
        looks: Option<Postgres>,
    ) -> Result<Self, LiveError> {
        // A parser's words may hold the password.
        let server: PgConnectOptions = url
            .parse()
            .map_err(|_| LiveError::Environment("DATABASE_URL cannot be understood".to_owned()))?;
        let server = server.disable_statement_logging();
        let Some(looks) = looks else {
            let mut options = PgOptions::in_schema(name);
            options.connections = connections;
            let store = PgStore::connect(url, options)?;
            return Ok(Self {
                store,
                server,
                own: None,
            });
        };
        let mut options = looks.pipeline().clone();
        options.connections = connections;
        let store = PgStore::connect_with(server.clone().database(name), options)?;
        let name = name.to_owned();
        let own = Some(Own {
            server: server.clone(),
            name,
            looks,
        });
        Ok(Self { store, server, own })
    }

    /// Whether somebody is there. A pool tries again until its patience ends, and says only that.
    async fn reach(&self) -> Result<(), LiveError> {
        let connecting = session::connect(&self.server);
        let why = match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(Err(sqlx::Error::Io(why))) => why.to_string(),
            Err(_) => format!("no answer in {} s", PATIENCE.as_secs()),
            Ok(Ok(connection)) => {
                // Whoever comes next sees what is wrong with the server.
                let _ = session::close(connection).await;
                return Ok(());
            }
            // It answers: what it refuses is told by who needs it.
            Ok(Err(_)) => return Ok(()),
        };
        let place = match self.server.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => format!("{}:{}", self.server.get_host(), self.server.get_port()),
        };
        Err(LiveError::Environment(format!(
            "PostgreSQL at {place}: {why}. Does it run, and is DATABASE_URL right?"
        )))
    }

    /// Its host and port.
    pub(crate) fn place(&self) -> (&str, u16) {
        (self.server.get_host(), self.server.get_port())
    }

    /// What a run makes there.
    pub(crate) fn kind(&self) -> &'static str {
        match self.own {
            Some(_) => "Database",
            None => "Schema",
        }
    }

    /// Whether the server answers at this moment.
    pub(crate) async fn answers(&self) -> Result<(), String> {
        let connected = session::connect(&self.server).await;
        let connection = connected.map_err(|error| match error {
            sqlx::Error::Io(why) => why.to_string(),
            other => other.to_string(),
        })?;
        // It answered; how this ends does not matter.
        let _ = session::close(connection).await;
        Ok(())
    }

    /// Makes it. After an error there is none, but where it is in doubt.
    pub(crate) async fn make(&self) -> Result<(), LiveError> {
        self.reach().await?;
        let Some(own) = &self.own else {
            return Ok(self.make_tables().await?);
        };
        own.make().await?;
        let target = own.server.clone().database(&own.name);
        if let Err(why) = own.looks.set_up(&target).await {
            self.store.close().await;
            // The first error tells more than this one could.
            let _ = own.remove().await;
            return Err(LiveError::Other(format!(
                "the database could not be set up: {why}"
            )));
        }
        Ok(())
    }

    async fn make_tables(&self) -> Result<(), StoreError> {
        let made = self.store.migrate().await;
        if made.is_err() {
            if matches!(made, Err(StoreError::InDoubt(_))) {
                // The first error tells more than this one could.
                let _ = self.store.drop_schema().await;
            }
            self.store.close().await;
        }
        made
    }

    /// Removes it; says what it could not remove.
    pub(crate) async fn remove(&self) -> Result<(), String> {
        let Some(own) = &self.own else {
            let dropped = self.store.drop_schema().await;
            self.store.close().await;
            let schema = self.store.schema();
            return dropped.map_err(|error| format!("PostgreSQL: {error}. Schema {schema} stays."));
        };
        self.store.close().await;
        let removed = own.remove().await;
        removed.map_err(|error| format!("PostgreSQL: {error}. Database {} stays.", own.name))
    }

    /// Asks queries that are to give no rows.
    pub(crate) async fn ask(&self, queries: &[Arc<str>]) -> Vec<Answer> {
        let mut answers = Vec::new();
        for sql in queries {
            answers.push(Answer {
                sql: sql.clone(),
                rows: (self.rows(sql).await).map_err(|error| {
                    let judged = PgStore::judge(&error).expect("an error of its own client");
                    judged.to_string()
                }),
            });
        }
        answers
    }

    async fn rows(&self, sql: &str) -> Result<Vec<Columns>, sqlx::Error> {
        // A team's own query, from its own scenario.
        let rows = session::ask(self.store.pool(), sql).await?;
        rows.iter().map(text).collect()
    }
}

/// The columns of a row. What is asked so comes as text.
type Columns = Vec<Option<String>>;

fn text(row: &PgRow) -> Result<Columns, sqlx::Error> {
    let column = |column| {
        let value = row.try_get_raw(column)?;
        Ok(match value.is_null() {
            true => None,
            false => Some(value.as_str().map_err(sqlx::Error::Decode)?.to_owned()),
        })
    };
    (0..row.len()).map(column).collect()
}

impl Own {
    async fn make(&self) -> Result<(), LiveError> {
        let statement = format!("create database \"{}\"", self.name);
        self.on_server(&statement).await.map_err(|error| {
            let code = error.as_database_error().and_then(|told| told.code());
            let what = match code.as_deref() {
                Some("42501") => format!(
                    "this workload brings tables of its own, so its run needs a database of its \
                     own, which its user may not create. Let an administrator run: alter role \
                     {} createdb",
                    self.server.get_username()
                ),
                _ => "is DATABASE_URL right?".to_owned(),
            };
            LiveError::Environment(format!("PostgreSQL: {error}: {what}"))
        })
    }

    async fn remove(&self) -> Result<(), sqlx::Error> {
        // Processes of the run may still hold sessions.
        self.on_server(&format!(
            "drop database if exists \"{}\" with (force)",
            self.name
        ))
        .await
    }

    async fn on_server(&self, statement: &str) -> Result<(), sqlx::Error> {
        let mut connection = session::connect(&self.server).await?;
        session::run(&mut connection, statement).await?;
        session::close(connection).await
    }
}
