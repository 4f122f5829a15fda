//! The bug that lost an order: when the warehouse is slow, the handler writes a line into the log
//! and returns `Ok`. The message is acked, the inbox calls the work done, and nobody is told.

use std::time::Duration;

use redeliver::harness::prelude::*;

use super::{OrderPaid, Shipment};

struct Ship;

impl<W: World> OutsideHandler<W> for Ship {
    type Event = OrderPaid;
    type Answer = Option<String>;

    async fn call(&self, paid: &OrderPaid, cx: &Outside<'_, W>) -> Result<Option<String>, Failure> {
        let asked = cx.call("warehouse", "pack", paid.order.clone());
        match tokio::time::timeout(Duration::from_secs(5), asked).await {
            Ok(reply) => Ok(Some(String::from_utf8_lossy(&reply?.payload).into_owned())),
            Err(_) => {
                eprintln!("the warehouse is slow, skipping {}", paid.order);
                Ok(None)
            }
        }
    }

    async fn apply(
        &self,
        paid: &OrderPaid,
        parcel: Option<String>,
        cx: &mut Cx<'_, W>,
    ) -> Result<(), Failure> {
        if let Some(parcel) = parcel {
            let order = paid.order.clone();
            cx.insert(&Shipment { order, parcel }).await?;
        }
        Ok(())
    }
}

/// As [`super::Checkout`], with that handler.
#[derive(Clone)]
pub(crate) struct Checkout;

impl Workload for Checkout {
    const NAME: &'static str = "checkout-swallowed";

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        vec![Consumer::new("ship").on_outside(Ship)]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        super::Checkout.requests(generator)
    }

    fn services(&self) -> Vec<ServiceModel> {
        super::Checkout.services()
    }

    fn check(&self, accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly> {
        super::Checkout.check(accepted, reading)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    use redeliver::harness::check::{CAPSULES_VARIABLE, SEED_VARIABLE};
    use redeliver::harness::explore::{Target, pin, shrink};
    use redeliver::harness::prelude::*;
    use redeliver::harness::run::simulate;
    use redeliver::harness::scenario::Scenario;
    use redeliver::harness::story;

    /// The line at the end of the panic is a command: this variable, this test.
    #[test]
    #[should_panic(expected = "  REDELIVER_SEED=1 cargo test swallowed::tests::an_order_is_lost")]
    fn an_order_is_lost() {
        let slow = Rule::new(Fault::SlowService, 200_000).lasting(Duration::from_secs(30));
        Check::new(super::Checkout).fault(slow).seeds(500).check();
    }

    #[test]
    fn the_printed_line_replays_the_seed() {
        let tests = std::env::current_exe().expect("this program");
        let run = Command::new(tests)
            .args([
                "--exact",
                "swallowed::tests::an_order_is_lost",
                "--nocapture",
            ])
            .env(SEED_VARIABLE, "1")
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&run.stderr);
        assert!(told.contains("seed 1: lost"), "{told}");
        let trace = String::from_utf8_lossy(&run.stdout);
        assert!(trace.contains("warehouse/pack"), "{trace}");
    }

    /// A failing test leaves its run, made small, as a file that is a test again: red with the bug,
    /// green without.
    #[test]
    fn a_failing_test_leaves_a_capsule() {
        let folder = std::env::temp_dir().join(format!("redeliver-kept-{}", std::process::id()));
        let tests = std::env::current_exe().expect("this program");
        let run = Command::new(tests)
            .args([
                "--exact",
                "swallowed::tests::an_order_is_lost",
                "--nocapture",
            ])
            .env(CAPSULES_VARIABLE, &folder)
            .env_remove(SEED_VARIABLE)
            .output()
            .expect("it runs");
        let path = folder.join("swallowed-tests-an_order_is_lost-lost-checkout.toml");
        let told = String::from_utf8_lossy(&run.stderr);
        assert!(
            told.contains(&format!("kept as {}", path.display())),
            "{told}"
        );
        assert!(told.contains("1 fault of "), "{told}");

        let again = || Check::scenario(super::Checkout, &path).check();
        let red = std::panic::catch_unwind(again).expect_err("it fails again");
        let red = red.downcast_ref::<String>().expect("a message");
        assert!(red.contains("reproduced: lost\n"), "{red}");

        let text = std::fs::read_to_string(&path).expect("the capsule");
        let mended = text.replace("checkout-swallowed", "checkout");
        std::fs::write(&path, mended).expect("written");
        Check::scenario(crate::Checkout, &path).check();
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    /// The README shows this failure. What a newcomer copies from there has to reproduce.
    #[test]
    fn the_readme_shows_what_is_printed() {
        let path = Path::new("examples/own_workflow/swallowed.toml");
        let scenario = Scenario::load(path, &["checkout-swallowed"]).expect("a scenario");
        let run = simulate(&super::Checkout, &scenario, 1, true);
        let found = story::chosen(&run.anomalies).expect("the bug is found");
        let program = "target/debug/examples/own_workflow";
        let replay = story::replay_line(program, path, 1, found, run.hash);
        let printed = story::render(&scenario, &run, &replay);
        let readme = std::fs::read_to_string("README.md").expect("README.md");
        assert!(
            readme.contains(printed.trim_end()),
            "README.md, to be brought up to date:\n{printed}"
        );
        assert!(readme.matches(&replay).count() >= 2, "README.md: {replay}");
        let before = (run.strikes.len(), run.requests.len());
        let (target, pinned) = (Target::of(found), pin(&scenario, &run));
        let simulate = |s: &Scenario, seed, record| simulate(&super::Checkout, s, seed, record);
        let shrunk = shrink(&simulate, pinned, run.clone(), target, 500);
        assert_eq!(
            (before, shrunk.faults(), shrunk.messages()),
            ((7, 20), 1, 1)
        );
        let text = shrunk.scenario.to_toml();
        let fault = text.split_once("[[fault]]").expect("a fault").1;
        let fault = fault.split_once("lasts").expect("its length").0;
        assert!(readme.contains(fault), "README.md: {fault}");
        let hash = format!("\"trace_hash\":\"{:016x}\"", run.hash);
        assert!(readme.contains(&hash), "README.md: {hash}");
    }
}
