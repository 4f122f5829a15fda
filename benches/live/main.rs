//! The pipeline on real servers beside one that was written by hand, with equal promises: an outbox, confirms,
//! a quorum queue, an inbox, the effect in the inbox's transaction, the ack after the commit.
//!
//! `scripts/services run -- cargo bench --bench live --all-features -- [messages] [rounds] [part …]`. The two take
//! turns in one run, so that what else the machine does strikes both; a ratio is of the medians of their rounds.
//! Parts are `batches`, `alone`, `ordered` and `timed`; all of them where none is named.

mod reference;
mod shipped;

use std::time::Duration;

use redeliver_testing::unique;

/// Handlers at the same time.
const WORKERS: u16 = 8;
/// Handlers of batches at the same time.
const BATCH_WORKERS: u16 = 2;
/// The most messages that a batch holds.
const BATCH: u16 = 100;

/// How many messages share a transaction of a consumer.
#[derive(Clone, Copy)]
enum Handling {
    EachAlone,
    InBatches(u16),
}

/// Requests a second whose way is timed, and for how long.
const RATE: u64 = 1_000;
const TIMED: Duration = Duration::from_secs(10);

/// What is measured: a pipeline that stands on servers of its own names.
trait Measured {
    /// Puts so many events into the outbox, in one go.
    async fn fill(&self, events: u64);
    /// Starts relay and workers.
    async fn start(&mut self);
    /// Commits one request with its event.
    async fn request(&self, number: u64);
    /// Effects so far.
    async fn effects(&self) -> u64;
    /// When each effect came to be, by its number, in microseconds since the epoch.
    async fn times(&self) -> Vec<(u64, i64)>;
    /// Ends relay and workers, and removes everything.
    async fn end(self);
}

const PARTS: [&str; 4] = ["batches", "alone", "ordered", "timed"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<&str> = (PARTS.iter().copied())
        .filter(|part| words.iter().any(|word| word == part))
        .collect();
    let runs = |part: &str| named.is_empty() || named.contains(&part);
    let words: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let number = |at: usize, default| words.get(at).copied().unwrap_or(default);
    let (messages, rounds) = (number(0, 4_000), number(1, 3));
    let (Some(database), Some(broker)) = (
        redeliver_testing::server("DATABASE_URL"),
        redeliver_testing::server("AMQP_URL"),
    ) else {
        println!("left out: it needs DATABASE_URL and AMQP_URL, see scripts/services");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let servers = (&*database, &*broker);
        let (many, alone) = (Handling::InBatches(BATCH), Handling::EachAlone);
        if runs("batches") {
            let name = format!("in batches of {BATCH}, {BATCH_WORKERS} workers");
            beside(&name, servers, many, (messages * 10, rounds)).await;
        }
        let mut ours = Vec::new();
        if runs("alone") {
            let name = format!("message by message, {WORKERS} workers");
            ours = beside(&name, servers, alone, (messages, rounds)).await;
        }
        if runs("ordered") {
            let ordered = unique("ordered");
            let ordered = shipped::Shipped::new(&database, &broker, &ordered, (alone, true)).await;
            let ordered = drained(ordered, messages).await;
            println!("ordered events of 4 keys: {ordered:.0}/s");
            if !ours.is_empty() {
                let ratio = 100.0 * ordered / median(&mut ours);
                println!("ordered events: {ratio:.0} % of the unordered ones");
            }
        }
        if runs("timed") {
            let hand = unique("hand");
            let reference = reference::Reference::new(&database, &broker, &hand, alone).await;
            timed("by hand", reference).await;
            let ours = unique("ours");
            let shipped = shipped::Shipped::new(&database, &broker, &ours, (alone, false)).await;
            timed("pipeline", shipped).await;
        }
    });
}

/// Both by turns; gives the rates of the pipeline.
async fn beside(
    name: &str,
    (database, broker): (&str, &str),
    handling: Handling,
    (messages, rounds): (u64, u64),
) -> Vec<f64> {
    let (mut by_hand, mut ours) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let hand = unique("hand");
        let reference = reference::Reference::new(database, broker, &hand, handling).await;
        let hand = drained(reference, messages).await;
        let own = unique("ours");
        let shipped = shipped::Shipped::new(database, broker, &own, (handling, false)).await;
        let own = drained(shipped, messages).await;
        println!("round {round}, {name}: by hand {hand:.0}/s, pipeline {own:.0}/s");
        by_hand.push(hand);
        ours.push(own);
    }
    let ratio = 100.0 * median(&mut ours) / median(&mut by_hand);
    println!("{name}: pipeline at {ratio:.0} % of the one by hand");
    ours
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Messages a second, from the start of relay and workers until the last effect is there.
async fn drained(mut measured: impl Measured, messages: u64) -> f64 {
    measured.fill(messages).await;
    let begun = std::time::Instant::now();
    measured.start().await;
    while measured.effects().await < messages {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rate = messages as f64 / begun.elapsed().as_secs_f64();
    measured.end().await;
    rate
}

/// How long it takes from the commit of a request to its effect, at a fixed rate.
async fn timed(name: &str, mut measured: impl Measured + Sync + Send + 'static) {
    measured.start().await;
    let requests = RATE * TIMED.as_secs();
    let begun = tokio::time::Instant::now();
    let next = std::sync::atomic::AtomicU64::new(0);
    let committed: Vec<std::sync::atomic::AtomicI64> = (0..requests).map(|_| 0.into()).collect();
    let client = async || {
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number >= requests {
                return;
            }
            tokio::time::sleep_until(begun + Duration::from_secs(number) / RATE as u32).await;
            measured.request(number).await;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let now = i64::try_from(now.expect("after the epoch").as_micros()).expect("fits");
            committed[number as usize].store(now, std::sync::atomic::Ordering::Relaxed);
        }
    };
    futures_util::future::join_all((0..16).map(|_| client())).await;
    while measured.effects().await < requests {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begun.elapsed();
    let times = measured.times().await;
    let mut waits: Vec<i64> = times
        .into_iter()
        .map(|(number, at)| {
            let committed = &committed[number as usize];
            at - committed.load(std::sync::atomic::Ordering::Relaxed)
        })
        .collect();
    waits.sort_unstable();
    let at = |part: usize| waits[(waits.len() * part / 100).min(waits.len() - 1)] as f64 / 1_000.0;
    println!(
        "{name}: {requests} requests in {:.1} s; commit to effect p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms",
        took.as_secs_f64(),
        at(50),
        at(95),
        at(99)
    );
    measured.end().await;
}
