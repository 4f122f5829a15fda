//! A seed of the whole pipeline that shows what happens just outside of a range.

use std::path::Path;

use rayon::prelude::*;
use serde_json::{Value as Json, json};

use crate::cli::out::Out;
use crate::cli::report::write;
use redeliver_harness::registry::Registered;
use redeliver_harness::scenario::{Expect, Scenario};
use redeliver_harness::size::Question;
use redeliver_harness::size::confirm::{Part, confirmation, measure, parts, shown};
use redeliver_harness::size::words::{figure, name, value};
use redeliver_sizing::case::Target;
use redeliver_sizing::number::{Number, Value};
use redeliver_sizing::search::{Bound, Found, varied};

/// So many seeds are tried.
const SEEDS: u64 = 6;

/// A value just outside, and the run that shows it.
pub(super) struct Outside {
    number: Number,
    value: Value,
    /// `below` or `above`.
    side: &'static str,
    target: Target,
    asked: f64,
    /// The seed, and what its run shows; none where no seed did.
    seen: Option<(u64, f64, Scenario)>,
}

/// Looks for such a run for each end of a range that a target has set.
pub(super) fn outside(
    question: &Question,
    scenario: &Scenario,
    workload: &Registered,
    found: &Found,
    seed: u64,
) -> Result<Vec<Outside>, String> {
    let services = (workload.services)();
    let to = confirmation(question, scenario, &services, workload.simulate);
    let to = to.map_err(|why| why.to_string())?;
    let ends = found.numbers.iter().flat_map(|sized| {
        let ends = [("below", sized.below), ("above", sized.above)];
        ends.into_iter().filter_map(|(side, end)| match end? {
            (value, Bound::Target(target)) => Some((sized.number, value, side, target)),
            _ => None,
        })
    });
    let ends: Vec<_> = ends.collect();
    let looked = ends.into_par_iter().map(|(number, value, side, target)| {
        let setting = varied(&found.recommended, number, value);
        let all = parts(question, scenario, &to, &setting);
        let asked = question.case.targets.most(target);
        // One dead letter is one too many: how rare outages are, no single run can show.
        let most = match target {
            Target::DeadLetters => 0.0,
            _ => asked,
        };
        let shows = |part: &Part, seed: u64| {
            let run = (workload.simulate)(&part.scenario, seed, true);
            let limit = part.setting.policy.consumer.handler_limit;
            let measured = measure(&run.history, to.observed(), limit, &part.outages);
            shown(target, part, &measured, &to.case).filter(|value| *value > most)
        };
        let seeds = (0..SEEDS).map(|run| seed.wrapping_add(run));
        let seen = seeds.into_iter().find_map(|seed| {
            let mut found = all
                .iter()
                .filter_map(|part| Some((part, shows(part, seed)?)));
            let (part, value) = found.next()?;
            Some((seed, value, to_replay(part, target)))
        });
        Outside {
            number,
            value,
            side,
            target,
            asked,
            seen,
        }
    });
    Ok(looked.collect())
}

/// The part as a scenario whose replay says what is wrong with it, where a scenario can say so.
fn to_replay(part: &Part, target: Target) -> Scenario {
    let mut scenario = part.scenario.clone();
    scenario.question = format!("Does this keep to the target {}?", target.as_str());
    scenario.expect = Expect {
        dead_letters: match target {
            Target::DeadLetters => Some((0, 0)),
            _ => part.scenario.expect.dead_letters,
        },
        max_second_pickups: match target {
            Target::Duplicates => Some(0),
            _ => None,
        },
        ..Expect::default()
    };
    scenario
}

impl Outside {
    /// The file's name.
    fn file(&self) -> String {
        format!("{}-{}.toml", name(self.number).replace(' ', "-"), self.side)
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), String> {
        match &self.seen {
            Some((_, _, scenario)) => write(&folder.join(self.file()), &scenario.to_toml()),
            None => Ok(()),
        }
    }

    pub(super) fn tell(&self, folder: Option<&Path>, program: &str, out: &mut Out) {
        let asked = figure(self.target, self.asked);
        let what = format!("{} = {}", name(self.number), value(self.number, self.value));
        match &self.seen {
            None => out.line(&format!(
                "{what}: no seed of {SEEDS} shows more than {asked}"
            )),
            Some((seed, found, _)) => {
                let (found, asked) = match figure(self.target, *found) {
                    // Times that look the same, with more of their digits.
                    same if same == asked => (format!("{found:.4}"), format!("{:.4}", self.asked)),
                    found => (found, asked),
                };
                let target = self.target.as_str();
                out.line(&format!(
                    "{what}: seed {seed} shows {target} {found}, {asked} asked"
                ));
                if let Some(folder) = folder {
                    let file = folder.join(self.file());
                    let how = match self.target {
                        Target::DeadLetters => "",
                        Target::Duplicates => " (valid where calls are only cut off)",
                        _ => " (valid: it shows this in its trace)",
                    };
                    out.line(&format!(
                        "  {program} replay {} --seed {seed}{how}",
                        file.display()
                    ));
                }
            }
        }
    }

    pub(super) fn json(&self) -> Json {
        json!({
            "number": self.number.as_str(),
            "side": self.side,
            "value": self.value,
            "target": self.target.as_str(),
            "asked": self.asked,
            "seed": self.seen.as_ref().map(|it| it.0),
            "file": self.seen.as_ref().map(|_| self.file()),
            "shows": self.seen.as_ref().map(|it| it.1),
        })
    }
}
