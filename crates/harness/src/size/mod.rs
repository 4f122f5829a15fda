//! From a scenario to the question that `redeliver size` answers.

pub mod confirm;
pub mod words;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use redeliver_sizing::case::{Case, OutageKind, Targets};
use redeliver_sizing::latency::{Invalid, Latency};
use redeliver_sizing::model::{Backoff, Dependency, Queue, Setting};
use redeliver_sizing::number::Number;

use crate::load::figures::Figures;
use crate::scenario::{Scenario, Size, Times};
use crate::team::workload::ServiceModel;
use crate::watch::file::{Record, Records};
use crate::watch::legs::Leg;
use redeliver_core::topology::Topology;

/// What is asked about a scenario.
#[derive(Clone, Debug)]
pub struct Question {
    /// What happens, and what is asked.
    pub case: Case,
    /// The present numbers.
    pub present: Setting,
    /// Numbers that keep their values.
    pub fixed: Vec<Number>,
    /// What the scenario says and what it leaves to the defaults.
    pub size: Size,
    /// The service whose times the handler has; none where the scenario says them.
    pub service: Option<String>,
}

/// Why there is nothing to size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclear(String);

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unclear {}

impl From<Invalid> for Unclear {
    fn from(why: Invalid) -> Self {
        Self(why.to_string())
    }
}

fn unclear<T>(why: impl Into<String>) -> Result<T, Unclear> {
    Err(Unclear(why.into()))
}

/// The question of a scenario, whose workload has these services and this topology.
///
/// # Errors
/// It does not say how long the handler takes, or a file that says so cannot be read.
pub fn question(
    scenario: &Scenario,
    services: &[ServiceModel],
    topology: &Topology,
) -> Result<Question, Unclear> {
    let size = scenario.size.as_deref().cloned().unwrap_or_default();
    let (handler, service) = match size.handler.is_empty() {
        true => {
            let (handler, service) = of_service(scenario, services, size.service.as_deref())?;
            (handler, Some(service))
        }
        false => {
            let folder = scenario.path.parent().unwrap_or(Path::new(""));
            let parts = size
                .handler
                .iter()
                .map(|(share, times)| Ok((part(*share), latency(times, folder, topology)?)));
            let parts = parts.collect::<Result<Vec<_>, Unclear>>()?;
            (Latency::mixture(parts)?, None)
        }
    };
    let rate = match size.rate {
        Some(rate) => rate.per_second(),
        None => f64::from(scenario.messages) / scenario.over.as_secs_f64().max(1e-9),
    };
    let asked = &size.targets;
    let quantile = part(asked.quantile);
    let within = match asked.within {
        Some(within) => within.as_secs_f64(),
        None => (1.5 * handler.quantile(quantile)).max(1.0),
    };
    let a_day = |every: Option<Duration>| every.map_or(0.0, |it| DAY / it.as_secs_f64());
    let outages = size.outages.iter().map(|(lasts, every)| OutageKind {
        lasts: lasts.as_secs_f64(),
        per_day: a_day(Some(*every)),
    });
    let case = Case {
        rate,
        handler,
        fails: part(size.failures),
        outages: outages.collect(),
        fails_after: size.fails_after.map(|it| it.as_secs_f64()),
        crashes_per_day: a_day(size.crash_every),
        deploys_per_day: a_day(size.deploy_every),
        restart_after: scenario.restart_after.as_secs_f64(),
        dependency: match size.service_takes {
            Some(rate) => Dependency::Rate(rate.per_second()),
            None => Dependency::Unlimited,
        },
        targets: Targets {
            duplicates: part(asked.duplicates),
            dead_letters: part(asked.dead_letters),
            recovery: asked.recovery.as_secs_f64(),
            amplification: f64::from(asked.amplification) / 1e3,
            quantile,
            within,
        },
    };
    let nanos = redeliver_core::ports::env::nanos;
    let queue = match size.managed {
        None => Queue::RabbitMq {
            tick: nanos(size.tick),
        },
        Some(managed) => Queue::Managed {
            visibility: nanos(managed.visibility),
            extend_every: managed.extend_every.map(nanos),
            receives: managed.receives,
        },
    };
    Ok(Question {
        case,
        present: Setting {
            processes: scenario.worker_processes,
            policy: scenario.policy.clone(),
            queue,
            backoff: Backoff::Ladder,
        },
        fixed: size.fixed.clone(),
        size,
        service,
    })
}

const DAY: f64 = 86_400.0;

/// Millionths as a share.
fn part(millionths: u32) -> f64 {
    f64::from(millionths) / 1e6
}

