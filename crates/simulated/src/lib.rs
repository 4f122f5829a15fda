//! For the harness and for conformance: the pipeline's ports over the seeded world.
//!
//! Everything here acts on the world that runs on the current thread. Outside of one it panics.
//!
//! Stability: none is promised.

pub mod amqp;
pub mod env;
pub mod fake;
pub mod seeded;
pub mod service;
pub mod store;
