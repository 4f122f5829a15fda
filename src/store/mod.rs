//! Stores: where rows live.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sim")]
pub mod seeded;
#[cfg(feature = "sim")]
pub mod sim;
