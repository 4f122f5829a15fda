//! From a file to a scenario, with everything that can be wrong on the way.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redeliver_sim::fault::Kind;
use toml::Spanned;

use super::error::{Problem, ScenarioError};
use super::expect::Expect;
use super::fault::{self, Fault};
use super::file::{ExpectTable, File, ServiceTable};
use super::{Poison, Scenario, ServiceOverride};
use crate::load::offer::Pattern;
use crate::load::threshold::Threshold;
use crate::verdict::Verdict;

/// The directory of capsules in a directory of scenarios.
const REGRESSIONS: &str = "regressions";

impl Scenario {
    /// Reads a scenario file. `workloads` are the names that `workload` may have.
    ///
    /// # Errors
    /// All mistakes in it, each with its place.
    pub fn load(path: &Path, workloads: &[&str]) -> Result<Self, Box<ScenarioError>> {
        let source = std::fs::read_to_string(path)
            .map_err(|e| ScenarioError::unreadable(path.to_owned(), &e.to_string()))?;
        Self::parse(&source, path, workloads)
    }

    /// Reads the text of a scenario file.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn parse(
        source: &str,
        path: &Path,
        workloads: &[&str],
    ) -> Result<Self, Box<ScenarioError>> {
        let error = |problems| {
            Box::new(ScenarioError {
                path: path.to_owned(),
                source: Arc::from(source),
                problems,
            })
        };
        let file: File = toml::from_str(source).map_err(|e| error(vec![Problem::of_toml(&e)]))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut problems = Vec::new();
        let mut scenario = Self::new(&stem, file.workload.get_ref());
        path.clone_into(&mut scenario.path);
        known_workload(&file, workloads, &mut problems);
        fill(&mut scenario, &file, &mut problems);
        read_faults(&mut scenario, &file, &mut problems);
        read_policy(&mut scenario, &file, &mut problems);
        for (name, table) in &file.services {
            scenario.services.push(service(name, table, &mut problems));
        }
        read_load(&mut scenario, &file, &mut problems);
        let attempts = scenario.policy.retry.attempts;
        let size = file.size.as_ref();
        scenario.size = size.map(|size| Box::new(size.read(attempts, &mut problems)));
        scenario.expect = expect(&file.expect, &scenario, &mut problems);
        let capsule = file.capsule.as_ref();
        scenario.capsule = capsule.and_then(|capsule| capsule.read(&mut problems));
        let anomaly = scenario.capsule.as_ref().map(|capsule| capsule.anomaly);
        let known = file.known.as_ref();
        scenario.known = known.and_then(|known| known.read(anomaly, &mut problems));
        if problems.is_empty() {
            Ok(scenario)
        } else {
            problems.sort_by_key(|p| p.span.as_ref().map_or(0, |span| span.start));
            Err(error(problems))
        }
    }
}

/// What is wrong with a file whose `no-rows` has no database that it could ask.
pub fn nothing_to_ask(path: &Path) -> Box<ScenarioError> {
    let source = std::fs::read_to_string(path).unwrap_or_default();
    let file: Option<File> = toml::from_str(&source).ok();
    let place = file.and_then(|file| Some(file.expect.no_rows.first()?.span()));
    let what = "`no-rows` asks a database, and this scenario has a model in place of one";
    let help = "add database = \"postgres\", or say what the workload's database looks like \
                (Workload::postgres)";
    let problem = Problem {
        span: place,
        ..Problem::new(what, 0..0)
            .label("nobody can answer")
            .help(help)
    };
    Box::new(ScenarioError {
        path: path.to_owned(),
        source: Arc::from(source),
        problems: vec![problem],
    })
}

/// The scenario files at these paths, those of directories in the order of their names, and then
/// those of their `regressions`, where capsules are kept.
///
/// # Errors
/// A sentence for a path that does not exist or a directory without scenarios.
pub fn discover(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    let regressions = |path: &PathBuf| Some(path.join(REGRESSIONS)).filter(|path| path.is_dir());
    for path in paths {
        if !path.is_dir() {
            if !path.exists() {
                return Err(format!("there is no {}", path.display()));
            }
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut found: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "toml"))
            .collect();
        if found.is_empty() {
            return Err(format!("no scenario (*.toml) in {}", path.display()));
        }
        found.sort();
        files.append(&mut found);
        if let Some(kept) = regressions(path) {
            files.append(&mut discover(&[kept])?);
        }
    }
    Ok(files)
}

