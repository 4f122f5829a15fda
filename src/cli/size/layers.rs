//! Settings of different layers that contradict each other, with the run that shows each.

use std::path::Path;

use rayon::prelude::*;
use serde_json::{Value as Json, json};

use crate::cli::out::Out;
use crate::cli::report::write;
use redeliver_harness::registry::Registered;
use redeliver_harness::scenario::Scenario;
use redeliver_harness::size::Question;
use redeliver_harness::size::confirm::{confirmation, measure};
use redeliver_harness::size::layers::Contradiction;
use redeliver_harness::size::provoke::Provocation;
use redeliver_sizing::evaluate::Expected;
use redeliver_sizing::layers::{Counterexample, conflicts};
use redeliver_sizing::model::Setting;

/// What contradicts what in a setting.
pub(super) struct Layers<'a> {
    question: &'a Question,
    setting: &'a Setting,
    found: Vec<Counterexample>,
    /// For each a scenario of the whole pipeline and the seed that shows it, where one does.
    seeds: Vec<Option<(Provocation, u64)>>,
}

/// So many seeds are tried.
const SEEDS: u64 = 6;

impl<'a> Layers<'a> {
    /// Looks for it with runs that provoke it.
    pub(super) fn of(question: &'a Question, setting: &'a Setting, expected: &Expected) -> Self {
        let case = &question.case;
        let lifetime = question.size.key_lifetime.map(|it| it.as_secs_f64());
        let found = conflicts(case, setting, &expected.broken(case), lifetime);
        Self {
            question,
            setting,
            seeds: found.iter().map(|_| None).collect(),
            found,
        }
    }

    /// Looks for seeds of the whole pipeline that show the same.
    pub(super) fn provoke(&mut self, scenario: &Scenario, workload: &Registered, seed: u64) {
        if self.found.is_empty() || (workload.postgres)().is_some() {
            return;
        }
        let services = (workload.services)();
        let to = confirmation(self.question, scenario, &services, workload.simulate);
        let Ok(to) = to else { return };
        let limit = self.setting.policy.consumer.handler_limit;
        let seeds = self.found.par_iter().map(|shown| {
            let provoked = Provocation::of(shown, self.question, scenario, &to, self.setting)?;
            let shows = |seed: &u64| {
                let run = (workload.simulate)(&provoked.scenario, *seed, true);
                let outages = &provoked.outages;
                provoked.shows(&measure(&run.history, to.observed(), limit, outages))
            };
            let seed = (0..SEEDS).map(|run| seed.wrapping_add(run)).find(shows)?;
            Some((provoked, seed))
        });
        self.seeds = seeds.collect();
    }

    /// Writes the scenarios whose seeds show contradictions.
    pub(super) fn write(&self, folder: &Path) -> Result<(), String> {
        for (shown, seed) in self.found.iter().zip(&self.seeds) {
            if let Some((provoked, _)) = seed {
                write(&folder.join(file(shown)), &provoked.scenario.to_toml())?;
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Each in words.
    pub(super) fn in_words(&self) -> Vec<Contradiction> {
        let found = self.found.iter();
        let words = found.map(|it| Contradiction::of(it, self.question, self.setting));
        words.collect()
    }

    pub(super) fn tell(
        &self,
        whose: &str,
        (folder, program): (Option<&Path>, &str),
        out: &mut Out,
    ) {
        if self.found.is_empty() {
            out.line(&format!("{whose}: no layer contradicts another"));
            out.line("");
            return;
        }
        let count = self.found.len();
        let are = if count == 1 {
            "contradiction"
        } else {
            "contradictions"
        };
        out.line(&format!(
            "{whose}: {count} {are} between layers, each with a run that shows it"
        ));
        let stories = self
            .in_words()
            .into_iter()
            .zip(&self.found)
            .zip(&self.seeds);
        for ((words, shown), seed) in stories {
            out.line("");
            out.line(&format!("{}: {}", words.name, words.sentence));
            for (at, what) in words.story {
                out.line(&format!("  {at:>10}  {what}"));
            }
            let Some((provoked, seed)) = seed else {
                continue;
            };
            // No promise of the pipeline is broken where only time or work is lost.
            let how = match provoked.is_violated() {
                true => "",
                false => " in its trace, and is valid",
            };
            match folder {
                None => out.line(&format!(
                    "  the whole pipeline shows it with seed {seed}{how}"
                )),
                Some(folder) => out.line(&format!(
                    "  the whole pipeline shows it{how}: {program} replay {} --seed {seed} --trace",
                    folder.join(file(shown)).display()
                )),
            }
        }
        out.line("");
    }

    pub(super) fn json(&self) -> Json {
        let found = self.in_words().into_iter().zip(&self.found);
        found
            .zip(&self.seeds)
            .map(|((words, shown), seed)| {
                let steps: Vec<Json> = words
                    .story
                    .into_iter()
                    .map(|(at, what)| json!({ "at": at, "what": what }))
                    .collect();
                let file = seed.as_ref().map(|_| file(shown));
                let seed = seed.as_ref().map(|it| it.1);
                json!({ "conflict": words.name, "what": words.sentence, "run": steps, "seed": seed, "file": file })
            })
            .collect()
    }
}

/// The name of a contradiction's file.
fn file(shown: &Counterexample) -> String {
    format!("{}.toml", shown.conflict.as_str())
}
