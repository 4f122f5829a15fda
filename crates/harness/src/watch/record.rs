//! Decorators on the ports that write the history.
//!
//! They wrap the ports of one process, in either world, so that the pipeline itself knows nothing
//! of being watched. In the seeded world each entry also becomes a line of the trace.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::watch::history::{Effects, InboxSaved, OnBehalf, Recorder, Seen, Settled, What};
use redeliver_core::audit::{AuditEntry, WorkflowHead};
use redeliver_core::event::Outgoing;
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::outbox::{ClaimedRow, RelayClaim};
use redeliver_core::ports::store::{Native, Place, Reading};
use redeliver_core::ports::{
    Delivery, Env, Ports, PublishOutcome, Publisher, Receiver, Row, Scope, Service, ServiceCall,
    ServiceError, ServiceReply, Settlement, Store, StoreError, Transport, TransportError, Tx,
    Versioned,
};
use redeliver_core::topology::Topology;

/// Where the decorators of one process write.
#[derive(Clone, Debug)]
pub struct Log<E> {
    recorder: Recorder,
    env: E,
    process: Arc<str>,
    channels: Arc<AtomicU64>,
    /// Where the history stood when the inbox row of a message was last asked for.
    read: Arc<Mutex<BTreeMap<Arc<str>, usize>>>,
}

impl<E: Env> Log<E> {
    /// A log of the process of `env`. Channels are numbered over all processes of a run.
    pub fn new(recorder: Recorder, env: E, channels: Arc<AtomicU64>) -> Self {
        let process = Arc::from(env.process());
        Self {
            recorder,
            env,
            process,
            channels,
            read: Arc::default(),
        }
    }

    /// Adds an entry.
    pub fn add(&self, what: What) {
        super::trace::line(&what);
        self.recorder.add(self.now(), &self.process, what);
    }

    /// Nanoseconds since the start of the run.
    fn now(&self) -> u64 {
        redeliver_core::ports::env::nanos(self.env.elapsed())
    }

    /// Notes the start of a handler, in the batch that a run of this number has begun, if in any; gives
    /// the number of the run.
    pub fn start(&self, on: OnBehalf, batch: Option<u64>) -> u64 {
        let run = self.recorder.next_run();
        let batch = batch.unwrap_or(run);
        let read = self.reads().remove(&on.subject);
        let read = read.unwrap_or_else(|| self.recorder.place(|| self.now()));
        self.add(What::HandlerStart {
            on,
            run,
            batch,
            read,
        });
        run
    }

    fn read(&self, key: &Arc<str>) {
        let here = self.recorder.place(|| self.now());
        self.reads().insert(key.clone(), here);
    }