fn read_load(scenario: &mut Scenario, file: &File, problems: &mut Vec<Problem>) {
    if let Some(arrivals) = &file.load.arrivals {
        let folder = scenario.path.parent().unwrap_or(Path::new(""));
        match Pattern::parse(arrivals.get_ref(), folder) {
            Ok(_) => scenario.arrivals = Some(arrivals.get_ref().clone()),
            Err(why) => problems.push(Problem::new(why, arrivals.span())),
        }
    }
    for text in &file.load.thresholds {
        match Threshold::parse(text.get_ref()) {
            Ok(threshold) => scenario.thresholds.push(threshold),
            Err(why) => problems.push(Problem::new(why, text.span())),
        }
    }
}

fn known_workload(file: &File, workloads: &[&str], problems: &mut Vec<Problem>) {
    let name = file.workload.get_ref();
    if !workloads.contains(&name.as_str()) {
        problems.push(Problem::unknown(
            "workload",
            name,
            workloads,
            file.workload.span(),
        ));
    }
}

fn fill(scenario: &mut Scenario, file: &File, problems: &mut Vec<Problem>) {
    let mut positive = |value: &Spanned<u32>, name: &str| {
        if *value.get_ref() == 0 {
            problems.push(Problem::new(
                format!("`{name}` is at least 1"),
                value.span(),
            ));
        }
        *value.get_ref()
    };
    let p = &file.processes;
    scenario.messages = positive(&file.messages, "messages");
    for (target, value, name) in [
        (&mut scenario.seeds, &file.seeds, "seeds"),
        (&mut scenario.time_scale, &file.time_scale, "time-scale"),
        (&mut scenario.clients, &p.clients, "clients"),
        (&mut scenario.relays, &p.relays, "relays"),
        (&mut scenario.worker_processes, &p.workers, "workers"),
    ] {
        if let Some(value) = value {
            *target = positive(value, name);
        }
    }
    scenario.question.clone_from(file.question.get_ref());
    scenario.over = file.over.map_or(scenario.over, |over| over.0);
    scenario.settle = file.settle.map(|settle| settle.0);
    scenario.restart_after = p
        .restart_after
        .map_or(scenario.restart_after, |after| after.0);
    scenario.broker = file.broker.map_or(scenario.broker, |broker| broker.0);
    scenario.database = file.database.map_or(scenario.database, |kind| kind.0);
    scenario.queue_type = file.queue_type.map_or(scenario.queue_type, |kind| kind.0);
    scenario.swarm = file.swarm;
    scenario.seed = file.seed.map(|seed| seed.0);
    scenario.only = file
        .only
        .iter()
        .map(|key| Arc::from(key.as_str()))
        .collect();
    scenario.poison = Poison {
        poison: file.poison.poison,
        killer: file.poison.killer,
        unknown_version: file.poison.unknown_version,
        transient: file.poison.transient,
        panics: file.poison.panics,
        malformed: file.poison.malformed,
    };
    let poison = scenario.poison;
    let spoilt = [
        poison.poison,
        poison.killer,
        poison.unknown_version,
        poison.transient,
        poison.panics,
    ];
    if spoilt.iter().map(|n| u64::from(*n)).sum::<u64>() > u64::from(scenario.messages) {
        let what = "more messages are poison than there are";
        problems.push(Problem::new(what, file.messages.span()).help("see [poison]"));
    }
    if file.question.get_ref().trim().is_empty() {
        let what = "a scenario answers a question";
        problems.push(Problem::new(what, file.question.span()).label("empty"));
    }
}

fn read_faults(scenario: &mut Scenario, file: &File, problems: &mut Vec<Problem>) {
    let until = file.faults_until.as_ref();
    for table in &file.faults {
        match fault::read(table) {
            Ok(Fault::ByChance(rule)) => scenario.rules.push(rule),
            Ok(Fault::AtATime(event)) => {
                let at = Duration::from_nanos(event.at);
                if let Some(until) = until.filter(|until| at >= until.get_ref().0)
                    && let Some(place) = &table.get_ref().at
                {
                    let what = "this fault would begin after all faults have healed";
                    let healed = super::format_duration(until.get_ref().0);
                    problems.push(
                        Problem::new(what, place.span()).help(format!("faults-until is {healed}")),
                    );
                }
                scenario.events.push(event);
            }
            Err(mut found) => problems.append(&mut found),
        }
    }
    if file.swarm && file.faults.is_empty() {
        let what = "`swarm` has no faults to draw from";
        problems.push(Problem::new(what, file.question.span()).label("in this scenario"));
    }
    scenario.faults_until = until.map_or_else(|| scenario.last_fault(), |until| until.get_ref().0);
}

