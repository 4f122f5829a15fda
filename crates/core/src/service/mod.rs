//! Outside services of a real process.

pub mod live;