    fn reads(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, usize>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes messages that come from the store, where they waited for their turn: of one scope, whose
    /// numbers are their tags on a channel of their own.
    fn taken(&self, mut taken: Vec<Delivery>) -> Vec<Delivery> {
        if taken.is_empty() {
            return taken;
        }
        let channel = self.next_channel();
        for delivery in &mut taken {
            delivery.receipt.channel = channel;
            let consumer = delivery.queue.clone();
            self.delivered(&consumer, delivery);
        }
        taken
    }

    fn delivered(&self, consumer: &Arc<str>, delivery: &Delivery) {
        let event = delivery.event.as_ref();
        self.add(What::Delivered {
            consumer: consumer.clone(),
            key: event.ok().map(|event| event.idempotency_key.clone()),
            id: event.map_or_else(|malformed| malformed.message_id, |event| Some(event.id)),
            receipt: delivery.receipt,
            attempt: delivery.attempt,
            redelivered: delivery.redelivered,
            kept: delivery.kept,
        });
    }

    fn next_channel(&self) -> u64 {
        self.channels.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The recorder behind it.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}

/// A world whose ports are watched.
pub type Watched<T, S, V, E> = Ports<Recorded<T, E>, Recorded<S, E>, Recorded<V, E>, E>;

/// Watches all ports of a process.
pub fn watch<T, S, V, E: Env>(ports: Ports<T, S, V, E>, log: &Log<E>) -> Watched<T, S, V, E> {
    Ports {
        transport: Recorded {
            inner: ports.transport,
            log: log.clone(),
        },
        store: Recorded {
            inner: ports.store,
            log: log.clone(),
        },
        service: Recorded {
            inner: ports.service,
            log: log.clone(),
        },
        env: ports.env,
    }
}

/// A watched port.
#[derive(Clone, Debug)]
pub struct Recorded<P, E> {
    inner: P,
    log: Log<E>,
}

/// A watched transaction.
#[derive(Debug)]
pub struct RecordedTx<T, E> {
    inner: T,
    log: Log<E>,
    on: OnBehalf,
    effects: Effects,
    /// What it did on behalf of others before; each is an entry of its own.
    before: Vec<(OnBehalf, Effects)>,
}

fn seen(error: &StoreError) -> Seen {
    match error {
        StoreError::InDoubt(_) => Seen::InDoubt(error.to_string()),
        _ => Seen::Failed(error.to_string()),
    }
}

impl<T: Tx, E: Env> Tx for RecordedTx<T, E> {
    fn connection(&mut self) -> Option<&mut Native> {
        self.inner.connection()
    }

    fn pool(&self) -> Option<&Native> {
        self.inner.pool()
    }

    fn on_behalf(&mut self, scope: Scope<'_>) {
        self.inner.on_behalf(scope);
        if (&*self.on.consumer, &*self.on.subject) == (scope.consumer, scope.subject) {
            self.on.attempt = scope.attempt;
            return;
        }
        let next = OnBehalf::of(scope);
        let known = (self.before.iter()).position(|(on, _)| *on == next);
        let (next, effects) = match known {
            Some(known) => self.before.swap_remove(known),
            None => (next, Effects::default()),
        };
        let last = std::mem::replace(&mut self.on, next);
        let done = std::mem::replace(&mut self.effects, effects);
        if !done.is_empty() || !done.inbox.is_empty() {
            self.before.push((last, done));
        }
    }

    async fn insert<R: Row>(&mut self, row: &R) -> Result<Option<Versioned<R>>, StoreError> {
        let there = self.inner.insert(row).await?;
        if there.is_none() {
            self.effects.rows.push((R::TABLE, Arc::from(row.key())));
        }
        Ok(there)
    }

    async fn get<R: Row>(&mut self, key: &str) -> Result<Option<Versioned<R>>, StoreError> {
        self.inner.get(key).await
    }

    async fn get_for_update<R: Row>(
        &mut self,
        key: &str,
    ) -> Result<Option<Versioned<R>>, StoreError> {
        self.inner.get_for_update(key).await
    }

    async fn update<R: Row>(&mut self, row: &R, version: i64) -> Result<bool, StoreError> {
        let updated = self.inner.update(row, version).await?;
        if updated {
            self.effects.rows.push((R::TABLE, Arc::from(row.key())));
        }
        Ok(updated)
    }

    async fn scan<R: Row>(
        &mut self,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        self.inner.scan(prefix, limit).await
    }

    async fn emit(&mut self, outgoing: Outgoing) -> Result<Outgoing, StoreError> {
        let stored = self.inner.emit(outgoing).await?;
        self.effects.emitted.push(stored.event.clone());
        Ok(stored)
    }

    async fn inbox_open(&mut self, consumer: &str, key: &str) -> Result<InboxRow, StoreError> {
        // When it is asked for, not when the answer is there: that may be long on its way.
        self.log.read(&self.on.subject);
        self.inner.inbox_open(consumer, key).await
    }

    async fn inbox_open_all(
        &mut self,
        consumer: &str,
        keys: &[Arc<str>],
    ) -> Result<Vec<InboxRow>, StoreError> {
        keys.iter().for_each(|key| self.log.read(key));
        self.inner.inbox_open_all(consumer, keys).await
    }

    async fn inbox_save(&mut self, row: &InboxRow) -> Result<(), StoreError> {
        self.inner.inbox_save(row).await?;
        self.effects.inbox.push(InboxSaved {
            consumer: row.consumer.clone(),
            key: row.idempotency_key.clone(),
            state: match row.state {
                InboxState::Open => "open",
                InboxState::Claimed { .. } => "claimed",
                InboxState::Done { .. } => "done",
                InboxState::Dead { .. } => "dead",
            },
            attempts: row.attempts,
            token: row.token,
        });
        Ok(())
    }

    async fn order_pass(
        &mut self,
        consumer: &str,
        scope: &str,
        sequence: u64,
    ) -> Result<bool, StoreError> {
        self.inner.order_pass(consumer, scope, sequence).await
    }

    async fn workflow_open(&mut self, workflow: &str) -> Result<WorkflowHead, StoreError> {
        self.inner.workflow_open(workflow).await
    }

    async fn workflow_append(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.inner.workflow_append(entry).await?;
        let (from, to) = (entry.from.clone(), entry.to.clone());
        self.effects
            .transitions
            .push((entry.workflow.clone(), entry.sequence, from, to));
        Ok(())
    }

    async fn commit(self) -> Result<(), StoreError> {
        let Self {
            inner,
            log,
            on,
            effects,
            mut before,
        } = self;
        let since = log.now();
        let result = inner.commit().await;
        let seen = result.as_ref().map_or_else(seen, |()| Seen::Ok);
        before.push((on, effects));
        for (on, effects) in before {
            if !effects.is_empty() || !effects.inbox.is_empty() {
                log.add(What::Commit {
                    on,
                    effects,
                    seen: seen.clone(),
                    since,
                });
            }
        }
        result
    }

    async fn rollback(self) {
        self.inner.rollback().await;
    }
}

impl<S: Store, E: Env> Store for Recorded<S, E> {
    type Tx = RecordedTx<S::Tx, E>;

    async fn begin(&self, scope: Scope<'_>) -> Result<Self::Tx, StoreError> {
        let inner = self.inner.begin(scope).await?;
        let (log, on) = (self.log.clone(), OnBehalf::of(scope));
        Ok(RecordedTx {
            inner,
            log,
            on,
            effects: Effects::default(),
            before: Vec::new(),
        })
    }

    async fn outbox_claim(&self, claim: &RelayClaim) -> Result<Vec<ClaimedRow>, StoreError> {
        self.inner.outbox_claim(claim).await
    }

    async fn outbox_mark(&self, rows: &[(i64, i64)]) -> Result<u64, StoreError> {
        self.inner.outbox_mark(rows).await
    }

    async fn outbox_release(
        &self,
        rows: &[(i64, i64)],
        delay: Duration,
        reason: &str,
    ) -> Result<u64, StoreError> {
        self.inner.outbox_release(rows, delay, reason).await
    }

    async fn outbox_purge(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.inner.outbox_purge(age, limit).await
    }

    async fn outbox_wait(&self) {
        self.inner.outbox_wait().await;
    }

    async fn inbox_renew(
        &self,
        consumer: &str,
        key: &str,
        token: u64,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        self.inner.inbox_renew(consumer, key, token, lease).await
    }

    async fn inbox_purge(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.inner.inbox_purge(age, limit).await
    }

    async fn order_keep(&self, on: Scope<'_>, delivery: &Delivery) -> Result<Place, StoreError> {
        self.inner.order_keep(on, delivery).await
    }

    async fn order_next(&self, consumer: &str, scope: &str) -> Result<u64, StoreError> {
        self.inner.order_next(consumer, scope).await
    }

    async fn order_take(
        &self,
        consumer: &str,
        scope: &str,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let taken = self.inner.order_take(consumer, scope, limit).await?;
        Ok(self.log.taken(taken))
    }

    async fn order_overdue(
        &self,
        consumer: &str,
        idle: Duration,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let taken = self.inner.order_overdue(consumer, idle, limit).await?;
        let each = taken.into_iter().flat_map(|one| self.log.taken(vec![one]));
        Ok(each.collect())
    }

    async fn order_forget(
        &self,
        consumer: &str,
        scope: &str,
        sequences: &[u64],
    ) -> Result<u64, StoreError> {
        self.inner.order_forget(consumer, scope, sequences).await
    }

    fn pool(&self) -> Option<&Native> {
        self.inner.pool()
    }

    fn judge(error: &(dyn Error + 'static)) -> Option<StoreError> {
        S::judge(error)
    }

    async fn read_all(&self) -> Result<Reading, StoreError> {
        self.inner.read_all().await
    }
}

impl<T: Transport, E: Env> Transport for Recorded<T, E> {
    type Publisher = Recorded<T::Publisher, E>;
    type Receiver = RecordedReceiver<T::Receiver, E>;

    async fn declare(&self, topology: &Topology) -> Result<(), TransportError> {
        self.inner.declare(topology).await
    }

    async fn verify(&self, topology: &Topology) -> Result<(), TransportError> {
        self.inner.verify(topology).await
    }

    async fn publisher(&self, name: &str) -> Result<Self::Publisher, TransportError> {
        let inner = self.inner.publisher(name).await?;
        Ok(Recorded {
            inner,
            log: self.log.clone(),
        })
    }

    async fn receiver(
        &self,
        name: &str,
        queue: &str,
        prefetch: u16,
    ) -> Result<Self::Receiver, TransportError> {
        let inner = self.inner.receiver(name, queue, prefetch).await?;
        let channel = self.log.next_channel();
        Ok(RecordedReceiver {
            inner,
            log: self.log.clone(),
            consumer: Arc::from(queue),
            channel,
        })
    }
}

impl<P: Publisher, E: Env> Publisher for Recorded<P, E> {
    async fn publish(&mut self, batch: &[Outgoing], within: Duration) -> Vec<PublishOutcome> {
        let since = self.log.now();
        let outcomes = self.inner.publish(batch, within).await;
        for (outgoing, outcome) in batch.iter().zip(&outcomes) {
            let (event, outcome) = (outgoing.event.clone(), outcome.clone());
            self.log.add(What::Publish {
                event,
                outcome,
                since,
            });
        }
        outcomes
    }
}

/// A watched subscription.
#[derive(Clone, Debug)]
pub struct RecordedReceiver<R, E> {
    inner: R,
    log: Log<E>,
    consumer: Arc<str>,
    channel: u64,
}

impl<R, E: Env> RecordedReceiver<R, E> {
    /// Notes a delivery that was settled, with what its dead letter tells where it became one.
    fn settled(
        &self,
        delivery: &Delivery,
        (how, letter): (Settled, Option<Arc<str>>),
        result: &Result<(), TransportError>,
    ) {
        let seen = match result {
            Ok(()) => Seen::Ok,
            Err(error) => Seen::InDoubt(error.to_string()),
        };
        let event = delivery.event.as_ref().ok();
        self.log.add(What::Settled {
            consumer: self.consumer.clone(),
            key: event.map(|event| event.idempotency_key.clone()),
            receipt: delivery.receipt,
            how,
            letter,
            seen,
        });
    }
}

impl<R: Receiver, E: Env> Receiver for RecordedReceiver<R, E> {
    async fn receive(&self) -> Result<Delivery, TransportError> {
        let mut delivery = self.inner.receive().await?;
        delivery.receipt.channel = self.channel;
        self.log.delivered(&self.consumer, &delivery);
        Ok(delivery)
    }

    async fn settle(
        &self,
        delivery: &Delivery,
        settlement: Settlement,
    ) -> Result<(), TransportError> {
        let nanos = redeliver_core::ports::env::nanos;
        let letter = match &settlement {
            Settlement::DeadLetter(story) => {
                // Most errors begin with their class.
                let class = match story.error.starts_with(&*story.class) {
                    true => String::new(),
                    false => format!("{}: ", story.class),
                };
                let told = format!("attempt {}, {class}{}", story.attempts, story.error);
                Some(Arc::from(told))
            }
            _ => None,
        };
        let how = match &settlement {
            Settlement::Done => Settled::Done,
            Settlement::Kept => Settled::Kept,
            Settlement::RetryAfter { delay, attempt, .. } => Settled::Retry {
                attempt: *attempt,
                delay: nanos(*delay),
            },
            Settlement::Park { delay } => Settled::Park {
                delay: nanos(*delay),
            },
            Settlement::DeadLetter(story) => Settled::DeadLetter(story.reason),
        };
        let result = self.inner.settle(delivery, settlement).await;
        self.settled(delivery, (how, letter), &result);
        result
    }

    async fn settle_done(&self, deliveries: &[Delivery]) -> Result<(), TransportError> {
        let result = self.inner.settle_done(deliveries).await;
        for delivery in deliveries {
            self.settled(delivery, (Settled::Done, None), &result);
        }
        result
    }

    async fn cancel(&self) -> Result<(), TransportError> {
        self.inner.cancel().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

impl<V: Service, E: Env> Service for Recorded<V, E> {
    async fn call(&self, call: ServiceCall) -> Result<ServiceReply, ServiceError> {
        let entry = |seen| What::Call {
            service: call.service,
            operation: call.operation,
            key: call.idempotency_key.clone(),
            token: call.fencing_token,
            seen,
        };
        self.log.add(entry(None));
        let result = self.inner.call(call.clone()).await;
        let seen = match &result {
            Ok(_) => Seen::Ok,
            Err(error @ ServiceError::InDoubt { .. }) => Seen::InDoubt(error.to_string()),
            Err(error) => Seen::Failed(error.to_string()),
        };
        self.log.add(entry(Some(seen)));
        result
    }
}
