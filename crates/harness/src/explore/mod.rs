//! Looking for a failing run, and from there to the few faults and messages that show why.
//!
//! A [`Strategy`] says which run to make next. [`pin`] writes down what the seed of a failing one
//! has decided, fault by fault; [`shrink()`] then takes away what the anomaly does not need.

mod capsule;
mod explain;
mod hunt;
mod keep;
mod pin;
mod placed;
mod priority;
mod repeat;
mod shrink;
mod strategy;
mod systematic;

pub use capsule::{Divergence, Outcome, capsule, compare, divergence};
pub use explain::{
    Explanation, Moment, Needed, describe_event, describe_rule, moments, needed, settled,
};
pub use hunt::hunt;
pub use keep::{Kept, commit, keep};
pub use pin::pin;
pub use priority::Priority;
pub use repeat::{CAUSES, Unrepeatable, is_same, repeat};
pub use shrink::{Shrunk, Target, shrink};
pub use strategy::{Portfolio, Random, Strategy, Trial};
pub use systematic::{Extent, Systematic};

use crate::run::result::RunResult;
use crate::scenario::Scenario;

/// How a scenario is run: its seed, and whether strikes and trace are kept.
pub type Simulate<'a> = &'a dyn Fn(&Scenario, u64, bool) -> RunResult;
