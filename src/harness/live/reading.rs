//! Reading the real servers at the end of a run, and waiting until nothing is left to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Kit;
use super::crew::Crew;
use crate::harness::plan::Plan;
use crate::harness::reading::{FinalReading, Letter, Queued};
use crate::harness::run::LiveError;
use crate::pipeline::event::Event;
use crate::pipeline::inbox::InboxState;
use crate::ports::store::Reading;
use crate::ports::{Store, TransportError};
use crate::rabbitmq::amqp::{Amqp, AmqpChannel, AmqpConnection, AmqpDelivery, AmqpError};
use crate::rabbitmq::envelope::{decode, story_of};
use crate::rabbitmq::topology;

/// So long a server may be silent at a stretch before a run is given up: judged without it, all
/// that it holds would look lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until every event has ended at each of its consumers and no queue holds anything; false
/// if that takes longer than `bound` or is stopped from outside.
///
/// # Errors
/// [`LiveError::Environment`] when a server has not answered for [`PATIENCE`].
pub(super) async fn settle(
    kit: &Kit,
    plan: &Plan,
    crew: &Crew,
    bound: Duration,
    stopped: &impl Fn() -> bool,
) -> Result<bool, LiveError> {
    let until = Instant::now() + bound;
    let mut quiet = 0;
    let mut answered = Instant::now();
    while Instant::now() < until && !stopped() {
        crew.tend().await;
        let rests = match at_rest(kit, plan).await {
            Ok(rests) => {
                answered = Instant::now();
                rests
            }
            Err(error) if answered.elapsed() > PATIENCE => return Err(error),
            Err(_) => false,
        };
        quiet = if rests { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(false)
}

/// Whether every event has ended everywhere and no message waits.
pub(super) async fn at_rest(kit: &Kit, plan: &Plan) -> Result<bool, LiveError> {
    if !plan.all_sent() {
        return Ok(false);
    }
    let reading = kit.servers.store.read_all().await?;
    if !everything_ended(&reading, plan) {
        return Ok(false);
    }
    // Late copies may still be on their way; ready ones can be counted, unacked ones are with a
    // worker and are seen in the second look.
    let (work, letters) = ready(kit, plan).await.map_err(TransportError::from)?;
    Ok(work == 0 && letters >= plan.malformed_letters())
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
    let rabbit = kit.servers.rabbit();
    let connection = kit.servers.amqp.connect("redeliver look").await?;
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

/// Reads tables, queues and ledgers.
///
/// # Errors
/// [`LiveError::Environment`] when a server does not answer: half a reading proves nothing.
pub(super) async fn read(kit: &Kit, plan: &Plan) -> Result<FinalReading, LiveError> {
    let store = kit.servers.store.read_all().await?;
    let (queued, letters) = queues(kit, plan).await.map_err(TransportError::from)?;
    let ledger = kit.services.ledger();
    Ok(FinalReading {
        store,
        queued,
        letters,
        ledger,
        open_transactions: 0,
        held_locks: 0,
    })
}

async fn queues(kit: &Kit, plan: &Plan) -> Result<(Vec<Queued>, Vec<Letter>), AmqpError> {
    let rabbit = kit.servers.rabbit();
    let names = rabbit.names();
    let connection = kit.servers.amqp.connect("redeliver reading").await?;
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
