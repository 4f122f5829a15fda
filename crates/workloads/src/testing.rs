//! A pipeline without faults, broker or concurrency, for the tests of the workloads: it hands
//! each event once to each consumer, in an order drawn from a seed, over tables in memory.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use memory::{Clockwork, Ledger, Memory, NoBroker, Tables};
use redeliver_core::event::Event;
use redeliver_core::outbox::OutboxRow;
use redeliver_core::ports::{Ports, Scope, Store, Timestamp, Tx, World};
use redeliver_harness::team::workload::{Generator, Request, Workload};
use redeliver_harness::verdict::{Anomaly, AnomalyKind};
use redeliver_harness::watch::reading::{FinalReading, Letter};
use redeliver_pipeline::handler::{Consumer, Cx, Failure, Outside, TxOf};

mod memory;

pub(super) type Bench = Ports<NoBroker, Memory, Ledger, Clockwork>;

/// How a run of the bench goes.
#[derive(Clone, Copy, Default)]
pub(super) struct Run {
    pub(super) messages: u32,
    pub(super) seed: u64,
    /// Every handler runs twice, as without an inbox.
    pub(super) twice: bool,
    /// Services refuse every request that contains this.
    pub(super) refuse: Option<&'static str>,
}

/// One message for one consumer.
struct Pending {
    consumer: usize,
    event: Arc<Event>,
}

/// Runs a workload to its end; gives its requests and the final reading.
pub(super) fn run<K: Workload>(workload: &K, run: Run) -> (Vec<Request>, FinalReading) {
    let world = Ports {
        transport: NoBroker,
        store: Memory::default(),
        service: Ledger::refusing(run.refuse),
        env: Clockwork::default(),
    };
    let mut generator = Generator::new(run.seed, run.messages, Duration::from_secs(60));
    let requests = workload.requests(&mut generator);
    for request in &requests {
        let scope = Scope {
            consumer: "client",
            subject: &request.key,
            attempt: 1,
        };
        let mut tx = now(world.store.begin(scope)).expect("memory is there");
        let mut cx = Cx::<Bench>::new(&mut tx, &world.env, None, scope);
        now(workload.submit(request, &mut cx)).expect("the request is good");
        now(tx.commit()).expect("memory commits");
    }
    let consumers = workload.consumers::<Bench>();
    let mut letters = Vec::new();
    let mut pending = Vec::new();
    let mut published = 0;
    loop {
        let tables = world.store.tables();
        for event in &tables.outbox[published..] {
            let wanting = |c: &(usize, &Consumer<Bench>)| c.1.handler(&event.event_type).is_some();
            let wanting = consumers.iter().enumerate().filter(wanting);
            pending.extend(wanting.map(|(consumer, _)| Pending {
                consumer,
                event: event.clone(),
            }));
        }
        published = tables.outbox.len();
        let Some(next) = draw(&pending, &mut generator) else {
            return (requests, reading(&world, &tables, letters));
        };
        let Pending { consumer, event } = pending.swap_remove(next);
        for _ in 0..if run.twice { 2 } else { 1 } {
            if let Err(failure) = deliver(&world, &consumers[consumer], &event) {
                assert!(matches!(failure, Failure::Poison { .. }), "{failure}");
                letters.push(Letter {
                    consumer: consumers[consumer].name().clone(),
                    event: Some(event.clone()),
                    ..Letter::default()
                });
            }
        }
    }
}

/// Which message comes next: any, but of an ordered key the first.
fn draw(pending: &[Pending], generator: &mut Generator) -> Option<usize> {
    let chosen = pending.get(generator.below(pending.len() as u64) as usize)?;
    let same = |p: &&(usize, &Pending)| {
        p.1.consumer == chosen.consumer && p.1.event.order_scope() == chosen.event.order_scope()
    };
    let of_key = pending.iter().enumerate().collect::<Vec<_>>();
    let first = of_key
        .iter()
        .filter(same)
        .min_by_key(|p| p.1.event.sequence);
    first.map(|(index, _)| *index)
}

