//! `redeliver planted --on`: which bugs would this scenario notice?

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use rayon::prelude::*;
use serde_json::json;

use super::{Args, Context, Format, Out, Watch};
use redeliver_core::ports::env::nanos;
use redeliver_harness::scenario::Scenario;
use redeliver_harness::verdict::Verdict;
use redeliver_harness::words::time;
use redeliver_planted::{self as planted, Caught, Limits, Outcome, Plant, Shown, Survey};

/// Seeds for each bug under the scenario, and as many under its own faults.
const SEEDS: u64 = 200;

/// Runs to make a caught bug smaller: what is asked here is which faults matter, not for a capsule.
const SHRINK_RUNS: u32 = 300;

/// Runs in which is seen what a workload does.
const SURVEY: u64 = 5;

/// A bug and what became of it.
type Found = (&'static Plant, Outcome);

pub(super) fn planted(
    path: &Path,
    plants: Vec<&'static Plant>,
    args: &Args,
    context: &Context,
    watch: &Watch,
) -> u8 {
    let (scenario, workload) = match context.load_to_simulate(path) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let limits = Limits {
        first: scenario.seed.unwrap_or(1),
        seeds: args.seeds.unwrap_or(SEEDS),
        shrink_runs: args.shrink_runs.unwrap_or(SHRINK_RUNS),
    };
    let scenario = planted::bounded(&workload, &scenario, limits.first);
    let survey = Survey::of(&workload, &scenario, limits.first, SURVEY);
    let look = |plant| {
        watch.one(|| {
            let outcome = planted::look(plant, &workload, &scenario, &survey, limits);
            (plant, outcome)
        })
    };
    let found: Vec<Found> = plants.into_par_iter().filter_map(look).collect();
    let mut out = Out::default();
    match args.format {
        Format::Json => {
            let lines = found.iter().map(|found| line(found, &scenario));
            lines.for_each(|line| out.line(&line));
        }
        Format::Human => out.text(&report(&found, &scenario, limits.seeds)),
    }
    let verdicts = found.iter().map(|(_, outcome)| verdict(&outcome.shown));
    verdicts.fold(watch.verdict(), Verdict::and).exit_code()
}

const fn verdict(shown: &Shown) -> Verdict {
    match shown {
        Shown::AsItIs(_) | Shown::ByItsFaults(_) | Shown::Cannot(_) => Verdict::Valid,
        Shown::Not { .. } => Verdict::Violated,
        Shown::ShippedToo(..) => Verdict::Inconclusive,
    }
}

/// Why a bug was not shown; none for one that was.
fn why(outcome: &Outcome) -> Option<String> {
    match &outcome.shown {
        Shown::AsItIs(_) | Shown::ByItsFaults(_) => None,
        Shown::Cannot(needs) => {
            let needs: Vec<_> = needs.iter().map(ToString::to_string).collect();
            Some(needs.join(", and "))
        }
        Shown::ShippedToo(target, seed) => Some(format!(
            "the shipped pipeline shows {} too (seed {seed}, checker {}): nothing can be said",
            target.kind, target.checker
        )),
        Shown::Not {
            only_own_check,
            never_struck,
        } => {
            let mut text = format!("not shown in {} seeds", outcome.seeds);
            if *never_struck {
                text.push_str("; no fault has struck in them");
            }
            if *only_own_check {
                text.push_str("; only the workload's own check could see it");
            }
            Some(text)
        }
    }
}

fn line((plant, outcome): &Found, scenario: &Scenario) -> String {
    let (how, caught) = match &outcome.shown {
        Shown::AsItIs(caught) => ("scenario", Some(caught)),
        Shown::ByItsFaults(caught) => ("own-faults", Some(caught)),
        Shown::Cannot(_) => ("cannot", None),
        Shown::Not { .. } => ("not-shown", None),
        Shown::ShippedToo(..) => ("shipped-too", None),
    };
    json!({
        "type": "planted",
        "on": scenario.name,
        "workload": scenario.workload,
        "name": plant.name,
        "class": plant.class,
        "report": plant.report,
        "change": plant.change,
        "expected": plant.anomalies,
        "caught": caught.is_some(),
        "how": how,
        "why": why(outcome),
        "anomaly": caught.map(|caught| caught.target.kind),
        "checker": caught.map(|caught| caught.target.checker),
        "seeds": outcome.seeds,
        "seconds": outcome.took.as_secs_f64(),
        "seed": caught.map(|caught| caught.shrunk.run.seed),
        "faults": caught.map(|caught| caught.shrunk.faults()),
        "by": caught.map(|caught| causes(caught)),
        "messages": caught.map(|caught| caught.shrunk.messages()),
        "shrink_runs": caught.map(|caught| caught.shrunk.runs),
    })
    .to_string()
}

/// What is left of the faults of a run that was made small: their kinds and where they struck.
fn causes(caught: &Caught) -> Vec<String> {
    let scenario = &caught.shrunk.scenario;
    let rules = scenario.rules.iter().map(|rule| {
        let seam = rule.seam.map(|seam| format!("/{}", seam.as_str()));
        let process = rule.process.as_deref().unwrap_or("any");
        let role = process.rsplit_once('-').map_or(process, |(role, _)| role);
        format!("{}@{role}{}", rule.kind.as_str(), seam.unwrap_or_default())
    });
    let events = scenario.events.iter();
    let events = events.map(|event| event.kind.as_str().to_owned());
    let poison = &scenario.poison;
    let spoilt = [
        ("poison", poison.poison),
        ("killer poison", poison.killer),
        ("an unknown version", poison.unknown_version),
        ("bytes that are no event", poison.malformed),
    ];
    let spoilt = spoilt.into_iter().filter(|(_, count)| *count > 0);
    let all: BTreeSet<String> = rules
        .chain(events)
        .chain(spoilt.map(|(name, _)| name.to_owned()))
        .collect();
    all.into_iter().collect()
}

fn report(found: &[Found], scenario: &Scenario, seeds: u64) -> String {
    let mut text = format!(
        "{} planted bugs on workload {}, scenario {}: {seeds} seeds as it is, then {seeds} with \
         the faults that the bug needs\n",
        found.len(),
        scenario.workload,
        scenario.name
    );
    let of = |wanted: fn(&Shown) -> bool| -> Vec<&Found> {
        let all = found.iter();
        all.filter(|(_, outcome)| wanted(&outcome.shown)).collect()
    };
    let noticed = of(|shown| matches!(shown, Shown::AsItIs(_)));
    let unnoticed = of(|shown| matches!(shown, Shown::ByItsFaults(_)));
    let cannot = of(|shown| matches!(shown, Shown::Cannot(_)));
    let not = of(|shown| matches!(shown, Shown::Not { .. }));
    let too = of(|shown| matches!(shown, Shown::ShippedToo(..)));
    section(&mut text, "The scenario notices", &noticed);
    let title = "It does not notice these; with the faults they need they are caught";
    section(&mut text, title, &unnoticed);
    section(&mut text, "This workload cannot show", &cannot);
    section(&mut text, "Not shown either way", &not);
    section(&mut text, "Nothing can be said of", &too);
    let _ = writeln!(
        text,
        "\nof {}: {} noticed by the scenario, {} only with other faults, {} that this workload \
         cannot show, {} not shown, {} unclear",
        found.len(),
        noticed.len(),
        unnoticed.len(),
        cannot.len(),
        not.len(),
        too.len()
    );
    text
}

fn section(text: &mut String, title: &str, found: &[&Found]) {
    if found.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}:");
    for (plant, outcome) in found {
        let name = plant.name;
        let _ = match (&outcome.shown, why(outcome)) {
            (Shown::AsItIs(caught) | Shown::ByItsFaults(caught), _) => writeln!(
                text,
                "  {name:<28}{:<21}{:>5} seeds{:>8}  by {}",
                caught.target.checker,
                outcome.seeds,
                time(nanos(outcome.took)),
                match causes(caught).join(", ") {
                    none if none.is_empty() => "no fault at all".to_owned(),
                    causes => causes,
                }
            ),
            (_, why) => writeln!(text, "  {name:<28}{}", why.unwrap_or_default()),
        };
    }
}
