//! Redeliver.
