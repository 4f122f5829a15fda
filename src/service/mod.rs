//! Outside services.

pub mod live;
