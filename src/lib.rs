//! Redeliver.

#[cfg(feature = "sim")]
pub mod harness;
pub mod pipeline;
pub mod ports;
#[cfg(any(feature = "rabbitmq", feature = "sim"))]
pub mod rabbitmq;
#[cfg(feature = "sim")]
pub mod workloads;
