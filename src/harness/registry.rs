//! The workloads that a command line knows.

use crate::harness::plan;
use crate::harness::run::Registered;
use crate::harness::scenario::Scenario;
use crate::harness::workload::Workload;
use crate::pipeline::topology::Topology;
use crate::rabbitmq::Existing;

/// Makes the list of workloads for [`cli::main`](crate::cli::main).
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
        ::std::vec![$($crate::harness::run::Registered {
            name: $crate::harness::registry::name_of(&$workload),
            simulate: |scenario, seed, record| {
                $crate::harness::run::simulate(&$workload, scenario, seed, record)
            },
            altered: |build, scenario, seed, record| {
                $crate::harness::run::simulate_altered(build, &$workload, scenario, seed, record)
            },
            run_live: |scenario, options| {
                $crate::harness::run::run_live(&$workload, scenario, options)
            },
            topology: |scenario| $crate::harness::registry::topology_of(&$workload, scenario),
            postgres: || $crate::harness::workload::Workload::postgres(&$workload),
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

/// Of a workload without consumers, for tests.
#[cfg(test)]
pub(crate) fn no_topology(
    _: &crate::harness::scenario::Scenario,
) -> (
    crate::pipeline::topology::Topology,
    Option<crate::rabbitmq::Existing>,
) {
    let queue_type = crate::pipeline::topology::QueueType::Quorum;
    let none = crate::pipeline::topology::Topology::of(Vec::new(), Vec::new(), queue_type);
    (none, None)
}
