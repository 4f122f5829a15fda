//! Shards put together, and everything that keeps them from being the whole.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::read::Output;
use crate::cli::gate::canary::Canaries;
use crate::cli::gate::{Sweep, with_others, worst};
use redeliver_harness::report::Tally;
use redeliver_harness::report::part::{Part, find_page, lasting};
use redeliver_harness::run::shard::Shard;

/// Scenarios of one sweep, in the order of the first shard.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) tallies: Vec<Tally>,
    pub(super) stories: Vec<Option<String>>,
    /// The page of each scenario's first violated seed, where a shard wrote one.
    pub(super) pages: Vec<Option<PathBuf>>,
    pub(super) canaries: Canaries,
    pub(super) wall: Duration,
    /// Why this is not the whole; nothing where it is.
    pub(super) gaps: Vec<String>,
}

/// One scenario of all shards.
struct Merged {
    first: Part,
    from: String,
    tally: Tally,
    /// Stories and pages by the seed they are about.
    told: BTreeMap<u64, (Option<String>, Option<PathBuf>)>,
    shards: u32,
}

impl Whole {
    pub(super) fn of(outputs: Vec<Output>) -> Self {
        let mut gaps = Vec::new();
        let outputs = distinct(outputs, &mut gaps);
        let mut merged: Vec<Merged> = Vec::new();
        for output in &outputs {
            complete(output, &mut gaps);
            for part in &output.parts {
                add(output, part, &mut merged, &mut gaps);
            }
        }
        let expected = outputs.first().map_or(0, |output| output.shard.of());
        for one in &merged {
            covered(one, &outputs, expected, &mut gaps);
        }
        let canaries = canaries(&outputs);
        let walls = outputs.iter().filter_map(|output| output.closing.as_ref());
        let wall = walls
            .map(|closing| closing.wall_seconds)
            .fold(0.0, f64::max);
        let mut whole = Self {
            tallies: Vec::new(),
            stories: Vec::new(),
            pages: Vec::new(),
            canaries,
            wall: Duration::try_from_secs_f64(wall).unwrap_or_default(),
            gaps,
        };
        for one in merged {
            let seed = worst(&one.tally).map(|worst| worst.seed);
            let told = seed.and_then(|seed| one.told.get(&seed));
            // A shard in which all failures were excused tells none of them.
            let (story, page) = told
                .or(one.told.values().next())
                .cloned()
                .unwrap_or_default();
            whole
                .stories
                .push(story.map(|story| with_others(story, &one.tally)));
            whole.pages.push(page);
            whole.tallies.push(one.tally);
        }
        whole
    }
}

