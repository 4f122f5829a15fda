//! The pipeline: what runs in production. It knows no backend and no simulator.
//!
//! ```text
//!  caller's transaction          relay                broker              consumer
//!  ┌───────────────────┐   ┌──────────────┐   ┌────────────────┐   ┌──────────────────┐
//!  │ business rows     │   │ claim batch  │   │ exchange       │   │ inbox row        │
//!  │ outbox row ───────┼──►│ publish      ├──►│  └─ work queue ├──►│ effects          │
//!  └───────────────────┘   │ confirmed?   │   │      ▲    │    │   │ outbox rows      │
//!                          │ mark         │   │      │    ▼    │   │ audit            │
//!                          └──────────────┘   │ delay ladder   │◄──┤ commit, then ack │
//!                                             │ dead letters   │◄──┤ or retry, or     │
//!                                             └────────────────┘   │ give up          │
//!                                                                  └──────────────────┘
//! ```
//!
//! Architecture invariants: an event is published only after its transaction has committed; an
//! outbox row is marked only after the broker confirmed and did not return it; a delivery is
//! acked only after its inbox row is at an end or a copy of the message is confirmed.

pub mod audit;
pub mod consumer;
pub mod dead_letter;
pub mod event;
pub mod handler;
pub mod inbox;
pub mod outbox;
pub mod policy;
pub mod relay;
pub mod retry;
pub mod start;
pub mod topology;
