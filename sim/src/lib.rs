//! The seeded world.

pub mod db;
