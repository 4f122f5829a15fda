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
//! [`OutsideHandler`](pipeline::handler::OutsideHandler). Both are generic over the
//! [`World`](ports::World) that they run in.
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
//! With a `harness::workload::Workload` around them they run in `cargo test` over many seeds, and
//! `cli::main` gives them the whole command line: see `examples/own_workflow`.
//!
//! # Modules
//!
//! Dependencies point one way: `cli → {harness, workloads} → pipeline → ports`. Backends implement
//! ports.
//!
//! | module | what | feature |
//! |---|---|---|
//! | [`ports`] | the seams: transport, store, service, env, and `World`, the bundle of the four | |
//! | [`pipeline`] | outbox, relay, consumer, inbox, retry, dead letters, audit; no backend | |
//! | [`mod@env`], [`service`] | time, chance, tasks; outside services; live and simulated | |
//! | `rabbitmq` | the transport, above a small AMQP port with two adapters | `rabbitmq`, `sim` |
//! | [`store`] | PostgreSQL (`postgres`) and its model (`sim`) | |
//! | `harness` | workloads, scenarios, runs in both worlds, history, checkers, reports | `sim` |
//! | `workloads` | orders, onboarding, deposits: real handlers, used by every mode | `sim` |
//! | `cli` | one file per subcommand; a team's own binary calls the same `main` | `cli` |
//!
//! The seeded world is a package of its own, `redeliver-sim`, which knows nothing of the pipeline.
//! A service that only wants the pipeline takes `default-features = false` with `rabbitmq` and
//! `postgres`: neither simulator nor command line.

#[cfg(feature = "cli")]
pub mod cli;
pub mod env;
#[cfg(feature = "sim")]
pub mod harness;
pub mod pipeline;
#[cfg(feature = "sim")]
pub mod planted;
pub mod ports;
#[cfg(any(feature = "rabbitmq", feature = "sim"))]
pub mod rabbitmq;
pub mod service;
pub mod store;
#[cfg(feature = "sim")]
pub mod workloads;
