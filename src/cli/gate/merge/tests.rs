use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use redeliver_sim::fault::{Kind, Rule, Seam};

use super::*;
use crate::cli::gate::canary::Canaries;
use crate::cli::gate::pool::{Plan, Pool};
use crate::cli::gate::progress::Progress;
use crate::cli::gate::{Sweep, opening, worst};
use redeliver_harness::registry::Registered;
use redeliver_harness::report::Tally;
use redeliver_harness::report::part::Part;
use redeliver_harness::run::RunResult;
use redeliver_harness::run::shard::Shard;
use redeliver_harness::scenario::{Reach, Scenario};
use redeliver_harness::verdict::{Anomaly, AnomalyKind, Judgement};
use redeliver_harness::watch::reached::{Cell, Part as Stage};

/// What a cell is called and how often it is struck depends on the seed alone.
fn simulate(_: &Scenario, seed: u64, _: bool) -> RunResult {
    let anomaly = Anomaly {
        kind: AnomalyKind::ALL[(seed % 9) as usize],
        checker: "some",
        message: Arc::from(format!("order-{seed}")),
        message_id: None,
        consumer: Arc::from("ship"),
        promise: "It ends.",
        seen: "it did not \"end\"".to_owned(),
        also: Vec::new(),
    };
    let verdict = match seed {
        _ if seed % 97 == 13 => Verdict::Violated,
        _ if seed % 389 == 5 => Verdict::Inconclusive,
        _ => Verdict::Valid,
    };
    let mut run = RunResult {
        seed,
        verdict,
        anomalies: vec![anomaly; if verdict == Verdict::Violated { 2 } else { 0 }],
        messages: 3,
        deliveries: seed % 11,
        events: 7,
        virtual_ns: u64::MAX / 3,
        faults: vec![("crash", seed % 3), ("pause", u64::from(seed % 61 == 7))],
        mechanisms: vec![("lease", seed % 2)],
        hash: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ..RunResult::default()
    };
    run.reached.add_calls(Stage::Worker, Seam::Ack, seed % 5);
    if seed % 61 == 7 {
        run.reached.add_struck(rare(), 1);
    }
    run
}

fn rare() -> Cell {
    Cell::parse("pause@worker/ack").expect("a cell")
}

fn workload() -> Registered {
    Registered {
        name: "fake",
        simulate,
        ..crate::cli::tests::idle()
    }
}

fn scenario() -> Scenario {
    let mut scenario = Scenario::new("some", "fake");
    scenario.path = "dir/some.toml".into();
    scenario.question = "Does it merge?".to_owned();
    scenario.rules.push(Rule::new(Kind::Pause, 10_000));
    scenario.faults_until = scenario.last_fault();
    scenario.expect.reached.push(Reach::Cell(rare()));
    scenario
}

fn run(shard: Shard, first: u64, seeds: u64) -> Tally {
    let pool = Pool::new(Some(2), Arc::new(AtomicBool::new(false))).expect("threads");
    let sweep = Sweep { first, shard };
    let progress = Progress::start(Some(seeds));
    pool.run(
        &scenario(),
        &workload(),
        sweep,
        Plan::Seeds(seeds),
        &progress,
    )
}

fn awake() -> Canaries {
    Canaries {
        all: 3,
        silent: Vec::new(),
        stopped: false,
    }
}

/// What a shard of a gate writes.
fn written(shard: Shard, first: u64, seeds: u64) -> String {
    let tally = run(shard, first, seeds);
    let mut part = Part::of(&tally, Some(seeds));
    part.story = worst(&tally).map(|worst| format!("seed {}\n", worst.seed));
    let sung = json::Canaries {
        planted: 3,
        silent: &[],
    };
    let lines = [
        json::shard(&opening(shard, 1)),
        json::part(&tally, &part),
        json::scenario(&tally),
        json::summary(
            &[tally],
            &Judgement::plain(Verdict::Valid),
            Default::default(),
            false,
            Some(sung),
        ),
    ];
    lines.join("\n") + "\n"
}

fn shards(of: u32, first: u64, seeds: u64) -> Vec<String> {
    let all = (1..=of).filter_map(|number| Shard::new(number, of));
    all.map(|shard| written(shard, first, seeds)).collect()
}

fn merged(texts: &[String]) -> Whole {
    let read = |(i, text): (usize, &String)| {
        let path = format!("{}.ndjson", i + 1);
        Output::parse(Path::new(&path), text).expect("a shard's output")
    };
    Whole::of(texts.iter().enumerate().map(read).collect())
}

/// The verdict of shards that are not the whole, and the only reason.
fn gap(texts: &[String]) -> String {
    let whole = merged(texts);
    let judgement = judge(&whole.tallies, &whole.gaps, &whole.canaries);
    assert_ne!(judgement.verdict, Verdict::Valid);
    assert_eq!(whole.gaps.len(), 1, "{:?}", whole.gaps);
    whole.gaps.into_iter().next().expect("one")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn merged_shards_are_the_sweep_that_nobody_cut(
        of in 1u32..9, first in 0u64..2_000, seeds in 1u64..800,
    ) {
        let mut alone = run(Shard::WHOLE, first, seeds);
        let mut whole = merged(&shards(of, first, seeds));
        prop_assert_eq!(&whole.gaps, &Vec::<String>::new());
        let mut tally = whole.tallies.remove(0);
        // Time is no result, and which kind came first is nowhere told.
        tally.wall = alone.wall;
        tally.kinds.sort();
        alone.kinds.sort();
        prop_assert_eq!(tally.faults_in_order(), alone.faults_in_order());
        tally.faults.clone_from(&alone.faults);
        prop_assert_eq!(&tally, &alone);
        prop_assert_eq!(tally.judgement(), alone.judgement());
        prop_assert_eq!(json::scenario(&tally), json::scenario(&alone));
        let told = worst(&alone).map(|worst| worst.seed);
        let story = whole.stories.remove(0).map(|story| story.lines().next().map(str::to_owned));
        prop_assert_eq!(story, told.map(|seed| Some(format!("seed {seed}"))));
    }
}

