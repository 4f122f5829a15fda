//! For the harness, and for others who want a seeded world: one thread in which every message, clock
//! tick, crash and commit is decided by one seed.
//!
//! It knows nothing of the pipeline that runs in it. A [`World`] holds
//!
//! - an [`executor`] that orders ready tasks by seeded choices, with a clock of its own;
//! - [`choice`]: every decision as a keyed draw, so that one more task, draw or fault kind
//!   elsewhere does not shift the rest;
//! - models of a broker, a database and outside services, synchronous state machines, with thin
//!   asynchronous handles that add latency and faults;
//! - [`fault`]: what goes wrong, as data;
//! - [`trace`]: what the world did, as a rolling hash or in full.
//!
//! Stability: `fault` follows semantic versioning; the rest may change in any minor version.
//!
//! Architecture invariant: nothing in this package reads a wall clock, draws randomness from the
//! operating system, starts a thread, or iterates a hash map; but for `postgres`, which waits for a
//! real server while virtual time stands still.

pub mod amqp;
pub mod broker;
pub mod choice;
pub mod db;
pub mod executor;
pub mod fault;
pub mod hash;
pub mod latency;
mod nemesis;
#[cfg(feature = "postgres")]
pub mod postgres;
mod process;
pub mod reach;
mod seam;
pub mod seed;
pub mod service;
pub mod sql;
mod strike;
mod timer;
pub mod trace;
mod world;

pub use executor::{sleep, spawn, yield_now};
pub use process::ProcessId;
pub use world::{Beside, Options, Outcome, World, try_with, with};
