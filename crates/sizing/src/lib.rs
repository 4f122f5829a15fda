//! For teams who have to choose timeouts, retries and workers: what follows from such a choice, by
//! closed forms where there are some and by a fast model of queue, workers and dependency otherwise.
//!
//! [`latency`] says how long a handler takes, [`closed`] holds the formulas, [`model`] makes a run of
//! many messages in a fraction of a second, and [`interval`] says how sure its figures are. The model
//! leaves database, relay and envelope out: the simulated pipeline confirms what it finds.
//!
//! Times are seconds as floating-point numbers in distributions and formulas, and whole nanoseconds in
//! the model.
//!
//! Stability: everything may change in any minor version.

pub mod case;
pub mod closed;
pub mod evaluate;
pub mod interval;
pub mod latency;
pub mod layers;
pub mod model;
pub mod number;
pub mod outages;
pub mod retention;
pub mod search;
