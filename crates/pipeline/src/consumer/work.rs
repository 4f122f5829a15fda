//! What shall become of one delivery.
//!
//! The inbox row decides first: ended work is acked, held work is parked, failed work waits for
//! its backoff. Then the attempt is made, in one transaction or under a claim.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, attempt};
use crate::handler::{Failure, Opaque, TxOf};
use redeliver_core::dead_letter::{DeadLetter, MAX_ERROR_BYTES, Reason, bounded};
use redeliver_core::event::{Event, Malformed};
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::ports::store::Place;
use redeliver_core::ports::{
    Delivery, Env, Scope, Settlement, Store, StoreError, Timestamp, Tx, World,
};
use redeliver_core::retry::Next;

/// One delivery of a decodable event, with everything that handling it needs.
pub(super) struct Job<'a, W: World> {
    pub(super) shared: &'a Shared<W>,
    pub(super) delivery: &'a Delivery,
    pub(super) event: &'a Event,
    pub(super) place: Option<Place>,
    pub(super) handler: &'a dyn crate::handler::Erased<W>,
    pub(super) decoded: Opaque,
}

/// What an opened inbox row allows.
pub(super) enum Gate {
    /// An attempt of this number may begin.
    Attempt(u32),
    /// Nothing is to be done but to settle.
    Settle(Settlement),
    /// It is given up now, without another attempt.
    GiveUp(Reason, String),
}

/// What becomes of a delivery.
pub(super) struct Decision {
    pub(super) settlement: Settlement,
    /// Its number in an ordered key was passed by this: the next may begin.
    pub(super) passed: bool,
}

impl From<Settlement> for Decision {
    fn from(settlement: Settlement) -> Self {
        Self {
            settlement,
            passed: false,
        }
    }
}

/// Decides what becomes of a delivery. It never fails: every failure has a settlement. `place` is that
/// of a kept message, where the caller knows it.
pub(super) async fn decide<W: World>(
    shared: &Shared<W>,
    delivery: &Delivery,
    place: Option<Place>,
) -> Decision {
    let event = match &delivery.event {
        Ok(event) => event.clone(),
        // There is no key under which the inbox could know it.
        Err(malformed) => return malformed_letter(shared, delivery, malformed).into(),
    };
    // The database failed between attempts: nothing is known to have happened, nothing is
    // counted, and the message waits in the broker.
    let decided = decide_event(shared, delivery, &event, place).await;
    decided.unwrap_or_else(|error| {
        tracing::warn!(%error, event = %event.id, "the message waits for the database");
        let delay = shared.policy.consumer.park;
        Settlement::Park { delay }.into()
    })
}

async fn decide_event<W: World>(
    shared: &Shared<W>,
    delivery: &Delivery,
    event: &Event,
    known: Option<Place>,
) -> Result<Decision, StoreError> {
    let mut work = Work {
        shared,
        delivery,
        event,
        place: known,
    };
    if event.sequence.is_some() && known.is_none() {
        let on = work.scope(delivery.attempt);
        work.place = Some(shared.world.store().order_keep(on, delivery).await?);
    }
    // It waits for its turn even to be given up: a hole in the order would hold its followers for
    // ever.
    if work.place == Some(Place::Early) {
        return Ok(Settlement::Kept.into());
    }
    match decode(&work) {
        Ok(job) => attempt::make(&job).await,
        Err(malformed) => {
            let story = story_of_malformed(shared, delivery, &malformed);
            work.give_up_with(story).await
        }
    }
}

fn decode<'a, W: World>(work: &Work<'a, W>) -> Result<Job<'a, W>, Malformed> {
    let (shared, event) = (work.shared, work.event);
    let unknown = || Malformed {
        reason: redeliver_core::event::MalformedReason::UnknownType,
        detail: format!(
            "{} has no handler for {}",
            shared.consumer.name(),
            event.event_type
        ),
        message_id: Some(event.id),
    };
    let handler = &**shared
        .consumer
        .handler(&event.event_type)
        .ok_or_else(unknown)?;
    let decoded = handler.decode(event)?;
    Ok(Job {
        shared,
        delivery: work.delivery,
        event,
        place: work.place,
        handler,
        decoded,
    })
}

/// The parts of a job that do not need a handler.
pub(super) struct Work<'a, W: World> {
    pub(super) shared: &'a Shared<W>,
    pub(super) delivery: &'a Delivery,
    pub(super) event: &'a Event,
    /// Where an ordered event stands; not early, since such a one waits.
    pub(super) place: Option<Place>,
}

impl<'a, W: World> Job<'a, W> {
    pub(super) fn work(&self) -> Work<'a, W> {
        Work {
            shared: self.shared,
            delivery: self.delivery,
            event: self.event,
            place: self.place,
        }
    }
}

