//! For teams, as a dev-dependency: their workload run in the seeded world and on real servers, and
//! judged by the same checkers.
//!
//! | room | what is in it |
//! |---|---|
//! | [`team`] | what a team writes: workload, database, promises, fakes |
//! | [`check`] | the same in its `cargo test` |
//! | [`scenario`] | one question to a pipeline, as a file |
//! | [`run`] | one run of one scenario with one seed |
//! | [`load`] | many requests a second on real servers, measured and judged |
//! | [`watch`] | what is seen of it: history, trace, final reading |
//! | [`checkers`] | a promise each; they see what was watched, and nothing else |
//! | [`explore`] | which runs to make next, and a failing one made small |
//! | [`report`] | what runs came to, for people and for programs |
//!
//! Stability: what the [`prelude`] names follows semantic versioning, and so do scenario files. All
//! else may change in any minor version.

pub mod check;
pub mod checkers;
pub mod explore;
pub mod load;
pub mod prelude;
pub mod registry;
pub mod report;
pub mod run;
pub mod scenario;
pub mod size;
pub mod story;
pub mod team;
pub mod verdict;
pub mod watch;
pub mod words;
