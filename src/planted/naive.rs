//! A consumer as teams write it before they know better, in parts: what goes wrong is put
//! together from them, one bug a file.
//!
//! It takes one delivery after the other, runs the handler, commits, and acks. It has no inbox, no
//! claims and no order; what fails it sends round again, or into the dead letters, by the policy.

use std::sync::Arc;
use std::time::Duration;

use crate::pipeline::dead_letter::{DeadLetter, Reason};
use crate::pipeline::event::Event;
use crate::pipeline::handler::{Consumer, Cx, Failure, Opaque, Outside, TxOf};
use crate::pipeline::policy::Policy;
use crate::pipeline::retry::Next;
use crate::ports::{
    Delivery, Env, Receiver, Scope, Settlement, Store, Transport, TransportError, Tx, World,
};

/// The subscription type of a world.
pub(super) type ReceiverOf<W> = <<W as World>::Transport as Transport>::Receiver;

/// See the module.
#[derive(Debug)]
pub(super) struct Naive<W: World> {
    pub(super) world: W,
    pub(super) consumer: Consumer<W>,
    pub(super) policy: Policy,
}

impl<W: World> Naive<W> {
    pub(super) fn new(world: W, consumer: Consumer<W>, policy: Policy) -> Self {
        Self {
            world,
            consumer,
            policy,
        }
    }

    /// Handles every delivery, one after the other, for ever.
    pub(super) async fn each(
        &self,
        handle: impl AsyncFn(&ReceiverOf<W>, &Delivery) -> Result<(), TransportError>,
    ) {
        loop {
            let receiver = self.subscribe(self.policy.consumer.prefetch).await;
            while let Ok(delivery) = receiver.receive().await {
                if handle(&receiver, &delivery).await.is_err() {
                    break;
                }
            }
            receiver.close().await;
        }
    }

    /// Handles every event, one after the other, for ever, and settles it as `decide` says. Bytes
    /// that are no event are acked and gone.
    pub(super) async fn settle_each(&self, decide: impl AsyncFn(&Delivery, &Event) -> Settlement) {
        self.each(async |mail, delivery| {
            let settlement = match &delivery.event {
                Ok(event) => decide(delivery, event).await,
                Err(_) => Settlement::Done,
            };
            mail.settle(delivery, settlement).await
        })
        .await;
    }

    /// Subscribes, and insists.
    pub(super) async fn subscribe(&self, prefetch: u16) -> ReceiverOf<W> {
        let (env, queue) = (self.world.env(), self.consumer.name());
        let name = format!("{}#{}", env.process(), env.incarnation());
        loop {
            match self
                .world
                .transport()
                .receiver(&name, queue, prefetch)
                .await
            {
                Ok(receiver) => return receiver,
                Err(_) => env.sleep(Duration::from_secs(1)).await,
            }
        }
    }

    pub(super) fn scope<'a>(&'a self, event: &'a Event, attempt: u32) -> Scope<'a> {
        Scope {
            consumer: self.consumer.name(),
            subject: &event.idempotency_key,
            attempt,
        }
    }

    /// The outside call, where the handler has one; without a claim.
    pub(super) async fn call(&self, event: &Event, attempt: u32) -> Result<Opaque, Failure> {
        let (handler, decoded) = self.decode(event)?;
        if !handler.is_outside() {
            return Ok(Box::new(()));
        }
        let outside = Outside {
            world: &self.world,
            event,
            token: 0,
            scope: self.scope(event, attempt),
        };
        handler.call(&decoded, &outside).await
    }

    /// The handler's part in a transaction; does not commit.
    pub(super) async fn apply(
        &self,
        event: &Event,
        attempt: u32,
        answer: Opaque,
        tx: &mut TxOf<W>,
    ) -> Result<(), Failure> {
        let (handler, decoded) = self.decode(event)?;
        let scope = self.scope(event, attempt);
        let mut cx = Cx::<W>::new(tx, self.world.env(), Some(event), scope);
        handler.apply(&decoded, answer, &mut cx).await
    }

    fn decode(
        &self,
        event: &Event,
    ) -> Result<(&Arc<dyn crate::pipeline::handler::Erased<W>>, Opaque), Failure> {
        let handler = self.consumer.handler(&event.event_type);
        let handler = handler.ok_or_else(|| Failure::poison("unknown-type", &*event.event_type))?;
        let decoded = handler.decode(event);
        let decoded = decoded.map_err(|bad| Failure::poison(bad.reason.as_str(), bad.detail))?;
        Ok((handler, decoded))
    }

    /// Runs the handler. Its transaction is left open.
    pub(super) async fn work(&self, event: &Event, attempt: u32) -> Result<TxOf<W>, Failure> {
        let answer = self.call(event, attempt).await?;
        let mut tx = self.world.store().begin(self.scope(event, attempt)).await?;
        self.apply(event, attempt, answer, &mut tx).await?;
        Ok(tx)
    }

    /// Runs the handler and commits.
    pub(super) async fn done(&self, event: &Event, attempt: u32) -> Result<(), Failure> {
        Ok(self.work(event, attempt).await?.commit().await?)
    }

    /// What the policy says about a failed attempt, without an inbox to ask.
    pub(super) fn after(
        &self,
        delivery: &Delivery,
        event: &Event,
        failure: &Failure,
    ) -> Settlement {
        let (env, attempt) = (self.world.env(), delivery.attempt);
        let now = env.now();
        let first_failure = delivery.first_failure.unwrap_or(now);
        let chance = env.random("retry.jitter", self.scope(event, attempt));
        let next = match failure {
            Failure::Poison { .. } => return self.bury(delivery, Reason::Poison, failure),
            _ => self
                .policy
                .retry
                .next(attempt, now.since(first_failure), chance),
        };
        match next {
            Next::After(delay) => Settlement::RetryAfter {
                delay,
                attempt: attempt + 1,
                first_failure,
            },
            Next::AttemptsExhausted => self.bury(delivery, Reason::AttemptsExhausted, failure),
            Next::TimeExhausted => self.bury(delivery, Reason::TimeExhausted, failure),
        }
    }

    /// The message becomes a dead letter.
    pub(super) fn bury(&self, from: &Delivery, reason: Reason, failure: &Failure) -> Settlement {
        let env = self.world.env();
        let now = env.now();
        Settlement::DeadLetter(Box::new(DeadLetter {
            reason,
            class: Arc::from(failure.class()),
            error: failure.to_string(),
            attempts: from.attempt,
            first_failure: from.first_failure.unwrap_or(now),
            last_failure: now,
            consumer: self.consumer.name().clone(),
            queue: from.queue.clone(),
            exchange: from.exchange.clone(),
            routing_key: from.routing_key.clone(),
            worker: Arc::from(env.process()),
        }))
    }
}
