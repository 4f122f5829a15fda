//! Outside services: they act at a time of their own, whatever becomes of their caller.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::choice::{Key, Ppm, Site, name, strikes};
use crate::executor::sleep;
use crate::fault::{Kind, Seam};
use crate::latency::Latency;
use crate::world::{World, with};

const SITE_LATENCY: Site = Site::new("service.latency");
const SITE_COLD: Site = Site::new("service.cold-start");

/// How a service behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: Arc<str>,
    /// How long a call takes; it acts half-way.
    pub latency: Latency,
    /// How many calls in a million hit a cold start.
    pub cold_ppm: Ppm,
    /// How long those take.
    pub cold: u64,
    /// A repeated idempotency key gets the first answer, without a second effect.
    pub honours_keys: bool,
    /// A fencing token below the highest seen for a key is refused.
    pub checks_tokens: bool,
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Which service.
    pub service: Arc<str>,
    /// What it did.
    pub operation: &'static str,
    /// For which idempotency key.
    pub key: Arc<str>,
    /// With which fencing token.
    pub token: u64,
    /// The request.
    pub payload: Bytes,
    /// When.
    pub at: u64,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which service.
    pub service: &'static str,
    /// What it shall do.
    pub operation: &'static str,
    /// The same for every attempt at the same work.
    pub key: Arc<str>,
    /// Rises with every take-over of the work.
    pub token: u64,
    /// The request.
    pub payload: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It did not act.
    Unavailable(Cow<'static, str>),
    /// It may have acted.
    InDoubt(Cow<'static, str>),
    /// It refused for good.
    Refused(Cow<'static, str>),
}

/// What a service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The number of the effect: the model has no more to say.
    Number(u64),
    /// The words of a service of the caller's own.
    Words(Bytes),
}

/// A service of the caller's own: gives its words and whether this was an effect, for a request
/// that arrives at a time.
pub type Act = Box<dyn FnMut(&Request, u64) -> Result<(Bytes, bool), Error>>;

struct State {
    model: Model,
    /// Acts in the model's place; keys and tokens are then its affair.
    own: Option<Act>,
    down_until: u64,
    /// For each operation and key: the highest token, and the number of the effect.
    known: BTreeMap<(&'static str, Arc<str>), (u64, u64)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// All services of a world, with their ledger.
#[derive(Debug, Default)]
pub struct Services {
    states: BTreeMap<Arc<str>, State>,
    /// Effects, in order.
    pub ledger: Vec<Effect>,
    /// Calls that hit a cold start.
    pub cold_starts: u64,
    calls: u64,
    /// Answers on their way, by number of the call. Those whose caller is gone stay.
    answers: BTreeMap<u64, Result<Answer, Error>>,
}

impl Services {
    /// Adds a service.
    pub fn add(&mut self, model: Model) {
        self.add_own(model, None);
    }

    /// Adds a service that acts by itself: of the model remain its times.
    pub fn add_own(&mut self, model: Model, own: Option<Act>) {
        let state = State {
            down_until: 0,
            known: BTreeMap::new(),
            model,
            own,
        };
        self.states.insert(state.model.name.clone(), state);
    }

    /// Takes services down until a time; all of them without a name.
    pub fn down(&mut self, service: Option<&str>, until: u64) {
        for state in self.states.values_mut() {
            if service.is_none_or(|only| only == &*state.model.name) {
                state.down_until = until;
            }
        }
    }

    /// Brings every service back.
    pub fn heal(&mut self) {
        self.states
            .values_mut()
            .for_each(|state| state.down_until = 0);
    }

    /// Acts, if it has to.
    fn act(&mut self, request: &Request, at: u64) -> Result<Answer, Error> {
        let number = self.ledger.len() as u64 + 1;
        let Some(state) = self.states.get_mut(request.service) else {
            return Err(Error::Refused("there is no such service".into()));
        };
        if let Some(own) = &mut state.own {
            let (words, acted) = own(request, at)?;
            let name = state.model.name.clone();
            if acted {
                self.ledger.push(effect(name, request, at));
            }
            return Ok(Answer::Words(words));
        }
        let known = (request.operation, request.key.clone());
        if let Some((token, effect)) = state.known.get_mut(&known) {
            if state.model.checks_tokens && request.token < *token {
                return Err(Error::Refused(
                    "a newer owner of this work has called".into(),
                ));
            }
            *token = (*token).max(request.token);
            if state.model.honours_keys {
                return Ok(Answer::Number(*effect));
            }
        }
        state.known.insert(known, (request.token, number));
        let name = state.model.name.clone();
        self.ledger.push(effect(name, request, at));
        Ok(Answer::Number(number))
    }
}

fn effect(service: Arc<str>, request: &Request, at: u64) -> Effect {
    Effect {
        service,
        operation: request.operation,
        key: request.key.clone(),
        token: request.token,
        payload: request.payload.clone(),
        at,
    }
}

/// Calls a service on behalf of the calling process.
///
/// # Errors
/// See [`Error`].
pub async fn call(request: Request) -> Result<Answer, Error> {
    let subject = name(&request.key);
    let (call, after) = with(|w| {
        let attempt = w.work().1;
        (
            w.strike_message(Seam::Service, subject, attempt),
            w.service_latency(&request, subject),
        )
    });
    let struck = call.act().await;
    let down = with(|w| {
        let now = w.now();
        let healed = w.is_healed();
        let state = w.services.states.get(request.service);
        state.is_some_and(|state| state.down_until > now && !healed)
    });
    if down || struck == Some(Kind::ServiceFails) {
        sleep(after.min(50_000_000)).await;
        return Err(Error::Unavailable("503 service unavailable".into()));
    }
    let slow = if struck == Some(Kind::SlowService) {
        call.lasts()
    } else {
        0
    };
    let number = with(|w| {
        w.services.calls += 1;
        let number = w.services.calls;
        let acts_at = w.now() + after / 2 + slow;
        w.at(acts_at, move |w| {
            let now = w.now();
            let result = w.services.act(&request, now);
            w.trace(
                "service-acted",
                [subject, u64::from(result.is_ok())],
                || {
                    format!(
                        "{} {} for {}: {}",
                        request.service,
                        request.operation,
                        request.key,
                        said(&result)
                    )
                },
            );
            w.services.answers.insert(number, result);
        });
        number
    });
    call.act_after().await;
    sleep(after + slow).await;
    let answer = with(|w| w.services.answers.remove(&number));
    if struck == Some(Kind::ServiceInDoubt) {
        return Err(Error::InDoubt(
            "connection reset after the request was sent".into(),
        ));
    }
    answer.unwrap_or(Err(Error::InDoubt("no answer".into())))
}

/// For a trace. It holds no payloads.
fn said(result: &Result<Answer, Error>) -> String {
    match result {
        Ok(Answer::Number(number)) => format!("Ok({number})"),
        Ok(Answer::Words(_)) => "Ok".to_owned(),
        Err(error) => format!("Err({error:?})"),
    }
}

impl World {
    fn service_latency(&mut self, request: &Request, subject: u64) -> u64 {
        let attempt = self.work().1;
        let component = name(request.service);
        let key = |site| Key {
            site,
            component,
            subject,
            attempt,
        };
        let Some(state) = self.services.states.get(request.service) else {
            return 0;
        };
        let (latency, ppm, cold) = (state.model.latency, state.model.cold_ppm, state.model.cold);
        if ppm > 0 && strikes(self.choices().draw(key(SITE_COLD)), ppm) {
            self.services.cold_starts += 1;
            self.trace("cold-start", [subject, cold], || {
                format!("{} s", cold / 1_000_000_000)
            });
            return cold;
        }
        latency.at(self.choices().draw(key(SITE_LATENCY)))
    }
}
