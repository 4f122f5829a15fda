//! Outside services: work that leaves the database and cannot be rolled back with it.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

/// One call to an outside service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCall {
    /// Which service, for example `payments`.
    pub service: &'static str,
    /// What it should do, for example `charge`.
    pub operation: &'static str,
    /// The same for every attempt at the same piece of work, so that a service which honours
    /// such keys acts once.
    pub idempotency_key: Arc<str>,
    /// Rises with every take-over of the claim. A service that checks it refuses a caller which
    /// has lost its claim; 0 where the caller holds none.
    pub fencing_token: u64,
    /// The request, JSON in the built-in workloads.
    pub payload: Bytes,
}

/// What the service answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceReply {
    /// The answer, JSON in the built-in workloads.
    pub payload: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The service did not act, and may later: refused connection, "try again".
    #[error("{service} is unavailable: {reason}")]
    Unavailable {
        /// Which service.
        service: &'static str,
        /// What it said.
        reason: String,
    },
    /// It may have acted: time-out, or connection lost after the request was sent.
    #[error("{service} did not answer, it may have acted: {reason}")]
    InDoubt {
        /// Which service.
        service: &'static str,
        /// What happened.
        reason: String,
    },
    /// It refused for good; another attempt cannot succeed.
    #[error("{service} refused: {reason}")]
    Refused {
        /// Which service.
        service: &'static str,
        /// Its reason.
        reason: String,
    },
}

/// A client of the outside services.
pub trait Service: Clone + Send + Sync + 'static {
    /// Makes the call and waits for its answer. The caller sets the time limit.
    fn call(
        &self,
        call: ServiceCall,
    ) -> impl Future<Output = Result<ServiceReply, ServiceError>> + Send;
}
