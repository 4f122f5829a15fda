//! Time, chance and tasks.

#[cfg(feature = "sim")]
pub mod sim;
