//! A run as a scenario of its own: every strike is named instead of drawn.

use crate::harness::run::RunResult;
use crate::harness::scenario::{Expect, Scenario};
use crate::harness::swarm;

/// The scenario of just this run, which has to be recorded. The faults that struck are rules for
/// one call each, by names that the next build has too; latencies and the order of tasks stay
/// with the seed.
pub fn pin(scenario: &Scenario, recorded: &RunResult) -> Scenario {
    Scenario {
        rules: recorded.strikes.clone(),
        events: swarm::draw(scenario, recorded.seed).events,
        swarm: false,
        seed: Some(recorded.seed),
        seeds: 1,
        known: None,
        // One run need not reach what many are to reach together.
        expect: Expect {
            reached: Vec::new(),
            second_pickups: Vec::new(),
            ..scenario.expect.clone()
        },
        ..scenario.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::harness::simulate::simulate;
    use crate::workloads::{Deposits, Onboarding, Orders};

    fn comes_again(scenario: &Scenario, simulate: impl Fn(&Scenario, u64) -> RunResult) {
        for seed in 1..=10 {
            let drawn = simulate(scenario, seed);
            let pinned = pin(scenario, &drawn);
            let again = simulate(&pinned, seed);
            assert_eq!(drawn.faults, again.faults, "seed {seed}");
            assert_eq!(drawn.strikes, again.strikes, "seed {seed}");
            assert_eq!(drawn.hash, again.hash, "seed {seed}");
        }
    }

    fn load(name: &str) -> Scenario {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = root.join("scenarios").join(name).with_extension("toml");
        Scenario::load(&path, &["orders", "onboarding", "deposits"]).expect("a scenario")
    }

    #[test]
    fn a_pinned_run_is_the_same_run() {
        comes_again(&load("everything"), |s, seed| {
            simulate(&Orders, s, seed, true)
        });
        comes_again(&load("everything-onboarding"), |s, seed| {
            simulate(&Onboarding, s, seed, true)
        });
        comes_again(&load("everything-deposits"), |s, seed| {
            simulate(&Deposits, s, seed, true)
        });
    }
}
