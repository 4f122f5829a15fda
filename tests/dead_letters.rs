//! Dead letters for which nothing accounts, and runs in which nothing was done.
#![cfg(feature = "harness")]

#[path = "common/shop.rs"]
mod shop;

use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::harness::team::workload::{Generator, Request, ServiceModel, Workload};
use redeliver::harness::verdict::{AnomalyKind, Verdict};
use redeliver::pipeline::handler::{Consumer, Cx, Failure, Handler, Outside, OutsideHandler};
use redeliver::ports::{Row, World};
use redeliver_sim::fault::{Kind as Fault, Rule};
use serde::{Deserialize, Serialize};

use shop::Placed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// Its statement is wrong: no attempt succeeds.
    AlwaysFails,
    /// Any failure of the database is the end.
    FailureIsTheEnd,
    /// Its service is called twice under one key.
    CallsTwice,
    /// The same at the same time, with the same words.
    CallsAtOnce,
    /// The same, each call under a name.
    CallsByName,
    /// A service that is down is the end.
    OutageIsTheEnd,
    /// None.
    None,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Noted {
    order: String,
}

impl Row for Noted {
    const TABLE: &'static str = "noted";
    fn key(&self) -> String {
        self.order.clone()
    }
}

struct Note(Bug);

impl<W: World> Handler<W> for Note {
    type Event = Placed;

    async fn handle(&self, placed: &Placed, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        if self.0 == Bug::AlwaysFails {
            let error = "function no_such(text) does not exist";
            return Err(Failure::transient("42883", error));
        }
        let order = placed.order.clone();
        let done = cx.insert(&Noted { order }).await;
        match (self.0, done) {
            (Bug::FailureIsTheEnd, Err(error)) => {
                Err(Failure::poison("database", error.to_string()))
            }
            (_, done) => Ok(done.map(|_| ())?),
        }
    }
}

struct Charge(Bug);

impl<W: World> OutsideHandler<W> for Charge {
    type Event = Placed;
    type Answer = ();

    async fn call(&self, placed: &Placed, cx: &Outside<'_, W>) -> Result<(), Failure> {
        let order = placed.order.clone();
        match self.0 {
            Bug::CallsTwice => {
                cx.call("payments", "charge", order.clone()).await?;
                cx.call("payments", "charge", format!("fee of {order}"))
                    .await?;
            }
            Bug::CallsAtOnce => {
                let one = cx.call("payments", "charge", order.clone());
                let other = cx.call("payments", "charge", order);
                let (one, other) = tokio::join!(one, other);
                one.and(other)?;
            }
            Bug::OutageIsTheEnd => {
                let done = cx.call("payments", "charge", order).await;
                done.map_err(|error| Failure::poison("payments", error.to_string()))?;
            }
            Bug::CallsByName => {
                cx.call_named("payments", "charge", "goods", order.clone())
                    .await?;
                let fee = format!("fee of {order}");
                cx.call_named("payments", "charge", "fee", fee).await?;
            }
            _ => {
                cx.call("payments", "charge", order).await?;
            }
        }
        Ok(())
    }

