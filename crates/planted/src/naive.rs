//! A consumer as teams write it before they know better, in parts: what goes wrong is put
//! together from them, one bug a file.
//!
//! It takes one delivery after the other, runs the handler, commits, and acks. It has no inbox, no
//! claims and no order; what fails it sends round again, or into the dead letters, by the policy.

use std::sync::Arc;
use std::time::Duration;

use redeliver_core::dead_letter::{DeadLetter, Reason};
use redeliver_core::event::Event;
use redeliver_core::inbox::InboxState;
use redeliver_core::outbox::{ClaimedRow, RelayClaim};
use redeliver_core::policy::{Policy, RelayPolicy};
use redeliver_core::ports::{
    Delivery, Env, PublishOutcome, Publisher, Receiver, Row, Scope, Settlement, Store, Transport,
    TransportError, Tx, World,
};
use redeliver_core::retry::Next;
use redeliver_pipeline::consumer::at_once;
use redeliver_pipeline::handler::{Consumer, Cx, Failure, Opaque, Outside, TxOf};

/// The ports of a build are the shipped ones, and its consumers are naive: each runs `$run`.
macro_rules! naive_consumer {
    ($run:path) => {
        $crate::ports::shipped_ports!();

        async fn consumer(
            self,
            world: ::redeliver_harness::run::assembly::WorldOf<Self>,
            consumer: ::redeliver_pipeline::handler::Consumer<
                ::redeliver_harness::run::assembly::WorldOf<Self>,
            >,
            policy: ::redeliver_core::policy::Policy,
        ) {
            $run($crate::naive::Naive::new(world, consumer, policy)).await;
        }
    };
}

/// The relays of a build are naive: every round is `$round`, and begins after a look at the clock.
macro_rules! naive_relay {
    ($round:path) => {
        async fn relay(
            self,
            world: ::redeliver_harness::run::assembly::WorldOf<Self>,
            policy: ::redeliver_core::policy::RelayPolicy,
        ) {
            loop {
                $round(&world, &policy).await;
                ::redeliver_core::ports::Env::sleep(&world.env, policy.poll).await;
            }
        }
    };
}

pub(super) use {naive_consumer, naive_relay};

/// Rows that this relay may publish now.
pub(super) async fn claimed<W: World>(world: &W, policy: &RelayPolicy) -> Vec<ClaimedRow> {
    let claim = RelayClaim {
        relay: world.env().process().into(),
        limit: policy.batch,
        lease: policy.lease,
    };
    let rows = world.store().outbox_claim(&claim).await;
    rows.unwrap_or_else(|error| {
        tracing::warn!(%error, "the outbox cannot be read");
        Vec::new()
    })
}

/// Publishes rows over a connection of their own; an outcome for each.
pub(super) async fn published<W: World>(
    world: &W,
    policy: &RelayPolicy,
    rows: &[ClaimedRow],
) -> Vec<PublishOutcome> {
    let batch: Vec<_> = rows.iter().map(|row| row.outgoing.clone()).collect();
    match world.transport().publisher("relay").await {
        Ok(mut publisher) => publisher.publish(&batch, policy.confirm_timeout).await,
        Err(error) => vec![PublishOutcome::InDoubt(error.to_string()); rows.len()],
    }
}

/// Marks a row that was published.
pub(super) async fn mark<W: World>(world: &W, row: &ClaimedRow) {
    if let Err(error) = world.store().outbox_mark(&[(row.id, row.token)]).await {
        tracing::warn!(%error, "a row waits for its lease to end");
    }
}

/// Gives a row back that was not.
pub(super) async fn give_back<W: World>(world: &W, policy: &RelayPolicy, row: &ClaimedRow) {
    let (ids, later) = ([(row.id, row.token)], policy.backoff);
    if let Err(error) = world.store().outbox_release(&ids, later, "failed").await {
        tracing::warn!(%error, "a row waits for its lease to end");
    }
}

/// A line in a team's own table of what was done.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Processed {
    key: String,
}

impl Row for Processed {
    const TABLE: &'static str = "processed";

    fn key(&self) -> String {
        self.key.clone()
    }
}

/// The subscription type of a world.
pub(super) type ReceiverOf<W> = <<W as World>::Transport as Transport>::Receiver;

