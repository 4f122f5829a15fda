//! A real PostgreSQL under the seeded world, for handlers with SQL of their own.
//!
//! The first run that wants one starts a private server for this program, brings a database to
//! where the migrations leave it, and copies that for each thread; every run gets it fresh. Time
//! and chance of the migrations are virtual too, so that rows which they put there are the same
//! on every machine.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use redeliver_sim::postgres::{Database as Private, Server};
pub use redeliver_sim::postgres::{PROGRAMS_VARIABLE, Unavailable};
use redeliver_sim::{Options, World, with};
use sqlx::ConnectOptions;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use redeliver_postgres::{PgOptions, PgStore, migrations, session};
use redeliver_simulated::env::EPOCH;

/// What the database of a workload looks like before its first message.
#[derive(Clone, Default)]
pub struct Postgres {
    /// Before the tables of the pipeline.
    first: Vec<Step>,
    /// After them.
    steps: Vec<Step>,
    options: PgOptions,
}

#[derive(Clone)]
enum Step {
    Migrations(&'static Migrator),
    Sql(&'static str),
    /// The tables of the pipeline.
    Pipeline,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres")
            .field("steps", &self.all_steps().count())
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// The tables of the pipeline, and none besides.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is there before the tables of the pipeline, as an outbox that exists already is: one or
    /// more statements.
    pub fn before(mut self, sql: &'static str) -> Self {
        self.first.push(Step::Sql(sql));
        self
    }

    /// The same, as migrations.
    pub fn migrations_before(mut self, migrations: &'static Migrator) -> Self {
        self.first.push(Step::Migrations(migrations));
        self
    }

    /// Then a team's migrations: `static MIGRATIONS: Migrator = sqlx::migrate!();`
    pub fn migrations(mut self, migrations: &'static Migrator) -> Self {
        self.steps.push(Step::Migrations(migrations));
        self
    }

    /// Then this SQL: one or more statements.
    pub fn sql(mut self, sql: &'static str) -> Self {
        self.steps.push(Step::Sql(sql));
        self
    }

    /// How the pipeline uses its part of the database: schema, time-outs, connections.
    pub fn options(mut self, options: PgOptions) -> Self {
        self.options = options;
        self
    }

    /// How the pipeline uses its part of the database.
    pub fn pipeline(&self) -> &PgOptions {
        &self.options
    }

    /// All steps in their order.
    fn all_steps(&self) -> impl Iterator<Item = &Step> {
        self.first
            .iter()
            .chain([&Step::Pipeline])
            .chain(&self.steps)
    }

    /// Names what the database looks like.
    fn key(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for step in self.all_steps() {
            match step {
                // Schema and mapping: what else the options say does not change the database.
                Step::Pipeline => {
                    for step in migrations(&self.options).unwrap_or_default() {
                        hasher.update(step.sql.as_bytes());
                    }
                }
                Step::Migrations(migrator) => {
                    for migration in migrator.iter() {
                        hasher.update(&migration.version.to_le_bytes());
                        hasher.update(&migration.checksum);
                    }
                }
                Step::Sql(sql) => {
                    hasher.update(sql.as_bytes());
                }
            }
            hasher.update(&[0]);
        }
        hasher.finalize()
    }

    /// Brings a database to where it is to be.
    ///
    /// # Errors
    /// With the step that failed and what the server said.
    pub async fn set_up(&self, target: &PgConnectOptions) -> Result<(), String> {
        let store = PgStore::seeded(target.clone(), self.options.clone())
            .map_err(|error| error.to_string())?;
        let mut connection = session::connect(target)
            .await
            .map_err(|error| format!("no session: {error}"))?;
        for step in self.all_steps() {
            match step {
                Step::Pipeline => store
                    .migrate()
                    .await
                    .map_err(|error| format!("the pipeline's tables: {error}"))?,
                Step::Migrations(migrator) => session::migrate(&mut connection, migrator)
                    .await
                    .map_err(|error| format!("migrations: {error}"))?,
                Step::Sql(sql) => {
                    session::run(&mut connection, sql)
                        .await
                        .map_err(|error| format!("set-up: {error}"))?;
                }
            }
        }
        store.close().await;
        Ok(())
    }

    /// A fresh database for a run on this thread.
    ///
    /// # Errors
    /// Where there is no server, or the migrations fail.
    pub(crate) fn take(&self) -> Result<Private, Unavailable> {
        let key = *self.key().as_bytes();
        if let Some(mut known) = IDLE.with_borrow_mut(|idle| idle.remove(&key)) {
            known.refresh()?;
            return Ok(known);
        }
        let server = Server::of_this_program()?;
        let template = self.template(&server, key)?;
        Private::copy(&server, &template)
    }

    /// Keeps a database for the next run on this thread.
    pub(crate) fn give_back(&self, database: Private) {
        let key = *self.key().as_bytes();
        IDLE.with_borrow_mut(|idle| idle.insert(key, database));
    }

    /// Whether runs can have one: says why not before any of them begins.
    ///
    /// # Errors
    /// As a run would meet it.
    pub fn prepare(&self) -> Result<(), Unavailable> {
        let database = self.take()?;
        self.give_back(database);
        Ok(())
    }

    /// The name of the database that all threads copy.
    fn template(&self, server: &Arc<Server>, key: Key) -> Result<String, Unavailable> {
        static TEMPLATES: OnceLock<Mutex<BTreeMap<Key, Result<String, Unavailable>>>> =
            OnceLock::new();
        let templates = TEMPLATES.get_or_init(Mutex::default);
        // Whoever comes second waits for the first.
        let mut templates = templates.lock().unwrap_or_else(PoisonError::into_inner);
        templates
            .entry(key)
            .or_insert_with(|| self.make_template(server))
            .clone()
    }

    fn make_template(&self, server: &Arc<Server>) -> Result<String, Unavailable> {
        let database = Private::empty(server)?;
        let name: Arc<str> = Arc::from(database.name());
        let done = Rc::new(Cell::new(None));
        let (this, told) = (self.clone(), done.clone());
        let main = async move {
            told.set(Some(this.set_up(&target(&name)).await));
        };
        let options = Options::default();
        let (_, outcome, database) = World::run_with_postgres(&options, database, epoch(), main);
        match done.take() {
            Some(Ok(())) => database.close(),
            Some(Err(why)) => Err(Unavailable::new(format!(
                "the database could not be set up: {why}"
            ))),
            None => Err(Unavailable::new(format!(
                "the database could not be set up: {}{}",
                outcome.panics.join("; "),
                outcome.unrepeatable.unwrap_or_default()
            ))),
        }
    }
}

type Key = [u8; 32];

thread_local! {
    /// Databases that no run has at the moment.
    static IDLE: RefCell<BTreeMap<Key, Private>> = const { RefCell::new(BTreeMap::new()) };
}

/// What the server's clock says at the start of a run, in microseconds since 1970.
pub(crate) fn epoch() -> i64 {
    i64::try_from(EPOCH.0 / 1_000).unwrap_or(i64::MAX)
}

/// Where the current process of a world finds its database.
pub(crate) fn target(database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(with(World::database_socket))
        .port(5432)
        .ssl_mode(PgSslMode::Disable)
        .username("postgres")
        .database(database)
        .disable_statement_logging()
}