/// The times of a service, as the scenario wants it: the slowest where none is named.
fn of_service(
    scenario: &Scenario,
    services: &[ServiceModel],
    named: Option<&str>,
) -> Result<(Latency, String), Unclear> {
    let mut found: Vec<(Latency, &str)> = Vec::new();
    for service in services {
        let over = scenario
            .services
            .iter()
            .find(|over| over.name == service.name);
        let latency = over.and_then(|it| it.latency).unwrap_or(service.latency);
        let (cold, takes) = over
            .and_then(|it| it.cold_starts)
            .unwrap_or(service.cold_starts);
        let shares = [0.0, 0.5, 0.95, 1.0];
        let quantiles: Vec<_> = shares
            .into_iter()
            .zip(latency.map(|it| it.as_secs_f64()))
            .collect();
        let warm = Latency::quantiles(&quantiles)?;
        let cold_start = Latency::fixed(takes.as_secs_f64())?;
        let parts = vec![(part(cold), cold_start), (1.0 - part(cold), warm)];
        found.push((Latency::mixture(parts)?, service.name));
    }
    let names = || {
        services
            .iter()
            .map(|it| it.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    match named {
        Some(named) => match found.into_iter().find(|(_, name)| *name == named) {
            Some((latency, name)) => Ok((latency, name.to_owned())),
            None => unclear(format!(
                "[size] service = \"{named}\": the workload has no such service, but: {}",
                names()
            )),
        },
        None => {
            let slowest = found
                .into_iter()
                .max_by(|a, b| a.0.mean().total_cmp(&b.0.mean()));
            match slowest {
                Some((latency, name)) => Ok((latency, name.to_owned())),
                None => unclear(
                    "the workload has no outside service: say under [size] how long its handler \
                     takes, as in handler = [{ median = \"2s\", p95 = \"12s\" }]",
                ),
            }
        }
    }
}

fn latency(times: &Times, folder: &Path, topology: &Topology) -> Result<Latency, Unclear> {
    let seconds = |time: &Duration| time.as_secs_f64();
    Ok(match times {
        Times::Fixed(fixed) => Latency::fixed(seconds(fixed))?,
        Times::Exponential(mean) => Latency::exponential(seconds(mean))?,
        Times::Gamma(mean, deviation) => Latency::gamma(seconds(mean), seconds(deviation))?,
        Times::LogNormal(median, p95) => Latency::log_normal(seconds(median), seconds(p95))?,
        Times::Quantiles(quantiles) => {
            let quantiles = quantiles
                .iter()
                .map(|(share, time)| (part(*share), seconds(time)));
            Latency::quantiles(&quantiles.collect::<Vec<_>>())?
        }
        Times::Recorded(path) => recorded(&folder.join(path), topology)?,
    })
}

/// The times of a handler that a file holds.
fn recorded(path: &Path, topology: &Topology) -> Result<Latency, Unclear> {
    let wrong = |why: &dyn fmt::Display| Unclear(format!("{}: {why}", path.display()));
    let read = || std::fs::read_to_string(path).map_err(|why| wrong(&why));
    let ending = path
        .extension()
        .map(|it| it.to_string_lossy().to_lowercase());
    let values = match ending.as_deref() {
        Some("csv") => of_csv(&read()?).map_err(|why| wrong(&why))?,
        Some("hlog") => of_log(&read()?).map_err(|why| wrong(&why))?,
        _ => of_history(path, topology).map_err(|why| wrong(&why))?,
    };
    Latency::recorded(values).map_err(|why| wrong(&why))
}

/// Seconds in the first column, how often in the second if there is one; a line of words first.
fn of_csv(text: &str) -> Result<Vec<(f64, u64)>, String> {
    let mut values = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut cells = line
            .split([',', ';', '\t'])
            .map(|cell| cell.trim().trim_matches('"'));
        let first = cells.next().unwrap_or("");
        let seconds = match first.parse::<f64>() {
            Ok(seconds) => seconds,
            Err(_) if values.is_empty() && number == 0 => continue,
            Err(_) => {
                return Err(format!(
                    "line {}: {first:?} is no number of seconds",
                    number + 1
                ));
            }
        };
        if !seconds.is_finite() || seconds < 0.0 {
            return Err(format!("line {}: {first} s is no time", number + 1));
        }
        let times = match cells.next() {
            None | Some("") => 1,
            Some(times) => times
                .parse()
                .map_err(|_| format!("line {}: {times:?} is no count", number + 1))?,
        };
        values.push((seconds, times));
    }
    Ok(values)
}

/// The histograms of an interval log: those tagged `handler` where there are some, all otherwise. Its
/// values are microseconds, as `redeliver load --hdr-log` writes them.
fn of_log(text: &str) -> Result<Vec<(f64, u64)>, String> {
    let mut all: Vec<(Option<String>, String)> = Vec::new();
    for entry in IntervalLogIterator::new(text.as_bytes()) {
        match entry {
            Ok(LogEntry::Interval(interval)) => {
                let tag = interval.tag().map(|tag| tag.as_str().to_owned());
                all.push((tag, interval.encoded_histogram().to_owned()));
            }
            Ok(_) => {}
            Err(why) => return Err(format!("this is no interval log of HdrHistogram: {why:?}")),
        }
    }
    let handler = Leg::Handler.as_str();
    let tagged = all.iter().any(|(tag, _)| tag.as_deref() == Some(handler));
    let mut values = Vec::new();
    for (tag, encoded) in all {
        if tagged && tag.as_deref() != Some(handler) {
            continue;
        }
        let bytes = BASE64
            .decode(encoded)
            .map_err(|why| format!("a histogram is no base64: {why}"))?;
        let histogram = Deserializer::new()
            .deserialize::<u64, _>(&mut bytes.as_slice())
            .map_err(|why| format!("a histogram cannot be read: {why}"))?;
        let recorded = histogram.iter_recorded();
        values
            .extend(recorded.map(|it| (it.value_iterated_to() as f64 / 1e6, it.count_at_value())));
    }
    Ok(values)
}

/// The handler's times in the history of a load run.
fn of_history(path: &Path, topology: &Topology) -> Result<Vec<(f64, u64)>, String> {
    let said = |why: &dyn fmt::Display| why.to_string();
    let mut records = Records::open(path).map_err(|why| said(&why))?;
    let Some(Record::Start(start)) = records.next_record().map_err(|why| said(&why))? else {
        return Err("it does not say what it is the history of".to_owned());
    };
    let mut figures = Figures::new(*start, topology);
    while let Some(record) = records.next_record().map_err(|why| said(&why))? {
        figures.add(&record);
    }
    let Some(times) = figures.latencies.of(Leg::Handler) else {
        return Err("no handler has ended in it".to_owned());
    };
    let recorded = times.histogram().iter_recorded();
    let values = recorded.map(|it| (it.value_iterated_to() as f64 / 1e6, it.count_at_value()));
    Ok(values.collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::V2DeflateSerializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn file(folder: &tempfile::TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it is written");
        path
    }

    fn read(path: &Path) -> Result<Latency, Unclear> {
        recorded(path, &Topology::default())
    }

    #[test]
    fn a_csv_has_seconds_and_how_often() {
        let folder = folder();
        let plain = file(&folder, "a.csv", "seconds\n1.5\n2.5\n\n# cold\n45\n");
        let latency = read(&plain).expect("three values");
        assert!((latency.mean() - 49.0 / 3.0).abs() < 1e-9);
        let counted = file(&folder, "b.CSV", "seconds;count\n2;98\n45;2\n");
        let latency = read(&counted).expect("two values");
        assert!((latency.survival(30.0) - 0.02).abs() < 1e-12);
        for (text, place) in [
            ("seconds\n1\nslow\n", "line 3"),
            ("1\n-2\n", "line 2"),
            ("1\nNaN\n", "line 2"),
            ("1,often\n", "line 1"),
            ("seconds\n", "no value"),
            ("", "no value"),
        ] {
            let path = file(&folder, "wrong.csv", text);
            let why = read(&path).expect_err(text).to_string();
            assert!(why.contains(place) && why.contains("wrong.csv"), "{why}");
        }
    }

    #[test]
    fn an_interval_log_gives_its_handlers() {
        let folder = folder();
        let mut log = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut writer = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut log, &mut serializer)
            .expect("a log");
        for (tag, micros) in [("handler", 2_000_000), ("ack", 900), ("handler", 4_000_000)] {
            let mut times = Histogram::<u64>::new(3).expect("three digits");
            times.record_n(micros, 10).expect("it fits");
            let (at, long) = (Duration::ZERO, Duration::from_secs(1));
            writer
                .write_histogram(&times, at, long, Tag::new(tag))
                .expect("it is written");
        }
        let path = file(&folder, "times.hlog", &log);
        let latency = read(&path).expect("its handlers");
        assert!((latency.mean() - 3.0).abs() < 0.01, "{}", latency.mean());
        let path = file(&folder, "cut.hlog", "0.1,1.0,0.5,HISTFAAAA\n");
        assert!(
            read(&path)
                .expect_err("no histogram")
                .to_string()
                .contains("cut.hlog")
        );
        let away = read(&folder.path().join("away.hlog")).expect_err("no file");
        assert!(away.to_string().contains("away.hlog"), "{away}");
    }

    #[test]
    fn a_handler_takes_as_long_as_the_slowest_service() {
        let cold = Duration::from_secs(45);
        let services = [
            ServiceModel::new("mail"),
            ServiceModel {
                latency: [1, 2, 12, 19].map(Duration::from_secs),
                cold_starts: (20_000, cold),
                ..ServiceModel::new("payments")
            },
        ];
        let scenario = Scenario::new("mine", "orders");
        let asked = question(&scenario, &services, &Topology::default()).expect("a question");
        assert_eq!(asked.service.as_deref(), Some("payments"));
        assert!((asked.case.handler.survival(30.0) - 0.02).abs() < 1e-12);
        assert!((asked.case.rate - 20.0 / 30.0).abs() < 1e-12);
        let without = question(&scenario, &[], &Topology::default());
        let why = without.expect_err("nothing says how long").to_string();
        assert!(why.contains("handler = ["), "{why}");
    }
}
