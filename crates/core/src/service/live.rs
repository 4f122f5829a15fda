//! Outside services through a team's own clients.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::ports::service::{Service, ServiceCall, ServiceError, ServiceReply};

/// What a call comes to.
pub type CallResult = Result<ServiceReply, ServiceError>;

/// A client of one outside service. An async closure from [`ServiceCall`] to [`CallResult`] is
/// one; a type of your own may be another.
///
/// A call that ran into a time-out or lost its connection after the request was sent must end
/// as [`ServiceError::InDoubt`], never as [`ServiceError::Unavailable`].
pub trait Client: Send + Sync + 'static {
    /// Makes the call and waits for its answer.
    fn call(&self, call: ServiceCall) -> Pin<Box<dyn Future<Output = CallResult> + Send + '_>>;
}

impl<F, R> Client for F
where
    F: Fn(ServiceCall) -> R + Send + Sync + 'static,
    R: Future<Output = CallResult> + Send + 'static,
{
    fn call(&self, call: ServiceCall) -> Pin<Box<dyn Future<Output = CallResult> + Send + '_>> {
        Box::pin(self(call))
    }
}

/// The outside services, each by its name.
///
/// ```
/// use redeliver_core::ports::service::{ServiceCall, ServiceReply};
/// use redeliver_core::service::live::LiveServices;
///
/// let services = LiveServices::new().with("payments", |call: ServiceCall| async move {
///     Ok(ServiceReply { payload: call.payload })
/// });
/// ```
#[derive(Clone, Default)]
pub struct LiveServices {
    clients: Arc<BTreeMap<&'static str, Arc<dyn Client>>>,
}

impl LiveServices {
    /// No services at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// These services and one more; a client of the same name is replaced.
    #[must_use]
    pub fn with(self, service: &'static str, client: impl Client) -> Self {
        self.with_shared(service, Arc::new(client))
    }

    /// As [`LiveServices::with`], for a client that is used elsewhere, too.
    #[must_use]
    pub fn with_shared(mut self, service: &'static str, client: Arc<dyn Client>) -> Self {
        Arc::make_mut(&mut self.clients).insert(service, client);
        self
    }
}

impl fmt::Debug for LiveServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.clients.keys()).finish()
    }
}

impl Service for LiveServices {
    async fn call(&self, call: ServiceCall) -> CallResult {
        match self.clients.get(call.service) {
            Some(client) => client.call(call).await,
            None => Err(ServiceError::Refused {
                service: call.service,
                reason: "no client was given for this service".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn call(service: &'static str) -> ServiceCall {
        ServiceCall {
            service,
            operation: "charge",
            idempotency_key: Arc::from("order-1"),
            fencing_token: 1,
            payload: Bytes::from_static(b"{}"),
        }
    }

    #[tokio::test]
    async fn calls_go_to_the_client_of_their_name() {
        let echo = |call: ServiceCall| async move {
            Ok(ServiceReply {
                payload: call.payload,
            })
        };
        let fails = |call: ServiceCall| async move {
            Err(ServiceError::InDoubt {
                service: call.service,
                reason: "time-out".to_owned(),
            })
        };
        let services = LiveServices::new()
            .with("payments", echo)
            .with("mail", fails);
        let reply = services.call(call("payments")).await;
        assert_eq!(reply.map(|r| r.payload), Ok(Bytes::from_static(b"{}")));
        let reply = services.call(call("mail")).await;
        assert!(matches!(
            reply,
            Err(ServiceError::InDoubt {
                service: "mail",
                ..
            })
        ));
        let reply = services.call(call("stock")).await;
        assert!(matches!(
            reply,
            Err(ServiceError::Refused {
                service: "stock",
                ..
            })
        ));
    }
}
