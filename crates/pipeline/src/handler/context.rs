//! What handlers work with.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Draft, TxOf};
use redeliver_core::audit::WorkflowHead;
use redeliver_core::event::{Event, MAX_PAYLOAD, Message, Outgoing, exchange_of};
use redeliver_core::ports::store::{Behind, Native};
use redeliver_core::ports::{
    Env, EnvExt, Row, Scope, Service, ServiceCall, ServiceError, ServiceReply, StoreError, Tx,
    Versioned, World,
};

/// What a handler works with: its transaction, and the event's envelope.
pub struct Cx<'a, W: World> {
    tx: &'a mut TxOf<W>,
    env: &'a W::Env,
    cause: Option<&'a Event>,
    scope: Scope<'a>,
    answer: Answer<'a>,
    trace: Option<Arc<str>>,
    max_payload: usize,
}

/// Where the answer of the work in hand is kept until its transaction ends.
enum Answer<'a> {
    Own(Bytes),
    /// With those of the other messages of its batch.
    InBatch(&'a mut Bytes),
}

impl<W: World> std::fmt::Debug for Cx<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cx")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl<'a, W: World> Cx<'a, W> {
    /// A context over an open transaction. `cause` is the event being handled, none for a
    /// request from outside.
    pub fn new(
        tx: &'a mut TxOf<W>,
        env: &'a W::Env,
        cause: Option<&'a Event>,
        scope: Scope<'a>,
    ) -> Self {
        Self {
            tx,
            env,
            cause,
            scope,
            answer: Answer::Own(Bytes::new()),
            trace: cause.and_then(|cause| cause.trace.clone()),
            max_payload: MAX_PAYLOAD,
        }
    }

    /// With the largest payload that may be emitted, in bytes; [`MAX_PAYLOAD`] unless said. It is
    /// the policy's: its consumers give larger messages up.
    #[must_use]
    pub fn with_max_payload(mut self, max_payload: usize) -> Self {
        self.max_payload = max_payload;
        self
    }

    /// With the trace of a request from outside, as a W3C `traceparent`.
    pub(crate) fn with_trace(mut self, trace: Option<Arc<str>>) -> Self {
        self.trace = trace.or(self.trace);
        self
    }

    /// The trace that this work belongs to, as a W3C `traceparent`: that of the event, or of the
    /// request. Spans of a handler's own belong under it.
    pub fn trace(&self) -> Option<&str> {
        self.trace.as_deref()
    }

    /// The transaction, for what has no method here.
    pub fn tx(&mut self) -> &mut TxOf<W> {
        self.tx
    }

    /// The event's envelope; none for a request from outside.
    pub fn event(&self) -> Option<&Event> {
        self.cause
    }

    /// The idempotency key of the work in hand.
    pub fn idempotency_key(&self) -> &str {
        self.scope.subject
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.scope.attempt
    }

    /// The environment.
    pub fn env(&self) -> &W::Env {
        self.env
    }

    /// Puts an event into the outbox. Its idempotency key follows from the work in hand, the
    /// event's type and its key, so that another attempt at this work emits the same.
    ///
    /// # Errors
    /// See [`StoreError`]; a payload that is not JSON, or too large, is
    /// [`StoreError::Refused`].
    pub async fn emit<M: Message>(&mut self, message: &M) -> Result<(), StoreError> {
        let key = derived_key(self.scope.subject, M::TYPE, &message.key());
        self.emit_as(message, &key).await
    }

    /// Puts an event into the outbox under an idempotency key of the caller's choice.
    ///
    /// # Errors
    /// As [`Cx::emit`].
    pub async fn emit_as<M: Message>(
        &mut self,
        message: &M,
        idempotency_key: &str,
    ) -> Result<(), StoreError> {
        let draft = Draft::of(message)?;
        self.emit_draft(&draft, idempotency_key).await
    }

    /// Puts an encoded event into the outbox.
    ///
    /// # Errors
    /// As [`Cx::emit`].
    pub async fn emit_draft(&mut self, draft: &Draft, key: &str) -> Result<(), StoreError> {
        let (size, limit) = (draft.payload.len(), self.max_payload);
        if size > limit {
            let name = &draft.event_type;
            let what = format!("payload of {name}: {size} bytes, {limit} are allowed");
            return Err(StoreError::Refused(what));
        }
        let scope = Scope {
            subject: key,
            ..self.scope
        };
        let id = self.env.uuid(scope);
        let event = Event {
            id,
            idempotency_key: Arc::from(key),
            kind: draft.kind,
            event_type: draft.event_type.clone(),
            version: draft.version,
            key: draft.key.clone(),
            workflow: draft.workflow.clone(),
            correlation: self.cause.map_or(id, |cause| cause.correlation),
            causation: self.cause.map(|cause| cause.id),
            time: self.env.now(),
            trace: self.trace.clone(),
            sequence: draft.ordered.then_some(0),
            payload: draft.payload.clone(),
        };
        let outgoing = Outgoing {
            event: Arc::new(event),
            exchange: Arc::from(exchange_of(&draft.event_type)),
            routing_key: draft.event_type.clone(),
        };
        self.tx.emit(outgoing).await.map(|_| ())
    }

    /// See [`Tx::insert`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn insert<R: Row>(&mut self, row: &R) -> Result<Option<Versioned<R>>, StoreError> {
        self.tx.insert(row).await
    }

    /// See [`Tx::get`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get<R: Row>(&mut self, key: &str) -> Result<Option<Versioned<R>>, StoreError> {
        self.tx.get(key).await
    }

    /// See [`Tx::get_for_update`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get_for_update<R: Row>(
        &mut self,
        key: &str,
    ) -> Result<Option<Versioned<R>>, StoreError> {
        self.tx.get_for_update(key).await
    }

    /// See [`Tx::update`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn update<R: Row>(&mut self, row: &R, version: i64) -> Result<bool, StoreError> {
        self.tx.update(row, version).await
    }

    /// The current state of a workflow, locked; empty before its first transition.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn workflow(&mut self, workflow: &str) -> Result<WorkflowHead, StoreError> {
        self.tx.workflow_open(workflow).await
    }

    /// Takes a workflow, opened by [`Cx::workflow`], to its next state, with an audit entry.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn transition(&mut self, head: &WorkflowHead, to: &str) -> Result<(), StoreError> {
        let event = self.cause.map_or(uuid::Uuid::nil(), |cause| cause.id);
        let entry = head.transition(Arc::from(to), event, self.env.now());
        self.tx.workflow_append(&entry).await
    }

    /// Keeps an answer in the inbox row: a duplicate of this work gets the same.
    pub fn answer(&mut self, answer: impl Into<Bytes>) {
        *self.kept_answer() = answer.into();
    }

    /// Takes the answer kept by [`Cx::answer`].
    pub(crate) fn take_answer(&mut self) -> Bytes {
        std::mem::take(self.kept_answer())
    }

    fn kept_answer(&mut self) -> &mut Bytes {
        match &mut self.answer {
            Answer::Own(answer) => answer,
            Answer::InBatch(answer) => answer,
        }
    }

    /// A batch of the one message in hand; `None` where there is none.
    pub(crate) fn batch_of_one(&mut self) -> Option<Batch<'_, W>> {
        let cause = self.cause?;
        let (scope, max_payload) = (self.scope, self.max_payload);
        let answer = match &mut self.answer {
            Answer::Own(answer) => answer,
            Answer::InBatch(answer) => &mut **answer,
        };
        Some(Batch {
            tx: &mut *self.tx,
            env: self.env,
            messages: [(cause, scope)].into(),
            answers: std::slice::from_mut(answer),
            max_payload,
        })
    }
}

