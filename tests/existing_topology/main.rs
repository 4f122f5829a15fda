//! A team's own exchanges, queues and rights: in the seeded world, and on a real RabbitMQ.
#![cfg(feature = "cli")]

mod policies;
mod real;
#[path = "../common/shop.rs"]
mod shop;

use std::time::Duration;

use redeliver::definitions::Existing;
use redeliver::definitions::audit::needed;
use redeliver::definitions::definitions::{Definitions, Named, Permission};
use redeliver::harness::run::{plan, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::harness::team::workload::{Generator, Request, Workload};
use redeliver::harness::verdict::Verdict;
use redeliver::pipeline::handler::{Consumer, Cx, Failure, Handler};
use redeliver::ports::{Row, World};
use redeliver_sim::fault::{Event, Kind as Fault, Rule};
use serde::{Deserialize, Serialize};

use shop::Placed;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Charged {
    order: String,
}

impl Row for Charged {
    const TABLE: &'static str = "charged";
    fn key(&self) -> String {
        self.order.clone()
    }
}

struct Charge;

impl<W: World> Handler<W> for Charge {
    type Event = Placed;

    async fn handle(&self, placed: &Placed, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let order = placed.order.clone();
        cx.insert(&Charged { order }).await?;
        Ok(())
    }
}

/// What is wrong with its broker.
#[derive(Clone)]
struct Shop(fn(&mut Definitions));

fn names() -> Existing {
    Existing::definitions("{}")
        .user("shop")
        .exchange("order", "shop.orders")
        .queue("charge", "payments.charge")
        .dead("charge", "payments.charge.failed")
}

impl Workload for Shop {
    const NAME: &'static str = "shop";

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![Consumer::new("charge").on(Charge)]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        generator.each(Placed::number)
    }

    fn topology(&self) -> Option<Existing> {
        let topology = plan::topology(self, &scenario());
        let mut there = needed(&names(), &topology);
        there.users.push(Named {
            name: "shop".to_owned(),
        });
        there.permissions.push(Permission {
            user: "shop".to_owned(),
            vhost: Some("/".to_owned()),
            configure: "^$".to_owned(),
            write: "^(shop|redeliver)\\.|^amq\\.default$".to_owned(),
            read: "^payments\\.charge$".to_owned(),
        });
        (self.0)(&mut there);
        Some(names().over(serde_json::to_string(&there).expect("JSON")))
    }
}

fn scenario() -> Scenario {
    let mut scenario = Scenario::new("topology", Shop::NAME);
    scenario.messages = 10;
    scenario.over = Duration::from_secs(10);
    scenario
}

fn runs(change: impl Fn(&mut Scenario)) {
    let mut scenario = scenario();
    change(&mut scenario);
    scenario.faults_until = scenario.last_fault();
    for seed in 1..=20 {
        let run = simulate(&Shop(|_| {}), &scenario, seed, true);
        assert_eq!(run.verdict, Verdict::Valid, "seed {seed}: {run:#?}");
        assert!(run.deliveries >= 10, "seed {seed}");
    }
}

#[test]
fn a_workflow_runs_over_queues_that_exist() {
    runs(|_| {});
}

#[test]
fn faults_strike_there_too() {
    runs(|scenario| scenario.rules.push(Rule::new(Fault::LostAck, 50_000)));
    runs(|scenario| scenario.rules.push(Rule::new(Fault::Crash, 20_000)));
    runs(|scenario| {
        scenario.events.push(Event {
            kind: Fault::UnboundQueue,
            at: 2_000_000_000,
            lasts: 3_000_000_000,
            target: Some("charge".into()),
            amount: 0,
        });
    });
}

/// Why nothing can be said with such a broker.
fn refused(change: fn(&mut Definitions)) -> String {
    let run = simulate(&Shop(change), &scenario(), 1, false);
    assert_eq!(run.verdict, Verdict::Inconclusive);
    run.inconclusive.expect("a reason")
}

#[test]
fn what_is_missing_is_told_before_the_run() {
    let why = refused(|there| {
        there
            .bindings
            .retain(|binding| binding.source != "shop.orders");
        there
            .queues
            .retain(|queue| queue.name != "payments.charge.failed");
        there.permissions[0].read.clear();
    });
    for line in [
        "missing   queue payments.charge.failed: there is none",
        "missing   binding shop.orders -> payments.charge order.placed: no binding",
        "missing   user shop: may not read payments.charge",
    ] {
        assert!(why.contains(line), "{line}\n{why}");
    }
    assert_eq!(why.lines().count(), 4, "{why}");
}

/// A team's own test says the same, once, and not as a seed that nothing can be said of.
#[test]
#[should_panic(expected = "lack what its pipeline needs:\n  missing   binding shop.orders")]
fn what_is_missing_ends_a_teams_test() {
    redeliver::harness::check::Check::new(Shop(|there| there.bindings.clear())).check();
}

#[test]
fn a_bad_file_is_told_with_its_place() {
    let bad = names().over("{\"queues\": [\n  3]}");
    let why =
        redeliver::harness::run::existing::ready(&bad, &plan::topology(&Shop(|_| {}), &scenario()));
    let why = why.unwrap_err().to_string();
    assert!(why.contains("line 2, column 3"), "{why}");
}

/// A queue's limits hold in the seeded world: with a message-ttl that nobody can keep up with,
/// orders are lost.
#[test]
fn a_policy_that_hurts_is_seen() {
    let hurt = |there: &mut Definitions| {
        let ttl = serde_json::json!({
            "vhost": "/", "name": "ttl", "pattern": "^payments\\.charge$", "apply-to": "queues",
            "definition": {"message-ttl": 0, "dead-letter-exchange": ""},
        });
        there
            .policies
            .push(serde_json::from_value(ttl).expect("a policy"));
    };
    let mut scenario = scenario();
    scenario.rules.push(Rule::new(Fault::Crash, 50_000));
    scenario.faults_until = scenario.last_fault();
    let violated = (1..=40)
        .any(|seed| simulate(&Shop(hurt), &scenario, seed, false).verdict == Verdict::Violated);
    assert!(violated, "what expires in a work queue is no charge");
}
