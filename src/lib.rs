//! Redeliver.

#[cfg(feature = "cli")]
pub mod cli;
pub mod env;
#[cfg(feature = "sim")]
pub mod harness;
pub mod pipeline;
pub mod ports;
#[cfg(any(feature = "rabbitmq", feature = "sim"))]
pub mod rabbitmq;
pub mod service;
pub mod store;
#[cfg(feature = "sim")]
pub mod workloads;
