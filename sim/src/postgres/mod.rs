//! A real PostgreSQL in the seeded world. Linux only: elsewhere there is none to be had.
//!
//! Broker, clock, faults and crashes are models. SQL, of a pipeline or of a team's own, is carried
//! out by a private server ([`Server`]), unmodified. Between the two stands a tap: it carries one
//! round trip at a time, on the world's own thread, so that the seed decides what happens between
//! any two of them. Sessions that wait for each other's locks wait, while the rest of the world
//! goes on; deadlocks and time-outs come when virtual time has come that far; crashes roll back;
//! commits are cut before the server saw them, or after it has answered.
//!
//! Architecture invariant: this is the only part of the package that waits in real time, starts a
//! process, or touches a file. What it answers depends on the seed alone; see `preload.c` for how
//! the server's own clock, timers and chance are tamed. Out of reach stay the server's numbers of
//! transactions, of processes and of objects, and the places of rows (`xid`, `pid`, `oid`,
//! `ctid`): a program whose behaviour depends on them has no repeatable runs.

use std::sync::Arc;

#[cfg(target_os = "linux")]
mod backend;
#[cfg(target_os = "linux")]
mod client;
#[cfg(target_os = "linux")]
mod database;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod slots;
#[cfg(target_os = "linux")]
mod statement;
#[cfg(target_os = "linux")]
mod tap;
#[cfg(target_os = "linux")]
mod wire;

#[cfg(target_os = "linux")]
pub use database::Database;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::Tap;
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Database, PROGRAMS_VARIABLE, Server, Unavailable};
#[cfg(target_os = "linux")]
pub use server::{PROGRAMS_VARIABLE, Server, Unavailable};
#[cfg(target_os = "linux")]
pub(crate) use tap::Tap;

/// On behalf of what something is asked: message, attempt, and its text where it is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) subject: u64,
    pub(crate) attempt: u32,
    pub(crate) text: Option<Arc<str>>,
    /// The run of a handler that sends it by itself, if one does.
    pub(crate) handler: Option<u64>,
}
