//! Outside services of the seeded world.

use redeliver_sim::service::{self, Error, Request};

use crate::ports::{Service, ServiceCall, ServiceError, ServiceReply};

/// Calls the simulated services of the world that runs on this thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimService;

impl Service for SimService {
    async fn call(&self, call: ServiceCall) -> Result<ServiceReply, ServiceError> {
        let service = call.service;
        let request = Request {
            service,
            operation: call.operation,
            key: call.idempotency_key,
            token: call.fencing_token,
            payload: call.payload,
        };
        match service::call(request).await {
            Ok(reference) => {
                let payload = format!("{{\"reference\":\"{service}-{reference}\"}}");
                Ok(ServiceReply {
                    payload: payload.into(),
                })
            }
            Err(Error::Unavailable(reason)) => Err(ServiceError::Unavailable {
                service,
                reason: reason.to_owned(),
            }),
            Err(Error::InDoubt(reason)) => Err(ServiceError::InDoubt {
                service,
                reason: reason.to_owned(),
            }),
            Err(Error::Refused(reason)) => Err(ServiceError::Refused {
                service,
                reason: reason.to_owned(),
            }),
        }
    }
}
