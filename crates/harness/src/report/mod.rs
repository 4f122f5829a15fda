//! What runs came to, for people and for machines. Nothing here runs anything.
//!
//! [`Tally`] adds runs of one scenario up; [`table`] shows tallies in 80 columns, [`json`] as
//! NDJSON. [`diagram`] draws a recorded run, and [`page`]
//! puts it into a browser.

use crate::watch::ends::Ends;
use crate::watch::reached::{Cell, Reached};

pub mod diagram;
pub mod explained;
pub mod json;
pub mod page;
pub mod part;
pub mod perfetto;
pub mod table;
mod tally;
pub mod times;

pub use tally::{Said, Tally, Violation};

/// What the faults of all runs have reached, and what they could have reached by the rules of
/// their scenarios and never did.
pub fn reached(tallies: &[Tally]) -> (Reached, Vec<Cell>) {
    let mut reached = Reached::default();
    for tally in tallies {
        reached.merge(&tally.reached);
    }
    let rules = tallies
        .iter()
        .flat_map(|tally| tally.scenario.rules.clone());
    let missed = reached.missed_by(&rules.collect::<Vec<_>>());
    (reached, missed)
}

/// How the work of all scenarios ended.
pub fn ends(tallies: &[Tally]) -> Ends {
    let mut ends = Ends::default();
    for tally in tallies {
        ends.merge(&tally.ends);
    }
    ends
}

/// What no gate covers, said at its end.
pub const NOT_COVERED: &str =
    "Not covered: what the real servers do differently; see `redeliver run`.";
