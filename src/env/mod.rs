//! Time, chance and tasks.

pub mod live;
#[cfg(feature = "sim")]
pub mod sim;
