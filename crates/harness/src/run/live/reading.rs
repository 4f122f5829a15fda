//! Reading the real servers at the end of a run, and waiting until nothing is left to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crew::Crew;
use super::services::Services;
use super::{Kit, Servers};
use crate::run::live::LiveError;
use crate::run::plan::Plan;
use crate::scenario::Scenario;
use crate::watch::reading::{FinalReading, Letter, Queued};
use redeliver_core::event::Event;
use redeliver_core::inbox::InboxState;
use redeliver_core::ports::store::Reading;
use redeliver_core::ports::{Store, TransportError};
use redeliver_core::topology::Topology;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, AmqpConnection, AmqpDelivery, AmqpError};
use redeliver_rabbitmq::envelope::{death_of, decode, story_of};
use redeliver_rabbitmq::topology;

/// Waits until every event has ended at each of its consumers and no queue holds anything; false
/// if that takes longer than it may or is stopped from outside.
///
/// A server that does not answer has something to do: the lookout ends a run that waits for it.
pub(super) async fn settle(
    kit: &Kit,
    scenario: &Scenario,
    plan: &Plan,
    crew: &Crew,
    stopped: &impl Fn() -> bool,
) -> bool {
    let bound = scenario.settle;
    let until = Instant::now() + bound.unwrap_or_else(|| plan.settle_bound(scenario));
    let mut quiet = 0;
    let mut calm = Calm::new(scenario);
    while Instant::now() < until && !stopped() {
        crew.tend().await;
        let nothing_moves = calm.look(kit);
        let rests = at_rest(kit, plan, nothing_moves).await.unwrap_or(false);
        quiet = if rests { quiet + 1 } else { 0 };
        if quiet == 2 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

/// Whether nothing has been seen for longer than anybody may keep a message in hand. The broker
/// tells us how many messages wait, and not how many are with a worker.
struct Calm {
    limit: Duration,
    entries: usize,
    since: Instant,
}

impl Calm {
    fn new(scenario: &Scenario) -> Self {
        let consumer = &scenario.policy.consumer;
        Self {
            limit: consumer.handler_limit + consumer.lease + Duration::from_secs(2),
            entries: 0,
            since: Instant::now(),
        }
    }

    fn look(&mut self, kit: &Kit) -> bool {
        let entries = kit.recorder.len();
        if entries != self.entries {
            (self.entries, self.since) = (entries, Instant::now());
        }
        self.since.elapsed() > self.limit
    }
}

/// Whether no message waits, and every event has ended everywhere, or would have by now: one that
/// is lost never ends, and a letter whose worker died before it could note it stays unnoted.
pub(super) async fn at_rest(
    kit: &Kit,
    plan: &Plan,
    nothing_moves: bool,
) -> Result<bool, LiveError> {
    if !plan.all_sent() {
        return Ok(false);
    }
    let reading = kit.servers.database.store.read_all().await?;
    let published = reading.outbox.iter().all(|row| row.published_at.is_some());
    if !published || !(nothing_moves || everything_ended(&reading, plan)) {
        return Ok(false);
    }
    // Late copies may still be on their way; ready ones can be counted, unacked ones are with a
    // worker and are seen in the second look.
    let (work, letters) = ready(kit, plan).await.map_err(TransportError::from)?;
    Ok(work == 0 && (nothing_moves || letters >= plan.malformed_letters()))
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
        takes
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
pub(super) async fn read(
    kit: &Kit,
    plan: &Plan,
    no_rows: &[Arc<str>],
) -> Result<FinalReading, LiveError> {
    let store = kit.servers.database.store.read_all().await?;
    let queues = queues(&kit.servers, &plan.topology).await;
    let (queued, letters) = queues.map_err(TransportError::from)?;
    let ledger = match &kit.services {
        Services::Here(services) => services.ledger(),
        Services::There(_) => Vec::new(),
    };
    Ok(FinalReading {
        store,
        queued,
        letters,
        dropped: Vec::new(),
        ledger,
        open_transactions: 0,
        held_locks: 0,
        no_rows: kit.servers.database.ask(no_rows).await,
    })
}

/// What stands in all queues, taken out of them.
pub(crate) async fn queues(
    servers: &Servers,
    needed: &Topology,
) -> Result<(Vec<Queued>, Vec<Letter>), AmqpError> {
    let rabbit = servers.rabbit();
    let names = rabbit.names();
    let connection = servers.amqp.connect("redeliver reading").await?;
    let channel = connection.open_channel().await?;
    let (mut queued, mut letters) = (Vec::new(), Vec::new());
    for spec in topology::queues(names, needed) {
        let bare = names.bare(&spec.name);
        while let Some(delivery) = channel.get(&spec.name).await? {
            let event = event(&delivery);
            match bare.strip_suffix(".dead") {
                Some(consumer) => {
                    let death = death_of(&delivery);
                    letters.push(Letter {
                        consumer: Arc::from(consumer),
                        raw: event.is_none().then(|| delivery.body.clone()),
                        event,
                        story: story_of(&delivery),
                        death: death.map(|death| (death.reason, names.bare(&death.queue))),
                    });
                }
                None => queued.push(Queued {
                    queue: bare.clone(),
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
