//! Outside services of a real run: in this process, with real waits, and a ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redeliver_sim::choice::{Choices, Key, Site, name, strikes};
use redeliver_sim::hash::QuickMap;
use redeliver_sim::service::Model;

use super::chaos::CHOICES;
use crate::load::remote::Remote;
use crate::watch::file::{Appender, Record};
use crate::watch::reading::LedgerEntry;
use redeliver_core::ports::env::nanos;
use redeliver_core::ports::{Service, ServiceCall, ServiceError, ServiceReply};
use redeliver_simulated::fake::{Fake, MakeFake, Told};

const LATENCY: Site = Site::new("live.service.latency");
const COLD: Site = Site::new("live.service.cold-start");

/// The outside services of a process: in this process, or behind a connection to the one that has
/// them.
#[derive(Clone, Debug)]
pub(crate) enum Services {
    /// In this process.
    Here(FakeServices),
    /// In another one.
    There(Remote),
}

impl Service for Services {
    async fn call(&self, call: ServiceCall) -> Result<ServiceReply, ServiceError> {
        match self {
            Self::Here(services) => services.call(call).await,
            Self::There(services) => services.call(call).await,
        }
    }
}

/// Outside services of a real run, which note every effect.
#[derive(Clone)]
pub(crate) struct FakeServices {
    state: Arc<Mutex<State>>,
    started: Instant,
}

impl std::fmt::Debug for FakeServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeServices").finish_non_exhaustive()
    }
}

/// What a service has done for a key: the highest token, and the number of the effect.
type Did = (u64, usize);

/// What services have done, by a hash of service, operation and idempotency key.
struct Known {
    /// A key is known for so long after its last call, in nanoseconds.
    keep: u64,
    /// When the older ones were forgotten last.
    turned: u64,
    young: QuickMap<u128, Did>,
    old: QuickMap<u128, Did>,
}

impl Known {
    fn of(&mut self, work: u128, at: u64) -> Option<&mut Did> {
        if at.saturating_sub(self.turned) > self.keep {
            self.turned = at;
            self.old = std::mem::take(&mut self.young);
        }
        if let Some(did) = self.old.remove(&work) {
            self.young.insert(work, did);
        }
        self.young.get_mut(&work)
    }
}

fn work_of(service: &str, operation: &str, key: &str) -> u128 {
    let text = format!("{service}\0{operation}\0{key}");
    let hash = blake3::hash(text.as_bytes());
    let (first, _) = hash.as_bytes().split_first_chunk().expect("32 bytes");
    u128::from_le_bytes(*first)
}

struct State {
    models: BTreeMap<Arc<str>, Model>,
    fakes: BTreeMap<Arc<str>, Box<dyn Fake>>,
    known: Known,
    ledger: Ledger,
    choices: Choices,
}

/// Where effects are noted.
#[derive(Default)]
struct Ledger {
    /// How many there are.
    length: usize,
    /// Them, unless they go to the file.
    entries: Vec<LedgerEntry>,
    file: Option<Appender>,
}

impl Ledger {
    fn push(&mut self, entry: LedgerEntry) {
        self.length += 1;
        match &self.file {
            Some(file) => file.append(&Record::Ledger(entry)),
            None => self.entries.push(entry),
        }
    }
}

impl FakeServices {
    /// Services that behave like these models, or as a team's own fake says.
    pub(crate) fn new(
        services: Vec<(Model, Option<MakeFake>)>,
        seed: u64,
        started: Instant,
    ) -> Self {
        let (mut models, mut fakes) = (BTreeMap::new(), BTreeMap::new());
        for (model, fake) in services {
            fakes.extend(fake.map(|fake| (model.name.clone(), fake.make())));
            models.insert(model.name.clone(), model);
        }
        let choices = Choices::new(seed);
        let state = State {
            models,
            fakes,
            known: Known {
                keep: u64::MAX,
                turned: 0,
                young: QuickMap::default(),
                old: QuickMap::default(),
            },
            ledger: Ledger::default(),
            choices,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            started,
        }
    }

    /// Remembers a key for so long after its last call, and no longer.
    pub(crate) fn remembering(self, keep: Duration) -> Self {
        self.lock().known.keep = nanos(keep);
        self
    }

    /// Notes every effect in a file instead of in memory.
    pub(crate) fn note_in(self, file: Appender) -> Self {
        self.lock().ledger.file = Some(file);
        self
    }

    /// Everything they did and did not note in a file.
    pub(super) fn ledger(&self) -> Vec<LedgerEntry> {
        self.lock().ledger.entries.clone()
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
        state.choices.forget_beyond(CHOICES);
        Some(Duration::from_nanos(
            model.latency.at(state.choices.draw(key(LATENCY))),
        ))
    }

    fn act(&self, call: &ServiceCall) -> Result<Bytes, ServiceError> {
        let elapsed = self.started.elapsed();
        let (at, name) = (nanos(elapsed), call.service);
        let refused = |reason: String| ServiceError::Refused {
            service: name,
            reason,
        };
        let mut state = self.lock();
        let state = &mut *state;
        let Some(model) = state.models.get(name) else {
            return Err(refused("there is no such service".to_owned()));
        };
        let service = model.name.clone();
        if let Some(fake) = state.fakes.get_mut(&service) {
            return match fake.call(call, elapsed) {
                Told::Did(words) => {
                    state.ledger.push(entry(service, call, at));
                    Ok(words)
                }
                Told::Known(words) => Ok(words),
                Told::Refused(reason) => Err(refused(reason)),
                Told::Unavailable(reason) => Err(ServiceError::Unavailable {
                    service: name,
                    reason,
                }),
            };
        }
        let work = work_of(&service, call.operation, &call.idempotency_key);
        if let Some((token, effect)) = state.known.of(work, at) {
            if model.checks_tokens && call.fencing_token < *token {
                let reason = "a newer owner of this work has called";
                return Err(refused(reason.to_owned()));
            }
            *token = (*token).max(call.fencing_token);
            if model.honours_keys {
                return Ok(reference(name, *effect));
            }
        }
        let number = state.ledger.length + 1;
        state.known.young.insert(work, (call.fencing_token, number));
        state.ledger.push(entry(service, call, at));
        Ok(reference(name, number))
    }
}

fn entry(service: Arc<str>, call: &ServiceCall, at: u64) -> LedgerEntry {
    LedgerEntry {
        service,
        operation: Arc::from(call.operation),
        key: call.idempotency_key.clone(),
        token: call.fencing_token,
        payload: call.payload.clone(),
        at,
    }
}

/// What a service without a fake of its own says of an effect.
fn reference(service: &str, number: usize) -> Bytes {
    format!("{{\"reference\":\"{service}-{number}\"}}").into()
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
            Ok(told) => told.map(|payload| ServiceReply { payload }),
            Err(error) => Err(ServiceError::InDoubt {
                service,
                reason: error.to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_for_as_long_as_it_is_called() {
        let mut known = Known {
            keep: 100,
            turned: 0,
            young: QuickMap::default(),
            old: QuickMap::default(),
        };
        let (one, two) = (work_of("mail", "send", "a"), work_of("mail", "send", "b"));
        known.young.insert(one, (1, 1));
        known.young.insert(two, (1, 2));
        for at in [60, 120, 180, 240, 300, 360] {
            assert_eq!(known.of(one, at).copied(), Some((1, 1)), "at {at}");
        }
        assert_eq!(known.of(two, 361), None);
        assert_ne!(work_of("mail", "send", "a"), work_of("mail", "sen", "da"));
    }
}
