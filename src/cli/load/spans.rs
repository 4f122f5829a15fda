//! The ways of messages as OpenTelemetry spans, while a load run goes on.
//!
//! The context of a request travels in its events, as the header `traceparent`: a team's own spans in
//! handlers and services join the same trace. What relays and workers did is read off the history, so
//! that the pipeline itself sends nothing and is not slowed down.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};

use super::out;
use redeliver_core::event::Event;
use redeliver_core::ports::PublishOutcome;
use redeliver_harness::watch::file::{Record, Start};
use redeliver_harness::watch::history::{Ended, Entry, Seen, What};
use redeliver_pipeline::client::CLIENT;

/// Spans that wait to be sent; more are left out.
const WAITING: usize = 50_000;
/// Spans that are sent at once.
const BATCH: usize = 512;
/// So long spans wait for others.
const PATIENCE: Duration = Duration::from_secs(1);
/// A message is known for so long after it was seen first.
const KNOWN: u64 = 600_000_000_000;
/// More messages than this are not known.
const MOST: usize = 200_000;
/// So long a collector may take to answer, and so long all that is left may take at the end of a run.
const ANSWER: Duration = Duration::from_secs(10);

/// Sends spans until it is dropped.
pub(super) struct Spans {
    ways: Ways,
    /// How long sending may take once it is dropped.
    end: Duration,
    /// When sending ends, once it is known.
    deadline: Arc<OnceLock<Instant>>,
    queue: Queue,
    refused: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Spans {
    /// To a collector at an address, of which `/v1/traces` takes spans.
    ///
    /// # Errors
    /// It is no address.
    pub(super) fn to(url: &str) -> Result<Self, String> {
        Self::with(url, ANSWER, ANSWER)
    }

    /// With other limits: for one answer, and for all that is left at the end.
    fn with(url: &str, answer: Duration, end: Duration) -> Result<Self, String> {
        let address = url.trim_end_matches('/');
        let endpoint = match address.ends_with("/v1/traces") {
            true => address.to_owned(),
            false => format!("{address}/v1/traces"),
        };
        if !endpoint.starts_with("http://") {
            return Err(format!(
                "--otlp {url}: say where a collector takes OTLP over HTTP, as in \
                 http://127.0.0.1:4318"
            ));
        }
        let (queue, spans) = sync_channel(WAITING);
        let refused = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        // The client needs the runtime around it.
        let exporter = runtime.block_on(async {
            let builder = SpanExporter::builder().with_http();
            let builder = builder.with_protocol(Protocol::HttpBinary);
            let builder = builder.with_timeout(answer);
            builder.with_endpoint(endpoint).build()
        });
        let mut exporter = exporter.map_err(|error| format!("--otlp {url}: {error}"))?;
        exporter.set_resource(
            &Resource::builder()
                .with_service_name("redeliver-load")
                .build(),
        );
        let deadline = Arc::new(OnceLock::new());
        let (counted, last) = (refused.clone(), deadline.clone());
        let thread = std::thread::spawn(move || {
            while let Some(batch) = batch(&spans) {
                let many = batch.len() as u64;
                let left = last.get().map_or(answer, |last: &Instant| {
                    last.saturating_duration_since(Instant::now())
                });
                let sent = match left.is_zero() {
                    true => Err("the run had ended".to_owned()),
                    false => runtime.block_on(async {
                        match tokio::time::timeout(left, exporter.export(batch)).await {
                            Ok(sent) => sent.map_err(|error| error.to_string()),
                            Err(_) => Err("the collector did not answer in time".to_owned()),
                        }
                    }),
                };
                if let Err(error) = sent {
                    // One line is enough: the end says how many there were.
                    if counted.fetch_add(many, Ordering::Relaxed) == 0 {
                        out::complain(&format!("spans are not taken: {error}"));
                    }
                }
            }
        });
        Ok(Self {
            ways: Ways::default(),
            end,
            deadline,
            queue: Queue {
                spans: Some(queue),
                left_out: 0,
            },
            refused,
            thread: Some(thread),
        })
    }

    /// Goes on by one record.
    pub(super) fn add(&mut self, record: &Record) {
        let queue = &mut self.queue;
        self.ways.add(record, &mut |span| queue.give(span));
    }
}

/// Spans that are to be sent.
struct Queue {
    /// None once nothing more is sent.
    spans: Option<SyncSender<SpanData>>,
    left_out: u64,
}

impl Queue {
    fn give(&mut self, span: SpanData) {
        let Some(spans) = &self.spans else { return };
        if let Err(TrySendError::Full(_)) = spans.try_send(span) {
            self.left_out += 1;
        }
    }
}

/// The next spans; none once there will be no more.
fn batch(spans: &Receiver<SpanData>) -> Option<Vec<SpanData>> {
    let mut batch = vec![spans.recv().ok()?];
    let until = Instant::now() + PATIENCE;
    while batch.len() < BATCH {
        match spans.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(span) => batch.push(span),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Some(batch)
}

impl Drop for Spans {
    fn drop(&mut self) {
        let queue = &mut self.queue;
        self.ways.end(&mut |span| queue.give(span));
        let _ = self.deadline.set(Instant::now() + self.end);
        drop(self.queue.spans.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let (refused, left_out) = (self.refused.load(Ordering::Relaxed), self.queue.left_out);
        let all = refused + left_out;
        if all > 0 {
            out::complain(&format!(
                "{all} spans were not sent: the collector did not take {refused} of them, and was too \
                 slow for {left_out}"
            ));
        }
    }
}

/// What is known of a message.
#[derive(Clone, Debug)]
struct Way {
    event: Arc<Event>,
    trace: TraceId,
    parent: SpanId,
    committed: u64,
    published: Option<u64>,
}

/// A run of a handler.
#[derive(Debug)]
struct Run {
    began: u64,
    consumer: Arc<str>,
    key: Arc<str>,
    attempt: u32,
}

/// Messages on their way.
#[derive(Debug, Default)]
struct Ways {
    /// When the run began, by the wall clock.
    began: Duration,
    due: HashMap<Arc<str>, u64>,
    ways: HashMap<Arc<str>, Way>,
    /// In the order in which they were seen.
    order: VecDeque<(u64, Arc<str>)>,
    runs: HashMap<u64, Run>,
    /// What happened to messages of which no publish was read yet. Processes write into one file, and a
    /// worker may write what it was given before the relay writes that it was confirmed.
    early: HashMap<Arc<str>, Vec<Entry>>,
    /// Numbers spans.
    count: u64,
}

impl Ways {
    fn add(&mut self, record: &Record, give: &mut impl FnMut(SpanData)) {
        match record {
            Record::Start(start) => self.start(start),
            Record::Entry(entry) => {
                let received = self.received(entry);
                match received.filter(|key| !self.is_published(key)) {
                    Some(key) => self.hold(key, entry),
                    None => self.entry(entry, give),
                }
                self.forget(entry.at, give);
            }
            _ => {}
        }
    }

    fn hold(&mut self, key: Arc<str>, entry: &Entry) {
        if !self.early.contains_key(&key) {
            self.order.push_back((entry.at, key.clone()));
        }
        self.early.entry(key).or_default().push(entry.clone());
    }

    /// No more records follow.
    fn end(&mut self, give: &mut impl FnMut(SpanData)) {
        // In the order of their times: spans are numbered.
        let mut early: Vec<Entry> = std::mem::take(&mut self.early)
            .into_values()
            .flatten()
            .collect();
        early.sort_by_key(|entry| entry.at);
        for entry in &early {
            self.entry(entry, give);
        }
    }

    /// The key of a message with which a consumer does something.
    fn received(&self, entry: &Entry) -> Option<Arc<str>> {
        match &entry.what {
            What::Delivered { key, .. } => key.clone(),
            What::HandlerEnd { run, .. } => Some(self.runs.get(run)?.key.clone()),
            What::Commit { on, .. } if &*on.consumer != CLIENT => Some(on.subject.clone()),
            _ => None,
        }
    }

    fn is_published(&self, key: &str) -> bool {
        self.ways
            .get(key)
            .is_some_and(|way| way.published.is_some())
    }

    fn start(&mut self, start: &Start) {
        self.began = Duration::from_nanos(start.began.0);
    }

    fn entry(&mut self, entry: &Entry, give: &mut impl FnMut(SpanData)) {
        let at = entry.at;
        match &entry.what {
            What::Request { key, due } => {
                self.due.entry(key.clone()).or_insert(*due);
            }
            What::Commit {
                on,
                effects,
                seen: Seen::Ok,
                since,
            } => {
                for event in &effects.emitted {
                    self.committed(event, at);
                }
                let of_client = &*on.consumer == CLIENT;
                let of_request = of_client.then(|| self.due.remove(&on.subject)).flatten();
                let Some(way) = self.ways.get(&on.subject).cloned() else {
                    return;
                };
                let attributes = vec![process(entry), key(&on.subject)];
                match of_request {
                    // The span that the context in the events names.
                    Some(due) => {
                        let name = format!("request {}", way.event.event_type);
                        let span = self.span(&way, (name, SpanKind::Server), (due, at), attributes);
                        give(SpanData {
                            span_context: context(way.trace, way.parent),
                            parent_span_id: SpanId::INVALID,
                            ..span
                        });
                    }
                    None => {
                        let name = format!("commit {}", on.consumer);
                        let span = (name, SpanKind::Client);
                        give(self.span(&way, span, (*since, at), attributes));
                    }
                }
            }
            What::Publish {
                event,
                outcome,
                since,
            } => {
                // A relay may be quicker than the answer to the client's commit.
                self.committed(event, *since);
                let Some(way) = self.ways.get_mut(&event.idempotency_key) else {
                    return;
                };
                let first = way.published.is_none();
                way.published.get_or_insert(*since);
                let way = way.clone();
                let name = &way.event.event_type;
                if first {
                    let outbox = (format!("outbox {name}"), SpanKind::Internal);
                    let waited = (way.committed.min(*since), *since);
                    give(self.span(&way, outbox, waited, vec![key(&event.idempotency_key)]));
                }
                let attributes = vec![
                    process(entry),
                    KeyValue::new("messaging.system", "rabbitmq"),
                    KeyValue::new("messaging.operation.type", "send"),
                    KeyValue::new("messaging.message.id", event.id.to_string()),
                ];
                let publish = (format!("publish {name}"), SpanKind::Producer);
                let span = self.span(&way, publish, (*since, at), attributes);
                give(SpanData {
                    status: match outcome {
                        PublishOutcome::Confirmed => Status::Ok,
                        other => Status::error(format!("{other:?}")),
                    },
                    ..span
                });
                for entry in self
                    .early
                    .remove(&event.idempotency_key)
                    .into_iter()
                    .flatten()
                {
                    self.entry(&entry, give);
                }
            }
            What::Delivered {
                consumer,
                key: Some(key),
                redelivered,
                ..
            } => {
                let Some(way) = self.ways.get(key).cloned() else {
                    return;
                };
                // A publish that was read may be a later one: the first may have died with its relay.
                let published = way.published.filter(|published| *published <= at);
                let from = published.unwrap_or(way.committed).min(at);
                let attributes = vec![
                    process(entry),
                    KeyValue::new("messaging.system", "rabbitmq"),
                    KeyValue::new("messaging.operation.type", "receive"),
                    KeyValue::new("messaging.destination.name", consumer.to_string()),
                    KeyValue::new("redeliver.redelivered", *redelivered),
                ];
                let queue = (format!("queue {consumer}"), SpanKind::Consumer);
                give(self.span(&way, queue, (from, at), attributes));
            }
            What::HandlerStart { on, run, .. } => {
                let begun = Run {
                    began: at,
                    consumer: on.consumer.clone(),
                    key: on.subject.clone(),
                    attempt: on.attempt,
                };
                self.runs.insert(*run, begun);
            }
            What::HandlerEnd { run, ended } => self.ended((entry, *run), ended, give),
            _ => {}
        }
    }

    fn committed(&mut self, event: &Arc<Event>, at: u64) {
        let Some((trace, parent)) = event.trace.as_deref().and_then(parse) else {
            return;
        };
        let key = &event.idempotency_key;
        if self.ways.contains_key(key) {
            return;
        }
        self.order.push_back((at, key.clone()));
        let way = Way {
            event: event.clone(),
            trace,
            parent,
            committed: at,
            published: None,
        };
        self.ways.insert(key.clone(), way);
    }

    fn ended(
        &mut self,
        (entry, run): (&Entry, u64),
        ended: &Ended,
        give: &mut impl FnMut(SpanData),
    ) {
        let Some(run) = self.runs.remove(&run) else {
            return;
        };
        let Some(way) = self.ways.get(&run.key).cloned() else {
            return;
        };
        let attributes = vec![
            process(entry),
            key(&run.key),
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", run.consumer.to_string()),
            KeyValue::new("redeliver.attempt", i64::from(run.attempt)),
        ];
        let name = (format!("process {}", run.consumer), SpanKind::Consumer);
        let span = self.span(&way, name, (run.began, entry.at), attributes);
        give(SpanData {
            status: match ended {
                Ended::Ok => Status::Ok,
                // An error's text may hold what a payload holds.
                Ended::Transient(_) => Status::error("failed, and may be tried again"),
                Ended::Poison(_) => Status::error("failed for good"),
                Ended::Dropped => Status::error("dropped"),
                Ended::BatchFailed(_) => Status::error("its batch failed"),
            },
            ..span
        });
    }

    fn span(
        &mut self,
        way: &Way,
        (name, span_kind): (String, SpanKind),
        (from, until): (u64, u64),
        attributes: Vec<KeyValue>,
    ) -> SpanData {
        self.count += 1;
        // Not that of the request, which is a hash.
        let own = self.count.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let clock = |at: u64| -> SystemTime { UNIX_EPOCH + self.began + Duration::from_nanos(at) };
        SpanData {
            span_context: context(way.trace, SpanId::from(own)),
            parent_span_id: way.parent,
            parent_span_is_remote: false,
            span_kind,
            name: name.into(),
            start_time: clock(from),
            end_time: clock(until),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("redeliver").build(),
        }
    }

    fn forget(&mut self, now: u64, give: &mut impl FnMut(SpanData)) {
        while let Some((at, _)) = self.order.front() {
            if now.saturating_sub(*at) < KNOWN && self.order.len() <= MOST {
                return;
            }
            if let Some((_, key)) = self.order.pop_front() {
                for entry in self.early.remove(&key).into_iter().flatten() {
                    self.entry(&entry, give);
                }
                self.ways.remove(&key);
            }
        }
    }
}

fn process(entry: &Entry) -> KeyValue {
    KeyValue::new("redeliver.process", entry.process.to_string())
}

fn key(key: &str) -> KeyValue {
    KeyValue::new("redeliver.idempotency_key", key.to_owned())
}

fn context(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
}

/// Trace and span of a `traceparent`.
fn parse(traceparent: &str) -> Option<(TraceId, SpanId)> {
    let mut parts = traceparent.split('-');
    let (_, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    Some((TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?))
}

#[cfg(test)]
mod tests;
