//! Tables, stories and JSON lines.

use std::sync::Arc;
use std::time::Duration;

use redeliver::harness::report::{Tally, json, table};
use redeliver::harness::run::{RunResult, TraceLine};
use redeliver::harness::scenario::{Day, Known, Reach, Scenario};
use redeliver::harness::story;
use redeliver::harness::verdict::{Anomaly, AnomalyKind, Judgement, Verdict};
use redeliver_sim::fault::Kind;

fn run(seed: u64, verdict: Verdict) -> RunResult {
    let anomaly = Anomaly {
        kind: AnomalyKind::Lost,
        checker: "no-lost-work",
        message: Arc::from("order.placed:order-7"),
        message_id: Some(uuid::Uuid::from_u128(7)),
        consumer: Arc::from("charge-card"),
        promise: "Every committed event takes effect once, or is dead-lettered.",
        seen: "it took no effect, is in no queue and in no dead-letter queue".to_owned(),
        also: Vec::new(),
    };
    RunResult {
        seed,
        verdict,
        anomalies: vec![anomaly; usize::from(verdict == Verdict::Violated)],
        inconclusive: (verdict == Verdict::Inconclusive).then(|| "it did not settle".to_owned()),
        messages: 61_234,
        deliveries: 70_000,
        events: 2_000_000,
        virtual_ns: 1_900_000_000_000,
        faults: vec![("crash", 12), ("lost-confirm", 1_234), ("pause", 0)],
        mechanisms: vec![("lease expired", 3)],
        hash: 0xdead_beef,
        trace: trace(),
        ..RunResult::default()
    }
}

fn trace() -> Vec<TraceLine> {
    let line = |at: u64, actor: &str, what, subject: &str, detail: &str| TraceLine {
        at: at * 1_000_000,
        actor: Arc::from(actor),
        what,
        subject: Arc::from(subject),
        detail: detail.to_owned(),
        lasts: 0,
    };
    let key = "order.placed:order-7";
    vec![
        line(1, "client-1", "commit", "order.placed:order-6", "ok"),
        line(2, "world", "fault", "", "broker-kill for 5000 ms"),
        line(10, "client-1", "commit", key, "ok"),
        line(11, "relay-1", "publish", key, "order.placed"),
        line(
            11,
            "relay-1",
            "publish",
            "order.placed:order-8",
            "order.placed",
        ),
        line(12, "relay-1", "fault", key, "lost-confirm at publish"),
        line(13, "relay-1", "crashed", "", ""),
        line(
            15,
            "relay-1",
            "fault",
            "order.placed:order-8",
            "lost-confirm at publish",
        ),
        line(20, "relay-2", "mark", key, "ok"),
    ]
}

fn tallies() -> Vec<Tally> {
    let tally = |name: &str, verdicts: &[Verdict]| {
        let mut tally = Tally::new(&Scenario::new(name, "orders"), 1);
        for (seed, verdict) in (1..).zip(verdicts) {
            tally.add(run(seed, *verdict));
        }
        tally.wall = Duration::from_millis(1_500);
        tally
    };
    let mut all = vec![
        tally("calm-day", &[Verdict::Valid; 2_000]),
        tally(
            "relay-crash-after-publish-of-two",
            &[Verdict::Valid, Verdict::Violated],
        ),
        tally("unsettled", &[Verdict::Inconclusive]),
        tally("expected", &[Verdict::Violated]),
        tally("not-reached", &[Verdict::Valid]),
    ];
    all[0].faults = Kind::ALL
        .iter()
        .map(|kind| (kind.as_str(), 123_456))
        .collect();
    let expect = &mut all[3].scenario.expect;
    (expect.verdict, expect.anomalies) = (Verdict::Violated, vec![AnomalyKind::Lost]);
    all[4].scenario.expect.reached = vec![Reach::Kind(Kind::FailOver), Reach::Kind(Kind::Crash)];
    all[4].scenario.allow = vec![redeliver::pipeline::policy::Check::LeaseShorterThanHandler];
    all
}

#[test]
fn the_table_fits_eighty_columns() {
    let wall = Duration::from_secs(7);
    let text = table::render(
        &tallies(),
        &Judgement::plain(Verdict::Violated),
        wall,
        false,
    );
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert_eq!(line.trim_end(), line);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn colours_change_nothing_else() {
    let wall = Duration::from_secs(7);
    let plain = table::render(
        &tallies(),
        &Judgement::plain(Verdict::Violated),
        wall,
        false,
    );
    let mut coloured = table::render(&tallies(), &Judgement::plain(Verdict::Violated), wall, true);
    for code in ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[0m"] {
        assert!(coloured.contains(code));
        coloured = coloured.replace(code, "");
    }
    assert_eq!(coloured, plain);
}

#[test]
fn the_verdict_is_that_of_all_runs_and_of_what_is_expected() {
    let verdicts: Vec<_> = tallies().iter().map(|tally| tally.verdict()).collect();
    use Verdict::{Inconclusive, Valid, Violated};
    assert_eq!(
        verdicts,
        [Valid, Violated, Inconclusive, Valid, Inconclusive]
    );
}

#[test]
fn a_violation_reads_like_a_story() {
    let mut scenario = Scenario::new("lost-confirms", "orders");
    scenario.path = "scenarios/lost confirms.toml".into();
    let run = run(17, Verdict::Violated);
    let anomaly = &run.anomalies[0];
    let line = story::replay_line("redeliver", &scenario.path, 17, anomaly, run.hash);
    insta::assert_snapshot!(story::render(&scenario, &run, &line));
}

#[test]
fn json_lines_have_the_promised_shape() {
    let tallies = tallies();
    let violated = &tallies[1];
    let violation = &violated.violations[0];
    let wall = Duration::from_secs(7);
    let lines = [
        json::scenario(violated),
        json::violation(violated, violation, &violation.anomalies[0], "redeliver"),
        json::summary(
            &tallies,
            &Judgement::plain(Verdict::Violated),
            wall,
            false,
            None,
        ),
    ];
    for line in &lines {
        assert!(!line.contains('\n'));
        serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    }
    insta::with_settings!({
        filters => [(r#""max_rss_bytes":(\d+|null)"#, r#""max_rss_bytes":"[rss]""#)],
    }, { insta::assert_snapshot!(lines.join("\n")) });
}

#[test]
fn a_known_failure_is_excused_until_its_day() {
    let day = |text: &str| Day::parse(text).expect("a day");
    let judge = |known: AnomalyKind, today: &str| {
        let mut scenario = Scenario::new("known", "orders");
        scenario.known = Some(Known {
            ticket: "SHOP-17".to_owned(),
            until: day("2026-12-31"),
            anomalies: vec![known],
        });
        let mut tally = Tally::new(&scenario, 1);
        tally.add(run(1, Verdict::Valid));
        tally.add(run(2, Verdict::Violated));
        tally.excuse(day(today));
        (tally.verdict(), tally.known().unwrap_or_default())
    };
    let (verdict, said) = judge(AnomalyKind::Lost, "2026-12-31");
    assert_eq!(verdict, Verdict::Valid);
    assert_eq!(said, "SHOP-17, excused until 2026-12-31");
    let (verdict, said) = judge(AnomalyKind::Lost, "2027-01-01");
    assert_eq!(verdict, Verdict::Violated);
    assert_eq!(said, "SHOP-17, was excused until 2026-12-31");
    // Only what is known.
    assert_eq!(judge(AnomalyKind::Stuck, "2026-12-31").0, Verdict::Violated);
}
