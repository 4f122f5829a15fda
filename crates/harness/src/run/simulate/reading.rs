//! Reading the seeded world at the end of a run, and waiting until it is at rest.

use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::broker::{Delivery as SimDelivery, MessageState};
use redeliver_sim::{World, sleep, with};

use crate::run::plan::Plan;
use crate::run::simulate::database::Backing;
use crate::watch::reading::{Dropped, FinalReading, LedgerEntry, Letter, Queued};
use redeliver_core::event::Event;
use redeliver_core::ports::StoreError;
use redeliver_core::ports::env::nanos;
use redeliver_rabbitmq::Names;
use redeliver_rabbitmq::amqp::AmqpDelivery;
use redeliver_rabbitmq::envelope::{death_of, decode, story_of};
use redeliver_simulated::amqp::from_broker;

/// How often to look, in virtual time.
const EVERY: u64 = 250_000_000;

/// Waits until nothing is left to do; false if that takes longer than `bound`.
pub(super) async fn settle(
    names: &Names,
    database: &Backing,
    plan: &Plan,
    bound: Duration,
) -> bool {
    let mut queues = work_queues(names, plan);
    let until = with(|w| w.now()).saturating_add(nanos(bound));
    let mut quiet = 0;
    loop {
        // The outbox last: to look into a server's costs a round trip.
        let rests = with(|w| is_at_rest(w, &mut queues, plan)) && database.is_drained();
        let open = database.open_transactions() > 0;
        let now = with(|w| w.now());
        quiet = if rests { quiet + 1 } else { 0 };
        // Twice in a row: what is on its way between a queue and a transaction has arrived. A
        // relay that just looks for work is in a transaction now and then; one that is still open
        // when the time is over was left open, and is read so.
        let at_rest = quiet >= 2;
        if (at_rest && !open) || now >= until {
            return at_rest;
        }
        sleep(EVERY).await;
    }
}

fn work_queues(names: &Names, plan: &Plan) -> Vec<Arc<str>> {
    let consumers = plan.topology.subscriptions.iter();
    let work = consumers.map(|subscription| names.queue(&subscription.consumer));
    let rungs = plan.topology.rungs.iter();
    work.chain(rungs.map(|rung| names.delay_queue(*rung)))
        .collect()
}

/// The queue that was busy at the last look comes first at the next: while it is, a look at it
/// says all.
fn is_at_rest(w: &World, queues: &mut [Arc<str>], plan: &Plan) -> bool {
    if !plan.all_sent() {
        return false;
    }
    let depth = |queue: &Arc<str>| w.net.broker.queue_depth(queue);
    let busy = |queue: &Arc<str>| depth(queue).is_some_and(|(ready, unacked)| ready + unacked > 0);
    match queues.iter().position(busy) {
        Some(at) => {
            queues.swap(0, at);
            false
        }
        None => true,
    }
}

/// Reads tables, queues and ledgers. `Err` where the database cannot be read.
pub(super) async fn read(
    names: &Names,
    database: &Backing,
    plan: &Plan,
    no_rows: &[Arc<str>],
) -> Result<FinalReading, StoreError> {
    // Counted first: a reading is a transaction itself.
    let open_transactions = database.open_transactions() as u64;
    let held_locks = database.held_locks() as u64;
    let store = database.read().await?;
    let no_rows = no_rows.iter().map(|sql| database.ask(sql)).collect();
    Ok(with(|w| FinalReading {
        store,
        queued: queued(w, names, plan),
        letters: letters(w, names, plan),
        dropped: dropped(w, names),
        ledger: ledger(w),
        open_transactions,
        held_locks,
        no_rows,
    }))
}

fn messages(w: &World, queue: &str) -> Vec<(AmqpDelivery, MessageState)> {
    let views = w.net.broker.queue_messages(queue);
    let delivery = |view: redeliver_sim::broker::MessageView<'_>| {
        let delivery = SimDelivery {
            tag: 0,
            redelivered: view.redelivered,
            exchange: view.exchange.clone(),
            routing_key: view.routing_key.clone(),
            content: view.content.clone(),
            message_count: 0,
        };
        (from_broker(delivery), view.state)
    };
    views.map(delivery).collect()
}

fn event(delivery: &AmqpDelivery) -> Option<Arc<Event>> {
    decode(delivery, usize::MAX).ok().map(Arc::new)
}

fn queued(w: &World, names: &Names, plan: &Plan) -> Vec<Queued> {
    let mut found = Vec::new();
    for queue in work_queues(names, plan) {
        for (delivery, state) in messages(w, &queue) {
            found.push(Queued {
                queue: names.bare(&queue),
                event: event(&delivery),
                unacked: state == MessageState::Unacked,
            });
        }
    }
    found
}

fn letters(w: &World, names: &Names, plan: &Plan) -> Vec<Letter> {
    let mut found = Vec::new();
    for subscription in &plan.topology.subscriptions {
        for (delivery, _) in messages(w, &names.dead(&subscription.consumer)) {
            let event = event(&delivery);
            found.push(Letter {
                consumer: subscription.consumer.clone(),
                raw: event.is_none().then(|| delivery.body.clone()),
                event,
                story: story_of(&delivery),
                death: death_of(&delivery).map(|death| (death.reason, names.bare(&death.queue))),
            });
        }
    }
    found
}

fn dropped(w: &World, names: &Names) -> Vec<Dropped> {
    let losses = w.net.broker.losses().iter();
    losses
        .map(|loss| {
            let key = w.net.subject_text(&loss.content.properties);
            Dropped {
                at: loss.at_ns,
                queue: names.bare(&loss.place),
                key: (!key.is_empty()).then_some(key),
                why: loss.reason.as_str(),
            }
        })
        .collect()
}

fn ledger(w: &World) -> Vec<LedgerEntry> {
    let effects = w.services.ledger.iter();
    effects
        .map(|effect| LedgerEntry {
            service: effect.service.clone(),
            operation: Arc::from(effect.operation),
            key: effect.key.clone(),
            token: effect.token,
            payload: effect.payload.clone(),
            at: effect.at,
        })
        .collect()
}
