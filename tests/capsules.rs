//! Failing runs that are kept: they come back from their file, and tell what has become of them.
#![cfg(feature = "cli")]

use std::path::Path;
use std::time::Duration;

use redeliver::harness::explore::{self, Outcome, Random, capsule, compare, hunt, pin, shrink};
use redeliver::harness::scenario::Scenario;
use redeliver::planted::{self, Plant};

fn plant(name: &str) -> &'static Plant {
    let found = planted::ALL.iter().find(|plant| plant.name == name);
    found.expect("a planted bug of this name")
}

/// The capsule of a planted bug, read back from the text of its file.
fn kept(plant: &Plant) -> Scenario {
    let scenario = (plant.scenario)();
    let shows = |run: &_| plant.is_shown_by(run);
    let mut seeds = Random::new(&scenario, 0, 200);
    let (_, _, run) = hunt(&plant.planted, &mut seeds, 200, shows).expect("it is caught");
    let target = plant.target(&run).expect("it is shown when recorded");
    let pinned = pin(&scenario, &run);
    let shrunk = shrink(&plant.planted, pinned, run, target, 300);
    let mut kept = capsule(&shrunk, target, "4711");
    kept.question = "What was lost?".to_owned();
    let text = kept.to_toml();
    let read = Scenario::parse(&text, Path::new(""), &[&kept.workload]);
    let read = read.unwrap_or_else(|error| panic!("{error}\n{text}"));
    let name = kept.name.clone();
    let read = Scenario { name, ..read };
    assert_eq!(read, kept, "{text}");
    read
}

/// What has become of a capsule in this pipeline.
fn outcome(kept: &Scenario, simulate: explore::Simulate<'_>) -> Outcome {
    let seed = kept.seed.expect("a capsule has its seed");
    let run = simulate(kept, seed, true);
    compare(kept.capsule.as_ref().expect("what was kept"), &run)
}

const KEPT: [&str; 4] = ["dual-write", "no-dedup", "no-fence", "swallow"];

#[test]
fn a_kept_run_is_reproduced_to_the_last_bit() {
    for name in KEPT {
        let plant = plant(name);
        let kept = kept(plant);
        assert_eq!(
            outcome(&kept, &plant.planted),
            Outcome::Reproduced,
            "{name}"
        );
    }
}

#[test]
fn a_kept_run_is_fixed_where_the_bug_is_gone() {
    for name in KEPT {
        let plant = plant(name);
        let kept = kept(plant);
        assert_eq!(outcome(&kept, &plant.shipped), Outcome::Fixed, "{name}");
    }
}

/// The pipeline looks more often and purges more often: other queries, other timers, another
/// course. The faults still find their calls, and the bug is still there.
#[test]
fn a_kept_run_is_reproduced_after_changes_that_have_nothing_to_do_with_it() {
    for name in KEPT {
        let plant = plant(name);
        let kept = kept(plant);
        let mut changed = kept.clone();
        changed.policy.relay.poll = Duration::from_millis(700);
        changed.policy.relay.purge_every = Duration::from_secs(3);
        changed.policy.consumer.purge_every = Duration::from_secs(2);
        match outcome(&changed, &plant.planted) {
            Outcome::Reproduced => {}
            Outcome::ReproducedOtherwise(parted) => println!("{name}: {parted:?}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn the_first_line_that_differs_is_named() {
    let plant = plant("dual-write");
    let kept = kept(plant);
    let run = (plant.planted)(&kept, kept.seed.expect("a seed"), true);
    let mut capsule = kept.capsule.clone().expect("what was kept");
    assert!(capsule.course.len() > 2, "{capsule:?}");
    capsule.trace_hash ^= 1;
    capsule.course[2] = "something else".to_owned();
    let Outcome::ReproducedOtherwise(Some(parted)) = compare(&capsule, &run) else {
        panic!("{:?}", compare(&capsule, &run));
    };
    assert_eq!(
        (parted.line, parted.kept.as_deref()),
        (3, Some("something else"))
    );
    capsule.course.truncate(2);
    let parted = explore::divergence(&capsule, &run).expect("it goes on");
    assert_eq!((parted.line, parted.kept), (3, None));
}
