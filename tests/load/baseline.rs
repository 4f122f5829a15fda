//! A run beside an earlier one.

use redeliver_harness::watch::file::Record;
use redeliver_harness::watch::history::What;

use super::parts::{records, write};
use super::{Folder, check, load, said, servers};

/// The same history, in which everything but the sending of requests happened so much later.
fn later(records: &[Record], nanos: u64) -> Vec<Record> {
    let mut all = records.to_vec();
    for record in &mut all {
        match record {
            Record::Entry(entry) => match &mut entry.what {
                What::Request { .. } => {}
                What::HandlerStart { read, .. } => {
                    *read += nanos as usize;
                    entry.at += nanos;
                }
                What::Commit { since, .. } | What::Publish { since, .. } => {
                    *since += nanos;
                    entry.at += nanos;
                }
                _ => entry.at += nanos,
            },
            Record::Ledger(entry) => entry.at += nanos,
            _ => {}
        }
    }
    all
}

#[test]
fn a_slower_run_is_violated_and_another_one_cannot_be_compared() {
    if servers().is_none() {
        return;
    }
    let folder = Folder::new();
    let scenario = folder.scenario("", "");
    let options = ["--rate", "20/s", "--for", "14s"];
    let (output, _) = load(&folder, &scenario, &options);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let own = folder.path("run.history");
    let before = folder.path("before.history");
    std::fs::copy(&own, &before).expect("a copy");
    let against = before.display().to_string();

    let (output, summary) = check(&folder, &["--baseline", &against]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let metrics = &summary["baseline"]["metrics"];
    assert_eq!(metrics[0]["metric"], "p50(end-to-end)", "{summary}");
    assert_eq!(metrics[0]["slower"], false, "{summary}");
    assert_eq!(metrics[0]["change"], 0.0, "{summary}");

    let p50 = summary["end_to_end_ms"]["p50"].as_f64().expect("a time");
    let slower = later(&records(&own), (p50 * 0.3 * 1e6) as u64);
    std::fs::remove_file(&own).expect("it is there");
    write(&own, &slower);
    let (output, summary) = check(&folder, &["--baseline", &against]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(
        summary["baseline"]["metrics"][0]["slower"], true,
        "{summary}"
    );
    assert!(said(&output).contains("The run is not slower than its baseline."));
    // What is so much slower may be allowed.
    let (output, _) = check(&folder, &["--baseline", &against, "--tolerance", "60"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));

    let rate = |record: &mut Record| {
        if let Record::Start(start) = record {
            start.rate += 1_000;
        }
    };
    let mut other = slower;
    other.iter_mut().for_each(rate);
    std::fs::remove_file(&before).expect("it is there");
    write(&before, &other);
    let (output, summary) = check(&folder, &["--baseline", &against]);
    let code = output.status.code();
    assert!(matches!(code, Some(2 | 3)), "{}", said(&output));
    assert_eq!(summary["baseline"], serde_json::Value::Null);
    assert!(
        said(&output).contains("before.history: it "),
        "{}",
        said(&output)
    );
}
