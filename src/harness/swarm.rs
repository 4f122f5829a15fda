//! The swarm: the seed draws which of a scenario's faults are on, and how strongly.
//!
//! A run in which every fault is a little likely rarely shows what one fault can do when the
//! others keep quiet, so each seed switches about half of them off.

use redeliver_sim::choice::{Choices, MILLION, below, name};
use redeliver_sim::fault::{Event, Rule};

use crate::harness::scenario::Scenario;

/// The faults of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// Faults that strike calls by chance.
    pub rules: Vec<Rule>,
    /// Faults that happen at a time.
    pub events: Vec<Event>,
}

/// The faults of a scenario for a seed.
pub fn draw(scenario: &Scenario, seed: u64) -> Swarm {
    let until = crate::ports::env::nanos(scenario.faults_until);
    let mut rules = scenario.rules.clone();
    let mut events = scenario.events.clone();
    if scenario.swarm {
        let choices = Choices::new(seed);
        let draw = |what, i: usize| choices.pure(&[name("swarm"), name(what), i as u64]);
        let mut i = 0;
        rules.retain_mut(|rule| {
            i += 1;
            // Between a quarter and twice the likelihood that the scenario names.
            let ppm = u64::from(rule.ppm);
            let drawn = ppm / 4 + below(draw("ppm", i), ppm * 7 / 4 + 1);
            rule.ppm = u32::try_from(drawn).unwrap_or(MILLION).clamp(1, MILLION);
            draw("rule", i) & 1 == 0
        });
        let mut i = 0;
        events.retain_mut(|event| {
            i += 1;
            event.at = below(draw("at", i), until.saturating_sub(event.lasts).max(1));
            draw("event", i) & 1 == 0
        });
    }
    for rule in &mut rules {
        rule.until = rule.until.min(until);
    }
    Swarm { rules, events }
}
