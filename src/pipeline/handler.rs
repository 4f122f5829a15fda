//! Handlers: what a team writes.
//!
//! A [`Handler`] does its work in one database transaction. An [`OutsideHandler`] also calls a
//! service that no transaction covers: it holds a claim with a lease and a fencing token while
//! the call runs, and applies the answer in a transaction afterwards.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::pipeline::audit::WorkflowHead;
use crate::pipeline::event::{Event, Kind, MAX_PAYLOAD, Malformed, Message, Outgoing, exchange_of};
use crate::pipeline::topology::Subscription;
use crate::ports::{
    Env, EnvExt, Row, Scope, Service, ServiceCall, ServiceError, ServiceReply, Store, StoreError,
    Tx, Versioned, World,
};

/// The transaction type of a world.
pub type TxOf<W> = <<W as World>::Store as Store>::Tx;

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A later attempt may succeed.
    #[error("{class}: {message}")]
    Transient {
        /// For grouping.
        class: &'static str,
        /// For people.
        message: String,
    },
    /// No attempt can succeed.
    #[error("{class}: {message}")]
    Poison {
        /// For grouping.
        class: &'static str,
        /// For people.
        message: String,
    },
    /// The database failed under the handler.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure {
    /// A failure that may pass.
    pub fn transient(class: &'static str, message: impl Into<String>) -> Self {
        Self::Transient {
            class,
            message: message.into(),
        }
    }

    /// A failure for good.
    pub fn poison(class: &'static str, message: impl Into<String>) -> Self {
        Self::Poison {
            class,
            message: message.into(),
        }
    }

    /// The class for grouping.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Transient { class, .. } | Self::Poison { class, .. } => class,
            Self::Store(_) => "store",
        }
    }
}

/// As the pipeline judges errors of its own statements: what may pass is tried again.
#[cfg(feature = "postgres")]
impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(crate::store::postgres::error_within(&error))
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        match &error {
            ServiceError::Refused { .. } => Self::poison("service-refused", error.to_string()),
            ServiceError::Unavailable { .. } => {
                Self::transient("service-unavailable", error.to_string())
            }
            ServiceError::InDoubt { .. } => Self::transient("service-in-doubt", error.to_string()),
        }
    }
}

/// Work in one transaction.
pub trait Handler<W: World>: Send + Sync + 'static {
    /// What it handles.
    type Event: Message;

    /// Does the work. Everything done through `cx` is committed together with the inbox row, or
    /// not at all.
    ///
    /// # Errors
    /// [`Failure::Transient`] to be tried again, [`Failure::Poison`] to be given up.
    fn handle(
        &self,
        event: &Self::Event,
        cx: &mut Cx<'_, W>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Work that leaves the database.
pub trait OutsideHandler<W: World>: Send + Sync + 'static {
    /// What it handles.
    type Event: Message;
    /// What the call gives.
    type Answer: Send + Sync + 'static;

    /// Makes the call, under a claim, outside any transaction. It may be made more than once for
    /// the same event: pass [`Outside::idempotency_key`] on.
    ///
    /// # Errors
    /// As [`Handler::handle`].
    fn call(
        &self,
        event: &Self::Event,
        cx: &Outside<'_, W>,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;

    /// Applies the answer in one transaction, which commits only if the claim still stands.
    ///
    /// # Errors
    /// As [`Handler::handle`].
    fn apply(
        &self,
        event: &Self::Event,
        answer: Self::Answer,
        cx: &mut Cx<'_, W>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What a handler works with: its transaction, and the event's envelope.
pub struct Cx<'a, W: World> {
    tx: &'a mut TxOf<W>,
    env: &'a W::Env,
    cause: Option<&'a Event>,
    scope: Scope<'a>,
    answer: Bytes,
    emitted: u32,
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
            answer: Bytes::new(),
            emitted: 0,
        }
    }

    /// The transaction, for what has no method here.
    pub fn tx(&mut self) -> &mut TxOf<W> {
        self.tx
    }

    /// The connection of the transaction, for SQL of one's own. What it does is committed with all
    /// else that this handler does, or not at all; a statement that fails ends the transaction.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where there is no SQL behind this world: in the seeded world, for a
    /// workload that names no `postgres`.
    #[cfg(feature = "postgres")]
    pub fn sql(&mut self) -> Result<&mut sqlx::PgConnection, StoreError> {
        self.tx.connection().ok_or_else(no_sql)
    }

    /// The connections of the store, for SQL that is to stand whatever becomes of this attempt.
    /// What it does is neither undone with the transaction nor done only once.
    ///
    /// # Errors
    /// As [`Cx::sql`].
    #[cfg(feature = "postgres")]
    pub fn pool(&self) -> Result<sqlx::PgPool, StoreError> {
        self.tx.pool().cloned().ok_or_else(no_sql)
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
    /// See [`StoreError`]; a payload that is not JSON is [`StoreError::Refused`].
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
        self.emitted += 1;
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
            trace: self.cause.and_then(|cause| cause.trace.clone()),
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
        self.answer = answer.into();
    }

    /// Takes the answer kept by [`Cx::answer`].
    pub(crate) fn take_answer(&mut self) -> Bytes {
        std::mem::take(&mut self.answer)
    }
}

