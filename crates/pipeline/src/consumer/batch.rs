//! Several messages in one transaction.
//!
//! A worker takes what is there besides the message that it got, for handlers that take several at
//! once. Only messages that nothing is known against share a transaction: their first attempt, never
//! handed over before. One that was may be what killed its worker, and one that has failed would take
//! its neighbours along; they are handled alone, as are those whose order matters.
//!
//! A batch that fails is no attempt of its messages. It is rolled back and tried again in halves, and
//! what is alone in the end goes the way of every message, with its failure counted. So a message that
//! fails costs itself, and its neighbours a few transactions.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::work::{Gate, Work};
use super::{ReceiverOf, Shared, at_once, contained};
use crate::handler::{Batch, Erased, Failure, Opaque};
use redeliver_core::event::Event;
use redeliver_core::inbox::{InboxRow, InboxState};
use redeliver_core::ports::{
    Delivery, EnvExt, Receiver, Scope, Settlement, Store, StoreError, TransportError, Tx, World,
};

/// What a worker has in hand.
pub(super) struct InHand {
    /// Those that share a transaction, each of one event type and of keys that differ.
    pub(super) batches: Vec<Vec<Delivery>>,
    /// Those that are handled by themselves.
    pub(super) alone: Vec<Delivery>,
}

/// Takes what is ready besides `first`, without waiting for it.
pub(super) async fn take_ready<W: World>(
    shared: &Shared<W>,
    receiver: &ReceiverOf<W>,
    first: Delivery,
) -> InHand {
    let most = usize::from(shared.policy.consumer.batch);
    if most < 2 || batches_by(shared, &first).is_none() {
        return InHand {
            batches: Vec::new(),
            alone: vec![first],
        };
    }
    let mut taken = vec![first];
    // An error comes again with the next message that is waited for. After one that is handled alone no
    // more are taken: they would wait for it while others idle.
    while taken.len() < most
        && let Some(Ok(delivery)) = at_once(receiver.receive()).await
    {
        let shares = batches_by(shared, &delivery).is_some();
        taken.push(delivery);
        if !shares {
            break;
        }
    }
    let (mut batches, mut alone) = (
        BTreeMap::<Arc<str>, BTreeMap<Arc<str>, Delivery>>::new(),
        Vec::new(),
    );
    for delivery in taken {
        let batch = batches_by(shared, &delivery).map(|event| {
            let batch = batches.entry(event.event_type.clone()).or_default();
            (batch, event.idempotency_key.clone())
        });
        match batch {
            // A copy of one that is there comes after it.
            Some((batch, key)) if !batch.contains_key(&key) => {
                batch.insert(key, delivery);
            }
            _ => alone.push(delivery),
        }
    }
    let batches = batches
        .into_values()
        .map(|batch| batch.into_values().collect());
    InHand {
        batches: batches.collect(),
        alone,
    }
}

/// The event of a delivery that may share its transaction with others.
fn batches_by<'a, W: World>(shared: &Shared<W>, delivery: &'a Delivery) -> Option<&'a Arc<Event>> {
    let event = delivery.event.as_ref().ok()?;
    let handler = shared.consumer.handler(&event.event_type)?;
    let first_time = delivery.attempt == 1 && !delivery.redelivered && !delivery.kept;
    (first_time && event.sequence.is_none() && handler.takes_batches()).then_some(event)
}

/// Handles messages that share a transaction, and settles them; gives those that are to be handled
/// alone.
pub(super) async fn handle<W: World>(
    shared: &Shared<W>,
    receiver: &ReceiverOf<W>,
    batch: Vec<Delivery>,
) -> Result<Vec<Delivery>, TransportError> {
    let mut alone = Vec::new();
    // The first half is on top.
    let mut todo = vec![batch];
    while let Some(mut batch) = todo.pop() {
        if batch.len() < 2 {
            alone.append(&mut batch);
            continue;
        }
        match attempt(shared, &mut batch, &mut alone).await {
            Ended::Done => receiver.settle_done(&batch).await?,
            Ended::Failed(failure) => {
                let count = batch.len();
                tracing::info!(%failure, count, "a batch failed and is tried in halves");
                let second = batch.split_off(count / 2);
                todo.extend([second, batch]);
            }
            Ended::StoppedAtLimit => {
                let count = batch.len();
                tracing::info!(
                    count,
                    "a batch was stopped at its limit: each is tried alone"
                );
                alone.append(&mut batch);
            }
            Ended::NoDatabase(error) => {
                tracing::warn!(%error, count = batch.len(), "messages wait for the database");
                let delay = shared.policy.consumer.park;
                for delivery in &batch {
                    receiver
                        .settle(delivery, Settlement::Park { delay })
                        .await?;
                }
            }
        }
    }
    Ok(alone)
}

/// How an attempt at a batch ended.
enum Ended {
    /// What was to be done is done, here or before.
    Done,
    Failed(Failure),
    StoppedAtLimit,
    NoDatabase(StoreError),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error @ (StoreError::Unreachable(_) | StoreError::InDoubt(_))) => {
                Self::NoDatabase(error)
            }
            failure => Self::Failed(failure),
        }
    }
}

