//! A team's own fake of an outside service.
//!
//! The harness decides when a call arrives, how long it takes, and whether caller or connection
//! live to hear the answer. What the service does with it, and what it says, is the fake's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use redeliver_core::ports::ServiceCall;

/// What a fake has made of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It acted: an effect, and the answer.
    Did(Bytes),
    /// It had acted before, and says so again: no effect.
    Known(Bytes),
    /// It refuses for good.
    Refused(String),
    /// Not now; nothing was done.
    Unavailable(String),
}

/// One outside service, as a team fakes it. Each run has one of its own.
///
/// ```
/// use std::{collections::BTreeMap, sync::Arc, time::Duration};
/// use redeliver_simulated::fake::{Fake, Told};
/// use redeliver_core::ports::ServiceCall;
///
/// /// Charges a card once for each idempotency key, and refuses stolen ones.
/// #[derive(Default)]
/// struct FakePayments { charged: BTreeMap<Arc<str>, usize> }
///
/// impl Fake for FakePayments {
///     fn call(&mut self, call: &ServiceCall, _at: Duration) -> Told {
///         if call.payload.starts_with(b"stolen") {
///             return Told::Refused("stolen".into());
///         }
///         let (next, key) = (self.charged.len() + 1, call.idempotency_key.clone());
///         match self.charged.get(&key) {
///             Some(number) => Told::Known(format!("charge {number}").into()),
///             None => {
///                 self.charged.insert(key, next);
///                 Told::Did(format!("charge {next}").into())
///             }
///         }
///     }
/// }
/// ```
pub trait Fake: Send {
    /// A call has arrived, so long after the start of the run. Whatever comes of the caller, it
    /// has arrived: this is the moment at which the service acts.
    ///
    /// It must decide by the call and by what came before it: no clock, no chance of its own.
    fn call(&mut self, call: &ServiceCall, at: Duration) -> Told;
}

/// Makes a fake for each run.
#[derive(Clone)]
pub struct MakeFake(Arc<dyn Fn() -> Box<dyn Fake> + Send + Sync>);

impl MakeFake {
    /// Calls `make` at the start of each run.
    pub fn new<F: Fake + 'static>(make: impl Fn() -> F + Send + Sync + 'static) -> Self {
        Self(Arc::new(move || Box::new(make())))
    }

    /// A fake for a run.
    pub fn make(&self) -> Box<dyn Fake> {
        (self.0)()
    }
}

impl fmt::Debug for MakeFake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MakeFake")
    }
}
