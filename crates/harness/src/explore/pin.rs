//! A run as a scenario of its own: every strike is named instead of drawn.

use crate::run::result::RunResult;
use crate::run::swarm;
use crate::scenario::{Expect, Scenario};

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
