//! Metrics for Prometheus: the ones that are served are those that the page lists, and the dashboard
//! asks for no others.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use super::{Folder, redeliver, said, servers};

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

/// Everything in a text that is named like a metric.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named = words.filter(|word| word.starts_with("redeliver_load_"));
    named.map(str::to_owned).collect()
}

fn file(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("a file")
}

#[test]
fn what_is_served_is_what_the_page_lists_and_the_dashboard_shows() {
    let (page, dashboard) = (
        file("docs/load.md"),
        file("docs/grafana/redeliver-load.json"),
    );
    assert_eq!(named(&dashboard), named(&page));
    serde_json::from_str::<serde_json::Value>(&dashboard).expect("JSON");
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    let often = "[[fault]]\nkind = \"duplicate-publish\"\nprobability = \"20%\"\n";
    let scenario = folder.scenario("", often).display().to_string();
    let history = folder.path("run.history").display().to_string();
    let fixed = ["load", &scenario, "--history", &history, "--rate", "20/s"];
    let more = ["--for", "10s", "--metrics", "127.0.0.1:0"];
    let mut command = redeliver(&[&fixed[..], &more].concat());
    command.stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut lines = lines.map(|line| line.expect("text"));
    let first = lines.next().expect("a line");
    let address = first
        .strip_prefix("metrics at http://")
        .expect("an address");
    let address = address.strip_suffix("/metrics").expect("a path").to_owned();
    // Some are there only once something was seen of them: until then the next line is waited for.
    let mut text = String::new();
    while named(&text) != named(&page) {
        let line = lines.next();
        assert!(
            line.is_some(),
            "the run has ended, and shown no more than {text}"
        );
        if line.is_some_and(|line| line.contains("offered")) {
            text = scrape(&address);
        }
    }
    let rest: Vec<_> = lines.collect();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}\n{rest:?}", said(&output));
    for line in [
        "redeliver_load_latency_seconds_bucket{leg=\"end-to-end\",le=\"+Inf\"}",
        "redeliver_load_workflows_standing{place=\"queue of charge-card\"}",
        "redeliver_load_queue_messages{queue=\"send-receipt\"}",
        "redeliver_load_faults_total{kind=\"duplicate-publish\"}",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}
