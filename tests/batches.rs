//! Messages that share a transaction: one that fails costs itself, whatever it does.

use std::time::Duration;

use redeliver::env::live::LiveEnv;
use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::harness::verdict::Verdict;
use redeliver::pipeline::event::{Kind, Message};
use redeliver::pipeline::handler::{Consumer, Cx, Each, Failure, Handler};
use redeliver::pipeline::policy::Policy;
use redeliver::ports::{Ports, World};
use redeliver::postgres::PgStore;
use redeliver::rabbitmq::RabbitMq;
use redeliver::rabbitmq::lapin::LapinAmqp;
use redeliver::service::live::LiveServices;
use redeliver::workloads::Onboarding;

const MESSAGES: u32 = 60;

/// A burst that one process of each consumer handles with two workers, in batches of this size.
fn burst(batch: u16, seed: u64, spoil: impl Fn(&mut Scenario)) -> RunResult {
    let mut scenario = Scenario::new("batches", "onboarding");
    (scenario.messages, scenario.over) = (MESSAGES, Duration::from_millis(50));
    scenario.worker_processes = 1;
    let consumer = &mut scenario.policy.consumer;
    (consumer.workers, consumer.prefetch, consumer.batch) = (2, 64, batch);
    spoil(&mut scenario);
    let run = simulate(&Onboarding, &scenario, seed, true);
    assert_eq!(run.verdict, Verdict::Valid, "{:#?}", run.anomalies);
    run
}

fn told(run: &RunResult, what: &str) -> usize {
    let lines = run.trace.iter();
    lines.filter(|line| line.detail.contains(what)).count()
}

/// The first run of which a message was in a batch that failed.
fn failed_in_a_batch(spoil: impl Fn(&mut Scenario)) -> RunResult {
    let runs = (0..20).map(|seed| burst(32, seed, &spoil));
    let found = runs.into_iter().find(|run| told(run, FAILED) > 0);
    found.expect("most requests of a burst share their transaction with others")
}

const FAILED: &str = "its batch failed";

#[test]
fn batches_are_made_of_what_is_there() {
    let (alone, together) = (burst(1, 1, |_| {}), burst(32, 1, |_| {}));
    assert_eq!(alone.ends.done, together.ends.done);
    assert_eq!(told(&together, FAILED), 0);
}

/// A message whose order matters.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Posted;

impl Message for Posted {
    const TYPE: &'static str = "ledger.posted";
    const KIND: Kind = Kind::Fact;
    const ORDERED: bool = true;
    fn key(&self) -> String {
        "account-1".to_owned()
    }
}

struct Post;

impl<W: World> Handler<W> for Post {
    type Event = Posted;
    async fn handle(&self, _: &Posted, _: &mut Cx<'_, W>) -> Result<(), Failure> {
        Ok(())
    }
}

type Live = Ports<RabbitMq<LapinAmqp, LiveEnv>, PgStore, LiveServices, LiveEnv>;

#[test]
#[should_panic(expected = "ledger.posted is ordered")]
fn ordered_events_are_in_no_batch() {
    let _ = Consumer::<Live>::new("ledger").on_batch(Each(Post));
}

/// Two consumers hear of a request; in one of them handlers take several messages.
const CONSUMERS: u64 = 2;

#[test]
fn a_message_that_fails_for_good_is_given_up_alone() {
    let ends = failed_in_a_batch(|scenario| scenario.poison.poison = 1).ends;
    let told = (ends.dead_lettered(), ends.retried, ends.unfinished);
    assert_eq!(told, (CONSUMERS, 0, 0), "nothing else is tried again");
}

#[test]
fn a_message_that_fails_for_now_is_retried_alone() {
    let ends = failed_in_a_batch(|scenario| scenario.poison.transient = 1).ends;
    assert_eq!((ends.dead_lettered(), ends.retried), (CONSUMERS, retries()));
}

#[test]
fn a_handler_that_panics_takes_no_neighbour_along() {
    let ends = failed_in_a_batch(|scenario| scenario.poison.panics = 1).ends;
    assert_eq!((ends.dead_lettered(), ends.retried), (CONSUMERS, retries()));
}

/// Of one message that always fails, at each of its consumers.
fn retries() -> u64 {
    CONSUMERS * u64::from(Policy::default().retry.attempts - 1)
}

/// It comes back flagged, as all that its worker had in hand, and each is counted alone.
#[test]
fn a_message_that_kills_its_worker_is_given_up_alone() {
    let ends = burst(32, 1, |scenario| scenario.poison.killer = 1).ends;
    assert_eq!(ends.dead, [("killed-worker", CONSUMERS)]);
}
