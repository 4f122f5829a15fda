//! The seams: everything the pipeline asks of the outside.
//!
//! A pipeline is generic over one [`World`], the bundle of four ports. A production world is
//! RabbitMQ, PostgreSQL, a client of the outside services and the live clock; the seeded world
//! implements the same four with models. Nothing else may reach the outside from pipeline code:
//! that is what makes a run repeatable.

pub mod env;
pub mod service;
pub mod store;
pub mod transport;

pub use env::{Env, EnvExt, Scope, Timestamp};
pub use service::{Service, ServiceCall, ServiceError, ServiceReply};
pub use store::{Row, Store, StoreError, Tx, Versioned};
pub use transport::{
    Delivery, PublishOutcome, Publisher, Receipt, Receiver, Settlement, Transport, TransportError,
};

/// The four ports as one parameter, so that signatures carry one generic instead of four.
pub trait World: Clone + Send + Sync + 'static {
    /// Moves messages: RabbitMQ, or a model of it.
    type Transport: Transport;
    /// Keeps rows in transactions: PostgreSQL, or a model of it.
    type Store: Store;
    /// Calls what lies outside the database, such as a payment service.
    type Service: Service;
    /// Time, chance and tasks of this process.
    type Env: Env;

    /// The transport of this process.
    fn transport(&self) -> &Self::Transport;
    /// The store of this process.
    fn store(&self) -> &Self::Store;
    /// The outside services of this process.
    fn service(&self) -> &Self::Service;
    /// Clock, chance and tasks of this process.
    fn env(&self) -> &Self::Env;
}

/// A world put together from four ports.
#[derive(Clone, Debug)]
pub struct Ports<T, S, V, E> {
    /// See [`World::transport`].
    pub transport: T,
    /// See [`World::store`].
    pub store: S,
    /// See [`World::service`].
    pub service: V,
    /// See [`World::env`].
    pub env: E,
}

impl<T: Transport, S: Store, V: Service, E: Env> World for Ports<T, S, V, E> {
    type Transport = T;
    type Store = S;
    type Service = V;
    type Env = E;

    fn transport(&self) -> &T {
        &self.transport
    }
    fn store(&self) -> &S {
        &self.store
    }
    fn service(&self) -> &V {
        &self.service
    }
    fn env(&self) -> &E {
        &self.env
    }
}
