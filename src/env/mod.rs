//! Time, chance and tasks.

pub mod live;
