//! From a scenario to the question that `redeliver size` answers.

pub mod confirm;
pub mod layers;
pub mod provoke;
pub mod words;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use redeliver_sizing::case::{Case, OutageKind, Shape, Targets};
use redeliver_sizing::latency::{Invalid, Latency};
use redeliver_sizing::model::{Backoff, Dependency, Queue, RetryBudget, Setting};
use redeliver_sizing::number::Number;

use crate::load::figures::Figures;
use crate::load::offer::Pattern;
use crate::scenario::{OutageTime, Scenario, Size, Times};
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

impl Question {
    /// The token bucket for retries whose effect is shown.
    pub fn budget(&self) -> RetryBudget {
        RetryBudget {
            ratio: self.size.retry_budget.ratio / 1_000,
            burst: self.size.retry_budget.burst,
        }
    }
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
    let of_period = |times: &[Duration]| times.len() as f64 * a_day(Some(size.period));
    let processes = f64::from(scenario.worker_processes.max(1));
    let case = Case {
        rate,
        arrivals: shape(scenario, &size)?,
        handler,
        fails: part(size.failures),
        outages: outages(&size)?,
        fails_after: size.fails_after.map(|it| it.as_secs_f64()),
        // A crash of a timetable is that of one process.
        crashes_per_day: match size.crashes_at.is_empty() {
            true => a_day(size.crash_every),
            false => of_period(&size.crashes_at) / processes,
        },
        deploys_per_day: match size.deploys_at.is_empty() {
            true => a_day(size.deploy_every),
            false => of_period(&size.deploys_at),
        },
        restart_after: scenario.restart_after.as_secs_f64(),
        dependency: match size.service_takes {
            Some(rate) => Dependency::Rate(rate.per_second()),
            None => Dependency::Unlimited,
        },
        hop: size.hop.as_secs_f64(),
        calls: size.calls_per_try,
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
    let mut policy = scenario.policy.clone();
    let queue = match (size.managed, size.delayed_retry) {
        (None, None) => Queue::RabbitMq {
            tick: nanos(size.tick),
        },
        (Some(managed), _) => Queue::Managed {
            visibility: nanos(managed.visibility),
            extend_every: managed.extend_every.map(nanos),
            receives: managed.receives,
            retention: Some(nanos(managed.retention)),
        },
        (None, Some(delayed)) => {
            policy.retry.first = delayed.min;
            policy.retry.cap = delayed.max;
            policy.retry.attempts = delayed.delivery_limit + 1;
            Queue::DelayedRetry {
                delays: delayed.delays,
                settles: delayed.settles,
                ttl: delayed.ttl.map(nanos),
                dead_letters: delayed.dead_letters,
            }
        }
    };
    Ok(Question {
        case,
        present: Setting {
            processes: scenario.worker_processes,
            policy,
            queue,
            backoff: Backoff::Ladder,
            budget: None,
        },
        fixed: size.fixed.clone(),
        size,
        service,
    })
}

const DAY: f64 = 86_400.0;

/// Lengths of outages that vary: the share of them, and the quantile that stands for them. The long ones
/// are rare and decide what is lost, so they are looked at more closely.
const LENGTHS: [(f64, f64); 4] = [(0.5, 0.25), (0.3, 0.65), (0.15, 0.875), (0.05, 0.975)];
/// Outages of a timetable that are nearer to each other than this, in seconds, are looked at together: the
/// backlog of one may not have drained before the next.
const NEAR: f64 = 1_200.0;

/// The outages of a scenario. Those of a timetable that follow each other closely are one kind.
fn outages(size: &Size) -> Result<Vec<OutageKind>, Unclear> {
    let mut kinds = Vec::new();
    let mut timetable: Vec<(f64, f64)> = Vec::new();
    for outage in &size.outages {
        match (outage.when, &outage.lasts) {
            (OutageTime::Every(every), Times::Fixed(lasts)) => {
                let per_day = DAY / every.as_secs_f64();
                kinds.push(OutageKind::single(lasts.as_secs_f64(), per_day));
            }
            (OutageTime::Every(every), varying) => {
                let lengths = latency(varying, Path::new(""), &Topology::default())?;
                let per_day = DAY / every.as_secs_f64();
                kinds.extend(LENGTHS.map(|(share, quantile)| {
                    OutageKind::single(lengths.quantile(quantile), share * per_day)
                }));
            }
            (OutageTime::At(at), Times::Fixed(lasts)) => {
                timetable.push((at.as_secs_f64(), lasts.as_secs_f64()));
            }
            (OutageTime::At(_), _) => return unclear("an outage at a known time has one length"),
        }
    }
    timetable.sort_by(|a, b| a.0.total_cmp(&b.0));
    let per_day = DAY / size.period.as_secs_f64();
    let mut ended = f64::NEG_INFINITY;
    let first = kinds.len();
    for (at, lasts) in timetable {
        match kinds[first..].last_mut() {
            Some(kind) if at - ended < NEAR.max(2.0 * kind.whole()) => {
                kind.then.push((at - ended, lasts));
            }
            _ => kinds.push(OutageKind::single(lasts, per_day)),
        }
        ended = at + lasts;
    }
    Ok(kinds)
}

/// Parts of a cycle in which a rate that changes steadily is taken for constant.
const STEPS: u32 = 12;

/// How arrivals are spread: by the pattern of the scenario's `[load]`.
fn shape(scenario: &Scenario, size: &Size) -> Result<Shape, Unclear> {
    let Some(text) = &scenario.arrivals else {
        return Ok(Shape::Poisson);
    };
    let folder = scenario.path.parent().unwrap_or(Path::new(""));
    let pattern = Pattern::parse(text, folder).map_err(Unclear)?;
    let cycle = size.cycle.unwrap_or(scenario.over).as_secs_f64();
    let rate = match size.rate {
        Some(rate) => rate.per_second(),
        None => f64::from(scenario.messages) / scenario.over.as_secs_f64().max(1e-9),
    };
    let parts: Vec<(f64, f64)> = match &pattern {
        Pattern::Poisson => return Ok(Shape::Poisson),
        Pattern::Constant => return Ok(Shape::Constant),
        Pattern::Bursts(many) => {
            // All of them within a millisecond, and nothing until the next burst.
            let (apart, burst) = (f64::from(*many) / rate, 0.001);
            match apart <= burst {
                true => return Ok(Shape::Poisson),
                false => vec![(burst, apart / burst), (apart - burst, 0.0)],
            }
        }
        Pattern::Ramp(from) => {
            let from = part(*from);
            let at = |step: u32| (f64::from(step) + 0.5) / f64::from(STEPS);
            let shares = (0..STEPS).map(|step| from + (1.0 - from) * at(step));
            shares
                .map(|share| (cycle / f64::from(STEPS), share))
                .collect()
        }
        Pattern::Steps(shares) => {
            let each = cycle / shares.len().max(1) as f64;
            shares.iter().map(|share| (each, part(*share))).collect()
        }
        Pattern::Recorded(times) => of_recording(times),
    };
    // The rate is the average one: what the parts say is relative to each other.
    let lasts: f64 = parts.iter().map(|it| it.0).sum();
    let mean = parts.iter().map(|it| it.0 * it.1).sum::<f64>() / lasts.max(1e-9);
    if mean <= 0.0 {
        return unclear(format!("arrivals = {text:?}: nothing arrives"));
    }
    let relative = parts.iter().map(|it| (it.0, it.1 / mean));
    Ok(Shape::Cycle(relative.collect()))
}

/// Parts of a recording.
const PARTS: u64 = 120;

/// A recording as parts of equal length: seconds, and how many came in each.
fn of_recording(times: &[u64]) -> Vec<(f64, f64)> {
    let last = times.last().copied().unwrap_or(0);
    let each = (last / PARTS + 1).max(1);
    let mut counts = vec![0.0; (last / each + 1) as usize];
    for at in times {
        counts[(at / each) as usize] += 1.0;
    }
    let seconds = each as f64 / 1e9;
    counts.into_iter().map(|count| (seconds, count)).collect()
}

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

/// The handler's times in the history of `run` or `load`.
fn of_history(path: &Path, topology: &Topology) -> Result<Vec<(f64, u64)>, String> {
    let said = |why: &dyn fmt::Display| why.to_string();
    let mut records = Records::open(path).map_err(|why| said(&why))?;
    let Some(Record::Start(start)) = records.next_record().map_err(|why| said(&why))? else {
        return Err("it does not say what it is the history of".to_owned());
    };
    // `run` makes all times of its scenario shorter; these are the scenario's again.
    let scale = match start.rate {
        0 => f64::from(time_scale(&start.text)),
        _ => 1.0,
    };
    let mut figures = Figures::new(*start, topology);
    while let Some(record) = records.next_record().map_err(|why| said(&why))? {
        figures.add(&record);
    }
    let Some(times) = figures.latencies.of(Leg::Handler) else {
        return Err("no handler has ended in it".to_owned());
    };
    let recorded = times.histogram().iter_recorded();
    let seconds = |micros: u64| micros as f64 / 1e6 * scale;
    let values = recorded.map(|it| (seconds(it.value_iterated_to()), it.count_at_value()));
    Ok(values.collect())
}

/// By how much a scenario's times are made shorter in a run on real servers.
fn time_scale(text: &str) -> u32 {
    let table: Option<toml::Table> = text.parse().ok();
    let scale = table.as_ref().and_then(|it| it.get("time-scale"));
    let scale = scale.and_then(toml::Value::as_integer);
    scale.and_then(|it| u32::try_from(it).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::V2DeflateSerializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

    use super::*;
    use crate::scenario::ServiceOutage;
    use crate::watch::file::{Appender, Start};
    use crate::watch::history::{Ended, Entry, History, OnBehalf, What};

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
    fn the_history_of_a_run_gives_its_handlers_in_the_times_of_the_scenario() {
        let folder = folder();
        let entry = |at: u64, what: What| Entry {
            at,
            process: Arc::from("charge-1"),
            what,
        };
        let on = OnBehalf {
            consumer: "charge".into(),
            subject: "order-1".into(),
            attempt: 1,
        };
        let history = History {
            entries: vec![
                entry(
                    1_000_000_000,
                    What::HandlerStart {
                        on,
                        run: 1,
                        batch: 1,
                        read: 0,
                    },
                ),
                entry(
                    1_200_000_000,
                    What::HandlerEnd {
                        run: 1,
                        ended: Ended::Ok,
                    },
                ),
            ],
            runs: 1,
        };
        let start = Start {
            text: "time-scale = 10".to_owned(),
            ..Start::default()
        };
        let path = folder.path().join("run.history");
        Appender::keep(&path, start.clone(), &history).expect("it is written");
        let latency = read(&path).expect("one handler");
        assert!((latency.mean() - 2.0).abs() < 0.01, "{}", latency.mean());
        let again = Appender::keep(&path, start, &history).expect_err("it is there");
        assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn outages_of_a_timetable_that_follow_each_other_are_looked_at_together() {
        let fixed = |at: u64, lasts: u64| ServiceOutage {
            lasts: Times::Fixed(Duration::from_secs(lasts)),
            when: OutageTime::At(Duration::from_secs(at)),
        };
        let size = Size {
            outages: vec![
                fixed(40_000, 60),
                fixed(1_000, 300),
                fixed(1_420, 60),
                ServiceOutage {
                    lasts: Times::LogNormal(Duration::from_secs(60), Duration::from_secs(600)),
                    when: OutageTime::Every(Duration::from_secs(86_400)),
                },
            ],
            period: Duration::from_secs(172_800),
            ..Size::default()
        };
        let kinds = outages(&size).expect("outages");
        // Those of no timetable first: four lengths, together once a day.
        let (varying, timetable) = kinds.split_at(4);
        let per_day: f64 = varying.iter().map(|it| it.per_day).sum();
        assert!((per_day - 1.0).abs() < 1e-9 && varying[3].lasts > 600.0);
        let together = OutageKind {
            then: vec![(120.0, 60.0)],
            ..OutageKind::single(300.0, 0.5)
        };
        assert_eq!(timetable, [together, OutageKind::single(60.0, 0.5)]);
    }

    #[test]
    fn a_pattern_of_arrivals_keeps_the_mean_rate() {
        for (arrivals, parts) in [
            ("ramp:20%", 12),
            ("steps:25%,50%,100%", 3),
            ("bursts:100", 2),
        ] {
            let scenario = Scenario {
                arrivals: Some(arrivals.to_owned()),
                ..Scenario::new("mine", "orders")
            };
            let shape = shape(&scenario, &Size::default()).expect("a shape");
            let Shape::Cycle(cycle) = shape else {
                panic!("{arrivals}: {shape:?}");
            };
            assert_eq!(cycle.len(), parts, "{arrivals}");
            let lasts: f64 = cycle.iter().map(|it| it.0).sum();
            let mean = cycle.iter().map(|it| it.0 * it.1).sum::<f64>() / lasts;
            assert!((mean - 1.0).abs() < 1e-9, "{arrivals}: {mean}");
        }
        let counts = of_recording(&[0, 1, 2, 119_000_000_000]);
        assert_eq!((counts[0].1, counts.len()), (3.0, 120));
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
