//! The chosen numbers in the whole simulated pipeline, beside what the model says of them.

use std::time::Duration;

use rayon::prelude::*;
use serde_json::{Value as Json, json};

use super::json::finite;
use super::tell::length;
use crate::cli::out::{self, Out};
use redeliver_harness::registry::Registered;
use redeliver_harness::run::{LiveOptions, RunResult, live_name};
use redeliver_harness::scenario::{Scenario, format_duration};
use redeliver_harness::size::Question;
use redeliver_harness::size::confirm::{
    Confirmation, Layers, Measured, Part, PartOf, confirmation, measure, over, parts, quantile,
};
use redeliver_harness::size::words::{share, time, with};
use redeliver_harness::verdict::Verdict;
use redeliver_sizing::case::Case;
use redeliver_sizing::evaluate::{Chances, Expected};
use redeliver_sizing::interval::Estimate;
use redeliver_sizing::model::{Queue, Setting};

/// Runs of each part.
const SEEDS: u64 = 6;
/// A figure of the model may be off by this much of what the pipeline shows.
const NEAR: f64 = 0.1;

/// What the whole pipeline shows.
pub(super) struct Confirmed {
    place: &'static str,
    runs: usize,
    /// Runs that were not valid: seed, part and why.
    broken: Vec<String>,
    rows: Vec<Row>,
    /// What each layer repeats, by part.
    layers: Vec<(String, Layers)>,
}

/// One figure of both.
struct Row {
    name: String,
    model: Estimate,
    pipeline: Estimate,
    /// A smaller difference is none.
    floor: f64,
    show: fn(f64) -> String,
}

impl Row {
    /// Whether both say the same, as far as they know.
    fn agrees(&self) -> bool {
        let apart = (self.model.mean - self.pipeline.mean).abs();
        let near = NEAR * self.model.mean.abs().max(self.pipeline.mean.abs());
        apart <= near.max(self.floor) || apart <= self.model.half + self.pipeline.half
    }
}

impl Confirmed {
    /// Whether every run was valid, and both say the same.
    pub(super) fn agrees(&self) -> bool {
        self.broken.is_empty() && self.rows.iter().all(Row::agrees)
    }