/// Each shard of one sweep once, in their order; what does not belong is left out and named.
fn distinct(mut outputs: Vec<Output>, gaps: &mut Vec<String>) -> Vec<Output> {
    outputs.sort_by_key(|output| output.shard.number());
    let mut kept: Vec<Output> = Vec::new();
    for output in outputs {
        let Some(first) = kept.first() else {
            kept.push(output);
            continue;
        };
        let (one, other) = (first.name(), output.name());
        if first.shard.of() != output.shard.of() {
            gaps.push(format!(
                "{one} and {other} are of different sweeps: left out"
            ));
            continue;
        }
        if let Some(twice) = kept.iter().find(|kept| kept.shard == output.shard) {
            let (there, path) = (twice.name(), output.path.display());
            gaps.push(format!("{there} is there twice: {path} is left out"));
            continue;
        }
        for (what, of) in [
            ("version", (&first.opening.version, &output.opening.version)),
            ("commit", (&first.opening.commit, &output.opening.commit)),
        ] {
            if of.0 != of.1 {
                let (a, b) = (shown(of.0), shown(of.1));
                gaps.push(format!("{one} is of {what} {a}, {other} of {what} {b}"));
            }
        }
        kept.push(output);
    }
    let of = kept.first().map_or(0, |output| output.shard.of());
    let missing = (1..=of).filter(|number| kept.iter().all(|kept| kept.shard.number() != *number));
    let missing: Vec<_> = missing.collect();
    if kept.is_empty() {
        gaps.push("there is no shard at all".to_owned());
    } else if !missing.is_empty() {
        gaps.push(format!("missing of {of} shards: {}", ranges(&missing)));
    }
    kept
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

/// `1, 4 to 6`.
fn ranges(numbers: &[u32]) -> String {
    let mut all: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match all.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => all.push((*number, *number)),
        }
    }
    let shown = all.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        _ => format!("{first} to {last}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Whether a shard came to its end.
fn complete(output: &Output, gaps: &mut Vec<String>) {
    let name = output.name();
    if let Some(why) = &output.damaged {
        gaps.push(format!("{name} cannot be read to its end: {why}"));
    }
    match &output.closing {
        Some(closing) if closing.interrupted => gaps.push(format!("{name} was interrupted")),
        Some(_) => {}
        None if output.damaged.is_some() => {}
        None => gaps.push(format!("{name} ends before its summary: was it killed?")),
    }
    let (all, there) = (output.opening.scenarios, output.parts.len());
    if there != all && output.closing.is_some() {
        gaps.push(format!("{name} has {there} of its {all} scenarios"));
    }
}

fn add(output: &Output, part: &Part, merged: &mut Vec<Merged>, gaps: &mut Vec<String>) {
    let (name, path) = (output.name(), part.path.display());
    let scenario = part.scenario().ok().filter(|_| part.is_whole());
    let tally = scenario.and_then(|scenario| part.tally(&scenario));
    let Some(tally) = tally else {
        gaps.push(format!(
            "{name}: {path} is damaged, or of another version of Redeliver"
        ));
        return;
    };
    if let Some(seed) = stray(output.shard, part, &tally) {
        gaps.push(format!("{name}: {path}: seed {seed} is not of this shard"));
    }
    let seed = worst(&tally).map(|worst| worst.seed);
    let page = part.page.as_ref();
    let page = page.and_then(|page| find_page(&output.path, page));
    let told = seed.filter(|_| part.story.is_some());
    let told = told.map(|seed| (seed, (part.story.clone(), page)));
    let known = merged
        .iter_mut()
        .find(|known| known.first.path == part.path);
    let Some(known) = known else {
        let mut tally = tally;
        tally.is_part = false;
        merged.push(Merged {
            first: part.clone(),
            from: name,
            tally,
            told: told.into_iter().collect(),
            shards: 1,
        });
        return;
    };
    for difference in differences(&known.first, part) {
        gaps.push(format!(
            "{path}: {difference} in {} and in {name}",
            known.from
        ));
    }
    known.tally.merge(tally);
    known.told.extend(told);
    known.shards += 1;
}

/// A violated seed that another shard should have run.
fn stray(shard: Shard, part: &Part, tally: &Tally) -> Option<u64> {
    let sweep = Sweep {
        first: part.first_seed,
        shard,
    };
    let of = u64::from(shard.of());
    let own = |seed: u64| seed.wrapping_sub(sweep.seed(0)).is_multiple_of(of);
    let mut seeds = tally.violations.iter().map(|violation| violation.seed);
    seeds.find(|seed| !own(*seed))
}

fn differences(one: &Part, other: &Part) -> Vec<&'static str> {
    let all = [
        (one.content_hash != other.content_hash, "other contents"),
        (one.first_seed != other.first_seed, "another first seed"),
        (
            one.planned_seeds != other.planned_seeds,
            "other numbers of seeds",
        ),
    ];
    let found = all.into_iter().filter(|(differs, _)| *differs);
    found.map(|(_, what)| what).collect()
}

/// Whether all shards ran a scenario, and all its seeds.
fn covered(one: &Merged, outputs: &[Output], shards: u32, gaps: &mut Vec<String>) {
    let path = one.first.path.display();
    let here = outputs.len();
    if u64::from(one.shards) != here as u64 {
        gaps.push(format!("{path}: in {} of {here} shards", one.shards));
    }
    let Some(planned) = one.first.planned_seeds else {
        return;
    };
    let run = one.tally.seeds;
    let all_here = here as u64 == u64::from(shards) && !one.tally.interrupted;
    if run != planned && all_here {
        gaps.push(format!("{path}: {run} of {planned} seeds were run"));
    }
}

/// What all shards say of the canaries: one that was silent anywhere is silent.
fn canaries(outputs: &[Output]) -> Canaries {
    let mut canaries = Canaries {
        all: 0,
        silent: Vec::new(),
        stopped: false,
    };
    for closing in outputs.iter().filter_map(|output| output.closing.as_ref()) {
        canaries.all = canaries.all.max(closing.canaries.planted);
        for name in &closing.canaries.silent {
            let name = lasting(name);
            if !canaries.silent.contains(&name) {
                canaries.silent.push(name);
            }
        }
    }
    canaries
}