/// Makes one attempt at a batch in one transaction. What has to be handled alone is moved from it to
/// `alone`.
async fn attempt<W: World>(
    shared: &Shared<W>,
    batch: &mut Vec<Delivery>,
    alone: &mut Vec<Delivery>,
) -> Ended {
    match try_attempt(shared, batch, alone).await {
        Ok(ended) => ended,
        Err(error) => Failure::from(error).into(),
    }
}

async fn try_attempt<W: World>(
    shared: &Shared<W>,
    batch: &mut Vec<Delivery>,
    alone: &mut Vec<Delivery>,
) -> Result<Ended, StoreError> {
    let keys: Vec<Arc<str>> = events(batch)
        .map(|event| event.idempotency_key.clone())
        .collect();
    let Some(first) = batch.first() else {
        return Ok(Ended::Done);
    };
    let mut tx = shared
        .world
        .store()
        .begin(scope(shared, event(first)))
        .await?;
    let rows = tx.inbox_open_all(shared.consumer.name(), &keys).await?;
    let mut rows = sort_out(shared, batch, rows, alone);
    let Some(handler) = batch
        .first()
        .and_then(|first| shared.consumer.handler(&event(first).event_type))
    else {
        tx.rollback().await;
        return Ok(Ended::Done);
    };
    let todo: Vec<&Arc<Event>> = (batch.iter().zip(&rows))
        .filter(|(_, row)| row.state == InboxState::Open)
        .map(|(delivery, _)| event(delivery))
        .collect();
    rows.retain(|row| row.state == InboxState::Open);
    if todo.is_empty() {
        tx.rollback().await;
        return Ok(Ended::Done);
    }
    let mut decoded = Vec::with_capacity(todo.len());
    for event in &todo {
        match handler.decode(event) {
            Ok(one) => decoded.push(one),
            Err(malformed) => {
                tx.rollback().await;
                return Ok(Ended::Failed(Failure::poison(
                    "malformed",
                    malformed.detail,
                )));
            }
        }
    }
    let mut answers = vec![Bytes::new(); todo.len()];
    if let Err(ended) = run(shared, (handler, &decoded), &todo, &mut tx, &mut answers).await {
        tx.rollback().await;
        return Ok(ended);
    }
    for ((row, result), event) in rows.iter_mut().zip(answers).zip(&todo) {
        row.state = InboxState::Done { result };
        row.attempts = row.attempts.max(1);
        tx.on_behalf(scope(shared, event));
        tx.inbox_save(row).await?;
    }
    tx.commit().await?;
    Ok(Ended::Done)
}

/// Runs the handler, within the limit of one message.
async fn run<W: World>(
    shared: &Shared<W>,
    (handler, decoded): (&Arc<dyn Erased<W>>, &[Opaque]),
    events: &[&Arc<Event>],
    tx: &mut <W::Store as Store>::Tx,
    answers: &mut [Bytes],
) -> Result<(), Ended> {
    let env = shared.world.env();
    let messages = events.iter().map(|event| (&***event, scope(shared, event)));
    let messages = messages.collect();
    let mut cx = Batch::<W>::new(tx, env, messages, answers, shared.policy.max_payload);
    let ran = contained(handler.apply_all(decoded, &mut cx));
    match env.timeout(shared.policy.consumer.handler_limit, ran).await {
        Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(failure))) => Err(failure.into()),
        Some(Err(panic)) => Err(Ended::Failed(Failure::transient("panic", panic))),
        None => Err(Ended::StoppedAtLimit),
    }
}

/// Moves what stands against a first attempt to `alone`. The rest is new, or ended before; gives their
/// rows.
fn sort_out<W: World>(
    shared: &Shared<W>,
    batch: &mut Vec<Delivery>,
    rows: Vec<InboxRow>,
    alone: &mut Vec<Delivery>,
) -> Vec<InboxRow> {
    let (mut stay, mut kept) = (
        Vec::with_capacity(rows.len()),
        Vec::with_capacity(rows.len()),
    );
    for (delivery, row) in std::mem::take(batch).into_iter().zip(rows) {
        let work = Work {
            shared,
            delivery: &delivery,
            event: event(&delivery),
            place: None,
        };
        match work.gate(&row) {
            Gate::Attempt(1) if row.state == InboxState::Open => {}
            Gate::Settle(Settlement::Done) => {}
            _ => {
                alone.push(delivery);
                continue;
            }
        }
        stay.push(delivery);
        kept.push(row);
    }
    *batch = stay;
    kept
}

fn event(delivery: &Delivery) -> &Arc<Event> {
    let event = delivery.event.as_ref();
    event.expect("only messages that are events share a transaction")
}

fn events(batch: &[Delivery]) -> impl Iterator<Item = &Arc<Event>> {
    batch.iter().map(event)
}

/// On whose behalf the first attempt at an event is made.
fn scope<'a, W: World>(shared: &'a Shared<W>, event: &'a Event) -> Scope<'a> {
    Scope {
        consumer: shared.consumer.name(),
        subject: &event.idempotency_key,
        attempt: 1,
    }
}
