//! The seeded world.

pub mod broker;
