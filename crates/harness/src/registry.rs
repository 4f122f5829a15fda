//! The workloads that a command line knows.

use std::path::Path;

use crate::load::check::{CheckError, Checked};
use crate::load::job::Job;
use crate::load::{LoadOptions, LoadReport};
use crate::run::assembly::Altered;
use crate::run::live::{LiveError, LiveOptions, LiveReport};
use crate::run::plan;
use crate::run::result::RunResult;
use crate::scenario::Scenario;
use crate::team::postgres::Postgres;
use crate::team::workload::{ServiceModel, Workload};
use redeliver_core::topology::Topology;
use redeliver_definitions::Existing;

/// A workload that the command line knows. Made by [`workloads!`](macro@crate::workloads).
#[derive(Clone, Copy, Debug)]
pub struct Registered {
    /// Its name in scenario files.
    pub name: &'static str,
    /// Runs a scenario in the seeded world: seed, and whether to keep the trace.
    pub simulate: fn(&Scenario, u64, bool) -> RunResult,
    /// Runs a scenario in the seeded world, on a pipeline in which something is changed: with a
    /// planted bug, it tells whether a scenario of this workload would show that bug.
    pub altered: fn(&Altered, &Scenario, u64, bool) -> RunResult,
    /// Runs a scenario on real servers.
    pub run_live: fn(&Scenario, &LiveOptions) -> Result<LiveReport, LiveError>,
    /// Runs a scenario under load on real servers.
    pub load: fn(&Scenario, &LoadOptions) -> Result<LoadReport, LiveError>,
    /// Carries out the job of one process of a load run.
    pub load_process: fn(&Job) -> Result<(), LiveError>,
    /// Judges the file of a load run.
    pub check: fn(&Path) -> Result<Checked, CheckError>,
    /// Removes what a run of that name has left on real servers.
    pub remove_live: fn(&Scenario, &LiveOptions) -> Result<(), LiveError>,
    /// What its database looks like: [`Workload::postgres`].
    pub postgres: fn() -> Option<Postgres>,
    /// Its outside services: [`Workload::services`].
    pub services: fn() -> Vec<ServiceModel>,
    /// What it needs of a broker under a scenario, and what is there already:
    /// [`Workload::topology`].
    pub topology: fn(&Scenario) -> (Topology, Option<Existing>),
}

/// Makes the list of workloads for `redeliver::cli::main`.
///
/// Each is an expression that gives a [`Workload`]; it is evaluated for every run, so it must be
/// cheap and may not capture anything: a constant, a unit struct, a constructor.
///
/// ```ignore
/// fn main() -> std::process::ExitCode {
///     redeliver::cli::main(redeliver::workloads![Checkout])
/// }
/// ```
#[macro_export]
macro_rules! workloads {
    ($($workload:expr),* $(,)?) => {
        ::std::vec![$($crate::registry::Registered {
            name: $crate::registry::name_of(&$workload),
            simulate: |scenario, seed, record| {
                $crate::run::simulate::simulate(&$workload, scenario, seed, record)
            },
            altered: |build, scenario, seed, record| {
                $crate::run::simulate::simulate_altered(build, &$workload, scenario, seed, record)
            },
            run_live: |scenario, options| {
                $crate::run::live::run_live(&$workload, scenario, options)
            },
            load: |scenario, options| $crate::load::load(&$workload, scenario, options),
            load_process: |job| $crate::load::load_process(&$workload, job),
            check: |path| $crate::load::check::check(&$workload, path),
            remove_live: |scenario, options| {
                $crate::run::live::remove_live(&$workload, scenario, options)
            },
            topology: |scenario| $crate::registry::topology_of(&$workload, scenario),
            postgres: || $crate::team::workload::Workload::postgres(&$workload),
            services: || $crate::team::workload::Workload::services(&$workload),
        }),*]
    };
}

/// The name of a workload, for [`workloads!`](macro@crate::workloads).
pub fn name_of<L: Workload>(_: &L) -> &'static str {
    L::NAME
}

/// What a workload needs of a broker, and what is there already, for
/// [`workloads!`](macro@crate::workloads).
pub fn topology_of<L: Workload>(workload: &L, scenario: &Scenario) -> (Topology, Option<Existing>) {
    (plan::topology(workload, scenario), workload.topology())
}

/// The registered workload of this name.
pub fn find<'a>(workloads: &'a [Registered], name: &str) -> Option<&'a Registered> {
    workloads.iter().find(|registered| registered.name == name)
}
