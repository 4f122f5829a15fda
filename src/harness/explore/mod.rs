//! From a failing seed to the few faults and messages that show why.
//!
//! [`pin`] writes down what the seed has decided, fault by fault; [`shrink()`] then takes
//! away what the anomaly does not need.

mod capsule;
mod hunt;
mod pin;
mod shrink;

pub use capsule::{Divergence, Outcome, capsule, compare, divergence};
pub use hunt::hunt;
pub use pin::pin;
pub use shrink::{Shrunk, Target, shrink};

use crate::harness::run::RunResult;
use crate::harness::scenario::Scenario;

/// How a scenario is run: its seed, and whether strikes and trace are kept.
pub type Simulate<'a> = &'a dyn Fn(&Scenario, u64, bool) -> RunResult;
