//! The harness: workloads, scenarios, runs in both worlds, histories and the checkers that judge
//! them.

pub mod checkers;
pub mod history;
pub mod reading;
pub mod record;
pub mod sabotage;
pub mod trace;
pub mod verdict;
pub mod workload;
