//! Outside services of a real run: in this process, with real waits, and a ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redeliver_sim::choice::{Choices, Key, Site, name, strikes};
use redeliver_sim::service::Model;

use crate::harness::reading::LedgerEntry;
use crate::ports::env::nanos;
use crate::ports::{Service, ServiceCall, ServiceError, ServiceReply};

const LATENCY: Site = Site::new("live.service.latency");
const COLD: Site = Site::new("live.service.cold-start");

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct FakeServices {
    state: Arc<Mutex<State>>,
    started: Instant,
}

/// Service, operation and idempotency key.
type Work = (Arc<str>, &'static str, Arc<str>);

#[derive(Debug)]
struct State {
    models: BTreeMap<Arc<str>, Model>,
    known: BTreeMap<Work, (u64, usize)>,
    ledger: Vec<LedgerEntry>,
    choices: Choices,
}

impl FakeServices {
    /// Services that behave like these models.
    pub(super) fn new(models: Vec<Model>, seed: u64, started: Instant) -> Self {
        let models = models
            .into_iter()
            .map(|model| (model.name.clone(), model))
            .collect();
        let choices = Choices::new(seed);
        let state = State {
            models,
            known: BTreeMap::new(),
            ledger: Vec::new(),
            choices,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            started,
        }
    }

    /// Everything they did.
    pub(super) fn ledger(&self) -> Vec<LedgerEntry> {
        self.lock().ledger.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn latency(&self, call: &ServiceCall) -> Option<Duration> {
        let mut state = self.lock();
        let state = &mut *state;
        let model = state.models.get(call.service)?;
        let subject = name(&call.idempotency_key);
        let key = |site| Key {
            site,
            component: name(call.service),
            subject,
            attempt: 0,
        };
        if strikes(state.choices.draw(key(COLD)), model.cold_ppm) {
            return Some(Duration::from_nanos(model.cold));
        }
        Some(Duration::from_nanos(
            model.latency.at(state.choices.draw(key(LATENCY))),
        ))
    }

    fn act(&self, call: &ServiceCall) -> Result<usize, &'static str> {
        let at = nanos(self.started.elapsed());
        let mut state = self.lock();
        let state = &mut *state;
        let Some(model) = state.models.get(call.service) else {
            return Err("there is no such service");
        };
        let (service, operation) = (model.name.clone(), call.operation);
        let known = (service.clone(), operation, call.idempotency_key.clone());
        if let Some((token, effect)) = state.known.get_mut(&known) {
            if model.checks_tokens && call.fencing_token < *token {
                return Err("a newer owner of this work has called");
            }
            *token = (*token).max(call.fencing_token);
            if model.honours_keys {
                return Ok(*effect);
            }
        }
        let number = state.ledger.len() + 1;
        state.known.insert(known, (call.fencing_token, number));
        state.ledger.push(LedgerEntry {
            service,
            operation: Arc::from(operation),
            key: call.idempotency_key.clone(),
            token: call.fencing_token,
            payload: call.payload.clone(),
            at,
        });
        Ok(number)
    }
}

impl Service for FakeServices {
    async fn call(&self, call: ServiceCall) -> Result<ServiceReply, ServiceError> {
        let service = call.service;
        let Some(latency) = self.latency(&call) else {
            let reason = "there is no such service".to_owned();
            return Err(ServiceError::Refused { service, reason });
        };
        // It acts half-way, whatever becomes of its caller.
        let this = self.clone();
        let acting = tokio::spawn(async move {
            tokio::time::sleep(latency / 2).await;
            this.act(&call)
        });
        tokio::time::sleep(latency).await;
        match acting.await {
            Ok(Ok(number)) => {
                let payload = format!("{{\"reference\":\"{service}-{number}\"}}");
                Ok(ServiceReply {
                    payload: payload.into(),
                })
            }
            Ok(Err(reason)) => Err(ServiceError::Refused {
                service,
                reason: reason.to_owned(),
            }),
            Err(error) => Err(ServiceError::InDoubt {
                service,
                reason: error.to_string(),
            }),
        }
    }
}
