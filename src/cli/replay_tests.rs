use std::sync::Arc;

use super::*;
use redeliver_harness::verdict::Anomaly;

fn run(verdict: Verdict, hash: u64) -> RunResult {
    let anomaly = Anomaly {
        kind: AnomalyKind::Lost,
        checker: "no-lost-work",
        message: Arc::from("order-1"),
        message_id: None,
        consumer: Arc::from(""),
        promise: "Every committed event takes effect.",
        seen: "it took none".to_owned(),
        also: Vec::new(),
    };
    RunResult {
        seed: 1,
        verdict,
        anomalies: vec![anomaly; usize::from(verdict == Verdict::Violated)],
        inconclusive: None,
        messages: 1,
        deliveries: 1,
        events: 1,
        virtual_ns: 1,
        faults: Vec::new(),
        mechanisms: Vec::new(),
        hash,
        ..RunResult::default()
    }
}

#[test]
fn the_exit_code_says_whether_it_reproduced() {
    let expect = |text| Some(Expected::parse(text).expect("an expectation"));
    for (run, expect, code) in [
        (run(Verdict::Valid, 7), None, 0),
        (run(Verdict::Valid, 7), expect("lost:7"), 0),
        (run(Verdict::Violated, 7), None, 1),
        (
            run(Verdict::Violated, 7),
            expect("lost:0000000000000007"),
            1,
        ),
        (run(Verdict::Violated, 7), expect("lost:8"), 3),
        (run(Verdict::Violated, 7), expect("stuck:7"), 3),
        (run(Verdict::Inconclusive, 7), expect("lost:7"), 3),
    ] {
        let (got, remark) = judge(&run, expect);
        assert_eq!(got, code, "{expect:?}: {remark}");
        assert_eq!(
            code == 3,
            remark.starts_with("did not reproduce") && code != 0
        );
    }
}

#[test]
fn nonsense_is_no_expectation() {
    for text in ["", "lost", "lost:", "lost:xyz", "gone:1", ":1"] {
        assert!(Expected::parse(text).is_err(), "{text}");
    }
}
