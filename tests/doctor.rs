//! Handlers that do what no seed decides are found out, and named by the step that shows it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use redeliver::harness::explore::{is_same, repeat};
use redeliver::harness::run::simulate;
use redeliver::harness::scenario::Scenario;
use redeliver::harness::team::workload::{Generator, Request, ServiceModel, Workload};
use redeliver::harness::verdict::Anomaly;
use redeliver::harness::watch::reading::FinalReading;
use redeliver::pipeline::event::{Kind, Message};
use redeliver::pipeline::handler::{Consumer, Cx, Failure, Handler};
use redeliver::ports::{Row, World};
use redeliver::workloads::Orders;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Asked {
    number: u32,
}

impl Message for Asked {
    const TYPE: &'static str = "asked";
    const KIND: Kind = Kind::Fact;
    fn key(&self) -> String {
        format!("question-{}", self.number)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Answer {
    name: String,
    at: u128,
}

impl Row for Answer {
    const TABLE: &'static str = "answers";
    fn key(&self) -> String {
        self.name.clone()
    }
}

/// What decides the order in which a handler writes its rows.
#[derive(Clone, Copy, Debug)]
enum By {
    Seed,
    HashOrder,
    WallClock,
    /// The same rows, with another value in them.
    Value,
}

#[derive(Clone, Copy, Debug)]
struct Asks(By);

struct Answers(By);

impl<W: World> Handler<W> for Answers {
    type Event = Asked;

    async fn handle(&self, asked: &Asked, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let names = (0..8).map(|i| format!("{}-{i}", asked.number));
        let names: Vec<String> = match self.0 {
            By::Seed | By::Value => names.collect(),
            By::HashOrder => names.collect::<HashSet<_>>().into_iter().collect(),
            By::WallClock => {
                let odd = Instant::now().elapsed().as_nanos() % 2;
                names.skip(odd as usize).collect()
            }
        };
        let epoch = std::time::UNIX_EPOCH;
        let at = match self.0 {
            By::Value => epoch.elapsed().expect("a clock").as_nanos(),
            _ => 0,
        };
        for name in names {
            cx.insert(&Answer { name, at }).await?;
        }
        Ok(())
    }
}

impl Workload for Asks {
    const NAME: &'static str = "asks";

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![Consumer::new("answer").on(Answers(self.0))]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        generator.each(|number| Asked { number })
    }

    fn services(&self) -> Vec<ServiceModel> {
        Vec::new()
    }

    fn check(&self, _: &[Request], _: &FinalReading) -> Vec<Anomaly> {
        Vec::new()
    }
}

fn scenario() -> Scenario {
    Scenario {
        messages: 6,
        over: Duration::from_secs(6),
        ..Scenario::new("asks", "asks")
    }
}

#[test]
fn a_run_that_its_seed_decides_is_the_same_twice() {
    let workload = Asks(By::Seed);
    let simulate = |s: &Scenario, seed, record| simulate(&workload, s, seed, record);
    assert_eq!(repeat(&simulate, &scenario(), 1), None);
    let orders =
        |s: &Scenario, seed, record| redeliver::harness::run::simulate(&Orders, s, seed, record);
    assert_eq!(repeat(&orders, &Scenario::new("calm", "orders"), 1), None);
}

#[test]
fn what_no_seed_decides_is_found_out() {
    for by in [By::HashOrder, By::WallClock, By::Value] {
        let workload = Asks(by);
        let simulate = |s: &Scenario, seed, record| simulate(&workload, s, seed, record);
        let found = (1..=20).find_map(|seed| repeat(&simulate, &scenario(), seed));
        let found = found.unwrap_or_else(|| panic!("{by:?} is not found"));
        if matches!(by, By::Value) {
            assert!(found.to_string().contains("other values"), "{found}");
            continue;
        }
        let parted = found.parted.as_ref().expect("where the two part");
        let (one, other) = (parted.kept.clone(), parted.now.clone());
        assert_ne!(one, other);
        let said = found.to_string();
        assert!(said.contains("two runs part at line"), "{said}");
        // Without a trace it shows in the hash.
        let differs = |seed| {
            let (one, other) = (
                simulate(&scenario(), seed, false),
                simulate(&scenario(), seed, false),
            );
            !is_same(&one, &other)
        };
        assert!((1..=20).any(differs), "{by:?}");
    }
}
