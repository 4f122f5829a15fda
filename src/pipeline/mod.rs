//! The pipeline: what runs in production. It knows no backend and no simulator.

pub mod audit;
pub mod dead_letter;
pub mod event;
pub mod inbox;
pub mod outbox;
pub mod retry;
pub mod topology;