    pub(super) fn json(&self) -> Json {
        let row = |row: &Row| {
            let ends = |it: Estimate| [finite(it.ends().0), finite(it.ends().1)];
            json!({
                "figure": row.name,
                "model": finite(row.model.mean),
                "model_95": ends(row.model),
                "pipeline": finite(row.pipeline.mean),
                "pipeline_95": ends(row.pipeline),
                "agrees": row.agrees(),
            })
        };
        json!({
            "place": self.place,
            "runs": self.runs,
            "broken": self.broken,
            "agrees": self.agrees(),
            "figures": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }

    /// What each layer repeats, by part.
    pub(super) fn layers(&self) -> Vec<(String, Layers)> {
        self.layers.clone()
    }

    /// Each figure in words: its name, the model's, the pipeline's, and whether they agree.
    pub(super) fn rows(&self) -> Vec<(String, String, String, bool)> {
        let rows = self.rows.iter().map(|row| {
            let (model, pipeline) = (with(row.model, &row.show), with(row.pipeline, &row.show));
            (row.name.clone(), model, pipeline, row.agrees())
        });
        rows.collect()
    }

    pub(super) fn tell(&self, out: &mut Out) {
        let valid = self.runs - self.broken.len();
        out.line(&format!(
            "compared with {}: {valid} of {} runs are valid",
            self.place, self.runs
        ));
        self.broken.iter().for_each(|line| out.line(line));
        out.line(&format!("{:<44} {:>20} {:>20}", "", "model", "pipeline"));
        for (name, model, pipeline, agrees) in self.rows() {
            let differs = if agrees { "" } else { "  differs" };
            out.line(&format!("{name:<44} {model:>20} {pipeline:>20}{differs}"));
        }
        out.line("");
    }
}

/// Where the whole pipeline runs.
pub(super) enum Place<'a> {
    /// In the seeded world, each part with several seeds.
    Seeded,
    /// On real servers, each part once.
    Servers(&'a LiveOptions),
}

/// Runs a setting in the whole pipeline; says why that cannot be done.
pub(super) fn confirm(
    question: &Question,
    scenario: &Scenario,
    workload: &Registered,
    setting: &Setting,
    (place, seed): (&Place<'_>, u64),
) -> Result<Confirmed, String> {
    match setting.queue {
        Queue::RabbitMq { .. } => {}
        Queue::Managed { .. } => {
            return Err("the pipeline runs on RabbitMQ, not on a managed queue".to_owned());
        }
        Queue::DelayedRetry { .. } => {
            return Err("the pipeline delays retries itself, and not in its queue".to_owned());
        }
    }
    if (workload.postgres)().is_some() && matches!(place, Place::Seeded) {
        return Err("its runs need a PostgreSQL of their own, which takes too long".to_owned());
    }
    let services = (workload.services)();
    let to = confirmation(question, scenario, &services, workload.simulate);
    let to = to.map_err(|why| why.to_string())?;
    let parts = parts(question, scenario, &to, setting);
    let made = match place {
        Place::Seeded => seeded(&parts, workload, &to, seed),
        Place::Servers(options) => on_servers(&parts, workload, &to, options)?,
    };
    let broken = made.iter().filter_map(|it| it.broken.clone()).collect();
    // A hop takes its real time also where everything else is made shorter.
    let scale = match place {
        Place::Seeded => 1.0,
        Place::Servers(_) => f64::from(scenario.time_scale),
    };
    let case = Case {
        hop: to.case.hop * scale,
        ..to.case.clone()
    };
    let mut rows = Vec::new();
    let mut layers = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let runs = made.iter().filter(|it| it.part == at);
        let runs: Vec<Measured> = runs.map(|it| it.measured.clone()).collect();
        if !runs.is_empty() {
            let all = runs.iter().map(|it| it.layers);
            layers.push((named(part), all.fold(Layers::default(), Layers::and)));
            compare(part, &case, &runs, seed, &mut rows);
        }
    }
    Ok(Confirmed {
        place: match place {
            Place::Seeded => "the whole pipeline in the seeded world",
            Place::Servers(_) => "the whole pipeline on real servers",
        },
        runs: made.len(),
        broken,
        rows,
        layers,
    })
}

/// A run of a part.
struct Made {
    part: usize,
    measured: Measured,
    broken: Option<String>,
}

impl Made {
    fn of((at, part): (usize, &Part), measured: Measured, run: &RunResult, seed: u64) -> Self {
        let broken = (run.verdict != Verdict::Valid).then(|| {
            let why = run.anomalies.first().map(|it| it.seen.clone());
            let why = why.or(run.inconclusive.clone()).unwrap_or_default();
            let verdict = run.verdict.as_str();
            format!("  {}, seed {seed}: {verdict}: {why}", named(part))
        });
        Self {
            part: at,
            measured,
            broken,
        }
    }
}

fn seeded(parts: &[Part], workload: &Registered, to: &Confirmation, seed: u64) -> Vec<Made> {
    let all: Vec<(usize, u64)> = (0..parts.len())
        .flat_map(|part| (0..SEEDS).map(move |run| (part, seed.wrapping_add(run))))
        .collect();
    let made = all.par_iter().map(|(at, seed)| {
        let part = &parts[*at];
        let run = (workload.simulate)(&part.scenario, *seed, true);
        let limit = part.setting.policy.consumer.handler_limit;
        let measured = measure(&run.history, to.observed(), limit, &part.outages);
        Made::of((*at, part), measured, &run, *seed)
    });
    made.collect()
}

/// Each part once, in real time divided by the scenario's `time-scale`; what was measured is multiplied
/// by it again.
fn on_servers(
    parts: &[Part],
    workload: &Registered,
    to: &Confirmation,
    options: &LiveOptions,
) -> Result<Vec<Made>, String> {
    let mut made = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        // What they repeat is seen in the seeded world; real servers are asked for figures.
        if part.of == PartOf::Faults {
            continue;
        }
        let scale = part.scenario.time_scale;
        let lasts = part.scenario.over / scale;
        out::complain(&format!(
            "{}: {} requests in {} on real servers",
            named(part),
            part.scenario.messages,
            format_duration(Duration::from_secs(lasts.as_secs()))
        ));
        let options = LiveOptions {
            name: live_name(),
            ..options.clone()
        };
        let report =
            (workload.run_live)(&part.scenario, &options).map_err(|why| why.to_string())?;
        if let Some(left) = &report.left_behind {
            out::complain(left);
        }
        if report.stopped {
            return Err("it was stopped".to_owned());
        }
        let scale = f64::from(scale);
        let limit = part.setting.policy.consumer.handler_limit.div_f64(scale);
        let outages = part.outages.iter();
        let outages: Vec<_> = outages
            .map(|(from, until)| (from / scale, until / scale))
            .collect();
        let history = &report.history;
        let measured = measure(history, to.observed(), limit, &outages).times(scale);
        made.push(Made::of((at, part), measured, &report.result, options.seed));
    }
    Ok(made)
}

fn named(part: &Part) -> String {
    match part.of {
        PartOf::Calm => "calm".to_owned(),
        PartOf::Crashes => "crashes".to_owned(),
        PartOf::Outage(ref kind) => format!("outage of {}", length(kind)),
        PartOf::Faults => "1 call in 10 fails".to_owned(),
    }
}

fn compare(part: &Part, case: &Case, runs: &[Measured], seed: u64, rows: &mut Vec<Row>) {
    let case = Case {
        rate: part.rate,
        outages: match &part.of {
            PartOf::Outage(kind) => vec![kind.clone()],
            _ => Vec::new(),
        },
        crashes_per_day: match part.of {
            PartOf::Crashes => case.crashes_per_day,
            _ => 0.0,
        },
        deploys_per_day: 0.0,
        ..case.clone()
    };
    if part.of == PartOf::Faults {
        return;
    }
    let chances = Chances::new(&case, part.setting.processes, 60_000, seed);
    let model: Expected = chances.evaluate(&case, &part.setting);
    let mut row = |name: &str, show: fn(f64) -> String, model: Estimate, of: Figure<'_>| {
        if let Some(pipeline) = of.over(runs) {
            let name = name.to_owned();
            // The time of a hop is a guess, and all times have some of it.
            let floor = match of {
                Figure::Time(_) => case.hop,
                Figure::Share(..) => 0.0,
            };
            rows.push(Row {
                name,
                model,
                pipeline,
                floor,
                show,
            });
        }
    };
    let of_messages = |count: fn(&Measured) -> u64| Figure::Share(count, |it| it.messages);
    match part.of {
        PartOf::Calm => {
            for (name, model, count) in [
                (
                    "taken back from a live handler by a timeout",
                    model.taken_back,
                    (|it| it.redelivered) as fn(&Measured) -> u64,
                ),
                (
                    "cut off at the handler limit, and run again",
                    model.cut_off,
                    |it| it.cut_off,
                ),
                (
                    "run again beside a handler that still runs",
                    model.beside,
                    |it| it.beside,
                ),
                ("dead letters, calm", model.dead, |it| it.dead),
            ] {
                row(name, share, model, of_messages(count));
            }
            let wait = Figure::Time(&|it| mean(&it.waits));
            row("mean wait for a worker", time, model.wait, wait);
            for (name, at, part) in [("p50", 0, 0.5), ("p95", 1, 0.95), ("p99", 2, 0.99)] {
                let name = format!("arrival to effect, {name}");
                let of = |it: &Measured| quantile(&it.times, part);
                row(&name, time, model.times[at], Figure::Time(&of));
            }
        }
        PartOf::Crashes => {
            if let Some(recovery) = model.recovery {
                let of = Figure::Time(&|it| quantile(&it.recovered, 0.95));
                row("recovery after a crash, p95", time, recovery, of);
            }
        }
        PartOf::Faults => {}
        PartOf::Outage(_) => {
            let name = named(part);
            let Some(seen) = model.outages.first() else {
                return;
            };
            let of_arrivals =
                |count: fn(&Measured) -> u64| Figure::Share(count, |it| it.arrivals_in_outage);
            let dead = format!("dead letters of those in an {name}");
            row(&dead, share, seen.dead, of_arrivals(|it| it.dead));
            let tries = format!("tries of each in an {name}");
            row(
                &tries,
                times,
                seen.tries,
                of_arrivals(|it| it.tries_in_outage),
            );
        }
    }
}

/// How a figure is read off runs.
enum Figure<'a> {
    /// A count among another one.
    Share(fn(&Measured) -> u64, fn(&Measured) -> u64),
    /// A time of each run.
    Time(&'a dyn Fn(&Measured) -> Option<f64>),
}

impl Figure<'_> {
    /// Over several runs, or over one by parts of it.
    fn over(&self, runs: &[Measured]) -> Option<Estimate> {
        match (self, runs) {
            (Self::Share(count, of), [one]) => Some(Estimate::of_count(count(one), of(one))),
            (Self::Share(count, of), _) => {
                let counts = runs.iter().map(|it| (count(it), of(it)));
                Some(Estimate::of_share(&counts.collect::<Vec<_>>()))
            }
            (Self::Time(of), [one]) => over(&one.by_parts(), of),
            (Self::Time(of), _) => over(runs, of),
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn times(value: f64) -> String {
    format!("{value:.2}")
}