impl<W: World> Work<'_, W> {
    pub(super) fn scope(&self, attempt: u32) -> Scope<'_> {
        Scope {
            consumer: self.shared.consumer.name(),
            subject: &self.event.idempotency_key,
            attempt,
        }
    }

    pub(super) async fn open(&self, attempt: u32) -> Result<(TxOf<W>, InboxRow), StoreError> {
        let mut tx = self.shared.world.store().begin(self.scope(attempt)).await?;
        let consumer = self.shared.consumer.name();
        let row = tx.inbox_open(consumer, &self.event.idempotency_key).await?;
        Ok((tx, row))
    }

    /// What the row allows, before any order is looked at.
    pub(super) fn gate(&self, row: &InboxRow) -> Gate {
        match &row.state {
            InboxState::Done { .. }
            | InboxState::Dead {
                published: true, ..
            } => {
                return Gate::Settle(Settlement::Done);
            }
            InboxState::Dead {
                story,
                published: false,
            } => {
                return Gate::Settle(Settlement::DeadLetter(story.clone()));
            }
            InboxState::Open | InboxState::Claimed { .. } => {}
        }
        // A claim that is over and a backoff that is over are seen at once: the delay queue gives
        // the message back after this wait, not before.
        if let Some(left) = row.live_claim() {
            let delay = left + self.distance();
            return Gate::Settle(Settlement::Park { delay });
        }
        if let Some(delay) = row.backoff() {
            return Gate::Settle(Settlement::Park { delay });
        }
        let attempt = row.next_attempt(self.delivery.attempt);
        if attempt > self.shared.policy.retry.attempts {
            let what = format!(
                "{} attempts were begun and none came to an end",
                row.attempts
            );
            return Gate::GiveUp(Reason::KilledWorker, what);
        }
        Gate::Attempt(attempt)
    }

    /// How much longer than the claim a message waits that came back from a worker. If that one
    /// died, one of its messages may have killed it. Their claims end together; handed out together
    /// again, the killer would take the others along, until all are given up. So they are spread
    /// over another lease: delay queues are few, and less would leave too many in the same one.
    fn distance(&self) -> Duration {
        if !self.delivery.redelivered {
            return Duration::ZERO;
        }
        let env = self.shared.world.env();
        let chance = env.random("claim.distance", self.scope(self.delivery.attempt));
        let most = u64::try_from(self.shared.policy.consumer.lease.as_nanos());
        let most = most.unwrap_or(u64::MAX);
        Duration::from_nanos(((u128::from(most) * u128::from(chance)) >> 64) as u64)
    }

    /// Passes the number of an ordered event whose turn it is; gives whether that was done.
    pub(super) async fn pass(&self, tx: &mut TxOf<W>) -> Result<bool, StoreError> {
        match (self.event.sequence, self.place) {
            (Some(sequence), Some(Place::Next)) => {
                let scope = self.event.order_scope();
                let consumer = self.shared.consumer.name();
                tx.order_pass(consumer, &scope, sequence).await
            }
            _ => Ok(false),
        }
    }

    /// Records a failed attempt and says what follows from it.
    pub(super) async fn failed(
        &self,
        attempt: u32,
        token: Option<u64>,
        failure: Failure,
    ) -> Result<Decision, StoreError> {
        let (mut tx, mut row) = self.open(attempt).await?;
        let lost = token.is_some_and(|token| !row.holds(token));
        if lost || !matches!(row.state, InboxState::Open | InboxState::Claimed { .. }) {
            // Somebody else has taken over or ended this work: their word counts.
            tx.rollback().await;
            let delay = self.shared.policy.consumer.park;
            return Ok(Settlement::Park { delay }.into());
        }
        let policy = &self.shared.policy.retry;
        let first = row
            .first_failure
            .or(self.delivery.first_failure)
            .unwrap_or(row.now);
        let chance = self
            .shared
            .world
            .env()
            .random("retry.jitter", self.scope(attempt));
        let next = match &failure {
            Failure::Poison { .. } => Err(Reason::Poison),
            _ => match policy.next(attempt, row.now.since(first), chance) {
                Next::After(delay) => Ok(delay),
                Next::AttemptsExhausted => Err(Reason::AttemptsExhausted),
                Next::TimeExhausted => Err(Reason::TimeExhausted),
            },
        };
        row.first_failure = Some(first);
        match next {
            Ok(delay) => {
                row.failed(attempt, delay);
                tx.inbox_save(&row).await?;
                tx.commit().await?;
                let settlement = Settlement::RetryAfter {
                    delay,
                    attempt: attempt + 1,
                    first_failure: first,
                };
                Ok(settlement.into())
            }
            Err(reason) => {
                let story =
                    self.story(&row, reason, failure.class(), &failure.to_string(), attempt);
                self.bury(tx, row, story).await
            }
        }
    }

    /// Gives work up whose inbox row is open in `tx`.
    pub(super) async fn bury(
        &self,
        mut tx: TxOf<W>,
        mut row: InboxRow,
        story: DeadLetter,
    ) -> Result<Decision, StoreError> {
        let story = Box::new(story);
        row.attempts = row.attempts.max(story.attempts);
        row.state = InboxState::Dead {
            story: story.clone(),
            published: false,
        };
        tx.inbox_save(&row).await?;
        // Its followers must not wait for ever behind it.
        let passed = self.pass(&mut tx).await?;
        tx.commit().await?;
        Ok(Decision {
            settlement: Settlement::DeadLetter(story),
            passed,
        })
    }

    /// Gives work up for a reason that is known before any attempt.
    async fn give_up_with(&self, story: DeadLetter) -> Result<Decision, StoreError> {
        let (tx, row) = self.open(self.delivery.attempt).await?;
        match self.gate(&row) {
            Gate::Settle(settlement @ (Settlement::Done | Settlement::DeadLetter(_))) => {
                self.settle_ended(tx, settlement).await
            }
            _ if self.place == Some(Place::Past) => self.settle_ended(tx, Settlement::Done).await,
            _ => self.bury(tx, row, story).await,
        }
    }

    /// Settles a delivery of work that has ended before. If its event holds a place of its own in
    /// an order (a producer sent the same work twice), that place is passed now.
    pub(super) async fn settle_ended(
        &self,
        mut tx: TxOf<W>,
        settlement: Settlement,
    ) -> Result<Decision, StoreError> {
        let passed = self.pass(&mut tx).await?;
        match passed {
            true => tx.commit().await?,
            false => tx.rollback().await,
        }
        Ok(Decision { settlement, passed })
    }

    pub(super) fn story(
        &self,
        row: &InboxRow,
        reason: Reason,
        class: &str,
        error: &str,
        attempts: u32,
    ) -> DeadLetter {
        let first = row
            .first_failure
            .or(self.delivery.first_failure)
            .unwrap_or(row.now);
        story(
            self.shared,
            self.delivery,
            (reason, class, error),
            attempts,
            (first, row.now),
        )
    }
}

