//! The figures of a load run for Prometheus, while it goes on.
//!
//! Their names are a promise: [`METRICS`] lists them, docs/load.md says what they mean, and a
//! dashboard for Grafana shows them.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics::{Label, SharedString, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::sync::oneshot;

use redeliver_harness::load::figures::Figures;
use redeliver_harness::watch::legs::Leg;

/// How a metric goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goes {
    /// Up only.
    Up,
    /// Up and down.
    Both,
}
use Goes::{Both, Up};

/// All metrics: name, how it goes, and what it says.
pub(super) const METRICS: &[(&str, Goes, &str)] = &[
    (INFO, Both, "1; its labels say which run this is"),
    (OFFERED, Up, "Requests that were due"),
    (SENT, Up, "Requests that were begun"),
    (
        WORKFLOWS,
        Up,
        "Requests of which everything that followed has ended",
    ),
    (EVENTS, Up, "Events that were committed"),
    (CONFIRMED, Up, "Publishes that the broker confirmed"),
    (DELIVERIES, Up, "Deliveries to consumers"),
    (
        REDELIVERIES,
        Up,
        "Deliveries that the broker flagged as redelivered",
    ),
    (DONE, Up, "Works whose effects were committed"),
    (RETRIES, Up, "Failed attempts that were put back"),
    (DEAD, Up, "Works that were given up"),
    (FAULTS, Up, "Faults that were given, by kind"),
    (WITNESSED, Up, "Faults that somebody else has seen, by kind"),
    (LATENCY, Up, "Times of a leg that took at most le seconds"),
    (
        LATENCY_SUM,
        Both,
        "The sum of the times of a leg, in seconds",
    ),
    (LATENCY_COUNT, Up, "How many times of a leg were taken"),
    (
        LATENCY_MAX,
        Both,
        "The longest time of a leg so far, in seconds",
    ),
    (OPEN, Both, "Requests that are committed and have not ended"),
    (
        UNCOMMITTED,
        Both,
        "Requests that were begun and are not committed",
    ),
    (HANDLERS, Both, "Handlers that run"),
    (
        STANDING,
        Both,
        "Workflows of which something stands at a place",
    ),
    (
        STUCK,
        Both,
        "Those of them that have stood there for longer than a message may",
    ),
    (OUTBOX, Both, "Rows of the outbox that were not published"),
    (
        OLDEST,
        Both,
        "How long the oldest of them has waited, in seconds",
    ),
    (
        INBOX,
        Both,
        "Works in the inbox that were begun and have not ended",
    ),
    (QUEUE, Both, "Messages that are ready, by queue"),
    (CPU, Both, "Seconds of CPU, by part of the pipeline"),
    (MEMORY, Both, "Resident memory of the harness, in bytes"),
    (FILES, Both, "Open files of the harness"),
];

const INFO: &str = "redeliver_load_info";
const OFFERED: &str = "redeliver_load_requests_offered_total";
const SENT: &str = "redeliver_load_requests_sent_total";
const WORKFLOWS: &str = "redeliver_load_workflows_done_total";
const EVENTS: &str = "redeliver_load_events_committed_total";
const CONFIRMED: &str = "redeliver_load_publishes_confirmed_total";
const DELIVERIES: &str = "redeliver_load_deliveries_total";
const REDELIVERIES: &str = "redeliver_load_redeliveries_total";
const DONE: &str = "redeliver_load_works_done_total";
const RETRIES: &str = "redeliver_load_retries_total";
const DEAD: &str = "redeliver_load_dead_letters_total";
const FAULTS: &str = "redeliver_load_faults_total";
const WITNESSED: &str = "redeliver_load_faults_witnessed_total";
const LATENCY: &str = "redeliver_load_latency_seconds_bucket";
const LATENCY_SUM: &str = "redeliver_load_latency_seconds_sum";
const LATENCY_COUNT: &str = "redeliver_load_latency_seconds_count";
const LATENCY_MAX: &str = "redeliver_load_latency_seconds_max";
const OPEN: &str = "redeliver_load_workflows_open";
const UNCOMMITTED: &str = "redeliver_load_requests_uncommitted";
const HANDLERS: &str = "redeliver_load_handlers_running";
const STANDING: &str = "redeliver_load_workflows_standing";
const STUCK: &str = "redeliver_load_workflows_stuck";
const OUTBOX: &str = "redeliver_load_outbox_rows";
const OLDEST: &str = "redeliver_load_outbox_oldest_seconds";
const INBOX: &str = "redeliver_load_inbox_open";
const QUEUE: &str = "redeliver_load_queue_messages";
const CPU: &str = "redeliver_load_cpu_seconds";
const MEMORY: &str = "redeliver_load_harness_memory_bytes";
const FILES: &str = "redeliver_load_harness_open_files";

/// Upper bounds of buckets: their text, and nanoseconds.
const BUCKETS: [(&str, u64); 15] = {
    const MS: u64 = 1_000_000;
    [
        ("0.001", MS),
        ("0.002", 2 * MS),
        ("0.005", 5 * MS),
        ("0.01", 10 * MS),
        ("0.02", 20 * MS),
        ("0.05", 50 * MS),
        ("0.1", 100 * MS),
        ("0.2", 200 * MS),
        ("0.5", 500 * MS),
        ("1", 1_000 * MS),
        ("2", 2_000 * MS),
        ("5", 5_000 * MS),
        ("10", 10_000 * MS),
        ("30", 30_000 * MS),
        ("60", 60_000 * MS),
    ]
};

