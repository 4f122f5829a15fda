//! The executor against a plain event loop and against a paused tokio, on the same workload in
//! the same run: actors that wait for a while and then hand a token to their neighbour, which is
//! what clients, relays and consumers do all day.
//!
//! One element is one event: a timer that fires, or a token that arrives. The plain loop is the
//! floor, a heap of enum events and a match; six times its cost is the limit for ours.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::poll_fn;
use std::hint::black_box;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use redeliver_sim::choice::sip13;
use redeliver_sim::{Options, World, sleep, spawn};

const ACTORS: u64 = 64;
const ROUNDS: u64 = 200;
/// A timer and a token for each round of each actor.
const EVENTS: u64 = 2 * ACTORS * ROUNDS;

/// How long an actor waits before a round, in nanoseconds: whole milliseconds, since tokio knows
/// no shorter time. All arms draw it alike.
fn wait(actor: u64, round: u64) -> u64 {
    1_000_000 * (1 + sip13((1, 2), &[actor, round]) % 50)
}

/// The plain event loop.
fn plain() -> u64 {
    enum Event {
        Timer { actor: u64, round: u64 },
        Token { actor: u64 },
    }
    let mut heap = BinaryHeap::new();
    let mut events: Vec<Option<Event>> = Vec::new();
    let mut free = Vec::new();
    let mut ready = VecDeque::new();
    let mut received = vec![0u64; ACTORS as usize];
    let mut sequence = 0u64;
    let mut push = |heap: &mut BinaryHeap<_>, free: &mut Vec<usize>, events: &mut Vec<_>, at, e| {
        let slot = free.pop().unwrap_or(events.len());
        if slot == events.len() {
            events.push(None);
        }
        events[slot] = Some(e);
        sequence += 1;
        heap.push(Reverse((at, sequence, slot)));
    };
    for actor in 0..ACTORS {
        let event = Event::Timer { actor, round: 0 };
        push(&mut heap, &mut free, &mut events, wait(actor, 0), event);
    }
    while let Some(Reverse((now, _, slot))) = heap.pop() {
        free.push(slot);
        ready.extend(events[slot].take());
        while let Some(event) = ready.pop_front() {
            match event {
                Event::Timer { actor, round } => {
                    ready.push_back(Event::Token {
                        actor: (actor + 1) % ACTORS,
                    });
                    let next = round + 1;
                    if next < ROUNDS {
                        let event = Event::Timer { actor, round: next };
                        let at = now + wait(actor, next);
                        push(&mut heap, &mut free, &mut events, at, event);
                    }
                }
                Event::Token { actor } => received[actor as usize] += 1,
            }
        }
    }
    received.iter().sum()
}

/// Where an actor is handed tokens.
#[derive(Default)]
struct Mailbox {
    tokens: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Mailbox {
    fn put(&self) {
        self.tokens.set(self.tokens.get() + 1);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn take(&self) {
        poll_fn(|cx| {
            if let Some(left) = self.tokens.get().checked_sub(1) {
                self.tokens.set(left);
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

type Boxes = Rc<Vec<Mailbox>>;

fn boxes() -> Boxes {
    Rc::new((0..ACTORS).map(|_| Mailbox::default()).collect())
}

async fn receive(boxes: Boxes, actor: u64, received: Rc<Cell<u64>>) {
    for _ in 0..ROUNDS {
        boxes[actor as usize].take().await;
        received.set(received.get() + 1);
    }
}

async fn all_received(received: Rc<Cell<u64>>, pause: impl AsyncFn()) -> u64 {
    while received.get() < ACTORS * ROUNDS {
        pause().await;
    }
    received.get()
}

/// Ours, alone or inside a paused tokio.
fn ours(tokio: bool, seed: u64) -> u64 {
    let options = Options {
        seed,
        tokio,
        ..Options::default()
    };
    let (received, outcome) = World::run(&options, async {
        let (boxes, received) = (boxes(), Rc::new(Cell::new(0)));
        for actor in 0..ACTORS {
            spawn("receiver", receive(boxes.clone(), actor, received.clone()));
            let boxes = boxes.clone();
            spawn("sender", async move {
                for round in 0..ROUNDS {
                    sleep(wait(actor, round)).await;
                    boxes[((actor + 1) % ACTORS) as usize].put();
                }
            });
        }
        all_received(received, async || sleep(1_000_000_000).await).await
    });
    assert!(!outcome.stuck && !outcome.livelock);
    received.expect("the main task ends")
}

/// tokio by itself, with its clock paused.
fn paused_tokio() -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (boxes, received) = (boxes(), Rc::new(Cell::new(0)));
        for actor in 0..ACTORS {
            let receive = receive(boxes.clone(), actor, received.clone());
            tokio::task::spawn_local(receive);
            let boxes = boxes.clone();
            tokio::task::spawn_local(async move {
                for round in 0..ROUNDS {
                    tokio::time::sleep(Duration::from_nanos(wait(actor, round))).await;
                    boxes[((actor + 1) % ACTORS) as usize].put();
                }
            });
        }
        let pause = async || tokio::time::sleep(Duration::from_secs(1)).await;
        all_received(received, pause).await
    })
}

fn executor(c: &mut Criterion) {
    let mut group = c.benchmark_group("executor");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("plain-loop", |b| b.iter(|| black_box(plain())));
    let mut seed = 0;
    group.bench_function("ours", |b| {
        b.iter(|| {
            seed += 1;
            black_box(ours(false, seed))
        });
    });
    group.bench_function("ours-in-tokio", |b| {
        b.iter(|| {
            seed += 1;
            black_box(ours(true, seed))
        });
    });
    group.bench_function("paused-tokio", |b| b.iter(|| black_box(paused_tokio())));
    group.finish();
}

criterion_group!(benches, executor);
criterion_main!(benches);
