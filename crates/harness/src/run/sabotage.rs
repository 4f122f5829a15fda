//! Handlers as the harness runs them: watched, and with the scenario's poison in them.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;

use crate::watch::history::{Ended, OnBehalf, What};
use crate::watch::record::Log;
use redeliver_core::event::{Event, Malformed};
use redeliver_core::ports::{Env, World};
use redeliver_pipeline::handler::{Batch, Boxed, Cx, Erased, Failure, Opaque, Outside};

/// Which messages are poisonous, by idempotency key.
#[derive(Clone, Debug, Default)]
pub struct Poisoned {
    /// Their handler fails for good.
    pub poison: BTreeSet<Arc<str>>,
    /// Their handler kills its process.
    pub killers: BTreeSet<Arc<str>>,
    /// Their handler fails each time, as if it might pass.
    pub transient: BTreeSet<Arc<str>>,
    /// Their handler panics each time.
    pub panics: BTreeSet<Arc<str>>,
}

/// How a process is killed from within. Never returns where it works.
pub type Kill = Arc<dyn Fn() + Send + Sync>;

/// Whether this start of the process still runs.
pub type Alive = Arc<dyn Fn() -> bool + Send + Sync>;

/// A watched handler.
pub(crate) struct Observed<W: World> {
    pub(crate) inner: Arc<dyn Erased<W>>,
    pub(crate) log: Log<W::Env>,
    pub(crate) consumer: Arc<str>,
    pub(crate) poisoned: Arc<Poisoned>,
    pub(crate) kill: Kill,
    pub(crate) alive: Alive,
}

/// Notes the end of a run, also when the future is dropped.
struct Run<E: Env> {
    log: Log<E>,
    number: u64,
    ended: Option<Ended>,
    alive: Alive,
    /// It is one of several in a batch.
    in_batch: bool,
}

impl<E: Env> Run<E> {
    fn start(log: &Log<E>, on: OnBehalf, alive: &Alive) -> Self {
        Self::numbered(log, log.start(on, None), alive)
    }

    /// The runs of a batch.
    fn start_all(log: &Log<E>, ons: Vec<OnBehalf>, alive: &Alive) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::with_capacity(ons.len());
        for on in ons {
            let first = runs.first().map(|run| run.number);
            let mut run = Self::numbered(log, log.start(on, first), alive);
            run.in_batch = true;
            runs.push(run);
        }
        runs
    }

    fn numbered(log: &Log<E>, number: u64, alive: &Alive) -> Self {
        Self {
            log: log.clone(),
            number,
            ended: None,
            alive: alive.clone(),
            in_batch: false,
        }
    }

    /// Polls a handler as a side of its own of the task it runs in: what it sends to a database
    /// beside its transaction can be told from what the pipeline sends.
    async fn handler<T>(&self, handler: Boxed<'_, T>) -> T {
        let mut handler = handler;
        poll_fn(|cx| {
            let polled = handler.as_mut().poll(cx);
            let run = polled.is_pending().then_some(self.number);
            // Outside of the seeded world there is nobody to tell.
            redeliver_sim::try_with(|w| w.side_of_handler(run));
            polled
        })
        .await
    }

    fn end<T>(mut self, result: &Result<T, Failure>) {
        self.ended = Some(match result {
            Ok(_) => Ended::Ok,
            Err(failure) if self.in_batch => Ended::BatchFailed(failure.to_string()),
            Err(failure @ Failure::Poison { .. }) => Ended::Poison(failure.to_string()),
            Err(failure) => Ended::Transient(failure.to_string()),
        });
    }
}

impl<E: Env> Drop for Run<E> {
    fn drop(&mut self) {
        // Dropped in a living process: stopped at its limit, or because its claim was lost.
        let dropped = || match (self.alive)() {
            true if self.in_batch => Ended::BatchFailed("stopped before its end".to_owned()),
            true => Ended::Transient("stopped before its end".to_owned()),
            false => Ended::Dropped,
        };
        let ended = self.ended.take().unwrap_or_else(dropped);
        self.log.add(What::HandlerEnd {
            run: self.number,
            ended,
        });
    }
}

impl<W: World> Observed<W> {
    fn on(&self, key: &str, attempt: u32) -> OnBehalf {
        OnBehalf {
            consumer: self.consumer.clone(),
            subject: Arc::from(key),
            attempt,
        }
    }

    /// Fails, or kills, where the scenario wants it.
    async fn sabotage(&self, key: &str) -> Result<(), Failure> {
        if self.poisoned.killers.contains(key) {
            (self.kill)();
            std::future::pending::<()>().await;
        }
        if self.poisoned.transient.contains(key) {
            let what = "the scenario makes this message fail each time";
            return Err(Failure::transient("spoiled", what));
        }
        if self.poisoned.panics.contains(key) {
            // Without the panic hook, which would tell of each on standard error.
            std::panic::resume_unwind(Box::new("the scenario makes this handler panic"));
        }
        if self.poisoned.poison.contains(key) {
            return Err(Failure::poison(
                "poisoned",
                "the scenario made this message poisonous",
            ));
        }
        Ok(())
    }
}

impl<W: World> Erased<W> for Observed<W> {
    fn is_outside(&self) -> bool {
        self.inner.is_outside()
    }

    fn decode(&self, event: &Event) -> Result<Opaque, Malformed> {
        self.inner.decode(event)
    }

    fn call<'a>(
        &'a self,
        decoded: &'a Opaque,
        cx: &'a Outside<'a, W>,
    ) -> Boxed<'a, Result<Opaque, Failure>> {
        Box::pin(async move {
            let key = cx.idempotency_key().clone();
            let run = Run::start(&self.log, self.on(&key, cx.attempt()), &self.alive);
            let result = match self.sabotage(&key).await {
                Ok(()) => run.handler(self.inner.call(decoded, cx)).await,
                Err(failure) => Err(failure),
            };
            run.end(&result);
            result
        })
    }

    fn apply<'a>(
        &'a self,
        decoded: &'a Opaque,
        answer: Opaque,
        cx: &'a mut Cx<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(async move {
            if self.inner.is_outside() {
                // The call was the run; this is its second half.
                return self.inner.apply(decoded, answer, cx).await;
            }
            let key = cx.idempotency_key().to_owned();
            let run = Run::start(&self.log, self.on(&key, cx.attempt()), &self.alive);
            let result = match self.sabotage(&key).await {
                Ok(()) => run.handler(self.inner.apply(decoded, answer, cx)).await,
                Err(failure) => Err(failure),
            };
            run.end(&result);
            result
        })
    }

    fn takes_batches(&self) -> bool {
        self.inner.takes_batches()
    }

    fn apply_all<'a>(
        &'a self,
        decoded: &'a [Opaque],
        cx: &'a mut Batch<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(async move {
            let ons = (0..cx.len()).map(|at| self.on(cx.idempotency_key(at), cx.attempt(at)));
            let runs = Run::start_all(&self.log, ons.collect(), &self.alive);
            let mut sabotaged = Ok(());
            for at in 0..cx.len() {
                sabotaged = self.sabotage(cx.idempotency_key(at)).await;
                if sabotaged.is_err() {
                    break;
                }
            }
            let result = match (sabotaged, runs.first()) {
                (Ok(()), Some(first)) => first.handler(self.inner.apply_all(decoded, cx)).await,
                (sabotaged, _) => sabotaged,
            };
            runs.into_iter().for_each(|run| run.end(&result));
            result
        })
    }
}
