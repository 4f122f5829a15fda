//! Redeliver.

pub mod env;
pub mod pipeline;
pub mod ports;
#[cfg(any(feature = "rabbitmq", feature = "sim"))]
pub mod rabbitmq;
pub mod service;
pub mod store;
