//! For teams whose exchanges, queues and rights exist already: compares what stands on their RabbitMQ
//! with what the pipeline needs.
//!
//! [`definitions`] reads what RabbitMQ exports and merges its policies as the broker does,
//! [`Existing`] says which of it is for what, and [`audit`] names what is missing or wrong, with the
//! commands that put it right.
//!
//! Stability: [`Existing`] follows semantic versioning; the rest may change in any minor version.

pub mod audit;
pub mod definitions;
pub mod existing;

pub use existing::Existing;
