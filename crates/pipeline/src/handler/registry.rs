//! The handlers of a consumer, found by the type of an event.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Batch, BatchHandler, Cx, Failure, Handler, Outside, OutsideHandler};
use redeliver_core::event::{Event, Kind, Malformed, Message};
use redeliver_core::ports::World;
use redeliver_core::topology::Subscription;

pub use redeliver_core::boxed::Boxed;

/// A decoded event and what an outside call gave for it, without their types.
pub type Opaque = Box<dyn std::any::Any + Send + Sync>;

/// A handler without its types: one box a message. For what wraps or replaces a consumer; not
/// stable.
pub trait Erased<W: World>: Send + Sync + 'static {
    /// Whether it leaves the database, and so needs a claim.
    fn is_outside(&self) -> bool {
        false
    }
    /// Decodes the event.
    fn decode(&self, event: &Event) -> Result<Opaque, Malformed>;
    /// The outside call. Nothing for a handler that stays in the database.
    fn call<'a>(
        &'a self,
        decoded: &'a Opaque,
        cx: &'a Outside<'a, W>,
    ) -> Boxed<'a, Result<Opaque, Failure>> {
        let _ = (decoded, cx);
        Box::pin(std::future::ready(Ok(Box::new(()) as Opaque)))
    }
    /// The transaction.
    fn apply<'a>(
        &'a self,
        decoded: &'a Opaque,
        answer: Opaque,
        cx: &'a mut Cx<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>>;
    /// Whether it takes several messages at once.
    fn takes_batches(&self) -> bool {
        false
    }
    /// The transaction of several messages. Of a handler that takes one at a time it is never asked.
    fn apply_all<'a>(
        &'a self,
        decoded: &'a [Opaque],
        cx: &'a mut Batch<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>> {
        let _ = (decoded, cx);
        let what = "this handler takes one message at a time";
        Box::pin(std::future::ready(Err(Failure::transient("batch", what))))
    }
}

struct Inside<H>(H);
struct Together<H>(H);
struct Beyond<H>(H);

fn typed<T: 'static>(opaque: &Opaque) -> &T {
    opaque
        .downcast_ref()
        .expect("a handler gets what its own decode gave")
}

impl<W: World, H: Handler<W>> Erased<W> for Inside<H> {
    fn decode(&self, event: &Event) -> Result<Opaque, Malformed> {
        Ok(Box::new(event.decode::<H::Event>()?))
    }
    fn apply<'a>(
        &'a self,
        decoded: &'a Opaque,
        _: Opaque,
        cx: &'a mut Cx<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(async move {
            let done = self.0.handle(typed(decoded), cx).await;
            done.map_err(Failure::judged::<W::Store>)
        })
    }
}

impl<W: World, H: BatchHandler<W>> Erased<W> for Together<H> {
    fn decode(&self, event: &Event) -> Result<Opaque, Malformed> {
        Ok(Box::new(event.decode::<H::Event>()?))
    }
    fn apply<'a>(
        &'a self,
        decoded: &'a Opaque,
        _: Opaque,
        cx: &'a mut Cx<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(async move {
            let Some(mut batch) = cx.batch_of_one() else {
                let what = "a message is handled, and this is none";
                return Err(Failure::poison("batch", what));
            };
            let done = self.0.handle_all(&[typed(decoded)], &mut batch).await;
            done.map_err(Failure::judged::<W::Store>)
        })
    }
    fn takes_batches(&self) -> bool {
        true
    }
    fn apply_all<'a>(
        &'a self,
        decoded: &'a [Opaque],
        cx: &'a mut Batch<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(async move {
            let events: Vec<&H::Event> = decoded.iter().map(typed).collect();
            let done = self.0.handle_all(&events, cx).await;
            done.map_err(Failure::judged::<W::Store>)
        })
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
            let answer = self.0.call(typed(decoded), cx).await;
            let answer = answer.map_err(Failure::judged::<W::Store>)?;
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
        Box::pin(async move {
            let done = self.0.apply(typed(decoded), answer, cx).await;
            done.map_err(Failure::judged::<W::Store>)
        })
    }
}

/// The handlers of one consumer, by event type.
pub struct Consumer<W: World> {
    name: Arc<str>,
    handlers: BTreeMap<&'static str, (Kind, Arc<dyn Erased<W>>)>,
    has_ordered: bool,
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
            has_ordered: false,
        }
    }

    /// Adds a handler that stays in the database.
    #[must_use]
    pub fn on<H: Handler<W>>(mut self, handler: H) -> Self {
        self.add::<H::Event>(Arc::new(Inside(handler)));
        self
    }

    /// Adds a handler that takes several messages in one transaction. How many at most says
    /// [`ConsumerPolicy::batch`](redeliver_core::policy::ConsumerPolicy::batch), which is 1 unless said.
    ///
    /// # Panics
    /// Where the order of its events matters: they are handled one after the other.
    #[must_use]
    pub fn on_batch<H: BatchHandler<W>>(mut self, handler: H) -> Self {
        assert!(
            !<H::Event as Message>::ORDERED,
            "{} is ordered: its events are handled one by one, not in batches",
            <H::Event as Message>::TYPE
        );
        self.add::<H::Event>(Arc::new(Together(handler)));
        self
    }

    /// Adds a handler that leaves the database.
    #[must_use]
    pub fn on_outside<H: OutsideHandler<W>>(mut self, handler: H) -> Self {
        self.add::<H::Event>(Arc::new(Beyond(handler)));
        self
    }

    fn add<M: Message>(&mut self, handler: Arc<dyn Erased<W>>) {
        let before = self.handlers.insert(M::TYPE, (M::KIND, handler));
        assert!(
            before.is_none(),
            "{} has two handlers for {}",
            self.name,
            M::TYPE
        );
        self.has_ordered |= M::ORDERED;
    }

    /// Whether it handles events whose order matters.
    pub fn has_ordered(&self) -> bool {
        self.has_ordered
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
    #[must_use]
    pub fn map(mut self, wrap: impl Fn(Arc<dyn Erased<W>>) -> Arc<dyn Erased<W>>) -> Self {
        for (_, handler) in self.handlers.values_mut() {
            *handler = wrap(handler.clone());
        }
        self
    }

    /// The handler of events of this type.
    pub fn handler(&self, event_type: &str) -> Option<&Arc<dyn Erased<W>>> {
        self.handlers.get(event_type).map(|(_, handler)| handler)
    }
}
