//! Load: the pipeline on real servers, under requests that never wait for it.
//!
//! [`run`] has the servers, the processes and the file that takes the history as it happens;
//! [`process`] is one of these processes; [`check`] judges such a file. [`offer`] says when which
//! request is due, [`figures`] what came of it.

pub mod check;
mod children;
pub mod figures;
mod gauge;
pub mod hdr;
pub mod job;
mod nemesis;
pub mod offer;
pub mod process;
mod producer;
mod proxy;
pub(crate) mod remote;
pub mod run;
pub mod threshold;
