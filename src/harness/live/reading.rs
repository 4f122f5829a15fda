//! Reading the real servers at the end of a run, and waiting until nothing is left to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Kit;
use super::crew::Crew;
use crate::harness::plan::Plan;
use crate::harness::reading::{FinalReading, Letter, Queued};
use crate::pipeline::event::Event;
use crate::pipeline::inbox::InboxState;
use crate::ports::Store;
use crate::ports::store::Reading;
use crate::rabbitmq::amqp::{Amqp, AmqpChannel, AmqpConnection, AmqpDelivery, AmqpError};
use crate::rabbitmq::envelope::{decode, story_of};
use crate::rabbitmq::topology;

/// Waits until every event has ended at each of its consumers and no queue holds anything; false
/// if that takes longer than `bound` or is stopped from outside.
pub(super) async fn settle(
    kit: &Kit,
    plan: &Plan,
    crew: &Crew,
    bound: Duration,
    stopped: &impl Fn() -> bool,
) -> bool {
    let until = Instant::now() + bound;
    let mut quiet = 0;
    while Instant::now() < until && !stopped() {
        crew.tend().await;
        let rests = plan.all_answered() && at_rest(kit, plan).await;
        quiet = if rests { quiet + 1 } else { 0 };
        if quiet == 2 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

async fn at_rest(kit: &Kit, plan: &Plan) -> bool {
    let Ok(reading) = kit.store.read_all().await else {
        return false;
    };
    if !everything_ended(&reading, plan) {
        return false;
    }
    // Late copies may still be on their way; ready ones can be counted, unacked ones are with a
    // worker and are seen in the second look.
    matches!(ready(kit, plan).await, Ok((0, letters)) if letters >= plan.malformed_letters())
}

fn everything_ended(reading: &Reading, plan: &Plan) -> bool {
    let ended: BTreeSet<(&str, &str)> = reading
        .inbox
        .iter()
        .filter(|row| {
            let state = &row.state;
            matches!(
                state,
                InboxState::Done { .. }
                    | InboxState::Dead {
                        published: true,
                        ..
                    }
            )
        })
        .map(|row| (&*row.consumer, &*row.idempotency_key))
        .collect();
    reading.outbox.iter().all(|row| {
        let event = &row.outgoing.event;
        let takes = plan.topology.subscriptions.iter().filter(|subscription| {
            subscription
                .types
                .iter()
                .any(|(event_type, _)| *event_type == event.event_type)
        });
        row.published_at.is_some()
            && takes
                .map(|s| (&*s.consumer, &*event.idempotency_key))
                .all(|e| ended.contains(&e))
    })
}

/// Ready messages in work and delay queues, and in dead-letter queues.
async fn ready(kit: &Kit, plan: &Plan) -> Result<(u64, u64), AmqpError> {
    let rabbit = kit.rabbit();
    let connection = kit.amqp.connect("redeliver look").await?;
    let channel = connection.open_channel().await?;
    let (mut work, mut letters) = (0, 0);
    for spec in topology::queues(rabbit.names(), &plan.topology) {
        let depth = u64::from(channel.inspect_queue(&spec.name).await?);
        if spec.name.ends_with(".dead") {
            letters += depth
        } else {
            work += depth
        }
    }
    connection.close().await?;
    Ok((work, letters))
}

/// Reads tables, queues and ledgers. What cannot be read stays empty: the checkers then miss it.
pub(super) async fn read(kit: &Kit, plan: &Plan) -> FinalReading {
    let store = kit.store.read_all().await.unwrap_or_else(|error| {
        tracing::error!(%error, "the tables could not be read at the end");
        Reading::default()
    });
    let (queued, letters) = match queues(kit, plan).await {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(%error, "the queues could not be read at the end");
            (Vec::new(), Vec::new())
        }
    };
    let ledger = kit.services.ledger();
    FinalReading {
        store,
        queued,
        letters,
        ledger,
        open_transactions: 0,
        held_locks: 0,
    }
}

async fn queues(kit: &Kit, plan: &Plan) -> Result<(Vec<Queued>, Vec<Letter>), AmqpError> {
    let rabbit = kit.rabbit();
    let names = rabbit.names();
    let connection = kit.amqp.connect("redeliver reading").await?;
    let channel = connection.open_channel().await?;
    let (mut queued, mut letters) = (Vec::new(), Vec::new());
    for spec in topology::queues(names, &plan.topology) {
        let bare = names.bare(&spec.name);
        while let Some(delivery) = channel.get(&spec.name).await? {
            let event = event(&delivery);
            match bare.strip_suffix(".dead") {
                Some(consumer) => {
                    let (consumer, story) = (Arc::from(consumer), story_of(&delivery));
                    letters.push(Letter {
                        consumer,
                        event,
                        story,
                    });
                }
                None => queued.push(Queued {
                    queue: Arc::from(bare),
                    event,
                    unacked: false,
                }),
            }
        }
    }
    connection.close().await?;
    Ok((queued, letters))
}

fn event(delivery: &AmqpDelivery) -> Option<Arc<Event>> {
    decode(delivery, usize::MAX).ok().map(Arc::new)
}
