//! OpenTelemetry: a request's way over outbox, broker and consumers is one trace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::{Folder, load, said, servers};

/// Takes spans, as a collector does.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Span>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let spans = Arc::new(Mutex::new(Vec::new()));
        let taken = spans.clone();
        let take = move |body: Bytes| async move {
            let request = ExportTraceServiceRequest::decode(body).expect("protobuf");
            let mut taken = taken.lock().expect("nobody panics");
            let scopes = request
                .resource_spans
                .into_iter()
                .flat_map(|it| it.scope_spans);
            taken.extend(scopes.flat_map(|it| it.spans));
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let router = Router::new().route("/v1/traces", post(take));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            spans,
            _runtime: runtime,
        }
    }
}

#[test]
fn a_request_and_all_that_follows_from_it_is_one_trace() {
    if servers().is_none() {
        return;
    }
    let collector = Collector::start();
    let folder = Folder::new();
    let scenario = folder.scenario("", "");
    let url = format!("http://{}", collector.address);
    let options = ["--rate", "10/s", "--for", "5s", "--otlp", &url];
    let (output, summary) = load(&folder, &scenario, &options);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(summary["requests"], 50);
    assert!(
        !said(&output).contains("spans were not sent"),
        "{}",
        said(&output)
    );
    let spans = collector.spans.lock().expect("nobody panics");
    let mut traces: BTreeMap<&[u8], Vec<&Span>> = BTreeMap::new();
    for span in &*spans {
        traces.entry(&span.trace_id).or_default().push(span);
    }
    assert_eq!(traces.len(), 50, "{}", said(&output));
    let all_ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(all_ids.len(), spans.len(), "each span has an id of its own");
    for trace in traces.values() {
        let roots: Vec<_> = trace
            .iter()
            .filter(|it| it.parent_span_id.is_empty())
            .collect();
        let [root] = roots[..] else {
            let names: Vec<_> = trace
                .iter()
                .map(|it| (&it.name, &it.parent_span_id))
                .collect();
            panic!("{roots:?} are the roots of {names:?}");
        };
        assert_eq!(root.name, "request order.placed");
        let names: BTreeSet<&str> = trace.iter().map(|span| &*span.name).collect();
        for name in [
            "outbox order.placed",
            "publish order.placed",
            "queue charge-card",
            "process charge-card",
            "commit charge-card",
            "publish payment.taken",
            "process reserve-inventory",
            "queue send-receipt",
            "process send-receipt",
        ] {
            assert!(names.contains(name), "{name} is not in {names:?}");
        }
        for span in trace {
            assert!(
                span.start_time_unix_nano <= span.end_time_unix_nano,
                "{span:?}"
            );
            if span.span_id != root.span_id {
                assert_eq!(span.parent_span_id, root.span_id, "{span:?}");
                assert!(
                    span.start_time_unix_nano >= root.start_time_unix_nano,
                    "{span:?}"
                );
            }
        }
    }
}

#[test]
fn a_collector_that_is_not_there_does_not_disturb_the_run() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    let scenario = folder.scenario("", "");
    // Nobody listens at the port of discard.
    let options = [
        "--rate",
        "10/s",
        "--for",
        "3s",
        "--otlp",
        "http://127.0.0.1:9",
    ];
    let (output, summary) = load(&folder, &scenario, &options);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(summary["workflows"], 30);
    assert!(
        said(&output).contains("spans were not sent"),
        "{}",
        said(&output)
    );
}