impl<W: World> Behind for Cx<'_, W> {
    fn connection(&mut self) -> Option<&mut Native> {
        self.tx.connection()
    }

    fn pool(&self) -> Option<&Native> {
        self.tx.pool()
    }
}

impl<W: World> Behind for Outside<'_, W> {
    fn connection(&mut self) -> Option<&mut Native> {
        None
    }

    fn pool(&self) -> Option<&Native> {
        redeliver_core::ports::Store::pool(self.world.store())
    }
}

/// What a handler of several messages works with: one transaction for all of them.
pub struct Batch<'a, W: World> {
    tx: &'a mut TxOf<W>,
    env: &'a W::Env,
    messages: Box<[(&'a Event, Scope<'a>)]>,
    /// One for each message.
    answers: &'a mut [Bytes],
    max_payload: usize,
}

impl<W: World> std::fmt::Debug for Batch<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("messages", &self.messages.len())
            .finish_non_exhaustive()
    }
}

impl<'a, W: World> Batch<'a, W> {
    /// Over an open transaction, for these messages; their answers go to `answers`, one each.
    pub(crate) fn new(
        tx: &'a mut TxOf<W>,
        env: &'a W::Env,
        messages: Box<[(&'a Event, Scope<'a>)]>,
        answers: &'a mut [Bytes],
        max_payload: usize,
    ) -> Self {
        assert_eq!(messages.len(), answers.len(), "an answer for each message");
        Self {
            tx,
            env,
            messages,
            answers,
            max_payload,
        }
    }

