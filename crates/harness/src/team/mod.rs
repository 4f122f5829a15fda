//! What a team writes: its workload, with its database, its promises and its fakes.

pub mod invariant;
pub mod postgres;
pub mod request;
pub mod totals;
pub mod workload;

pub use redeliver_simulated::fake;
