//! Workloads: events and handlers under test.

use std::future::Future;
use std::time::Duration;

use crate::team::invariant::Invariant;
use crate::team::postgres::Postgres;
use crate::verdict::Anomaly;
use crate::watch::reading::FinalReading;
use redeliver_core::ports::World;
use redeliver_definitions::Existing;
use redeliver_pipeline::handler::{Consumer, Cx, Failure};
use redeliver_simulated::fake::{Fake, MakeFake};

pub use crate::team::request::{Generator, Request};
pub use crate::team::totals::Totals;

/// How an outside service of a workload behaves in the seeded world and in the harness's real
/// runs.
#[derive(Clone, Debug)]
pub struct ServiceModel {
    /// Its name in [`redeliver_core::ports::ServiceCall::service`].
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
    /// Whether a load run may be judged in parts, which takes little memory however long it was. A
    /// part has whole workflows: their requests, messages, audit, letters and calls, and the rows whose
    /// key is a workflow or the idempotency key of a message, or begins with one. Other rows are in
    /// some part or other. [`Workload::check`] is asked of each part by itself then, and what
    /// has to be added up over all of them goes through [`Workload::totals`].
    const IN_PARTS: bool = false;

    /// The consumers with their handlers.
    fn consumers<W: World>(&self) -> Vec<Consumer<W>>;

    /// The requests of a run.
    fn requests(&self, generator: &mut Generator) -> Vec<Request>;

    /// Carries a request out in one transaction: emits its event unless said otherwise.
    ///
    /// # Errors
    /// As [`redeliver_pipeline::handler::Handler::handle`].
    fn submit<W: World>(
        &self,
        request: &Request,
        cx: &mut Cx<'_, W>,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async move { Ok(cx.emit_draft(&request.draft, &request.key).await?) }
    }

    /// What its database looks like, where its handlers bring SQL of their own
    /// ([`Sql`](redeliver_postgres::Sql)). Its runs in the seeded world then have a
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

    /// What is added up over a run for [`Workload::check_totals`], from the same as
    /// [`Workload::check`] gets.
    fn totals(&self, accepted: &[Request], reading: &FinalReading) -> Totals {
        let _ = (accepted, reading);
        Totals::default()
    }

    /// Judges what was added up.
    fn check_totals(&self, totals: &Totals) -> Vec<Anomaly> {
        let _ = totals;
        Vec::new()
    }
}
