//! What a team writes: its workload with its database, its promises and fakes, and the check in its
//! `cargo test`.

pub mod check;
pub mod invariant;
pub mod postgres;
pub mod registry;
pub mod request;
pub mod workload;

pub use redeliver_simulated::fake;
