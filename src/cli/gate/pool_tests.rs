use super::*;
use redeliver_harness::verdict::Verdict;

fn workload() -> Registered {
    let simulate = |_: &Scenario, seed: u64, _: bool| RunResult {
        seed,
        verdict: if seed.is_multiple_of(100) {
            Verdict::Violated
        } else {
            Verdict::Valid
        },
        anomalies: Vec::new(),
        inconclusive: None,
        messages: 1,
        deliveries: seed,
        events: 1,
        virtual_ns: seed,
        faults: vec![("crash", seed % 3), ("pause", seed % 5)],
        mechanisms: Vec::new(),
        hash: seed,
        ..RunResult::default()
    };
    Registered {
        name: "fake",
        simulate,
        ..crate::cli::tests::idle()
    }
}

fn tally(jobs: u16, stop: bool) -> Tally {
    let stop = Arc::new(AtomicBool::new(stop));
    let pool = Pool::new(Some(jobs), stop).expect("threads");
    let progress = Progress::start(Some(3_000));
    let scenario = Scenario::new("some", "fake");
    let sweep = Sweep {
        first: 5,
        shard: Shard::WHOLE,
    };
    pool.run(&scenario, &workload(), sweep, Plan::Seeds(3_000), &progress)
}

#[test]
fn results_do_not_depend_on_the_number_of_jobs() {
    let (one, many) = (tally(1, false), tally(4, false));
    assert_eq!(
        (one.seeds, one.violated, one.interrupted),
        (3_000, 30, false)
    );
    assert_eq!(
        (one.deliveries, one.virtual_ns),
        (many.deliveries, many.virtual_ns)
    );
    assert_eq!(one.faults, many.faults);
    assert_eq!(one.violations, many.violations);
    let seeds: Vec<_> = one
        .violations
        .iter()
        .map(|violation| violation.seed)
        .collect();
    assert!(seeds.is_sorted(), "{seeds:?}");
}

#[test]
fn a_stopped_scenario_says_so() {
    let tally = tally(2, true);
    assert!(tally.interrupted);
    assert_eq!(tally.verdict(), Verdict::Inconclusive);
}

#[test]
fn one_seed_of_each_row_is_sampled_and_no_shard_has_them_all() {
    for row in 0..200 {
        let sampled = (row * SAMPLE..(row + 1) * SAMPLE).filter(|i| is_sampled(*i));
        assert_eq!(sampled.count(), 1, "row {row}");
    }
    assert!(is_sampled(0));
    for of in [2, 3, 5, 16, 64] {
        let shards: std::collections::BTreeSet<_> = (0..20_000)
            .filter(|i| is_sampled(*i))
            .map(|i| i % of)
            .collect();
        assert_eq!(shards.len() as u64, of, "of {of}");
    }
}