#[cfg(feature = "postgres")]
fn no_sql() -> StoreError {
    let text = "the database of this world is a model that takes no SQL; a workload with SQL of its \
                own says so by `Workload::postgres`";
    StoreError::Refused(text.to_owned())
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
    pub(crate) world: &'a W,
    /// The event's envelope.
    pub(crate) event: &'a Event,
    /// The fencing token of the claim.
    pub(crate) token: u64,
    /// On whose behalf.
    pub(crate) scope: Scope<'a>,
}

impl<W: World> std::fmt::Debug for Outside<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl<W: World> Outside<'_, W> {
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

    /// Calls a service with this work's idempotency key and fencing token.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn call(
        &self,
        service: &'static str,
        operation: &'static str,
        payload: impl Into<Bytes>,
    ) -> Result<ServiceReply, ServiceError> {
        let call = ServiceCall {
            service,
            operation,
            idempotency_key: self.event.idempotency_key.clone(),
            fencing_token: self.token,
            payload: payload.into(),
        };
        self.world.service().call(call).await
    }

    /// The connections of the store, for reads beside the call. What is written through them stands
    /// whatever becomes of this attempt, and again after the next one: effects belong into
    /// [`OutsideHandler::apply`].
    ///
    /// # Errors
    /// [`StoreError::Refused`] where there is no SQL behind this world.
    #[cfg(feature = "postgres")]
    pub fn pool(&self) -> Result<sqlx::PgPool, StoreError> {
        self.world.store().pool().cloned().ok_or_else(no_sql)
    }
}

/// An encoded event without envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// [`Message::TYPE`].
    pub event_type: Arc<str>,
    /// [`Message::KIND`].
    pub kind: Kind,
    /// [`Message::VERSION`].
    pub version: u16,
    /// [`Message::ORDERED`].
    pub ordered: bool,
    /// [`Message::key`].
    pub key: Arc<str>,
    /// [`Message::workflow`].
    pub workflow: Arc<str>,
    /// JSON.
    pub payload: Bytes,
}

impl Draft {
    /// Encodes a message.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it is not JSON (a map with keys that are no strings), or
    /// larger than [`MAX_PAYLOAD`].
    pub fn of<M: Message>(message: &M) -> Result<Self, StoreError> {
        let payload = serde_json::to_vec(message)
            .map_err(|e| StoreError::Refused(format!("payload of {}: {e}", M::TYPE)))?;
        if payload.len() > MAX_PAYLOAD {
            let (name, size) = (M::TYPE, payload.len());
            let what = format!("payload of {name}: {size} bytes, {MAX_PAYLOAD} are allowed");
            return Err(StoreError::Refused(what));
        }
        Ok(Self {
            event_type: Arc::from(M::TYPE),
            kind: M::KIND,
            version: M::VERSION,
            ordered: M::ORDERED,
            key: Arc::from(message.key()),
            workflow: Arc::from(message.workflow()),
            payload: payload.into(),
        })
    }
}

/// A boxed future, as the registry keeps them.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A decoded event and what an outside call gave for it, without their types.
pub type Opaque = Box<dyn std::any::Any + Send + Sync>;

/// A handler without its types: one box a message.
pub(crate) trait Erased<W: World>: Send + Sync + 'static {
    /// Whether it leaves the database, and so needs a claim.
    fn is_outside(&self) -> bool;
    /// Decodes the event.
    fn decode(&self, event: &Event) -> Result<Opaque, Malformed>;
    /// The outside call. Nothing for a [`Handler`].
    fn call<'a>(
        &'a self,
        decoded: &'a Opaque,
        cx: &'a Outside<'a, W>,
    ) -> Boxed<'a, Result<Opaque, Failure>>;
    /// The transaction.
    fn apply<'a>(
        &'a self,
        decoded: &'a Opaque,
        answer: Opaque,
        cx: &'a mut Cx<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>>;
}