/// Serves the figures of a run until it is dropped.
pub(super) struct Served {
    address: SocketAddr,
    recorder: Arc<PrometheusRecorder>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Begins to serve at an address.
    ///
    /// # Errors
    /// Nobody can listen there.
    pub(super) fn at(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let recorder = Arc::new(PrometheusBuilder::new().build_recorder());
        metrics::with_local_recorder(&*recorder, describe);
        let handle = recorder.handle();
        let (end, ended) = oneshot::channel::<()>();
        let page = move || async move {
            let text = handle.render();
            (
                [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
                text,
            )
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serve = async move {
            let router = Router::new().route("/metrics", get(page));
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let serve = axum::serve(listener, router);
            // An open connection must not keep the run from ending.
            tokio::select! {
                served = async { serve.await } => served,
                _ = ended => Ok(()),
            }
        };
        let thread = std::thread::spawn(move || {
            // What ends it otherwise is an error of a listener that stood a moment ago.
            let _ = runtime.block_on(serve);
        });
        Ok(Self {
            address,
            recorder,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Where it is, with the port that was chosen.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shows these figures from now on.
    pub(super) fn show(&self, figures: &Figures) {
        metrics::with_local_recorder(&*self.recorder, || set(figures));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn describe() {
    for (name, goes, says) in METRICS {
        match goes {
            Up => describe_counter!(*name, *says),
            Both => describe_gauge!(*name, *says),
        }
    }
}

fn label(name: &'static str, value: impl Into<SharedString>) -> Vec<Label> {
    vec![Label::new(name, value)]
}

fn set(figures: &Figures) {
    let start = &figures.start;
    let run = vec![
        Label::new("scenario", start.scenario.clone()),
        Label::new("workload", start.workload.clone()),
        Label::new("run", start.name.clone()),
        Label::new("seed", start.seed.to_string()),
    ];
    gauge!(INFO, run).set(1.0);
    let counts = figures.counts();
    for (name, count) in [
        (OFFERED, figures.offered_so_far()),
        (SENT, counts.sent),
        (WORKFLOWS, counts.workflows),
        (EVENTS, counts.events),
        (CONFIRMED, counts.confirmed),
        (DELIVERIES, counts.deliveries),
        (REDELIVERIES, counts.redeliveries),
        (DONE, counts.done),
        (RETRIES, counts.retried),
        (DEAD, counts.dead),
    ] {
        counter!(name).absolute(count);
    }
    for (name, all) in [(FAULTS, &figures.struck), (WITNESSED, &figures.witnessed)] {
        for (kind, count) in all {
            counter!(name, label("kind", *kind)).absolute(*count);
        }
    }
    let legs = figures.legs();
    gauge!(OPEN).set(legs.open_workflows() as f64);
    gauge!(UNCOMMITTED).set(legs.uncommitted() as f64);
    gauge!(HANDLERS).set(legs.in_handlers() as f64);
    standing(figures);
    times(figures);
    look(figures);
}

fn standing(figures: &Figures) {
    let standing = figures.standing();
    // A place at which nothing stands any more shows 0, not what stood there last.
    for place in figures.places() {
        let here = standing.iter().find(|it| it.place == place);
        let (workflows, stuck) = here.map_or((0, 0), |it| (it.workflows, it.stuck));
        gauge!(STANDING, label("place", place.to_string())).set(workflows as f64);
        gauge!(STUCK, label("place", place.to_string())).set(stuck as f64);
    }
}

fn times(figures: &Figures) {
    for leg in Leg::ALL {
        let Some(times) = figures.latencies.of(leg) else {
            continue;
        };
        let name = leg.as_str();
        let of = |le: &'static str| vec![Label::new("leg", name), Label::new("le", le)];
        for (le, nanos) in BUCKETS {
            counter!(LATENCY, of(le)).absolute(times.within(nanos));
        }
        counter!(LATENCY, of("+Inf")).absolute(times.count());
        counter!(LATENCY_COUNT, label("leg", name)).absolute(times.count());
        let sum = times.mean() / 1e9 * times.count() as f64;
        gauge!(LATENCY_SUM, label("leg", name)).set(sum);
        gauge!(LATENCY_MAX, label("leg", name)).set(times.max() as f64 / 1e9);
    }
}

/// What was seen from outside when somebody looked last.
fn look(figures: &Figures) {
    let Some(seen) = figures.gauges.last() else {
        return;
    };
    gauge!(OUTBOX).set(seen.outbox as f64);
    gauge!(OLDEST).set(seen.oldest_ms as f64 / 1e3);
    gauge!(INBOX).set(seen.inbox as f64);
    for (queue, ready) in &seen.queues {
        gauge!(QUEUE, label("queue", queue.to_string())).set(*ready as f64);
    }
    for (part, ms) in &seen.cpu {
        gauge!(CPU, label("part", part.to_string())).set(*ms as f64 / 1e3);
    }
    gauge!(MEMORY).set(seen.memory_kb as f64 * 1024.0);
    gauge!(FILES).set(seen.files as f64);
}