    async fn apply(&self, placed: &Placed, (): (), cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let order = format!("charged {}", placed.order);
        cx.insert(&Noted { order }).await?;
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Shop(Bug);

impl Workload for Shop {
    const NAME: &'static str = "shop";

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        let charge = Consumer::new("charge").on_outside(Charge(self.0));
        vec![Consumer::new("note").on(Note(self.0)), charge]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        generator.each(Placed::number)
    }

    fn services(&self) -> Vec<ServiceModel> {
        vec![ServiceModel::new("payments")]
    }
}

fn scenario(change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = Scenario::new("letters", "shop");
    scenario.messages = 10;
    scenario.policy.retry.attempts = 3;
    change(&mut scenario);
    scenario
}

fn unexplained(run: &RunResult) -> Vec<&str> {
    let of_it = |kind| kind == AnomalyKind::UnexplainedLetter;
    let found = run.anomalies.iter().filter(|found| of_it(found.kind));
    found.map(|found| &*found.seen).collect()
}

#[test]
fn a_handler_that_always_fails_is_not_valid() {
    let run = simulate(&Shop(Bug::AlwaysFails), &scenario(|_| {}), 1, false);
    assert_eq!(run.verdict, Verdict::Violated);
    assert_eq!((run.ends.done, run.ends.dead_lettered()), (10, 10));
    assert_eq!(run.ends.dead, [("attempts-exhausted", 10)]);
    let [seen] = unexplained(&run)[..] else {
        panic!("one anomaly for the consumer: {:#?}", run.anomalies);
    };
    assert!(seen.contains("and 9 more are in the dead letters of note"));
    assert!(seen.contains("after 3 attempts (42883: function no_such(text) does not exist)"));
}

#[test]
fn faults_do_not_excuse_what_they_have_not_done() {
    let struck = scenario(|s| s.rules = vec![Rule::new(Fault::LateDelivery, 200_000)]);
    let run = simulate(&Shop(Bug::AlwaysFails), &struck, 1, false);
    let [seen] = unexplained(&run)[..] else {
        panic!("one anomaly for the consumer: {:#?}", run.anomalies);
    };
    assert!(
        seen.ends_with("without its faults the same seed ends there too"),
        "{seen}"
    );
}

#[test]
fn who_completes_nothing_is_inconclusive_though_the_letters_are_expected() {
    let expected = scenario(|s| s.expect.dead_letters = Some((10, 10)));
    let run = simulate(&Shop(Bug::AlwaysFails), &expected, 1, false);
    assert_eq!(run.verdict, Verdict::Inconclusive, "{:#?}", run.anomalies);
    let why = run.inconclusive.unwrap_or_default();
    assert!(
        why.starts_with("consumer note completed nothing of what it was sent"),
        "{why}"
    );
    assert!(
        why.contains("10 done, 10 dead-lettered (attempts-exhausted 10)"),
        "{why}"
    );
}

#[test]
fn a_failure_that_passes_is_no_reason_to_give_up_for_good() {
    let struck = scenario(|s| {
        s.messages = 40;
        s.rules = vec![Rule::new(Fault::Abort, 50_000)];
    });
    let shown = (1..20).find_map(|seed| {
        let run = simulate(&Shop(Bug::FailureIsTheEnd), &struck, seed, false);
        unexplained(&run).first().map(|seen| (*seen).to_owned())
    });
    let seen = shown.expect("an abort is taken for the end");
    assert!(
        seen.contains("took a failure that passes for one that stays"),
        "{seen}"
    );
    assert!(seen.contains("struck by abort"), "{seen}");
    for seed in 1..20 {
        let run = simulate(&Shop(Bug::None), &struck, seed, false);
        assert_eq!(run.verdict, Verdict::Valid, "{:#?}", run.anomalies);
    }
}

#[test]
fn faults_that_use_all_attempts_up_account_for_a_letter() {
    let down = scenario(|s| s.rules = vec![Rule::new(Fault::ServiceFails, 500_000)]);
    let mut letters = 0;
    for seed in 1..10 {
        let run = simulate(&Shop(Bug::None), &down, seed, false);
        assert_eq!(run.verdict, Verdict::Valid, "{:#?}", run.anomalies);
        letters += run.unplanned.len();
    }
    assert!(letters > 0, "some message has used all its attempts up");
}

/// A service that honours idempotency keys would answer the second call from the first.
#[test]
fn two_calls_under_one_key_are_refused_and_can_be_named_apart() {
    let run = simulate(&Shop(Bug::CallsTwice), &scenario(|_| {}), 1, false);
    let [seen] = unexplained(&run)[..] else {
        panic!("one anomaly for the consumer: {:#?}", run.anomalies);
    };
    assert!(
        seen.contains("charge was called twice in one run"),
        "{seen}"
    );
    assert!(seen.contains("Outside::call_named"), "{seen}");
    let in_doubt = scenario(|s| {
        s.rules = vec![Rule::new(Fault::ServiceInDoubt, 200_000)];
        s.policy.retry.attempts = 20;
    });
    for seed in 1..10 {
        let run = simulate(&Shop(Bug::CallsByName), &in_doubt, seed, false);
        assert_eq!(run.verdict, Verdict::Valid, "{:#?}", run.anomalies);
    }
}

#[test]
fn two_calls_at_the_same_time_are_refused_too() {
    let run = simulate(&Shop(Bug::CallsAtOnce), &scenario(|_| {}), 1, false);
    let [seen] = unexplained(&run)[..] else {
        panic!("one anomaly for the consumer: {:#?}", run.anomalies);
    };
    assert!(
        seen.contains("charge was called twice in one run"),
        "{seen}"
    );
}

/// Nothing strikes the message itself: the service is down for everybody.
#[test]
fn an_outage_is_no_reason_to_give_up_for_good() {
    let text = "question = \"?\"
        workload = \"shop\"
        messages = 20
        over = \"10s\"
        [[fault]]
        kind = \"service-down\"
        at = \"3s\"
        lasts = \"4s\"
        target = \"payments\"";
    let down = Scenario::parse(text, std::path::Path::new("down.toml"), &["shop"]);
    let down = down.unwrap_or_else(|error| panic!("{error}"));
    let run = simulate(&Shop(Bug::OutageIsTheEnd), &down, 1, false);
    let [seen] = unexplained(&run)[..] else {
        panic!("one anomaly for the consumer: {:#?}", run.anomalies);
    };
    assert!(
        seen.contains("gave up for good in a run that was told `payments"),
        "{seen}"
    );
    let run = simulate(&Shop(Bug::None), &down, 1, false);
    assert_eq!(run.verdict, Verdict::Valid, "{:#?}", run.anomalies);
}
