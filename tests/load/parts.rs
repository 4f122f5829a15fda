//! A file that is judged in parts and as a whole gives the same result.

use std::collections::BTreeMap;
use std::path::Path;

use redeliver_harness::load::check::{Checked, check_in_parts};
use redeliver_harness::team::workload::Workload;
use redeliver_harness::watch::file::{Appender, Record, Records, Row};
use redeliver_workloads::onboarding::Onboarding;
use redeliver_workloads::orders::Orders;

use super::{Folder, HEAD, QUICK, load, said, servers};

/// Everything that may put a commit in doubt, repeat a message, or give one up.
const FAULTS: &str = "
[poison]
poison = 2
malformed = 2
transient = 1

[[fault]]
kind = \"crash\"
at = \"1s\"
target = \"client-1\"

[[fault]]
kind = \"crash\"
at = \"2s\"
target = \"CONSUMER-1\"

[[fault]]
kind = \"partition\"
at = \"3s\"
lasts = \"1s\"
target = \"client-1@database\"

[[fault]]
kind = \"duplicate-publish\"
probability = \"10%\"
";

pub(crate) fn records(path: &Path) -> Vec<Record> {
    let mut records = Records::open(path).expect("a file");
    std::iter::from_fn(|| records.next_record().expect("a history")).collect()
}

pub(crate) fn write(path: &Path, records: &[Record]) {
    let file = Appender::create(path).expect("a new file");
    records.iter().for_each(|record| file.append(record));
    assert_eq!(file.failure(), None);
}

/// What is said of each message, whatever the order.
fn told(checked: &Checked) -> BTreeMap<String, u64> {
    let mut told = BTreeMap::new();
    for anomaly in &checked.result.anomalies {
        let (checker, message) = (anomaly.checker, &anomaly.message);
        // Which of many are named first depends on the order in which they are looked at.
        let line = match checker {
            "stuck" | "starved" | "misfiled" | "unexplained-letter" => checker.to_owned(),
            _ => format!("{checker} {message} {}: {}", anomaly.consumer, anomaly.seen),
        };
        *told.entry(line).or_default() += 1;
    }
    told
}

fn same<L: Workload>(workload: &L, path: &Path, what: &str) -> usize {
    let judge = |part| check_in_parts(workload, path, part).expect("a history");
    let (whole, parts) = (judge(u64::MAX / 4), judge(20_000));
    let told_of = (told(&whole), told(&parts));
    assert_eq!(told_of.0, told_of.1, "{what}");
    let (one, other) = (&whole.result, &parts.result);
    assert_eq!(one.ends, other.ends, "{what}");
    assert_eq!(one.inconclusive, other.inconclusive, "{what}");
    assert_eq!(one.mechanisms, other.mechanisms, "{what}");
    assert_eq!(
        (one.messages, one.deliveries, one.faults.clone()),
        (other.messages, other.deliveries, other.faults.clone()),
        "{what}"
    );
    assert_eq!(one.unplanned.len(), other.unplanned.len(), "{what}");
    told_of.0.len()
}

/// A number that looks random.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

/// Leaves records out, and has others twice: whatever comes of it, both ways say the same.
fn spoilt(records: &[Record], seed: u64) -> Vec<Record> {
    let mut spoilt = Vec::new();
    for (at, record) in (0..).zip(records) {
        let drawn = mixed(mixed(seed + 1) ^ at) % 1_000;
        let (lost, twice) = match record {
            Record::Entry(_) => (drawn < 2, false),
            Record::Row(Row::Now(_) | Row::Answer(_)) => (false, false),
            Record::Row(_) => (drawn < 20, drawn > 996),
            Record::Ledger(_) => (drawn < 10, drawn > 990),
            _ => (false, false),
        };
        if !lost {
            spoilt.push(record.clone());
        }
        if twice {
            spoilt.push(record.clone());
        }
    }
    spoilt
}

fn compare<L: Workload>(workload: &L, consumer: &str) {
    let folder = Folder::new();
    let path = folder.path("under-load.toml");
    let (head, quick) = match L::NAME {
        "orders" => (HEAD.to_owned(), QUICK),
        name => (HEAD.replace("orders", name), ""),
    };
    let faults = FAULTS.replace("CONSUMER", consumer);
    let scale = "time-scale = 10\n";
    std::fs::write(&path, format!("{head}{scale}{quick}{faults}")).expect("a file");
    let (output, summary) = load(&folder, &path, &["--rate", "15/s", "--for", "6s"]);
    assert_eq!(summary["requests"], 90, "{}", said(&output));
    let history = folder.path("run.history");
    same(workload, &history, "as it is");
    let all = records(&history);
    let mut said = 0;
    for seed in 0..20 {
        let path = folder.path(&format!("spoilt-{seed}.history"));
        write(&path, &spoilt(&all, seed));
        said += same(workload, &path, &format!("spoilt by {seed}"));
    }
    assert!(said > 100, "only {said} anomalies were compared");
}

#[test]
fn orders_are_judged_in_parts_as_they_are_as_a_whole() {
    if servers().is_some() {
        compare(&Orders, "charge-card");
    }
}

#[test]
fn onboardings_are_judged_in_parts_as_they_are_as_a_whole() {
    if servers().is_some() {
        compare(&Onboarding, "warehouse");
    }
}