    /// How many messages it has; at least one.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// The envelope of the message at this place of the batch.
    ///
    /// # Panics
    /// Where the batch has fewer messages.
    pub fn event(&self, at: usize) -> &'a Event {
        self.messages[at].0
    }

    /// The idempotency key of the message at this place of the batch.
    ///
    /// # Panics
    /// Where the batch has fewer messages.
    pub fn idempotency_key(&self, at: usize) -> &'a str {
        self.messages[at].1.subject
    }

    /// Which attempt this is at the message at this place of the batch, from 1.
    ///
    /// # Panics
    /// Where the batch has fewer messages.
    pub fn attempt(&self, at: usize) -> u32 {
        self.messages[at].1.attempt
    }

    /// The context of the message at this place of the batch, in the transaction of all: what is done
    /// through it is done on behalf of that message.
    ///
    /// # Panics
    /// Where the batch has fewer messages.
    pub fn message(&mut self, at: usize) -> Cx<'_, W> {
        let (event, scope) = self.messages[at];
        self.tx.on_behalf(scope);
        let mut cx =
            Cx::new(&mut *self.tx, self.env, Some(event), scope).with_max_payload(self.max_payload);
        cx.answer = Answer::InBatch(&mut self.answers[at]);
        cx
    }

    /// The environment.
    pub fn env(&self) -> &W::Env {
        self.env
    }
}

impl<W: World> Behind for Batch<'_, W> {
    fn connection(&mut self) -> Option<&mut Native> {
        self.tx.connection()
    }

    fn pool(&self) -> Option<&Native> {
        self.tx.pool()
    }
}

/// The longest derived idempotency key that keeps the whole chain readable.
const READABLE_KEY: usize = 240;

/// The key of an event that follows from other work: the same for every attempt at that work. In
/// long chains the beginning is replaced by its hash, so that keys stay bounded.
fn derived_key(cause: &str, event_type: &str, key: &str) -> String {
    let readable = [cause, ">", event_type, ":", key].concat();
    if readable.len() <= READABLE_KEY {
        return readable;
    }
    let hash = blake3::hash(cause.as_bytes()).to_hex();
    format!("{}…>{event_type}:{key}", &hash[..32])
}

/// What an outside call works with.
pub struct Outside<'a, W: World> {
    /// The world.
    world: &'a W,
    /// The event's envelope.
    event: &'a Event,
    /// The fencing token of the claim.
    token: u64,
    /// On whose behalf.
    scope: Scope<'a>,
    /// Calls made so far: two of one idempotency key would be one to the service.
    made: Mutex<Vec<Made>>,
}

/// Frees the key of a call when nobody waits for its answer any more, unless it was answered.
struct Awaited<'a> {
    made: &'a Mutex<Vec<Made>>,
    place: usize,
    answered: bool,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made[self.place].taken = self.answered;
    }
}

