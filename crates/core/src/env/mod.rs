//! Time, chance and tasks of a real process.

pub mod live;
