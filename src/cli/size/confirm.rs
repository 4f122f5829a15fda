//! The chosen numbers in the whole simulated pipeline, beside what the model says of them.

use rayon::prelude::*;
use serde_json::{Value as Json, json};

use super::{finite, share, time};
use crate::cli::out::Out;
use redeliver_harness::registry::Registered;
use redeliver_harness::scenario::{Scenario, format_duration};
use redeliver_harness::size::Question;
use redeliver_harness::size::confirm::{
    Measured, Part, PartOf, confirmation, measure, over, parts, quantile,
};
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
    runs: usize,
    /// Runs that were not valid: seed, part and why.
    broken: Vec<String>,
    rows: Vec<Row>,
}

/// One figure of both.
struct Row {
    name: String,
    model: Estimate,
    pipeline: Estimate,
    show: fn(f64) -> String,
}

impl Row {
    /// Whether both say the same, as far as they know.
    fn agrees(&self) -> bool {
        let apart = (self.model.mean - self.pipeline.mean).abs();
        let near = NEAR * self.model.mean.abs().max(self.pipeline.mean.abs());
        apart <= near || apart <= self.model.half + self.pipeline.half
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
            "runs": self.runs,
            "broken": self.broken,
            "agrees": self.agrees(),
            "figures": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }

    pub(super) fn tell(&self, out: &mut Out) {
        let valid = self.runs - self.broken.len();
        out.line(&format!(
            "confirmed by the whole pipeline in the seeded world: {valid} of {} runs are valid",
            self.runs
        ));
        self.broken.iter().for_each(|line| out.line(line));
        out.line(&format!("{:<44} {:>20} {:>20}", "", "model", "pipeline"));
        for row in &self.rows {
            let with = |it: Estimate| match it.half.is_finite() && it.half > 0.0 {
                true => format!("{} ± {}", (row.show)(it.mean), (row.show)(it.half)),
                false => (row.show)(it.mean),
            };
            let differs = if row.agrees() { "" } else { "  differs" };
            out.line(&format!(
                "{:<44} {:>20} {:>20}{differs}",
                row.name,
                with(row.model),
                with(row.pipeline)
            ));
        }
        out.line("");
    }
}

/// Runs a setting in the whole pipeline; says why that cannot be done.
pub(super) fn confirm(
    question: &Question,
    scenario: &Scenario,
    workload: &Registered,
    setting: &Setting,
    seed: u64,
) -> Result<Confirmed, String> {
    if let Queue::Managed { .. } = setting.queue {
        return Err("the pipeline runs on RabbitMQ, not on a managed queue".to_owned());
    }
    if (workload.postgres)().is_some() {
        return Err("its runs need a PostgreSQL of their own, which takes too long".to_owned());
    }
    let to = confirmation(
        question,
        scenario,
        &(workload.services)(),
        workload.simulate,
    )
    .map_err(|why| why.to_string())?;
    let parts = parts(question, scenario, &to, setting);
    let all: Vec<(usize, u64)> = (0..parts.len())
        .flat_map(|part| (0..SEEDS).map(move |run| (part, seed.wrapping_add(run))))
        .collect();
    let made: Vec<(usize, Measured, Option<String>)> = all
        .par_iter()
        .map(|(at, seed)| {
            let part = &parts[*at];
            let run = (workload.simulate)(&part.scenario, *seed, true);
            let limit = part.setting.policy.consumer.handler_limit;
            let measured = measure(&run.history, &to.consumer, limit, part.outage);
            let broken = (run.verdict != Verdict::Valid).then(|| {
                let why = run.anomalies.first().map(|it| it.seen.clone());
                let why = why.or(run.inconclusive.clone()).unwrap_or_default();
                format!(
                    "  {}, seed {seed}: {}: {why}",
                    named(part),
                    run.verdict.as_str()
                )
            });
            (*at, measured, broken)
        })
        .collect();
    let broken = made.iter().filter_map(|it| it.2.clone()).collect();
    let mut rows = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let runs: Vec<Measured> = made
            .iter()
            .filter(|it| it.0 == at)
            .map(|it| it.1.clone())
            .collect();
        compare(part, &to.case, &runs, seed, &mut rows);
    }
    Ok(Confirmed {
        runs: made.len(),
        broken,
        rows,
    })
}

fn named(part: &Part) -> String {
    match part.of {
        PartOf::Calm => "calm".to_owned(),
        PartOf::Crashes => "crashes".to_owned(),
        PartOf::Outage(kind) => format!(
            "outage of {}",
            format_duration(std::time::Duration::from_secs_f64(kind.lasts))
        ),
    }
}

fn compare(part: &Part, case: &Case, runs: &[Measured], seed: u64, rows: &mut Vec<Row>) {
    let case = Case {
        rate: part.rate,
        outages: match part.of {
            PartOf::Outage(kind) => vec![kind],
            _ => Vec::new(),
        },
        crashes_per_day: match part.of {
            PartOf::Crashes => case.crashes_per_day,
            _ => 0.0,
        },
        deploys_per_day: 0.0,
        ..case.clone()
    };
    let chances = Chances::new(&case, part.setting.processes, 60_000, seed);
    let model: Expected = chances.evaluate(&case, &part.setting);
    let mut row = |name: &str,
                   show: fn(f64) -> String,
                   model: Estimate,
                   of: &dyn Fn(&Measured) -> Option<f64>| {
        if let Some(pipeline) = over(runs, of) {
            let name = name.to_owned();
            rows.push(Row {
                name,
                model,
                pipeline,
                show,
            });
        }
    };
    let of_messages = |count: u64, it: &Measured| Some(count as f64 / it.messages.max(1) as f64);
    let mean = |values: &[f64]| {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    match part.of {
        PartOf::Calm => {
            row(
                "taken back from a live handler by a timeout",
                share,
                model.taken_back,
                &|it| of_messages(it.redelivered, it),
            );
            row(
                "cut off at the handler limit, and run again",
                share,
                model.cut_off,
                &|it| of_messages(it.cut_off, it),
            );
            row(
                "run again beside a handler that still runs",
                share,
                model.beside,
                &|it| of_messages(it.beside, it),
            );
            row("dead letters, calm", share, model.dead, &|it| {
                of_messages(it.dead, it)
            });
            row("mean wait for a worker", time, model.wait, &|it| {
                mean(&it.waits)
            });
            for (name, at, part) in [("p50", 0, 0.5), ("p95", 1, 0.95), ("p99", 2, 0.99)] {
                let name = format!("arrival to effect, {name}");
                row(&name, time, model.times[at], &|it| {
                    quantile(&it.times, part)
                });
            }
        }
        PartOf::Crashes => {
            if let Some(recovery) = model.recovery {
                row("recovery after a crash, p95", time, recovery, &|it| {
                    quantile(&it.recovered, 0.95)
                });
            }
        }
        PartOf::Outage(_) => {
            let name = named(part);
            let Some(seen) = model.outages.first() else {
                return;
            };
            let of_arrivals = |count: u64, it: &Measured| {
                Some(count as f64 / it.arrivals_in_outage.max(1) as f64)
            };
            row(
                &format!("dead letters of those in an {name}"),
                share,
                seen.dead,
                &|it| of_arrivals(it.dead, it),
            );
            row(
                &format!("tries of each in an {name}"),
                times,
                seen.tries,
                &|it| of_arrivals(it.tries_in_outage, it),
            );
        }
    }
}

fn times(value: f64) -> String {
    format!("{value:.2}")
}
