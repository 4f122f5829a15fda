//! Outside services of the seeded world.

use std::time::Duration;

use redeliver_sim::service::{self, Act, Answer, Error, Request};

use crate::fake::{Fake, Told};
use redeliver_core::ports::{Service, ServiceCall, ServiceError, ServiceReply};

/// Lets a team's fake act in a seeded world.
pub fn acting(mut fake: Box<dyn Fake>) -> Act {
    Box::new(move |request, at| {
        let call = ServiceCall {
            service: request.service,
            operation: request.operation,
            idempotency_key: request.key.clone(),
            fencing_token: request.token,
            payload: request.payload.clone(),
        };
        match fake.call(&call, Duration::from_nanos(at)) {
            Told::Did(words) => Ok((words, true)),
            Told::Known(words) => Ok((words, false)),
            Told::Refused(reason) => Err(Error::Refused(reason.into())),
            Told::Unavailable(reason) => Err(Error::Unavailable(reason.into())),
        }
    })
}

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
            Ok(Answer::Number(reference)) => {
                let payload = format!("{{\"reference\":\"{service}-{reference}\"}}");
                Ok(ServiceReply {
                    payload: payload.into(),
                })
            }
            Ok(Answer::Words(payload)) => Ok(ServiceReply { payload }),
            Err(Error::Unavailable(reason)) => Err(ServiceError::Unavailable {
                service,
                reason: reason.into_owned(),
            }),
            Err(Error::InDoubt(reason)) => Err(ServiceError::InDoubt {
                service,
                reason: reason.into_owned(),
            }),
            Err(Error::Refused(reason)) => Err(ServiceError::Refused {
                service,
                reason: reason.into_owned(),
            }),
        }
    }
}
