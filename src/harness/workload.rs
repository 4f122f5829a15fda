//! Workloads: events and handlers under test.

mod any;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::harness::fake::{Fake, MakeFake};
use crate::harness::invariant::Invariant;
use crate::harness::postgres::Postgres;
use crate::harness::reading::FinalReading;
use crate::harness::verdict::Anomaly;
use crate::pipeline::event::Message;
use crate::pipeline::handler::{Consumer, Cx, Draft, Failure};
use crate::ports::World;
use crate::rabbitmq::Existing;

pub use any::{AnyWorkload, Facts};

/// A request from outside: what starts a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When, after the start of the run.
    pub at: Duration,
    /// Its idempotency key. Two requests with the same key are one piece of work, sent twice by
    /// its client.
    pub key: Arc<str>,
    /// The event that it emits.
    pub draft: Draft,
}

impl Request {
    /// A request that emits `message`, under its type and key as idempotency key.
    ///
    /// # Panics
    /// If the message cannot be encoded as JSON.
    pub fn emit<M: Message>(at: Duration, message: &M) -> Self {
        let draft = Draft::of(message).expect("a workload's own message is JSON");
        let key = Arc::from([M::TYPE, ":", &message.key()].concat());
        Self { at, key, draft }
    }
}

/// Seeded chance for making requests: ChaCha8 over the run's seed.
#[derive(Debug)]
pub struct Generator {
    rng: rand_chacha::ChaCha8Rng,
    messages: u32,
    over: Duration,
}

impl Generator {
    /// A generator for `messages` requests spread over `over`.
    pub fn new(seed: u64, messages: u32, over: Duration) -> Self {
        use rand_chacha::rand_core::SeedableRng;
        Self {
            rng: rand_chacha::ChaCha8Rng::seed_from_u64(seed),
            messages,
            over,
        }
    }

    /// How many requests the scenario asks for.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// 64 bits of chance.
    pub fn bits(&mut self) -> u64 {
        use rand_chacha::rand_core::Rng;
        self.rng.next_u64()
    }

    /// A number in `0..bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time within the span over which requests arrive.
    pub fn when(&mut self) -> Duration {
        Duration::from_nanos(self.below(crate::ports::env::nanos(self.over)))
    }

    /// As many requests as the scenario asks for, each of which emits one event, at times of the
    /// seed's choice. `make` gets their numbers, from 1.
    pub fn each<E: Message>(&mut self, mut make: impl FnMut(u32) -> E) -> Vec<Request> {
        let all = 1..=self.messages;
        all.map(|number| Request::emit(self.when(), &make(number)))
            .collect()
    }
}

/// How an outside service of a workload behaves in the seeded world and in the harness's real
/// runs.
#[derive(Clone, Debug)]
pub struct ServiceModel {
    /// Its name in [`crate::ports::ServiceCall::service`].
    pub name: &'static str,
    /// Whether a repeated idempotency key gets the first answer without a second effect.
    pub honours_keys: bool,
    /// Whether it refuses a fencing token below the highest it has seen for a key.
    pub checks_tokens: bool,
    /// Latency: shortest, median, 95 in 100, longest.
    pub latency: [Duration; 4],
    /// Cold starts: how many in a million calls, and how long they take.
    pub cold_starts: (u32, Duration),
    /// What acts in its place, where a team has a fake of its own: what becomes of repeated keys
    /// and of tokens is then the fake's affair.
    pub fake: Option<MakeFake>,
}

impl ServiceModel {
    /// A service that honours idempotency keys and answers within 20 to 400 ms, mostly 60.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            honours_keys: true,
            checks_tokens: false,
            latency: [20, 60, 200, 400].map(Duration::from_millis),
            cold_starts: (0, Duration::ZERO),
            fake: None,
        }
    }

    /// A team's own fake of it, made for each run: `ServiceModel::new("payments")
    /// .fake(FakePayments::default)`.
    #[must_use]
    pub fn fake<F: Fake + 'static>(mut self, make: impl Fn() -> F + Send + Sync + 'static) -> Self {
        self.fake = Some(MakeFake::new(make));
        self
    }
}

/// Events and handlers under test.
pub trait Workload: Clone + Send + Sync + 'static {
    /// Its name in scenario files.
    const NAME: &'static str;
    /// Whether its handlers use `tokio::time` and so need a runtime around them. Costs a little.
    const TOKIO: bool = true;

    /// The consumers with their handlers.
    fn consumers<W: World>(&self) -> Vec<Consumer<W>>;

    /// The requests of a run.
    fn requests(&self, generator: &mut Generator) -> Vec<Request>;

    /// Carries a request out in one transaction: emits its event unless said otherwise.
    ///
    /// # Errors
    /// As [`crate::pipeline::handler::Handler::handle`].
    fn submit<W: World>(
        &self,
        request: &Request,
        cx: &mut Cx<'_, W>,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async move { Ok(cx.emit_draft(&request.draft, &request.key).await?) }
    }

    /// What its database looks like, where its handlers bring SQL of their own
    /// ([`Cx::sql`](crate::pipeline::handler::Cx::sql)). Its runs in the seeded world then have a
    /// real, private PostgreSQL behind them; without, a model of one, which is faster by far.
    fn postgres(&self) -> Option<Postgres> {
        None
    }

    /// The exchanges, queues and rights that are there already, where a team has some. The seeded
    /// world then begins with these, and the pipeline creates nothing.
    fn topology(&self) -> Option<Existing> {
        None
    }

    /// Its outside services.
    fn services(&self) -> Vec<ServiceModel> {
        Vec::new()
    }

    /// Legal transitions of its workflows: from (empty for the start) and to.
    fn transitions(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// States in which a workflow may end.
    fn final_states(&self) -> &'static [&'static str] {
        &[]
    }

    /// Promises of its own over all that was seen, judged beside [`Workload::check`].
    fn invariants(&self) -> Vec<Invariant> {
        Vec::new()
    }

    /// Invariants of its own, judged at the end. `requests` are those whose commit was seen or
    /// whose event is in the outbox.
    fn check(&self, accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly> {
        let _ = (accepted, reading);
        Vec::new()
    }
}
