//! Outside services.

pub mod live;
#[cfg(feature = "sim")]
pub mod sim;
