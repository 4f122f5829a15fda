//! Outside services.

#[cfg(feature = "sim")]
pub mod sim;
