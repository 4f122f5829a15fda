use std::io::ErrorKind;
use std::net::TcpListener;

use super::*;
use redeliver_core::event::Kind;
use redeliver_core::ports::Receipt;
use redeliver_core::ports::Timestamp;
use redeliver_harness::watch::history::{Effects, OnBehalf};
use uuid::Uuid;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn event() -> Arc<Event> {
    Arc::new(Event {
        id: Uuid::from_u128(1),
        idempotency_key: Arc::from("order-1"),
        kind: Kind::Fact,
        event_type: Arc::from("order.placed"),
        version: 1,
        key: Arc::from("1"),
        workflow: Arc::from("order-1"),
        correlation: Uuid::from_u128(1),
        causation: None,
        time: Timestamp(0),
        trace: Some(Arc::from(TRACE)),
        sequence: None,
        payload: bytes::Bytes::from_static(b"{}"),
    })
}

fn entry(at: u64, process: &str, what: What) -> Record {
    let process = Arc::from(process);
    Record::Entry(Entry { at, process, what })
}

fn on(consumer: &str) -> OnBehalf {
    OnBehalf {
        consumer: Arc::from(consumer),
        subject: Arc::from("order-1"),
        attempt: 1,
    }
}

/// A request that a worker carries out, in the order of what happens.
fn story() -> Vec<Record> {
    let delivered = What::Delivered {
        consumer: Arc::from("charge"),
        key: Some(Arc::from("order-1")),
        id: None,
        receipt: Receipt { channel: 1, tag: 1 },
        attempt: 1,
        redelivered: false,
        kept: false,
    };
    let request = What::Request {
        key: Arc::from("order-1"),
        due: 0,
    };
    let accepted = What::Commit {
        on: on("client"),
        effects: Effects {
            emitted: vec![event()],
            ..Effects::default()
        },
        seen: Seen::Ok,
        since: 2,
    };
    let publish = What::Publish {
        event: event(),
        outcome: PublishOutcome::Confirmed,
        since: 4,
    };
    let start = What::HandlerStart {
        on: on("charge"),
        run: 1,
        batch: 1,
        read: 0,
    };
    let end = What::HandlerEnd {
        run: 1,
        ended: Ended::Ok,
    };
    let committed = What::Commit {
        on: on("charge"),
        effects: Effects::default(),
        seen: Seen::Ok,
        since: 8,
    };
    vec![
        entry(1, "producer", request),
        entry(3, "producer", accepted),
        entry(10, "relay", publish),
        entry(6, "worker", delivered),
        entry(7, "worker", start),
        entry(8, "worker", end),
        entry(9, "worker", committed),
    ]
}

/// Name, begin and end of each span, in order of names.
fn spans(story: &[Record]) -> Vec<(String, u64, u64)> {
    let mut ways = Ways::default();
    let mut spans = Vec::new();
    let mut give = |span: SpanData| {
        let clock = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).expect("after it");
            u64::try_from(since.as_nanos()).expect("a small number")
        };
        let times = (clock(span.start_time), clock(span.end_time));
        spans.push((span.name.to_string(), times.0, times.1));
    };
    for record in story {
        ways.add(record, &mut give);
    }
    ways.end(&mut give);
    assert!(ways.early.is_empty(), "{:?}", ways.early);
    spans.sort();
    spans
}

#[test]
fn processes_may_write_in_any_order() {
    let story = story();
    let told = spans(&story);
    let names = told
        .iter()
        .map(|(name, from, until)| format!("{name} {from}-{until}"));
    let expected = [
        "commit charge 8-9",
        "outbox order.placed 3-4",
        "process charge 7-8",
        "publish order.placed 4-10",
        "queue charge 4-6",
        "request order.placed 0-3",
    ];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    // Each process keeps its own order.
    let [producer, relay, worker] = [&story[..2], &story[2..3], &story[3..]];
    for order in [
        [producer, worker, relay],
        [worker, relay, producer],
        [worker, producer, relay],
        [relay, worker, producer],
        [relay, producer, worker],
    ] {
        let mixed = spans(&order.concat());
        // The commit of a request is only known by its producer.
        let same = mixed.iter().zip(&told).all(|(mixed, told)| {
            mixed == told || (told.0.starts_with("outbox") && mixed.0 == told.0)
        });
        assert!(same && mixed.len() == told.len(), "{mixed:?}");
    }
}

#[test]
fn a_publish_that_died_with_its_relay_leaves_the_rest() {
    let mut story = story();
    story.remove(2);
    let names: Vec<_> = spans(&story).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(
        names,
        [
            "commit charge",
            "process charge",
            "queue charge",
            "request order.placed"
        ]
    );
}

#[test]
fn a_message_that_is_never_known_is_forgotten() {
    let mut ways = Ways::default();
    for record in &story()[3..] {
        ways.add(record, &mut |_| {});
    }
    assert_eq!(ways.early.len(), 1);
    let process = What::Process { what: "started" };
    ways.add(&entry(2 * KNOWN, "worker", process), &mut |_| {});
    assert!(ways.early.is_empty() && ways.order.is_empty());
}

#[test]
fn a_collector_that_never_answers_holds_a_run_up_once() {
    // Connections are taken, as the kernel does for any listener, and never read.
    let collector = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", collector.local_addr().expect("it is bound"));
    let sender = Spans::with(&url, Duration::from_millis(300), Duration::ZERO);
    let sender = sender.expect("an exporter");
    let queue = sender.queue.spans.as_ref().expect("it is open");
    let mut ways = Ways::default();
    ways.committed(&event(), 0);
    let way = ways.ways["order-1"].clone();
    let many = 20 * BATCH as u64;
    for _ in 0..many {
        let name = ("a span".to_owned(), SpanKind::Internal);
        let span = ways.span(&way, name, (0, 1), Vec::new());
        queue.try_send(span).expect("there is room");
    }
    let refused = sender.refused.clone();
    drop(sender);
    assert_eq!(refused.load(Ordering::Relaxed), many);
    collector.set_nonblocking(true).expect("a listener");
    let mut connections = 0;
    loop {
        match collector.accept() {
            Ok(_) => connections += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        connections <= 1,
        "{connections} of 20 batches were waited for"
    );
}
