//! What runs came to, for people and for machines. Nothing here runs anything.
//!
//! [`Tally`] adds runs of one scenario up; [`table`] shows tallies in 80 columns, [`story`] one
//! violation as a story, [`json`] both as NDJSON.

pub mod human;
pub mod json;
pub mod story;
pub mod table;
mod tally;

pub use tally::{Tally, Violation};

/// What no gate covers, said at its end.
pub const NOT_COVERED: &str =
    "Not covered: what the real servers do differently; see `redeliver run`.";