fn deliver(world: &Bench, consumer: &Consumer<Bench>, event: &Event) -> Result<(), Failure> {
    let handler = consumer.handler(&event.event_type).expect("it wants it");
    let decoded = handler.decode(event).expect("the payload is its own");
    let scope = Scope {
        consumer: consumer.name(),
        subject: &event.idempotency_key,
        attempt: 1,
    };
    let outside = Outside::new(world, event, 1, scope);
    let answer = now(handler.call(&decoded, &outside))?;
    let mut tx: TxOf<Bench> = now(world.store().begin(scope))?;
    let mut cx = Cx::new(&mut tx, &world.env, Some(event), scope);
    now(handler.apply(&decoded, answer, &mut cx))?;
    Ok(now(tx.commit())?)
}

fn reading(world: &Bench, tables: &Tables, letters: Vec<Letter>) -> FinalReading {
    let outbox = (1..).zip(&tables.outbox).map(|(id, event)| OutboxRow {
        id,
        outgoing: redeliver_core::event::Outgoing {
            event: event.clone(),
            exchange: Arc::from(redeliver_core::event::exchange_of(&event.event_type)),
            routing_key: event.event_type.clone(),
        },
        published_at: Some(Timestamp(1)),
        lease_until: None,
    });
    let rows = tables
        .rows
        .iter()
        .map(|((table, key), (version, document))| {
            let (table, key) = (Arc::from(*table), Arc::from(key.as_str()));
            (table, key, *version, document.clone())
        });
    let store = redeliver_core::ports::store::Reading {
        outbox: outbox.collect(),
        audit: tables.audit.clone(),
        workflows: tables.workflows.values().cloned().collect(),
        rows: rows.collect(),
        ..Default::default()
    };
    FinalReading {
        store,
        letters,
        ledger: world.service.entries(),
        ..FinalReading::default()
    }
}

/// Checks that every transition made is a legal one, and that all have come to an end.
pub(super) fn assert_transitions<K: Workload>(workload: &K, reading: &FinalReading) {
    for entry in &reading.store.audit {
        let step = (&*entry.from, &*entry.to);
        assert!(workload.transitions().contains(&step), "{entry:?}");
    }
    for head in &reading.store.workflows {
        assert!(workload.final_states().contains(&&*head.state), "{head:?}");
    }
}

/// Everything that a workload's own check has to say.
pub(super) fn judge<K: Workload>(
    workload: &K,
    accepted: &[Request],
    reading: &FinalReading,
) -> Vec<Anomaly> {
    let mut found = workload.check(accepted, reading);
    found.extend(workload.check_totals(&workload.totals(accepted, reading)));
    found
}

/// Runs the check over a reading that was tampered with, and gives the kinds of what it finds.
pub(super) fn tampered<K: Workload>(
    workload: &K,
    messages: u32,
    tamper: impl FnOnce(&mut FinalReading),
) -> Vec<AnomalyKind> {
    let (accepted, mut reading) = run(
        workload,
        Run {
            messages,
            seed: 7,
            ..Run::default()
        },
    );
    assert_eq!(judge(workload, &accepted, &reading), []);
    tamper(&mut reading);
    let found = judge(workload, &accepted, &reading);
    let mut kinds: Vec<_> = found.into_iter().map(|anomaly| anomaly.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// The document of the row that stands at `position` in a table.
pub(super) fn row<'a>(
    reading: &'a mut FinalReading,
    table: &str,
    position: usize,
) -> &'a mut serde_json::Value {
    let rows = reading.store.rows.iter_mut().filter(|row| *row.0 == *table);
    &mut { rows }.nth(position).expect("the table is long enough").3
}

/// Takes the first row of a table away.
pub(super) fn drop_row(reading: &mut FinalReading, table: &str) {
    let rows = &mut reading.store.rows;
    let first = rows.iter().position(|row| *row.0 == *table);
    rows.remove(first.expect("the table is not empty"));
}

/// Gives what a future gives that never waits.
pub(super) fn now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(out) => out,
        Poll::Pending => unreachable!("the bench never waits"),
    }
}
