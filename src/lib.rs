//! Redeliver tests message workflows the way brokers really behave: it redelivers.
//!
//! One pipeline runs unchanged in two worlds: on a real RabbitMQ and PostgreSQL, and inside a
//! seeded world where every message, clock tick, crash and commit follows from one seed. The same
//! checkers judge both.
//!
//! ```text
//!   a transaction           relay              RabbitMQ               consumer
//!  ┌───────────────┐   ┌─────────────┐   ┌─────────────────┐   ┌──────────────────────┐
//!  │ business rows │   │ claim batch │   │ exchange        │   │ inbox row, locked    │
//!  │ outbox row ───┼──►│ publish ────┼──►│  └─► work queue ┼──►│ handler ──► outside  │
//!  └───────▲───────┘   │ confirmed?  │   │        ▲        │   │ effects     service  │
//!          │           │ mark        │   │  delay ladder ◄─┼───┤ try again later      │
//!          │           └─────────────┘   │  dead letters ◄─┼───┤ or give up           │
//!          │                             └─────────────────┘   │ commit, then ack     │
//!          └───────────────── outgoing events ─────────────────┤                      │
//!                                                              └──────────────────────┘
//! ```
//!
//! An event is written in the transaction that caused it, published at least once, and handled in
//! a transaction that remembers it. So it takes effect once, or ends in the dead letters with its
//! story, however often it is handed over: effectively once.
//!
//! # A team's own workflow
//!
//! An event is a [`Message`](pipeline::event::Message), a handler is a
//! [`Handler`](pipeline::handler::Handler) or, where it leaves the database, an
//! [`OutsideHandler`](pipeline::handler::OutsideHandler). A
//! [`BatchHandler`](pipeline::handler::BatchHandler) takes several messages in one transaction. All are
//! generic over the [`World`](ports::World) that they run in.
//!
//! ```
//! use redeliver::pipeline::event::{Kind, Message};
//! use redeliver::pipeline::handler::{Consumer, Cx, Failure, Handler};
//! use redeliver::ports::{Row, World};
//!
//! #[derive(Clone, serde::Serialize, serde::Deserialize)]
//! struct OrderPaid { order: String }
//!
//! impl Message for OrderPaid {
//!     const TYPE: &'static str = "order.paid";
//!     const KIND: Kind = Kind::Fact;
//!     fn key(&self) -> String { self.order.clone() }
//! }
//!
//! #[derive(Clone, serde::Serialize, serde::Deserialize)]
//! struct Shipment { order: String }
//!
//! impl Row for Shipment {
//!     const TABLE: &'static str = "shipments";
//!     fn key(&self) -> String { self.order.clone() }
//! }
//!
//! struct Ship;
//!
//! impl<W: World> Handler<W> for Ship {
//!     type Event = OrderPaid;
//!     async fn handle(&self, paid: &OrderPaid, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
//!         cx.insert(&Shipment { order: paid.order.clone() }).await?;
//!         Ok(())
//!     }
//! }
//!
//! fn consumers<W: World>() -> Vec<Consumer<W>> {
//!     vec![Consumer::new("ship").on(Ship)]
//! }
//! ```
//!
//! With a `harness::prelude::Workload` around them they run in `cargo test` over many seeds, and
//! `cli::main` gives them the whole command line: see `examples/own_workflow`.
//!
//! # Front doors
//!
//! | who | takes | finds |
//! |---|---|---|
//! | a service | `default-features = false`, features `rabbitmq` and `postgres` | [`pipeline`], [`ports`], [`rabbitmq`], [`postgres`] |
//! | its tests | feature `harness` | [`harness`], with its `prelude`, and [`definitions`] |
//! | a binary with the whole command line | feature `cli` (default) | [`cli::main`] and [`workloads!`](macro@workloads) |
//!
//! Each module is a crate of its own, named alike (`redeliver-pipeline`). Its first lines say whom it
//! is for, and which of its items are stable. A service compiles no simulator, command
//! line, regular expressions or planted bug. The seeded world, `redeliver-sim`, knows nothing of the
//! pipeline.

#[cfg(feature = "cli")]
pub mod cli;

pub use redeliver_core::{env, ports, secret, service};
#[cfg(feature = "harness")]
pub use redeliver_definitions as definitions;
#[cfg(feature = "harness")]
pub use redeliver_harness as harness;
#[cfg(feature = "harness")]
pub use redeliver_harness::workloads;
pub use redeliver_pipeline as pipeline;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub use redeliver_planted as planted;
#[cfg(feature = "postgres")]
pub use redeliver_postgres as postgres;
#[cfg(feature = "rabbitmq")]
pub use redeliver_rabbitmq as rabbitmq;
#[cfg(feature = "harness")]
pub use redeliver_sim as sim;
#[cfg(feature = "harness")]
#[doc(hidden)]
pub use redeliver_simulated as simulated;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub use redeliver_workloads as workloads;
