//! Handlers: what a team writes.
//!
//! A [`Handler`] does its work in one database transaction. An [`OutsideHandler`] also calls a
//! service that no transaction covers: it holds a claim with a lease and a fencing token while
//! the call runs, and applies the answer in a transaction afterwards.

mod context;
mod registry;

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use redeliver_core::event::{Kind, Message};
use redeliver_core::ports::{ServiceError, Store, StoreError, World};

pub use context::{Batch, Cx, Outside};
pub use registry::{Boxed, Consumer, Erased, Opaque};

/// The transaction type of a world.
pub type TxOf<W> = <<W as World>::Store as Store>::Tx;

/// Why an attempt failed.
///
/// Any error becomes one by `?`. Those of the ports are judged by what they say, and those of the
/// database's client by the store. An error that nobody knows may pass: its work is tried again
/// until the retry budget is used up. What can never succeed is said by [`Failure::poison`].
#[derive(Clone, Debug)]
pub enum Failure {
    /// A later attempt may succeed.
    Transient {
        /// For grouping.
        class: &'static str,
        /// For people.
        message: String,
    },
    /// No attempt can succeed.
    Poison {
        /// For grouping.
        class: &'static str,
        /// For people.
        message: String,
    },
    /// The database failed under the handler.
    Store(StoreError),
    /// Any other error, until the store has looked at it.
    Other(Arc<dyn Error + Send + Sync>),
}

impl Failure {
    /// A failure that may pass.
    pub fn transient(class: &'static str, message: impl Into<String>) -> Self {
        Self::Transient {
            class,
            message: message.into(),
        }
    }

    /// A failure for good.
    pub fn poison(class: &'static str, message: impl Into<String>) -> Self {
        Self::Poison {
            class,
            message: message.into(),
        }
    }

    /// The class for grouping.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Transient { class, .. } | Self::Poison { class, .. } => class,
            Self::Store(_) => "store",
            Self::Other(_) => "error",
        }
    }

    /// Lets the store say what an error of its client means. It may be any of those that caused
    /// the error.
    #[must_use]
    pub fn judged<S: Store>(self) -> Self {
        let Self::Other(error) = &self else {
            return self;
        };
        let mut cause: Option<&(dyn Error + 'static)> = Some(&**error);
        while let Some(error) = cause {
            if let Some(judged) = S::judge(error) {
                return Self::Store(judged);
            }
            cause = error.source();
        }
        Self::transient("error", error.to_string())
    }

    fn of_service(error: &ServiceError) -> Self {
        match error {
            ServiceError::Refused { .. } => Self::poison("service-refused", error.to_string()),
            ServiceError::Unavailable { .. } => {
                Self::transient("service-unavailable", error.to_string())
            }
            ServiceError::InDoubt { .. } => Self::transient("service-in-doubt", error.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transient { class, message } | Self::Poison { class, message } => {
                write!(f, "{class}: {message}")
            }
            Self::Store(error) => error.fmt(f),
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut error = Some(error);
        let any: &mut dyn Any = &mut error;
        if let Some(store) = any.downcast_mut::<Option<StoreError>>() {
            return Self::Store(store.take().expect("put there above"));
        }
        if let Some(Some(service)) = any.downcast_ref::<Option<ServiceError>>() {
            return Self::of_service(service);
        }
        Self::Other(Arc::new(error.expect("taken by nobody")))
    }
}

/// Work in one transaction.
pub trait Handler<W: World>: Send + Sync + 'static {
    /// What it handles.
    type Event: Message;

    /// Does the work. Everything done through `cx` is committed together with the inbox row, or
    /// not at all.
    ///
    /// # Errors
    /// [`Failure::Transient`] to be tried again, [`Failure::Poison`] to be given up.
    fn handle(
        &self,
        event: &Self::Event,
        cx: &mut Cx<'_, W>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Work on several messages in one transaction.
///
/// It gets as many messages of its type as are there when a worker is free, up to
/// [`ConsumerPolicy::batch`](redeliver_core::policy::ConsumerPolicy::batch). All of them are done
/// together, or none is: where it fails for several, they are tried again in smaller batches, at the
/// end each alone, so that only those fail that cannot be done. A message that was tried before comes
/// alone.
pub trait BatchHandler<W: World>: Send + Sync + 'static {
    /// What it handles. Its order must not matter.
    type Event: Message;

    /// Does the work for all `events`; `cx` knows them by their place in that slice. Everything done
    /// through it is committed together with the inbox rows of all, or not at all.
    ///
    /// # Errors
    /// As [`Handler::handle`]. For a batch of several messages the kind does not matter.
    fn handle_all(
        &self,
        events: &[&Self::Event],
        cx: &mut Batch<'_, W>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A [`Handler`] that is called for each message of a batch, in one transaction for all.
#[derive(Clone, Copy, Debug)]
pub struct Each<H>(pub H);

impl<W: World, H: Handler<W>> BatchHandler<W> for Each<H> {
    type Event = H::Event;

    async fn handle_all(
        &self,
        events: &[&Self::Event],
        cx: &mut Batch<'_, W>,
    ) -> Result<(), Failure> {
        for (at, event) in events.iter().enumerate() {
            self.0.handle(event, &mut cx.message(at)).await?;
        }
        Ok(())
    }
}

/// Work that leaves the database.
pub trait OutsideHandler<W: World>: Send + Sync + 'static {
    /// What it handles.
    type Event: Message;
    /// What the call gives.
    type Answer: Send + Sync + 'static;

    /// Makes the call, under a claim, outside any transaction. It may be made more than once for
    /// the same event: pass [`Outside::idempotency_key`] on.
    ///
    /// # Errors
    /// As [`Handler::handle`].
    fn call(
        &self,
        event: &Self::Event,
        cx: &Outside<'_, W>,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;

    /// Applies the answer in one transaction, which commits only if the claim still stands.
    ///
    /// # Errors
    /// As [`Handler::handle`].
    fn apply(
        &self,
        event: &Self::Event,
        answer: Self::Answer,
        cx: &mut Cx<'_, W>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// An encoded event without envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// [`Message::TYPE`].
    pub event_type: Arc<str>,
    /// [`Message::KIND`].
    pub kind: Kind,
    /// [`Message::VERSION`].
    pub version: u16,
    /// [`Message::ORDERED`].
    pub ordered: bool,
    /// [`Message::key`].
    pub key: Arc<str>,
    /// [`Message::workflow`].
    pub workflow: Arc<str>,
    /// JSON.
    pub payload: Bytes,
}

impl Draft {
    /// Encodes a message.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it is not JSON (a map with keys that are no strings).
    pub fn of<M: Message>(message: &M) -> Result<Self, StoreError> {
        let payload = serde_json::to_vec(message)
            .map_err(|e| StoreError::Refused(format!("payload of {}: {e}", M::TYPE)))?;
        Ok(Self {
            event_type: Arc::from(M::TYPE),
            kind: M::KIND,
            version: M::VERSION,
            ordered: M::ORDERED,
            key: Arc::from(message.key()),
            workflow: Arc::from(message.workflow()),
            payload: payload.into(),
        })
    }
}
