//! What the benches share: scenarios by name, and what runs of them come to.

use std::path::Path;
use std::time::Duration;

use redeliver::harness::run::{RunResult, simulate};
use redeliver::harness::scenario::Scenario;
use redeliver::workloads::{Deposits, Onboarding, Orders};

/// The built-in workloads, with the scenario file that throws everything at each.
pub(crate) const WORKLOADS: [(&str, &str); 3] = [
    ("orders", "everything"),
    ("onboarding", "everything-onboarding"),
    ("deposits", "everything-deposits"),
];

/// A scenario file of the repository.
pub(crate) fn scenario(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/{name}.toml"));
    let known = WORKLOADS.map(|(workload, _)| workload);
    Scenario::load(&path, &known).expect("a scenario of this repository can be read")
}

/// The same, with another number of messages at the same rate.
pub(crate) fn sized(mut scenario: Scenario, messages: u32) -> Scenario {
    let per_message = scenario.over / scenario.messages.max(1);
    scenario.messages = messages;
    scenario.over = (per_message * messages).max(Duration::from_secs(1));
    scenario.faults_until = scenario.faults_until.max(scenario.over);
    scenario
}

/// A calm scenario of that many messages.
pub(crate) fn calm(workload: &str, messages: u32) -> Scenario {
    let mut scenario = sized(Scenario::new("calm", workload), messages);
    scenario.faults_until = scenario.over;
    scenario
}

/// One run.
pub(crate) fn run(scenario: &Scenario, seed: u64) -> RunResult {
    match scenario.workload.as_str() {
        "orders" => simulate(&Orders, scenario, seed, false),
        "onboarding" => simulate(&Onboarding, scenario, seed, false),
        "deposits" => simulate(&Deposits, scenario, seed, false),
        other => unreachable!("no workload is called {other}"),
    }
}