fn read_policy(scenario: &mut Scenario, file: &File, problems: &mut Vec<Problem>) {
    scenario.policy = file.policy.policy();
    scenario.allow = file.allow.iter().map(|check| check.get_ref().0).collect();
    let contradictions = scenario.policy.contradictions();
    for contradiction in &contradictions {
        let check = contradiction.check;
        if scenario.allow.contains(&check) {
            continue;
        }
        let span = file.policy.place(check).unwrap_or(file.workload.span());
        problems.push(
            Problem::new(contradiction.to_string(), span)
                .label("contradicts")
                .help(format!(
                    "change one of the two; a scenario that wants this says allow = [\"{}\"]",
                    check.as_str()
                )),
        );
    }
    for allowed in &file.allow {
        let check = allowed.get_ref().0;
        if !contradictions.iter().any(|found| found.check == check) {
            problems.push(
                Problem::new(
                    format!("nothing contradicts `{}`", check.as_str()),
                    allowed.span(),
                )
                .label("not needed")
                .help("leave it out, so that a contradiction of tomorrow is seen"),
            );
        }
    }
}

fn service(name: &str, table: &ServiceTable, problems: &mut Vec<Problem>) -> ServiceOverride {
    let latency = table.latency.as_ref().map(|latency| {
        let l = latency.get_ref();
        let quantiles = [l.min.0, l.median.0, l.p95.0, l.max.0];
        if !quantiles.is_sorted() {
            let what = "these quantiles do not rise";
            problems.push(Problem::new(what, latency.span()).help("min ≤ median ≤ p95 ≤ max"));
        }
        quantiles
    });
    let mut alone = |span: Range<usize>, missing: &str| {
        let what = "a cold start has a probability and a length";
        problems.push(Problem::new(what, span).help(format!("add `{missing}`")));
    };
    let cold_starts = match (&table.cold_starts, &table.cold_start_takes) {
        (Some(share), Some(takes)) => Some((share.get_ref().0, takes.get_ref().0)),
        (Some(share), None) => {
            alone(share.span(), "cold-start-takes");
            None
        }
        (None, Some(takes)) => {
            alone(takes.span(), "cold-starts");
            None
        }
        (None, None) => None,
    };
    ServiceOverride {
        name: name.to_owned(),
        latency,
        cold_starts,
        honours_keys: table.honours_keys,
        checks_tokens: table.checks_tokens,
    }
}

fn expect(table: &ExpectTable, scenario: &Scenario, problems: &mut Vec<Problem>) -> Expect {
    let verdict = table
        .verdict
        .as_ref()
        .map_or(Verdict::Valid, |v| v.get_ref().0);
    let anomalies = table.anomalies.as_ref().map(|a| a.get_ref().clone());
    let anomalies = anomalies.unwrap_or_default();
    match (&table.verdict, &table.anomalies) {
        (Some(place), _) if verdict == Verdict::Violated && anomalies.is_empty() => problems.push(
            Problem::new("`violated` does not say by what", place.span())
                .help("for example: anomalies = [\"lost\"]"),
        ),
        (_, Some(place)) if verdict == Verdict::Valid => problems.push(
            Problem::new("anomalies are expected of a valid scenario", place.span())
                .help("add verdict = \"violated\", or leave them out"),
        ),
        _ => {}
    }
    let reached = table.reached.as_deref().unwrap_or_default();
    for reach in reached {
        if let Some(kind) = reach.get_ref().0.kind()
            && !has(scenario, kind)
        {
            let what = format!("this scenario has no fault `{}`", kind.as_str());
            problems.push(Problem::new(what, reach.span()).label("can never be reached"));
        }
    }
    let dead_letters = table.dead_letters.as_ref().map(|range| {
        let (min, max) = (range.get_ref().min, range.get_ref().max);
        if min > max {
            problems.push(Problem::new("`min` is above `max`", range.span()));
        }
        (min, max)
    });
    Expect {
        verdict,
        anomalies,
        reached: reached.iter().map(|reach| reach.get_ref().0).collect(),
        second_pickups: table.second_pickups.iter().map(|m| m.0.as_str()).collect(),
        dead_letters,
        max_second_pickups: table.max_second_pickups,
        max_publishes_per_event: table.max_publishes_per_event,
        max_redeliveries: table.max_redeliveries,
        max_deliveries: table.max_deliveries,
        invariants: Vec::new(),
        no_rows: table
            .no_rows
            .iter()
            .map(|sql| Arc::from(sql.get_ref().as_str()))
            .collect(),
    }
}

fn has(scenario: &Scenario, kind: Kind) -> bool {
    scenario.rules.iter().any(|rule| rule.kind == kind)
        || scenario.events.iter().any(|event| event.kind == kind)
}
