//! Messages of an ordered key that came before their turn.
//!
//! They wait in the store, acked. The worker that passes a number handles its successor next, and goes
//! on until none is there: a message is handed over once by the broker and once by the store,
//! however many wait. What a worker left behind that died or was asked to stop is found
//! by a look from time to time.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::work::{self, Decision};
use super::{ReceiverOf, Shared};
use crate::relay::until;
use redeliver_core::event::Event;
use redeliver_core::ports::store::Place;
use redeliver_core::ports::{Delivery, Env, Settlement, Store, TransportError, World};

/// Where messages are parked for a shorter time, looks are no closer than this.
const OFTEN_ENOUGH: Duration = Duration::from_millis(250);

/// Kept messages that nobody takes on, for the workers of a subscription.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    found: Mutex<VecDeque<Delivery>>,
    news: Notify,
}

impl Overdue {
    fn found(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next one; waits until there is one.
    pub(super) async fn next(&self) -> Delivery {
        loop {
            // Registered first: what is found in between wakes it.
            let news = self.news.notified();
            if let Some(delivery) = self.found().pop_front() {
                return delivery;
            }
            news.await;
        }
    }

    fn add(&self, found: Vec<Delivery>) {
        let count = found.len();
        self.found().extend(found);
        (0..count).for_each(|_| self.news.notify_one());
    }
}

/// Looks for kept messages that nobody takes on: at the start, for what the last process left, and
/// then again and again where the consumer has ordered events or found some.
pub(super) async fn look_until_stopped<W: World>(
    shared: &Shared<W>,
    overdue: &Overdue,
    stopped: &mut watch::Receiver<bool>,
) {
    let every = shared.policy.consumer.park.max(OFTEN_ENOUGH);
    let most = u32::from(shared.policy.consumer.workers);
    let mut looks = shared.consumer.has_ordered();
    loop {
        // Where workers have not begun with the last ones, more would only wait here.
        if overdue.found().is_empty() {
            let store = shared.world.store();
            match store
                .order_overdue(shared.consumer.name(), every, most)
                .await
            {
                Ok(found) => {
                    looks |= !found.is_empty();
                    overdue.add(found);
                }
                Err(error) => tracing::info!(%error, "kept messages wait for the next look"),
            }
        }
        let stop = pin!(async {
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        let rest = async {
            match looks {
                true => shared.world.env().sleep(every).await,
                false => std::future::pending().await,
            }
        };
        if until(stop, rest).await.is_none() {
            return;
        }
    }
}

/// Whether the turn of a message has come while it was put down: its predecessor may have ended in
/// between and found nobody.
pub(super) async fn is_next<W: World>(shared: &Shared<W>, event: &Event) -> bool {
    let (store, consumer) = (shared.world.store(), shared.consumer.name());
    match store.order_next(consumer, &event.order_scope()).await {
        Ok(next) => event.sequence == Some(next),
        Err(error) => {
            tracing::info!(%error, "a kept message waits for the next look");
            false
        }
    }
}

/// Takes on one message that nobody takes on, and what waits behind it.
pub(super) async fn take_on<W: World>(
    shared: &Shared<W>,
    receiver: &ReceiverOf<W>,
    delivery: &Delivery,
    stopped: &watch::Receiver<bool>,
) -> Result<(), TransportError> {
    let Ok(event) = &delivery.event else {
        return Ok(());
    };
    let scope = event.order_scope();
    let mut ended = Vec::new();
    let passed = end_one(shared, receiver, (delivery, None), &mut ended).await;
    forget(shared, &scope, &ended).await;
    match passed? {
        true => follow(shared, receiver, &scope, stopped).await,
        false => Ok(()),
    }
}

/// Takes on the kept messages of a scope for as long as their turn comes.
pub(super) async fn follow<W: World>(
    shared: &Shared<W>,
    receiver: &ReceiverOf<W>,
    scope: &str,
    stopped: &watch::Receiver<bool>,
) -> Result<(), TransportError> {
    let (store, consumer) = (shared.world.store(), shared.consumer.name());
    let limit = u32::from(shared.policy.consumer.prefetch);
    loop {
        let run = match store.order_take(consumer, scope, limit).await {
            Ok(run) if run.is_empty() => return Ok(()),
            Ok(run) => run,
            Err(error) => {
                tracing::info!(%error, scope, "kept messages wait for the next look");
                return Ok(());
            }
        };
        let mut ended = Vec::with_capacity(run.len());
        let mut outcome = Ok(true);
        for delivery in &run {
            if *stopped.borrow() {
                outcome = Ok(false);
                break;
            }
            let known = Some(Place::Next);
            outcome = end_one(shared, receiver, (delivery, known), &mut ended).await;
            if !matches!(outcome, Ok(true)) {
                break;
            }
        }
        forget(shared, scope, &ended).await;
        if !outcome? {
            return Ok(());
        }
    }
}

/// Handles one kept message and settles it; gives whether its number was passed here. One that has
/// left the store, by its end or as a copy, is noted in `ended`.
async fn end_one<W: World>(
    shared: &Shared<W>,
    receiver: &ReceiverOf<W>,
    (delivery, known): (&Delivery, Option<Place>),
    ended: &mut Vec<u64>,
) -> Result<bool, TransportError> {
    let Decision { settlement, passed } = work::decide(shared, delivery, known).await;
    let stays = matches!(settlement, Settlement::Park { .. } | Settlement::Kept);
    super::settle(shared, receiver, delivery, settlement).await?;
    if !stays {
        ended.push(delivery.receipt.tag);
    }
    Ok(passed)
}

/// Removes messages that have ended or gone on as copies. What stays is found to have ended later.
async fn forget<W: World>(shared: &Shared<W>, scope: &str, ended: &[u64]) {
    if ended.is_empty() {
        return;
    }
    let (store, consumer) = (shared.world.store(), shared.consumer.name());
    if let Err(error) = store.order_forget(consumer, scope, ended).await {
        tracing::info!(%error, scope, "messages that have ended stay kept for now");
    }
}
