//! A run beside an earlier one: whether it became slower.

use std::path::PathBuf;

use serde_json::{Value, json};

use redeliver_harness::load::baseline::{Compared, compare};
use redeliver_harness::load::check::Checked;
use redeliver_harness::registry::Registered;
use redeliver_harness::verdict::{Anomaly, Verdict};
use redeliver_harness::watch::file::Start;

/// An earlier run to compare with.
#[derive(Debug, clap::Args)]
pub(super) struct Against {
    /// Fail if the run is slower than an earlier one of the same scenario and rate: its history
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// How much slower it may be, in percent
    #[arg(
        long,
        value_name = "PERCENT",
        default_value = "3",
        requires = "baseline"
    )]
    tolerance: f64,
}

/// The earlier run.
pub(super) struct Baseline {
    path: PathBuf,
    tolerance: f64,
    checked: Checked,
}

/// Both runs side by side.
#[derive(Debug)]
pub(super) struct Beside {
    path: PathBuf,
    commit: String,
    pub(super) compared: Vec<(Compared, bool)>,
}

impl Against {
    /// Reads the earlier run.
    ///
    /// # Errors
    /// It cannot be read, is of another workload, or proves nothing itself.
    pub(super) fn read(&self, workload: &Registered) -> Result<Option<Baseline>, String> {
        let Some(path) = &self.baseline else {
            return Ok(None);
        };
        let wrong = |why: &dyn std::fmt::Display| format!("--baseline {}: {why}", path.display());
        if !self.tolerance.is_finite() || self.tolerance < 0.0 {
            return Err("--tolerance is a share in percent, 0 or more".to_owned());
        }
        let start = redeliver_harness::load::check::start_of(path).map_err(|why| wrong(&why))?;
        if start.workload != workload.name {
            let (its, ours) = (&start.workload, workload.name);
            return Err(wrong(&format!("it is a run of {its}, not of {ours}")));
        }
        let checked = (workload.check)(path).map_err(|why| wrong(&why))?;
        let judgement = checked.judgement();
        if judgement.verdict == Verdict::Inconclusive {
            let why = judgement.why().unwrap_or_default();
            return Err(wrong(&format!("it proves nothing: {why}")));
        }
        Ok(Some(Baseline {
            path: path.clone(),
            tolerance: self.tolerance / 100.0,
            checked,
        }))
    }
}

/// What differs between two runs that were to be the same.
fn differs(before: &Start, now: &Start) -> Option<String> {
    if before.rate != now.rate {
        let rate = |start: &Start| redeliver_harness::load::offer::Rate(start.rate);
        let (before, now) = (rate(before), rate(now));
        return Some(format!("it offered {before}, this run {now}"));
    }
    if before.pattern != now.pattern {
        return Some("its requests came in another pattern".to_owned());
    }
    (before.text != now.text || before.classic_queues != now.classic_queues)
        .then(|| "its scenario says something else".to_owned())
}

impl Baseline {
    /// Compares a run with it. One that is slower is violated, one that cannot be compared is
    /// inconclusive.
    pub(super) fn compare(&self, run: &mut Checked) -> Option<Beside> {
        let before = &self.checked.figures;
        let compared = match differs(&before.start, &run.figures.start) {
            Some(why) => Err(why),
            None => compare(before, &run.figures),
        };
        let compared = match compared {
            Ok(compared) => compared,
            Err(why) => {
                let why = format!("not compared with {}: {why}", self.path.display());
                run.result.inconclusive.get_or_insert(why);
                run.result.judge();
                return None;
            }
        };
        let compared: Vec<_> = compared
            .into_iter()
            .map(|it| (it.is_slower(self.tolerance), it))
            .map(|(slower, it)| (it, slower))
            .collect();
        // A run that proves nothing proves no slowness.
        if run.result.inconclusive.is_none() {
            for (it, _) in compared.iter().filter(|(_, slower)| *slower) {
                let promise = "The run is not slower than its baseline.";
                let slower = Anomaly::broken("baseline", promise, it.describe());
                run.result.anomalies.push(slower);
            }
        }
        run.result.judge();
        Some(Beside {
            path: self.path.clone(),
            commit: before.start.commit.clone(),
            compared,
        })
    }
}

impl Beside {
    /// For programs.
    pub(super) fn json(&self) -> Value {
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let metrics = self.compared.iter().map(|(it, slower)| {
            json!({
                "metric": it.metric,
                "before_ms": ms(it.before),
                "now_ms": ms(it.now),
                "change": it.change,
                "between": [it.between.0, it.between.1],
                "slower": slower,
            })
        });
        json!({
            "file": self.path.display().to_string(),
            "commit": self.commit,
            "metrics": metrics.collect::<Vec<_>>(),
        })
    }
}
