//! Handlers: what a team writes.
//!
//! A [`Handler`] does its work in one database transaction. An [`OutsideHandler`] also calls a
//! service that no transaction covers: it holds a claim with a lease and a fencing token while
//! the call runs, and applies the answer in a transaction afterwards.

mod context;
mod registry;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::pipeline::event::{Kind, MAX_PAYLOAD, Message};
use crate::ports::{ServiceError, Store, StoreError, World};

pub use context::{Cx, Outside};
pub(crate) use registry::Erased;
pub use registry::{Boxed, Consumer, Opaque};

/// The transaction type of a world.
pub type TxOf<W> = <<W as World>::Store as Store>::Tx;

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A later attempt may succeed.
    #[error("{class}: {message}")]
    Transient {
        /// For grouping.
        class: &'static str,
        /// For people.
        message: String,
    },
    /// No attempt can succeed.
    #[error("{class}: {message}")]
    Poison {
        /// For grouping.
        class: &'static str,
        /// For people.
        message: String,
    },
    /// The database failed under the handler.
    #[error(transparent)]
    Store(#[from] StoreError),
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
        }
    }
}

/// As the pipeline judges errors of its own statements: what may pass is tried again.
#[cfg(feature = "postgres")]
impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(crate::store::postgres::error_within(&error))
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        match &error {
            ServiceError::Refused { .. } => Self::poison("service-refused", error.to_string()),
            ServiceError::Unavailable { .. } => {
                Self::transient("service-unavailable", error.to_string())
            }
            ServiceError::InDoubt { .. } => Self::transient("service-in-doubt", error.to_string()),
        }
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
    /// [`StoreError::Refused`] when it is not JSON (a map with keys that are no strings), or
    /// larger than [`MAX_PAYLOAD`].
    pub fn of<M: Message>(message: &M) -> Result<Self, StoreError> {
        let payload = serde_json::to_vec(message)
            .map_err(|e| StoreError::Refused(format!("payload of {}: {e}", M::TYPE)))?;
        if payload.len() > MAX_PAYLOAD {
            let (name, size) = (M::TYPE, payload.len());
            let what = format!("payload of {name}: {size} bytes, {MAX_PAYLOAD} are allowed");
            return Err(StoreError::Refused(what));
        }
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