#[test]
fn a_rare_place_is_missed_by_the_whole_and_not_by_a_shard() {
    let (one, other) = (Shard::new(1, 2), Shard::new(2, 2));
    let tallies = [one, other].map(|shard| run(shard.expect("a shard"), 0, 12));
    let verdicts = tallies.each_ref().map(|tally| tally.verdict());
    // Seed 7 strikes it, seed 5 is inconclusive and the other shard's.
    assert_eq!(verdicts, [Verdict::Valid, Verdict::Inconclusive]);
    let whole = merged(&shards(2, 20, 12));
    let because = whole.tallies[0].judgement().why();
    assert_eq!(because.as_deref(), Some("never struck: pause@worker/ack"));
}

#[test]
fn more_shards_than_seeds_are_still_the_whole() {
    let whole = merged(&shards(5, 66, 3));
    assert_eq!(whole.gaps, Vec::<String>::new());
    assert_eq!(judge(&whole.tallies, &[], &awake()).verdict, Verdict::Valid);
}

#[test]
fn what_is_missing_is_named() {
    let all = shards(4, 1, 40);
    assert_eq!(gap(&all[..2]), "missing of 4 shards: 3 to 4");
    assert_eq!(gap(&[]), "there is no shard at all");
    let twice = [all.clone(), vec![all[1].clone()]].concat();
    let why = gap(&twice);
    assert_eq!(
        why,
        "shard 2/4 (2.ndjson) is there twice: 5.ndjson is left out"
    );
    assert_eq!(merged(&twice).tallies[0].seeds, 40);
}

#[test]
fn a_shard_that_was_killed_is_noticed() {
    let mut all = shards(2, 1, 40);
    let lines: Vec<_> = all[1].lines().map(str::to_owned).collect();
    all[1] = lines[..3].join("\n");
    assert_eq!(
        gap(&all),
        "shard 2/2 (2.ndjson) ends before its summary: was it killed?"
    );
    all[1] = format!("{}\n{}", lines[0], &lines[1][..lines[1].len() / 2]);
    let whole = merged(&all);
    assert!(
        whole.gaps[0].contains("cannot be read to its end: 2.ndjson:2: "),
        "{:?}",
        whole.gaps
    );
}

#[test]
fn an_interrupted_shard_is_noticed() {
    let mut all = shards(2, 1, 40);
    let (from, to) = (
        r#""interrupted":false,"not_covered""#,
        r#""interrupted":true,"not_covered""#,
    );
    assert!(all[0].contains(from), "{}", all[0]);
    all[0] = all[0].replace(from, to);
    assert_eq!(gap(&all), "shard 1/2 (1.ndjson) was interrupted");
}

#[test]
fn shards_of_different_sweeps_are_noticed() {
    let [one, two] = [0, 1].map(|i| shards(2, 1, 40)[i].clone());
    let with = |other: String| gap(&[one.clone(), other]);
    let other_first = shards(2, 3, 40).remove(1);
    assert!(with(other_first).contains("dir/some.toml: another first seed in shard 1/2"));
    let commit = two.replacen(r#""commit":""#, r#""commit":"0"#, 1);
    assert!(with(commit).contains(" is of commit "));
    let version = two.replacen(r#""version":""#, r#""version":"9"#, 1);
    assert!(with(version).contains(" is of version "));
    let damaged = two.replacen("Does it merge?", "Did it merge?", 1);
    assert!(merged(&[one.clone(), damaged]).gaps[0].contains("is damaged"));
    let numbers = merged(&[one.clone(), shards(2, 1, 60).remove(1)]).gaps;
    assert!(numbers[0].contains("other numbers of seeds"), "{numbers:?}");
    let of_three = merged(&[one.clone(), shards(3, 1, 40).remove(1)]).gaps;
    assert!(
        of_three[0].contains("are of different sweeps"),
        "{of_three:?}"
    );
}

#[test]
fn a_canary_that_was_silent_anywhere_is_silent() {
    let mut all = shards(2, 66, 40);
    all[1] = all[1].replace(r#""silent":[]"#, r#""silent":["no-dedup"]"#);
    let whole = merged(&all);
    assert_eq!(whole.canaries.silent, ["no-dedup"]);
    assert_ne!(
        judge(&whole.tallies, &[], &whole.canaries).verdict,
        Verdict::Valid
    );
}

#[test]
fn what_is_no_output_of_a_shard_is_refused() {
    for text in ["{}", "no", r#"{"type":"shard","shard":5,"of":4}"#] {
        assert!(Output::parse(Path::new("some"), text).is_err(), "{text}");
    }
}
