//! The swarm: the seed draws which of a scenario's faults are on, and how strongly.
//!
//! A run in which every fault is a little likely rarely shows what one fault can do when the
//! others keep quiet, so each seed switches about half of them off.

use redeliver_sim::choice::{Choices, MILLION, below, name};
use redeliver_sim::fault::{Event, Rule};

use crate::scenario::Scenario;

/// The faults of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// Faults that strike calls by chance.
    pub rules: Vec<Rule>,
    /// Faults that happen at a time.
    pub events: Vec<Event>,
}

/// What the swarm of a seed has drawn, in full: each fault that is on with its chance or its time,
/// and then those that are off. None where the scenario itself says it all.
pub fn describe(scenario: &Scenario, seed: u64) -> Option<String> {
    if !scenario.swarm {
        return None;
    }
    let Swarm { rules, events } = draw(scenario, seed);
    let on = rules.iter().map(|rule| {
        let place = place(rule);
        let (percent, rest) = (rule.ppm / 10_000, rule.ppm % 10_000);
        format!("{}{place} {percent}.{rest:04}%", rule.kind.as_str())
    });
    let timed = events.iter().map(|event| {
        let (s, ms) = (event.at / 1_000_000_000, event.at / 1_000_000 % 1_000);
        format!("{} at {s}.{ms:03} s", event.kind.as_str())
    });
    let on: Vec<_> = on.chain(timed).collect();
    let mut text = match on.is_empty() {
        true => "swarm: no fault is on".to_owned(),
        false => format!("swarm: {}", on.join(", ")),
    };
    let same = |a: &Rule, b: &Rule| (a.kind, place(a)) == (b.kind, place(b));
    let off = scenario
        .rules
        .iter()
        .filter(|rule| !rules.iter().any(|on| same(on, rule)));
    let off = off.map(|rule| format!("{}{}", rule.kind.as_str(), place(rule)));
    let gone = |event: &&Event| {
        !events
            .iter()
            .any(|on| (on.kind, &on.target) == (event.kind, &event.target))
    };
    let timed = scenario
        .events
        .iter()
        .filter(gone)
        .map(|event| event.kind.as_str().to_owned());
    let off: Vec<_> = off.chain(timed).collect();
    if !off.is_empty() {
        text.push_str(&format!("; off: {}", off.join(", ")));
    }
    Some(text)
}

fn place(rule: &Rule) -> String {
    let seam = rule.seam.map(|seam| format!(" at {}", seam.as_str()));
    let process = rule
        .process
        .as_ref()
        .map(|process| format!(" of {process}"));
    seam.unwrap_or_default() + &process.unwrap_or_default()
}

/// The faults of a scenario for a seed.
pub fn draw(scenario: &Scenario, seed: u64) -> Swarm {
    let until = redeliver_core::ports::env::nanos(scenario.faults_until);
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