/// A consumer whose parts can each be replaced by a wrong one.
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

    /// Takes what is there, up to a batch of the policy, does it in one transaction, and settles each
    /// event as `decide` says, which gets how it ended. A batch is acked at its end, and its rows in the
    /// inbox are done.
    pub(super) async fn batches(
        &self,
        decide: impl AsyncFn(&[(&Delivery, &Event)], Result<(), Failure>) -> Vec<Settlement>,
    ) {
        loop {
            let receiver = self.subscribe(self.policy.consumer.prefetch).await;
            while let Ok(first) = receiver.receive().await {
                let mut taken = vec![first];
                while taken.len() < usize::from(self.policy.consumer.batch)
                    && let Some(Ok(next)) = at_once(receiver.receive()).await
                {
                    taken.push(next);
                }
                let batch = taken.iter().filter_map(|delivery| {
                    let event = delivery.event.as_ref().ok()?;
                    Some((delivery, &**event))
                });
                let batch: Vec<(&Delivery, &Event)> = batch.collect();
                let done = self.all_done(&batch).await;
                let decided = decide(&batch, done).await;
                for ((delivery, event), settlement) in batch.iter().zip(decided) {
                    if let Settlement::DeadLetter(story) = &settlement
                        && self.note_dead(delivery, event, story).await.is_err()
                    {
                        break;
                    }
                    if receiver.settle(delivery, settlement).await.is_err() {
                        break;
                    }
                }
            }
            receiver.close().await;
        }
    }

    /// Notes in the inbox that a message was given up.
    async fn note_dead(
        &self,
        delivery: &Delivery,
        event: &Event,
        story: &DeadLetter,
    ) -> Result<(), Failure> {
        let scope = self.scope(event, delivery.attempt);
        let mut tx = self.world.store().begin(scope).await?;
        let key = &event.idempotency_key;
        let mut row = tx.inbox_open(self.consumer.name(), key).await?;
        row.attempts = story.attempts;
        row.state = InboxState::Dead {
            story: Box::new(story.clone()),
            published: true,
        };
        tx.inbox_save(&row).await?;
        Ok(tx.commit().await?)
    }

    /// Everything in one transaction, with the inbox rows of all.
    async fn all_done(&self, batch: &[(&Delivery, &Event)]) -> Result<(), Failure> {
        let Some((first, event)) = batch.first() else {
            return Ok(());
        };
        let scope = self.scope(event, first.attempt);
        let mut tx = self.world.store().begin(scope).await?;
        for (delivery, event) in batch {
            tx.on_behalf(self.scope(event, delivery.attempt));
            let key = &event.idempotency_key;
            let mut row = tx.inbox_open(self.consumer.name(), key).await?;
            if !matches!(row.state, InboxState::Open) {
                continue;
            }
            let answer = self.call(event, delivery.attempt).await?;
            self.apply(event, delivery.attempt, answer, &mut tx).await?;
            row.state = InboxState::Done {
                result: bytes::Bytes::new(),
            };
            row.attempts = delivery.attempt;
            tx.inbox_save(&row).await?;
        }
        Ok(tx.commit().await?)
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
        let scope = self.scope(event, attempt);
        let outside = Outside::new(&self.world, event, 0, scope);
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
    ) -> Result<(&Arc<dyn redeliver_pipeline::handler::Erased<W>>, Opaque), Failure> {
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

    /// Runs the handler and commits, together with the note that `key` is done; not where that
    /// was noted before.
    pub(super) async fn once(&self, event: &Event, attempt: u32, key: &str) -> Result<(), Failure> {
        let answer = self.call(event, attempt).await?;
        let mut tx = self.world.store().begin(self.scope(event, attempt)).await?;
        let note = Processed {
            key: format!("{}/{key}", self.consumer.name()),
        };
        if tx.insert(&note).await?.is_some() {
            tx.rollback().await;
            return Ok(());
        }
        self.apply(event, attempt, answer, &mut tx).await?;
        Ok(tx.commit().await?)
    }

    /// Whether [`Naive::once`] has noted that `key` is done.
    pub(super) async fn is_noted(&self, tx: &mut TxOf<W>, key: &str) -> Result<bool, Failure> {
        let note = format!("{}/{key}", self.consumer.name());
        Ok(tx.get::<Processed>(&note).await?.is_some())
    }

    /// Done, or what the policy says about the failure.
    pub(super) fn judge(
        &self,
        delivery: &Delivery,
        event: &Event,
        done: Result<(), Failure>,
    ) -> Settlement {
        match done {
            Ok(()) => Settlement::Done,
            Err(failure) => self.after(delivery, event, &failure),
        }
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
