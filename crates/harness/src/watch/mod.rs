//! What is seen of a run: the history of its clients, the trace of its world, and a final reading
//! of tables, queues and ledgers.

pub mod ends;
pub mod file;
pub mod history;
pub mod latencies;
pub mod legs;
pub mod pickups;
pub mod reached;
pub mod reading;
pub mod record;
pub mod state;
pub mod trace;
