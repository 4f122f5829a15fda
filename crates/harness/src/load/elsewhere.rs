//! Where there is no Linux: load runs go by its signals and by what its `/proc` tells.

use super::job::Job;
use super::options::{LoadOptions, LoadReport};
use crate::run::live::LiveError;
use crate::scenario::Scenario;
use crate::team::workload::Workload;

fn unsupported() -> LiveError {
    LiveError::Other("a load run needs Linux".to_owned())
}

/// Runs nothing.
///
/// # Errors
/// Always.
pub fn load<L: Workload>(_: &L, _: &Scenario, _: &LoadOptions) -> Result<LoadReport, LiveError> {
    Err(unsupported())
}

/// Carries out nothing.
///
/// # Errors
/// Always.
pub fn load_process<L: Workload>(_: &L, _: &Job) -> Result<(), LiveError> {
    Err(unsupported())
}