fn story<W: World>(
    shared: &Shared<W>,
    delivery: &Delivery,
    (reason, class, error): (Reason, &str, &str),
    attempts: u32,
    (first_failure, last_failure): (Timestamp, Timestamp),
) -> DeadLetter {
    DeadLetter {
        reason,
        class: Arc::from(class),
        error: bounded(error, MAX_ERROR_BYTES),
        attempts,
        first_failure,
        last_failure,
        consumer: shared.consumer.name().clone(),
        queue: delivery.queue.clone(),
        exchange: delivery.exchange.clone(),
        routing_key: delivery.routing_key.clone(),
        worker: shared.worker.clone(),
    }
}

fn story_of_malformed<W: World>(
    shared: &Shared<W>,
    delivery: &Delivery,
    malformed: &Malformed,
) -> DeadLetter {
    let now = shared.world.env().now();
    let what = (
        Reason::Malformed,
        malformed.reason.as_str(),
        &*malformed.detail,
    );
    story(shared, delivery, what, delivery.attempt, (now, now))
}

fn malformed_letter<W: World>(
    shared: &Shared<W>,
    delivery: &Delivery,
    malformed: &Malformed,
) -> Settlement {
    Settlement::DeadLetter(Box::new(story_of_malformed(shared, delivery, malformed)))
}

/// Notes that a dead letter is in its queue, so that later duplicates do not publish it again.
/// If this fails, a later duplicate does: the letter is there at least once.
pub(super) async fn dead_letter_published<W: World>(shared: &Shared<W>, delivery: &Delivery) {
    let Ok(event) = &delivery.event else { return };
    let work = Work {
        shared,
        delivery,
        event,
        place: None,
    };
    let noted = async {
        let (mut tx, mut row) = work.open(delivery.attempt).await?;
        if let InboxState::Dead {
            published: published @ false,
            ..
        } = &mut row.state
        {
            *published = true;
            tx.inbox_save(&row).await?;
            tx.commit().await?;
        } else {
            tx.rollback().await;
        }
        Ok::<(), StoreError>(())
    };
    if let Err(error) = noted.await {
        tracing::info!(%error, "a duplicate of this message may publish its dead letter again");
    }
}