/// A call that was made.
struct Made {
    service: &'static str,
    operation: &'static str,
    key: Arc<str>,
    payload: Bytes,
    /// It was answered, or its answer is still awaited.
    taken: bool,
}

impl<W: World> std::fmt::Debug for Outside<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl<'a, W: World> Outside<'a, W> {
    /// A context for a call under the claim with this fencing token; 0 where there is no claim.
    pub fn new(world: &'a W, event: &'a Event, token: u64, scope: Scope<'a>) -> Self {
        Self {
            world,
            event,
            token,
            scope,
            made: Mutex::default(),
        }
    }

    /// The same for every attempt at this work.
    pub fn idempotency_key(&self) -> &Arc<str> {
        &self.event.idempotency_key
    }

    /// Rises with every take-over of the claim.
    pub fn fencing_token(&self) -> u64 {
        self.token
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.scope.attempt
    }

    /// The event's envelope.
    pub fn event(&self) -> &Event {
        self.event
    }

    /// Calls a service with this work's idempotency key and fencing token. The same call may be made
    /// again where it was not answered.
    ///
    /// # Errors
    /// See [`ServiceError`]. Another call of that operation in the same run is
    /// [`ServiceError::Refused`]: the service would take it for a repetition of the first and answer
    /// from memory. [`Outside::call_named`] tells the two apart.
    pub async fn call(
        &self,
        service: &'static str,
        operation: &'static str,
        payload: impl Into<Bytes>,
    ) -> Result<ServiceReply, ServiceError> {
        let key = self.event.idempotency_key.clone();
        self.call_under(key, service, operation, payload.into())
            .await
    }

    /// Calls a service under an idempotency key of its own: that of this work, and `name`. For a
    /// handler that needs an operation more than once. The name has to be the same in each attempt:
    /// `fee`, `line-2`, never a number that was drawn.
    ///
    /// # Errors
    /// As [`Outside::call`].
    pub async fn call_named(
        &self,
        service: &'static str,
        operation: &'static str,
        name: &str,
        payload: impl Into<Bytes>,
    ) -> Result<ServiceReply, ServiceError> {
        let key = [&*self.event.idempotency_key, "/", name].concat();
        self.call_under(key.into(), service, operation, payload.into())
            .await
    }

    async fn call_under(
        &self,
        key: Arc<str>,
        service: &'static str,
        operation: &'static str,
        payload: Bytes,
    ) -> Result<ServiceReply, ServiceError> {
        let place = self.note(&key, service, operation, &payload)?;
        // Whoever gives up waiting may call again.
        let mut waits = Awaited {
            made: &self.made,
            place,
            answered: false,
        };
        let call = ServiceCall {
            service,
            operation,
            idempotency_key: key,
            fencing_token: self.token,
            payload,
        };
        let reply = self.world.service().call(call).await;
        waits.answered = reply.is_ok();
        reply
    }

    /// Notes a call; gives its place. Refuses what a service could not tell from an earlier one.
    fn note(
        &self,
        key: &Arc<str>,
        service: &'static str,
        operation: &'static str,
        payload: &Bytes,
    ) -> Result<usize, ServiceError> {
        let mut made = self.made();
        let same =
            |made: &Made| (made.service, made.operation, &made.key) == (service, operation, key);
        let Some(place) = made.iter().position(same) else {
            made.push(Made {
                service,
                operation,
                key: key.clone(),
                payload: payload.clone(),
                taken: true,
            });
            return Ok(made.len() - 1);
        };
        let before = &mut made[place];
        if !before.taken && before.payload == *payload {
            before.taken = true;
            return Ok(place);
        }
        Err(ServiceError::Refused {
            service,
            reason: format!(
                "{operation} was called twice in one run under the idempotency key {key}: the \
                 service would answer the second call from the first. Name them apart: \
                 Outside::call_named"
            ),
        })
    }

    fn made(&self) -> MutexGuard<'_, Vec<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
