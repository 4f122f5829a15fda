//! The trace for viewers, by the rules of the trace event format.

use std::collections::BTreeMap;

use redeliver::harness::report::diagram::build;
use redeliver::harness::report::perfetto;
use serde_json::Value;

use super::caught;

#[test]
fn every_flow_and_every_slice_that_begins_also_ends() {
    let found = caught("ack-before-commit");
    let drawn = build(&found.run);
    let trace: Value = serde_json::from_str(&perfetto::render(&drawn)).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    let of = |phase: &str| {
        let all = events.iter().filter(|event| event["ph"] == phase);
        let all = all.map(|event| (event["id"].as_u64(), event));
        all.collect::<Vec<_>>()
    };
    for (begins, ends) in [("s", "f"), ("b", "e")] {
        let ends: BTreeMap<_, _> = of(ends).into_iter().collect();
        let begins = of(begins);
        assert!(!begins.is_empty());
        assert_eq!(begins.len(), ends.len());
        for (id, begin) in begins {
            let end = ends[&id];
            assert!(begin["ts"].as_f64() <= end["ts"].as_f64(), "{begin} {end}");
        }
    }
    // A flow begins and ends inside of a slice, or no viewer draws it.
    let mut slices: BTreeMap<(u64, u64), Vec<f64>> = BTreeMap::new();
    let track = |event: &Value| {
        (
            event["pid"].as_u64().unwrap_or(0),
            event["tid"].as_u64().unwrap_or(0),
        )
    };
    for (_, slice) in of("X") {
        slices
            .entry(track(slice))
            .or_default()
            .extend(slice["ts"].as_f64());
    }
    assert_eq!(of("X").len(), drawn.steps.len());
    for (_, flow) in of("s").into_iter().chain(of("f")) {
        let ts = flow["ts"].as_f64().expect("a time");
        assert!(slices[&track(flow)].contains(&ts), "{flow}");
    }
    let named = of("M")
        .iter()
        .filter(|(_, event)| event["name"] == "thread_name")
        .count();
    assert!(named >= drawn.lanes.len());
}
