//! Requests from outside: each is carried out in a transaction of its own, together with the
//! events that follow from it.

use std::sync::Arc;

use redeliver_core::policy::Policy;
use redeliver_core::ports::{Scope, Store, StoreError, Tx, World};

use crate::handler::{Cx, TxOf};

/// What requests are done on behalf of, in place of a consumer's name.
pub const CLIENT: &str = "client";

/// Carries out requests from outside, in an endpoint of a service for example.
///
/// ```
/// # use redeliver_pipeline::client::Client;
/// # use redeliver_pipeline::handler::Failure;
/// # use redeliver_core::{event::Message, ports::World};
/// async fn place<W: World, E: Message>(
///     client: &Client<W>,
///     order: &str,
///     placed: &E,
/// ) -> Result<(), Failure> {
///     let mut request = client.begin(order).await?;
///     request.cx().emit(placed).await?;
///     request.commit().await?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Client<W: World> {
    world: W,
    max_payload: usize,
}

impl<W: World> Client<W> {
    /// A client of this process, under the numbers of its pipeline.
    pub fn new(world: W, policy: &Policy) -> Self {
        Self {
            world,
            max_payload: policy.max_payload,
        }
    }

    /// Opens the transaction of a request. `key` is its idempotency key, the same whenever the
    /// request is sent again; the keys of what it emits follow from it.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when there is no database.
    pub async fn begin(&self, key: &str) -> Result<Request<W>, StoreError> {
        self.begin_again(key, 1).await
    }

    /// As [`Client::begin`], for one who counts how often it has tried: `attempt` is 1-based.
    ///
    /// # Errors
    /// As [`Client::begin`].
    pub async fn begin_again(&self, key: &str, attempt: u32) -> Result<Request<W>, StoreError> {
        let scope = Scope {
            consumer: CLIENT,
            subject: key,
            attempt,
        };
        Ok(Request {
            tx: self.world.store().begin(scope).await?,
            env: self.world.env().clone(),
            key: Arc::from(key),
            attempt,
            trace: None,
            max_payload: self.max_payload,
        })
    }
}

/// A request whose transaction is open. Dropped, it is rolled back.
pub struct Request<W: World> {
    tx: TxOf<W>,
    env: W::Env,
    key: Arc<str>,
    attempt: u32,
    trace: Option<Arc<str>>,
    max_payload: usize,
}

impl<W: World> std::fmt::Debug for Request<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<W: World> Request<W> {
    /// The trace that the request belongs to, as a W3C `traceparent`. The events that it emits carry
    /// it, and so does everything that follows from them.
    pub fn trace(&mut self, traceparent: &str) {
        self.trace = Some(Arc::from(traceparent));
    }

    /// What a handler gets, too: the transaction, and `emit`.
    pub fn cx(&mut self) -> Cx<'_, W> {
        let scope = Scope {
            consumer: CLIENT,
            subject: &self.key,
            attempt: self.attempt,
        };
        Cx::new(&mut self.tx, &self.env, None, scope)
            .with_max_payload(self.max_payload)
            .with_trace(self.trace.clone())
    }

    /// Commits. Events that were emitted are published from here on.
    ///
    /// # Errors
    /// [`StoreError::InDoubt`] when the answer is missing: send the request again, under the same
    /// key. Any other error means that nothing was done.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await
    }

    /// Rolls back and waits until the locks are free.
    pub async fn rollback(self) {
        self.tx.rollback().await;
    }
}