struct Inside<H>(H);
struct Beyond<H>(H);

fn typed<T: 'static>(opaque: &Opaque) -> &T {
    opaque
        .downcast_ref()
        .expect("a handler gets what its own decode gave")
}

impl<W: World, H: Handler<W>> Erased<W> for Inside<H> {
    fn is_outside(&self) -> bool {
        false
    }
    fn decode(&self, event: &Event) -> Result<Opaque, Malformed> {
        Ok(Box::new(event.decode::<H::Event>()?))
    }
    fn call<'a>(
        &'a self,
        _: &'a Opaque,
        _: &'a Outside<'a, W>,
    ) -> Boxed<'a, Result<Opaque, Failure>> {
        Box::pin(std::future::ready(Ok(Box::new(()) as Opaque)))
    }
    fn apply<'a>(
        &'a self,
        decoded: &'a Opaque,
        _: Opaque,
        cx: &'a mut Cx<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(self.0.handle(typed(decoded), cx))
    }
}

impl<W: World, H: OutsideHandler<W>> Erased<W> for Beyond<H> {
    fn is_outside(&self) -> bool {
        true
    }
    fn decode(&self, event: &Event) -> Result<Opaque, Malformed> {
        Ok(Box::new(event.decode::<H::Event>()?))
    }
    fn call<'a>(
        &'a self,
        decoded: &'a Opaque,
        cx: &'a Outside<'a, W>,
    ) -> Boxed<'a, Result<Opaque, Failure>> {
        Box::pin(async move {
            let answer = self.0.call(typed(decoded), cx).await?;
            Ok(Box::new(answer) as Opaque)
        })
    }
    fn apply<'a>(
        &'a self,
        decoded: &'a Opaque,
        answer: Opaque,
        cx: &'a mut Cx<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>> {
        let answer = *answer
            .downcast::<H::Answer>()
            .expect("the answer of this handler's call");
        Box::pin(self.0.apply(typed(decoded), answer, cx))
    }
}

/// The handlers of one consumer, by event type.
pub struct Consumer<W: World> {
    name: Arc<str>,
    handlers: BTreeMap<&'static str, (Kind, Arc<dyn Erased<W>>)>,
}

impl<W: World> std::fmt::Debug for Consumer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("name", &self.name)
            .field("types", &self.handlers.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl<W: World> Consumer<W> {
    /// A consumer with a queue of its own, named alike.
    pub fn new(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            handlers: BTreeMap::new(),
        }
    }

    /// Adds a handler that stays in the database.
    #[must_use]
    pub fn on<H: Handler<W>>(mut self, handler: H) -> Self {
        self.add(H::Event::TYPE, H::Event::KIND, Arc::new(Inside(handler)));
        self
    }

    /// Adds a handler that leaves the database.
    #[must_use]
    pub fn on_outside<H: OutsideHandler<W>>(mut self, handler: H) -> Self {
        self.add(H::Event::TYPE, H::Event::KIND, Arc::new(Beyond(handler)));
        self
    }

    fn add(&mut self, event_type: &'static str, kind: Kind, handler: Arc<dyn Erased<W>>) {
        let before = self.handlers.insert(event_type, (kind, handler));
        assert!(
            before.is_none(),
            "{} has two handlers for {event_type}",
            self.name
        );
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its queue and the types bound to it.
    pub fn subscription(&self) -> Subscription {
        let types = self
            .handlers
            .iter()
            .map(|(t, (kind, _))| (Arc::from(*t), *kind))
            .collect();
        Subscription {
            consumer: self.name.clone(),
            types,
        }
    }

    /// Puts something around every handler.
    #[cfg_attr(
        not(feature = "sim"),
        expect(dead_code, reason = "only the harness wraps")
    )]
    pub(crate) fn map(mut self, wrap: impl Fn(Arc<dyn Erased<W>>) -> Arc<dyn Erased<W>>) -> Self {
        for (_, handler) in self.handlers.values_mut() {
            *handler = wrap(handler.clone());
        }
        self
    }

    pub(crate) fn handler(&self, event_type: &str) -> Option<&Arc<dyn Erased<W>>> {
        self.handlers.get(event_type).map(|(_, handler)| handler)
    }
}
