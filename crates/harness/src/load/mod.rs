//! Load: the pipeline on real servers, under requests that never wait for it.
//!
//! `run` has the servers, the processes and the file that takes the history as it happens; `process`
//! is one of these processes, and [`check`] judges such a file. [`offer`] says when which request is
//! due, [`figures`] what came of it. Runs need Linux; files are judged anywhere.

pub mod baseline;
pub mod binding;
pub mod check;
pub mod figures;
pub mod hdr;
pub mod job;
pub mod offer;
pub mod options;
mod parts;
pub(crate) mod remote;
pub mod search;
pub mod threshold;

#[cfg(target_os = "linux")]
mod children;
#[cfg(target_os = "linux")]
mod clock;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod gauge;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod nemesis;
#[cfg(target_os = "linux")]
mod plan;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod producer;
#[cfg(target_os = "linux")]
mod proxy;
#[cfg(target_os = "linux")]
mod run;

/// Connections to the database of each producer.
pub(crate) const CONNECTIONS: u32 = 10;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{load, load_process};
pub use options::{Follow, LoadOptions, LoadReport, Watch, default_history};
#[cfg(target_os = "linux")]
pub use {process::load_process, run::load};
