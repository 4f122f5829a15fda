//! A run on real servers.
use crate::harness::run::{LiveError, LiveOptions, LiveReport};
use crate::harness::scenario::Scenario;
use crate::harness::workload::Workload;

/// Runs a scenario on real servers.
pub fn run_live<L: Workload>(
    _: &L,
    _: &Scenario,
    _: &LiveOptions,
) -> Result<LiveReport, LiveError> {
    Err(LiveError::Other("being built".to_owned()))
}
