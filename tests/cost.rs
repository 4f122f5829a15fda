//! What a message costs, counted in the seeded world: calls to database, broker and services by who makes
//! them. A pipeline that asks its servers more often changes the snapshot, and is seen in review.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::harness::verdict::Verdict;
use redeliver::sim::fault::{Kind, Rule, Seam};
use redeliver::workloads::{Deposits, Onboarding, Orders};

/// Requests of each run.
const REQUESTS: u32 = 100;
/// Long enough for all that follows from the last request.
const AFTERWARDS: Duration = Duration::from_secs(20);

fn calm(workload: &str, over: Duration) -> Scenario {
    let mut scenario = Scenario::new("calm", workload);
    (scenario.messages, scenario.over) = (REQUESTS, over);
    // Calls are noted for as long as faults may strike them.
    scenario.faults_until = over + AFTERWARDS;
    scenario
}

/// Calls for each message, in hundredths: by the part of the pipeline and by what is called.
fn costs(run: &RunResult) -> BTreeMap<(String, &'static str), u64> {
    let mut counts: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
    for call in &run.calls {
        let part = call.process.rsplit_once('-');
        let part = part.map_or(&*call.process, |(part, _)| part).to_owned();
        *counts.entry((part, call.seam.as_str())).or_default() += 1;
    }
    for count in counts.values_mut() {
        *count = *count * 100 / run.messages;
    }
    counts
}

fn table(name: &str, run: &RunResult) -> String {
    assert_eq!(run.verdict, Verdict::Valid, "{name}: {:#?}", run.anomalies);
    let (messages, deliveries) = (run.messages, run.deliveries);
    let acked = run.calls.iter().filter(|call| call.seam == Seam::Ack);
    let acked = acked.count() as u64;
    // One ack may be for all messages of a batch.
    let complete = acked == deliveries || (name.contains("batches") && acked < deliveries);
    assert!(complete, "{name}: calls are missing");
    let mut text = format!("{name}: {messages} messages, {deliveries} deliveries\n");
    let mut all = 0;
    for ((part, seam), count) in costs(run) {
        all += count;
        let _ = writeln!(
            text,
            "  {part:<18} {seam:<12} {:>3}.{:02}",
            count / 100,
            count % 100
        );
    }
    let _ = writeln!(text, "  {:<31} {:>3}.{:02}", "in all", all / 100, all % 100);
    text
}

#[test]
fn a_message_costs_so_many_calls() {
    // A card is charged for seconds, and each process has four workers.
    let long = Duration::from_secs(60);
    let orders = simulate(&Orders, &calm("orders", long), 1, true);
    let spread = Duration::from_secs(10);
    let onboarding = simulate(&Onboarding, &calm("onboarding", spread), 1, true);
    let deposits = simulate(&Deposits, &calm("deposits", spread), 1, true);
    let burst = calm("deposits", Duration::from_millis(50));
    let burst = simulate(&Deposits, &burst, 1, true);
    let batches = simulate(&Onboarding, &onboarding_burst(32), 1, true);
    let tables = [
        table("orders within 60 s", &orders),
        table("onboarding within 10 s", &onboarding),
        table("deposits within 10 s", &deposits),
        table("deposits within 50 ms", &burst),
        table("onboarding within 50 ms, in batches of 32", &batches),
    ];
    insta::assert_snapshot!(tables.join("\n"));
}

/// A burst that one process of each consumer handles, with two workers.
fn onboarding_burst(batch: u16) -> Scenario {
    let mut scenario = calm("onboarding", Duration::from_millis(50));
    scenario.worker_processes = 1;
    let consumer = &mut scenario.policy.consumer;
    (consumer.workers, consumer.prefetch, consumer.batch) = (2, 64, batch);
    scenario
}

/// Of the consumers that get many messages at once.
#[test]
fn messages_that_share_a_transaction_share_its_cost() {
    let of = |batch| {
        let run = simulate(&Onboarding, &onboarding_burst(batch), 1, true);
        assert_eq!(run.verdict, Verdict::Valid, "{:#?}", run.anomalies);
        costs(&run)
    };
    let (alone, together) = (of(1), of(32));
    for part in ["archive", "screening"] {
        for seam in [Seam::Commit, Seam::Ack] {
            let of = (part.to_owned(), seam.as_str());
            let (alone, together) = (alone[&of], together[&of]);
            assert!(
                together * 2 <= alone,
                "{of:?}: {together} hundredths a message in batches, {alone} alone"
            );
        }
    }
    let verifier = ("verifier".to_owned(), Seam::Commit.as_str());
    assert_eq!(
        alone[&verifier], together[&verifier],
        "it takes one at a time"
    );
}

/// However long the row behind a head is, a message costs the same.
#[test]
fn a_burst_of_ordered_messages_costs_as_much_for_each_as_a_small_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/ordered-burst.toml");
    let scenario = Scenario::load(&path, &["deposits"]).expect("a scenario");
    let cost = |messages: u32| {
        let mut scenario = scenario.clone();
        (scenario.messages, scenario.over) = (messages, Duration::from_millis(10));
        let run = simulate(&Deposits, &scenario, 1, false);
        assert_eq!(
            run.verdict,
            Verdict::Valid,
            "{messages}: {:#?}",
            run.anomalies
        );
        (run.events / run.messages, run.deliveries, run.messages)
    };
    let (few, ..) = cost(100);
    let (many, deliveries, messages) = cost(1_600);
    assert_eq!(deliveries, messages, "each is delivered once");
    assert!(
        many <= few,
        "{many} events for each of many, {few} for each of few"
    );
}

/// The bound of `ordered-burst` on deliveries is one that can be broken.
#[test]
fn a_message_that_is_delivered_twice_breaks_the_bound() {
    let mut scenario = calm("deposits", Duration::from_secs(5));
    scenario.expect.max_deliveries = Some(1);
    scenario.rules = vec![Rule::new(Kind::DuplicatePublish, 100_000)];
    let run = simulate(&Deposits, &scenario, 1, false);
    assert_eq!(run.verdict, Verdict::Violated);
    let seen = &run.anomalies[0].seen;
    assert!(seen.contains("was delivered to ledger"), "{seen}");
}
