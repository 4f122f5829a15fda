//! What stands behind the stores of a run: the model of a database, or a server.

use std::future::Future;
use std::sync::Arc;

use redeliver_sim::postgres::{Database, Unavailable};
use redeliver_sim::{Options, Outcome, World, with};

use crate::run::any_workload::Facts;
use crate::run::database::wanted;
use crate::scenario::Scenario;
use crate::team::postgres::{self, Postgres};
use crate::watch::reading::Answer;
use redeliver_core::ports::store::Reading;
use redeliver_core::ports::{Store, StoreError};
use redeliver_postgres::PgStore;
use redeliver_simulated::seeded::SeededStore;
use redeliver_simulated::store::{self, SimStore, Tables};

/// A database of the private server, taken for one run.
pub(super) struct Server {
    kept: Postgres,
    database: Database,
}

impl Server {
    /// One for this run, if it wants one.
    pub(super) fn take(
        workload: &dyn Facts,
        scenario: &Scenario,
    ) -> Result<Option<Self>, Unavailable> {
        let Some(kept) = wanted(workload, scenario) else {
            return Ok(None);
        };
        let database = kept.take()?;
        Ok(Some(Self { kept, database }))
    }

    /// For the processes of the run.
    pub(super) fn target(&self) -> Target {
        Target {
            database: Arc::from(self.database.name()),
            kept: Arc::new(self.kept.clone()),
        }
    }

    /// Runs the world over it, and keeps it for the next one.
    pub(super) fn run<T: 'static>(
        self,
        options: &Options,
        main: impl Future<Output = T> + 'static,
    ) -> (Option<T>, Outcome) {
        let Self { kept, database } = self;
        let epoch = postgres::epoch();
        let (ended, outcome, database) = World::run_with_postgres(options, database, epoch, main);
        // After a broken run nobody knows what state it is in.
        if outcome.unrepeatable.is_none() {
            kept.give_back(database);
        }
        (ended, outcome)
    }
}

/// Where the processes of a run find their server.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    database: Arc<str>,
    kept: Arc<Postgres>,
}

impl Target {
    /// A store of the current process.
    fn store(&self) -> PgStore {
        let target = postgres::target(&self.database);
        PgStore::seeded(target, self.kept.pipeline().clone())
            .expect("options were checked when the database was set up")
    }
}

/// The database behind the stores of a run.
#[derive(Clone, Debug)]
pub(crate) enum Backing {
    Model(Tables),
    Server(Target),
}

impl Backing {
    /// The store of the process whose task is running.
    pub(crate) fn store(&self) -> SeededStore {
        match self {
            Self::Model(tables) => SeededStore::Model(SimStore::new(*tables)),
            Self::Server(target) => SeededStore::Server(target.store()),
        }
    }

    /// Whether no committed event is still to be published, and no message waits for its turn.
    pub(crate) fn is_drained(&self) -> bool {
        match self {
            Self::Model(tables) => with(|w| store::is_drained(&w.sql.db, *tables)),
            Self::Server(target) => {
                let schema = &target.kept.pipeline().schema;
                let left = format!(
                    "(select 1 from {schema}.outbox where published_at is null limit 1) \
                     union all (select 1 from {schema}.inbox_kept limit 1)"
                );
                with(|w| w.ask_database(&left)).is_ok_and(|rows| rows.is_empty())
            }
        }
    }

    /// Sessions that are in a transaction.
    pub(crate) fn open_transactions(&self) -> usize {
        with(|w| match self {
            Self::Model(_) => w.sql.db.open_transactions(),
            Self::Server(_) => w.open_database_transactions(),
        })
    }

    /// Locks that outlast every transaction.
    pub(crate) fn held_locks(&self) -> usize {
        with(|w| match self {
            Self::Model(_) => w.sql.db.held_locks(),
            Self::Server(_) => {
                let held = "select 1 from pg_locks l join pg_database d on d.oid = l.database \
                            where d.datname = current_database() and l.locktype = 'advisory'";
                w.ask_database(held).map_or(0, |rows| rows.len())
            }
        })
    }

    /// Asks a query, which changes nothing.
    pub(crate) fn ask(&self, sql: &Arc<str>) -> Answer {
        let rows = match self {
            Self::Model(_) => Err("behind this run is a model of a database".to_owned()),
            Self::Server(_) => with(|w| {
                let begun = w.ask_database("start transaction read only");
                let rows = begun.and_then(|_| w.ask_database(sql));
                let ended = w.ask_database("rollback");
                rows.and_then(|rows| ended.map(|_| rows))
                    .map_err(|error| error.to_string())
            }),
        };
        Answer {
            sql: sql.clone(),
            rows,
        }
    }

    /// Reads all tables.
    pub(crate) async fn read(&self) -> Result<Reading, StoreError> {
        match self {
            Self::Model(tables) => Ok(with(|w| store::read(&w.sql.db, *tables))),
            Self::Server(target) => target.store().read_all().await,
        }
    }
}
