//! Stories say what the broker did, and show the fault that is to blame.

use std::time::Duration;

use redeliver::harness::report::diagram;
use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::harness::story;
use redeliver::planted::{self, Plant};
use redeliver::workloads::Orders;
use redeliver_sim::fault::{Event, Kind, Rule};

fn plant(name: &str) -> &'static Plant {
    let found = planted::ALL.iter().find(|plant| plant.name == name);
    found.expect("a planted bug")
}

/// The first violated run of a planted bug, recorded.
fn caught(plant: &Plant) -> (Scenario, RunResult) {
    let scenario = (plant.scenario)();
    let seed = (0..200).find(|seed| {
        let run = (plant.planted)(&scenario, *seed, false);
        plant.is_shown_by(&run)
    });
    let run = (plant.planted)(&scenario, seed.expect("it shows"), true);
    (scenario, run)
}

#[test]
fn a_story_shows_what_the_broker_did() {
    let (scenario, run) = caught(plant("expiring-delay-queue"));
    insta::assert_snapshot!(story::render(&scenario, &run, "redeliver replay …"));
}

#[test]
fn a_letter_says_its_error_and_who_moved_it() {
    let (scenario, run) = caught(plant("give-up-at-once"));
    insta::assert_snapshot!(story::render(&scenario, &run, "redeliver replay …"));
}

/// The queue was unbound before the message came, and that is why it never came.
#[test]
fn a_fault_that_lasts_into_the_time_of_a_message_is_part_of_its_story() {
    let mut scenario = Scenario::new("unbound", "orders");
    scenario.messages = 4;
    scenario.over = Duration::from_secs(8);
    scenario.events = vec![Event {
        kind: Kind::UnboundQueue,
        at: 1_000_000,
        lasts: 600_000_000_000,
        target: Some("charge-card".into()),
        amount: 0,
    }];
    scenario.faults_until = Duration::from_secs(1_000);
    scenario.settle = Some(Duration::from_millis(1));
    let run = simulate(&Orders, &scenario, 3, true);
    let keys: Vec<&str> = run.requests.iter().map(|key| &**key).collect();
    let last = keys.last().expect("a request");
    let told = story::lines_of(&run.trace, &[last]);
    let struck = told.iter().find(|line| line.what == "fault");
    let struck = struck.expect("the fault that keeps it waiting");
    assert!(struck.detail.starts_with("unbound-queue of"), "{struck}");
    let drawn = diagram::render(&diagram::build(&run), &[last], false);
    assert!(drawn.contains("unbound-queue of"), "{drawn}");
}

/// No message is named: any fault may be the cause, and the story says so.
#[test]
fn a_story_of_no_message_shows_all_faults() {
    let mut scenario = Scenario::new("letters", "orders");
    scenario.messages = 4;
    scenario.faults_until = Duration::from_secs(60);
    scenario.rules = vec![Rule::new(Kind::LostAck, 500_000)];
    scenario.expect.dead_letters = Some((1, 9));
    let run = simulate(&Orders, &scenario, 3, true);
    let text = story::render(&scenario, &run, "redeliver replay …");
    let struck = run.trace.iter().filter(|line| line.what == "fault").count();
    assert!(struck > 1, "{text}");
    let told = text.lines().filter(|line| line.starts_with('!')).count();
    assert_eq!(told, struck, "{text}");
    assert!(text.contains("It names no message"), "{text}");
}

#[test]
fn work_begun_twice_is_named_by_its_messages() {
    let mut scenario = Scenario::new("twice", "orders");
    scenario.messages = 10;
    scenario.rules = vec![Rule::new(Kind::Crash, 100_000)];
    scenario.expect.max_second_pickups = Some(0);
    let mut runs = (1..=40).map(|seed| simulate(&Orders, &scenario, seed, false));
    let found = runs.find_map(|run| {
        let mut all = run.anomalies.into_iter();
        all.find(|found| found.seen.contains("second pick-ups"))
    });
    let found = found.expect("a crash while a handler runs");
    let keys = found.messages();
    assert!(!keys.is_empty(), "{}", found.seen);
    assert!(keys.iter().all(|key| found.seen.contains(key)), "{keys:?}");
}
