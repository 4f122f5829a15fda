//! Which database a run has behind it, and whether it can have it on this machine.

use crate::run::any_workload::Facts;
use crate::scenario::{Database, Scenario};
use crate::team::postgres::Postgres;

/// What the database of a run looks like, if it is to be a real one.
pub fn wanted(workload: &dyn Facts, scenario: &Scenario) -> Option<Postgres> {
    let real = scenario.database == Database::Postgres;
    workload.postgres().or_else(|| real.then(Postgres::new))
}

/// Why a scenario cannot be run in the seeded world.
#[derive(Clone, Debug)]
pub enum NotReady {
    /// It asks a database, and has a model.
    NothingToAsk,
    /// There is no PostgreSQL to start.
    NoServer(String),
}

/// Whether a scenario can be run with what this machine has: said before any seed runs. The
/// workload's own database is the first argument.
pub fn ready(own: Option<Postgres>, scenario: &Scenario) -> Result<(), NotReady> {
    let real = scenario.database == Database::Postgres;
    let Some(wanted) = own.or_else(|| real.then(Postgres::new)) else {
        return match scenario.expect.no_rows.is_empty() {
            true => Ok(()),
            false => Err(NotReady::NothingToAsk),
        };
    };
    wanted.prepare().map_err(|why| {
        NotReady::NoServer(format!(
            "{}: this scenario needs PostgreSQL's programs on this machine: {why}",
            scenario.name
        ))
    })
}
