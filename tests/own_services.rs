//! A team's own fake of an outside service, and its own promises in Rust.
#![cfg(feature = "harness")]

#[path = "common/shop.rs"]
mod shop;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use redeliver::harness::check::{Evidence, Invariant};
use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::harness::team::fake::{Fake, Told};
use redeliver::harness::team::workload::{Generator, Request, ServiceModel, Workload};
use redeliver::harness::verdict::{AnomalyKind, Verdict};
use redeliver::pipeline::handler::{Consumer, Cx, Failure, Outside, OutsideHandler};
use redeliver::ports::{Row, ServiceCall, World};
use redeliver_sim::fault::{Kind as Fault, Rule};
use serde::{Deserialize, Serialize};

use shop::Placed;

/// What the service said, kept by the handler.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Receipt {
    order: String,
    words: String,
}

impl Row for Receipt {
    const TABLE: &'static str = "receipts";
    fn key(&self) -> String {
        self.order.clone()
    }
}

struct Charge;

impl<W: World> OutsideHandler<W> for Charge {
    type Event = Placed;
    type Answer = String;

    async fn call(&self, placed: &Placed, cx: &Outside<'_, W>) -> Result<String, Failure> {
        let reply = cx.call("payments", "charge", format!("{placed:?}")).await?;
        Ok(String::from_utf8_lossy(&reply.payload).into_owned())
    }

    async fn apply(
        &self,
        placed: &Placed,
        words: String,
        cx: &mut Cx<'_, W>,
    ) -> Result<(), Failure> {
        let order = placed.order.clone();
        cx.insert(&Receipt { order, words }).await?;
        Ok(())
    }
}

/// Charges once for each key, in words of its own, and refuses the third order. A forgetful one
/// charges again and again.
struct FakePayments {
    charged: BTreeMap<Arc<str>, usize>,
    forgetful: bool,
}

impl Fake for FakePayments {
    fn call(&mut self, call: &ServiceCall, _: Duration) -> Told {
        if String::from_utf8_lossy(&call.payload).contains("order-3\"") {
            return Told::Refused("stolen".to_owned());
        }
        let (next, key) = (self.charged.len() + 1, call.idempotency_key.clone());
        match self.charged.get(&key) {
            Some(number) if !self.forgetful => Told::Known(format!("charge {number}").into()),
            _ => {
                self.charged.insert(key, next);
                Told::Did(format!("charge {next}").into())
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Shop {
    forgetful: bool,
}

impl Workload for Shop {
    const NAME: &'static str = "shop";

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![Consumer::new("charge").on_outside(Charge)]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        generator.each(Placed::number)
    }

    fn services(&self) -> Vec<ServiceModel> {
        let forgetful = self.forgetful;
        let make = move || FakePayments {
            charged: BTreeMap::new(),
            forgetful,
        };
        vec![ServiceModel::new("payments").fake(make)]
    }

    fn invariants(&self) -> Vec<Invariant> {
        vec![Invariant::new("Each receipt names a charge.", receipts)]
    }
}

fn receipts(run: &Evidence<'_>) -> Result<(), String> {
    let charged: BTreeSet<usize> = (1..=run.reading.ledger.len()).collect();
    for (_, order, _, receipt) in &run.reading.store.rows {
        let words = receipt["words"].as_str().unwrap_or_default();
        let number = words.strip_prefix("charge ").and_then(|n| n.parse().ok());
        if !number.is_some_and(|number| charged.contains(&number)) {
            return Err(format!("{order} has the receipt {words:?}"));
        }
    }
    Ok(())
}

fn run(workload: Shop, invariants: Vec<Invariant>, seed: u64) -> RunResult {
    let mut scenario = Scenario::new("shop", Shop::NAME);
    scenario.messages = 5;
    scenario.over = Duration::from_secs(2);
    scenario.faults_until = Duration::from_secs(5);
    let kinds = [Fault::Crash, Fault::ServiceInDoubt, Fault::ServiceFails];
    scenario.rules = kinds.map(|kind| Rule::new(kind, 100_000)).to_vec();
    scenario.expect.invariants = invariants;
    // The third order's card is refused.
    scenario.expect.dead_letters = Some((1, 1));
    simulate(&workload, &scenario, seed, true)
}

#[test]
fn a_fake_answers_in_its_own_words_and_acts_once() {
    for seed in 1..=40 {
        let run = run(Shop { forgetful: false }, Vec::new(), seed);
        assert_eq!(
            run.verdict,
            Verdict::Valid,
            "seed {seed}: {:#?}",
            run.anomalies
        );
    }
}

#[test]
fn a_fake_that_forgets_is_caught_by_what_it_did() {
    let mut runs = (1..=40).map(|seed| run(Shop { forgetful: true }, Vec::new(), seed));
    let caught = runs.find(|run| run.verdict == Verdict::Violated);
    let caught = caught.expect("forty seeds catch it");
    let twice = caught
        .anomalies
        .iter()
        .any(|a| a.kind == AnomalyKind::Duplicated);
    assert!(twice, "{:#?}", caught.anomalies);
}

#[test]
fn a_promise_in_rust_is_judged_and_told_in_its_own_words() {
    let promise = "A stolen card is charged in the end.";
    let broken = Invariant::new(promise, |run| {
        let dead = run.reading.letters.len();
        let accepted = run.accepted.len();
        match (dead, run.history.entries.is_empty()) {
            (0, _) | (_, true) => Ok(()),
            _ => Err(format!("{dead} of {accepted} were not")),
        }
    });
    let run = run(Shop { forgetful: false }, vec![broken], 1);
    assert_eq!(run.verdict, Verdict::Violated);
    let told: Vec<_> = run
        .anomalies
        .iter()
        .map(|a| (a.promise, &*a.seen))
        .collect();
    assert_eq!(told, [(promise, "1 of 5 were not")]);
}
