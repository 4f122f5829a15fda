//! Stores: where rows live.

#[cfg(feature = "postgres")]
pub mod postgres;
