//! For services: the pipeline, which is what runs in production. It knows no backend and no
//! simulator.
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
//!
//! Stability: `client`, `handler`, `start` and `status` follow semantic versioning. `consumer` and `relay` are for
//! those who put a process together by themselves and may change in any minor version.

pub mod client;
pub mod consumer;
pub mod handler;
pub mod relay;
pub mod start;
pub mod status;

pub use redeliver_core::{audit, dead_letter, event, inbox, outbox, policy, retry, topology};
pub use start::{Pipeline, Running, StartError};
