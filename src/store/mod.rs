//! Stores: where rows live.

#[cfg(feature = "sim")]
pub mod sim;
