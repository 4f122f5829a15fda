//! One test for each bug that was found in the pipeline: what happened, as a sentence, and the
//! smallest scenario that showed it.

use std::sync::Arc;
use std::time::Duration;

use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::{Poison, Scenario};
use redeliver::harness::team::workload::{Generator, Request, Workload};
use redeliver::harness::verdict::Verdict;
use redeliver::pipeline::event::{Kind, Message};
use redeliver::pipeline::handler::{Consumer, Cx, Draft, Failure, Handler};
use redeliver::ports::World;
use redeliver::workloads::{Onboarding, Orders};
use redeliver_sim::broker::Profile;
use redeliver_sim::fault::{Kind as Fault, Rule};
use serde::{Deserialize, Serialize};

/// One entry of an account, in the order of the account.
#[derive(Serialize, Deserialize)]
struct Booked {
    account: String,
    number: u32,
}

impl Message for Booked {
    const TYPE: &'static str = "entry.booked";
    const KIND: Kind = Kind::Fact;
    const ORDERED: bool = true;
    fn key(&self) -> String {
        self.account.clone()
    }
}

struct Book;

impl<W: World> Handler<W> for Book {
    type Event = Booked;
    async fn handle(&self, _: &Booked, _: &mut Cx<'_, W>) -> Result<(), Failure> {
        Ok(())
    }
}

/// Entries of one account; every third request is sent twice by its client, and its producer
/// does not notice.
#[derive(Clone)]
struct Entries;

impl Workload for Entries {
    const NAME: &'static str = "entries";
    const TOKIO: bool = false;

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![Consumer::new("book").on(Book)]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        let request = |number: u32| {
            let booked = Booked {
                account: "a-1".to_owned(),
                number,
            };
            Request {
                at: Duration::from_millis(u64::from(number) * 20),
                key: Arc::from(format!("entry-{}", number - u32::from(number % 3 == 2))),
                draft: Draft::of(&booked).expect("it is JSON"),
            }
        };
        (1..=generator.messages()).map(request).collect()
    }
}

fn scenario() -> Scenario {
    let mut scenario = Scenario::new("regression", "entries");
    scenario.messages = 12;
    scenario.over = Duration::from_secs(2);
    scenario.faults_until = Duration::from_secs(5);
    scenario
}

fn assert_valid(run: &RunResult) {
    let (seed, found) = (run.seed, &run.anomalies);
    assert_eq!(run.verdict, Verdict::Valid, "seed {seed}: {found:#?}");
}

/// A duplicate request took a number of its own in the order of its account. The consumer knew
/// the work as done and acked it without passing that number: everything behind it waited for
/// ever.
#[test]
fn a_duplicate_with_a_number_of_its_own_does_not_hold_its_followers() {
    for seed in 0..20 {
        assert_valid(&simulate(&Entries, &scenario(), seed, false));
    }
}

/// An event that nobody can decode was given up before its turn; its number was never passed.
#[test]
fn an_undecodable_event_is_given_up_in_its_turn() {
    let mut scenario = scenario();
    scenario.poison = Poison {
        unknown_version: 3,
        ..Poison::default()
    };
    let late = Rule {
        lasts: 800_000_000,
        ..Rule::new(Fault::LateDelivery, 300_000)
    };
    scenario.rules = vec![late];
    for seed in 0..40 {
        assert_valid(&simulate(&Entries, &scenario, seed, false));
    }
}

/// A message flagged redelivered has its attempt recorded before it runs, in a transaction of its
/// own. Between that and the attempt, an earlier run of the same work noted its failure; the
/// second copy then ran the same attempt again, in the middle of the backoff.
#[test]
fn a_redelivered_copy_does_not_jump_the_backoff_of_a_failure_noted_in_between() {
    let scenario = committed("scenarios/everything-onboarding.toml", "onboarding");
    for seed in [79, 100, 264, 523, 574, 640] {
        assert_valid(&simulate(&Onboarding, &scenario, seed, false));
    }
}

/// Two copies of a message were worked on by processes that stood still. The lower attempt noted
/// its failure last, and its short wait took the place of the higher one's.
#[test]
fn a_late_failure_of_a_lower_attempt_does_not_shorten_the_wait() {
    let scenario = committed("scenarios/everything.toml", "orders");
    for seed in [1_019_426, 1_034_232] {
        assert_valid(&simulate(&Orders, &scenario, seed, false));
    }
}

fn committed(path: &str, workload: &str) -> Scenario {
    Scenario::load(path.as_ref(), &[workload]).expect("a committed scenario")
}

/// From 4.0 a quorum queue counts every connection that is lost against all messages prefetched on
/// it, and gives them up after 20: letters without a story, for work that stood open in the inbox.
#[test]
fn the_broker_buried_what_a_flapping_consumer_had_only_prefetched() {
    let mut scenario = Scenario::new("flapping", "orders");
    scenario.messages = 8;
    scenario.over = Duration::from_secs(1);
    scenario.worker_processes = 1;
    scenario.broker = Profile::Rabbit4_0;
    scenario.faults_until = Duration::from_secs(120);
    scenario.rules = vec![Rule::new(Fault::LostDelivery, 200_000)];
    for seed in 1..=5 {
        let run = simulate(&Orders, &scenario, seed, false);
        assert_eq!(
            run.verdict,
            Verdict::Valid,
            "seed {seed}: {:#?}",
            run.anomalies
        );
    }
}

/// A message that kills its worker took its neighbours along: their claims ended together, so
/// they were handed out together with it again, to the same process, until all of them had used up
/// their attempts. Seen on real servers, where a burst is in hand for longer.
#[test]
fn a_killer_does_not_bury_its_neighbours() {
    let mut scenario = Scenario::new("neighbours", "orders");
    scenario.messages = 12;
    scenario.over = Duration::from_millis(500);
    scenario.worker_processes = 1;
    scenario.poison.killer = 1;
    scenario.expect.dead_letters = Some((1, 1));
    for seed in (1..=25).chain([286]) {
        let run = simulate(&Orders, &scenario, seed, false);
        assert_eq!(
            run.verdict,
            Verdict::Valid,
            "seed {seed}: {:#?}",
            run.anomalies
        );
    }
}

/// The limit of a policy was read by nobody: producers went by a constant, so what a smaller limit
/// let through was given up by its consumers.
#[test]
fn what_consumers_would_give_up_is_not_emitted() {
    let mut scenario = Scenario::new("small-payloads", "orders");
    scenario.messages = 3;
    assert_eq!(
        simulate(&Orders, &scenario, 1, false).verdict,
        Verdict::Valid
    );
    scenario.policy.max_payload = 8;
    let run = simulate(&Orders, &scenario, 1, false);
    let why = run.inconclusive.as_deref();
    assert_eq!(why, Some("no message was accepted"), "{:?}", run.anomalies);
}
