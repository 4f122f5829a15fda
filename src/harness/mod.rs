//! The harness: workloads, scenarios, runs in both worlds, histories and the checkers that judge
//! them.

pub mod build;
pub mod checkers;
pub mod client;
#[cfg(feature = "cli")]
pub mod conform;
pub mod existing;
pub mod explore;
pub mod fake;
pub mod history;
pub mod invariant;
pub mod judge;
pub mod live;
pub mod pickups;
pub mod plan;
pub mod postgres;
pub mod reached;
pub mod reading;
pub mod record;
pub mod registry;
pub mod report;
pub mod run;
pub mod sabotage;
pub mod scenario;
pub mod seed;
pub mod shard;
pub mod simulate;
mod simulated_reading;
pub mod state;
pub mod stranger;
pub mod swarm;
pub mod test;
pub mod trace;
pub mod verdict;
pub mod workload;
