//! One run of one scenario with one seed.
//!
//! Workload, scenario and seed make a [`plan`], and the [`swarm`] of its faults. In the seeded world
//! ([`simulate`](mod@simulate)) and on real servers ([`live`]) the same clients, relays and workers
//! carry it out, made as an [`assembly`] says; then [`judge`] makes a [`RunResult`] of what was seen.

pub mod any_workload;
pub mod assembly;
pub mod client;
pub mod database;
pub mod existing;
pub mod halt;
pub(crate) mod in_parts;
pub mod judge;
pub mod letters;
pub mod live;
mod named;
pub mod plan;
pub mod result;
pub mod sabotage;
pub mod shard;
pub mod simulate;
pub mod stranger;
pub mod swarm;

pub use live::{
    CONNECTIONS, LiveError, LiveOptions, LiveReport, PATIENCE, Tell, live_name, remove_live,
    run_live,
};
pub use result::RunResult;
pub use simulate::{simulate, simulate_altered, simulate_built};

pub use crate::watch::trace::TraceLine;
