//! `redeliver load`: a scenario on real servers, under requests that never wait for it.

mod baseline;
mod metrics;
mod observers;
mod screen;
mod search;
mod show;
mod spans;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use self::baseline::Against;
use self::observers::Observers;
use self::show::Beside;
use super::doctor::why_unreachable;
use super::out::{self, Out};
use super::report::write;
use super::servers::Servers;
use super::{Context, ENVIRONMENT, Format, USAGE, interrupt};
use redeliver_harness::explore::commit;
use redeliver_harness::load::check::Checked;
use redeliver_harness::load::hdr;
use redeliver_harness::load::job::Job;
use redeliver_harness::load::offer::{Pattern, Rate};
use redeliver_harness::load::{LoadOptions, default_history};
use redeliver_harness::registry::Registered;
use redeliver_harness::report::{Tally, page};
use redeliver_harness::run::{CONNECTIONS, LiveError, LiveOptions, Tell, live_name};
use redeliver_harness::scenario::{Scenario, format_duration, parse_duration};
use redeliver_harness::verdict::Verdict;

/// The subcommand that carries out a process of a run. Nobody types it.
const PROCESS: &str = "load-process";

/// Load a scenario's pipeline on real servers, measure it, and judge it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Requests are sent when they are due, whether or not the pipeline keeps up; times count from then on.
Producers, relays and workers are processes of their own. The history goes to a file as it happens:
`redeliver check` judges it again and tells the same figures.

Examples:
  redeliver load scenarios/calm-day.toml --rate 20/s --for 60s
  redeliver load scenarios/calm-day.toml --rate 20/s --for 60s --arrivals constant --format json
  redeliver load scenarios/calm-day.toml --find-max --for 60s
  redeliver load scenarios/calm-day.toml --rate 20/s --for 60s --baseline yesterday.history
  scripts/services run -- redeliver load scenarios/calm-day.toml --rate 20/s --for 60s

Exit codes: 0 valid, 1 violated, 2 usage, 3 inconclusive, 4 a server does not answer or refuses.")]
pub(super) struct Args {
    /// The scenario file
    scenario: PathBuf,
    /// Requests a second: 500/s, 0.5/s, 30/m; with --find-max where the search begins
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    #[arg(required_unless_present = "find_max")]
    rate: Option<Rate>,
    /// Find the highest rate that is sustained without faults, then hold it under the faults
    #[arg(long, conflicts_with = "baseline")]
    find_max: bool,
    /// For how long each rate is tried
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = probe_time)]
    probe: Duration,
    /// For how long requests are sent
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    lasts: Duration,
    /// How requests are spread over time: poisson, constant, bursts:100, ramp:10%,
    /// steps:25%,50%,100% or recorded:FILE [default: the scenario's, or poisson]
    #[arg(long, value_name = "PATTERN")]
    arrivals: Option<String>,
    /// How many processes share the sending [default: one for each 500 requests a second]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    producers: Option<u32>,
    /// Where the history goes: a new file [default: SCENARIO-ID.history]
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    against: Against,
    #[command(flatten)]
    servers: Servers,
    /// The seed: decimal, 0x-hex or a 40-digit commit hash
    #[arg(long, value_name = "S", default_value = "1", value_parser = redeliver_sim::seed::parse)]
    seed: u64,
    /// Give the run up when a server has been away for so long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    patience: Duration,
    #[command(flatten)]
    observers: observers::Wanted,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// What is written beside the verdict.
#[derive(Debug, clap::Args)]
struct Files {
    /// Also write the run as a page for the browser
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Also write the times as an interval log of HdrHistogram
    #[arg(long, value_name = "FILE")]
    hdr_log: Option<PathBuf>,
}

impl Files {
    /// Writes them; what could not be written.
    fn write(
        &self,
        workload: &Registered,
        checked: &Checked,
        history: &Path,
    ) -> Result<(), String> {
        if let Some(path) = &self.report {
            write(path, &page::load::render(checked))?;
        }
        match &self.hdr_log {
            Some(log) => write_log(workload, checked, history, log),
            None => Ok(()),
        }
    }
}

/// Judge the history of a load run again, from its file alone
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  redeliver check calm-day-0123456789ab.history
  redeliver check calm-day-0123456789ab.history --format json
  redeliver check today.history --baseline yesterday.history

Exit codes: 0 valid, 1 violated, 2 usage or no history file, 3 inconclusive.")]
pub(super) struct CheckArgs {
    /// The file
    history: PathBuf,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    against: Against,
    /// What is written to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// Carry out one process of a load run
#[derive(Debug, clap::Args)]
#[command(name = PROCESS, hide = true)]
pub(super) struct ProcessArgs {}

/// One process sends so many requests a second with ease.
const EACH: u64 = 500_000;

/// What grows shows in the quarters of a probe, second by second.
fn probe_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    match time >= Duration::from_secs(8) {
        true => Ok(time),
        false => Err("a probe takes 8 s at least: what grows does not show sooner".to_owned()),
    }
}

impl Args {
    /// How many processes share the sending at a rate.
    fn producers_for(&self, rate: Rate) -> u32 {
        let each = u32::try_from(rate.0.div_ceil(EACH)).unwrap_or(u32::MAX);
        self.producers.unwrap_or(each.clamp(1, 64))
    }
}

/// So many requests of a run are made in the seeded world, to be set beside it.
const PREDICTED: u64 = 2_000;

/// The same requests at the same rate in the seeded world. None for a workload that would need a
/// PostgreSQL for that, which is too slow to be asked by the way.
fn predict(workload: &Registered, checked: &Checked) -> Option<Tally> {
    if (workload.postgres)().is_some() {
        return None;
    }
    let start = &checked.figures.start;
    let requests = start.requests.min(PREDICTED);
    let over = u128::from(start.lasts) * u128::from(requests) / u128::from(start.requests.max(1));
    let scenario = Scenario {
        messages: u32::try_from(requests).unwrap_or(u32::MAX),
        over: Duration::from_nanos(u64::try_from(over).unwrap_or(u64::MAX)),
        ..checked.scenario.clone()
    };
    let mut tally = Tally::new(&scenario, start.seed);
    tally.add((workload.simulate)(&scenario, start.seed, false));
    Some(tally)
}

fn arrivals(args: &Args, scenario: &Scenario) -> Result<Pattern, String> {
    let own = scenario.arrivals.as_deref().map(|text| {
        let folder = scenario.path.parent().unwrap_or(Path::new(""));
        Pattern::parse(text, folder)
    });
    let given = args.arrivals.as_deref();
    let given = given.map(|text| Pattern::parse(text, Path::new("")));
    given.or(own).unwrap_or(Ok(Pattern::Poisson))
}

fn write_log(
    workload: &Registered,
    checked: &Checked,
    history: &Path,
    log: &Path,
) -> Result<(), String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", log.display());
    let (topology, _) = (workload.topology)(&checked.scenario);
    let mut file = std::fs::File::create(log).map_err(|error| wrong(&error))?;
    hdr::write(history, &topology, &mut file).map_err(|error| wrong(&error))
}

pub(super) fn load(args: &Args, context: &Context) -> u8 {
    let (scenario, workload) = match context.load(&args.scenario) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            out::complain(&format!("this program cannot be found again: {error}"));
            return ENVIRONMENT;
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::on_first(&stop, || {
        out::complain("stopping, and cleaning up; again to stop at once");
    });
    let name = live_name();
    let history = args.history.clone();
    let history = history.unwrap_or_else(|| default_history(&scenario, &name));
    if history.exists() {
        let path = history.display();
        out::complain(&format!(
            "{path} is there already: choose another file by --history"
        ));
        return USAGE;
    }
    let pattern = match arrivals(args, &scenario) {
        Ok(pattern) => pattern,
        Err(why) => {
            out::complain(&why);
            return USAGE;
        }
    };
    let baseline = match args.against.read(&workload) {
        Ok(baseline) => baseline,
        Err(why) => {
            out::complain(&why);
            return USAGE;
        }
    };
    let observers = match Observers::open(&args.observers, args.format) {
        Ok(observers) => observers,
        Err(code) => return code,
    };
    let live = LiveOptions {
        amqp_url: args.servers.amqp_url.clone(),
        database_url: args.servers.database_url.clone(),
        name: name.clone(),
        seed: args.seed,
        queue_type: None,
        stop,
        connections: CONNECTIONS,
        patience: args.patience,
        tell: Tell::by(out::complain),
    };
    let began = Instant::now();
    let mut options = LoadOptions {
        live,
        rate: args.rate.unwrap_or(search::BEGIN),
        lasts: args.lasts,
        pattern,
        producers: args.producers_for(args.rate.unwrap_or(search::BEGIN)),
        history: history.clone(),
        command: vec![program.into_os_string(), OsString::from(PROCESS)],
        commit: commit(),
        watch: observers.watch(),
        follow: observers.follow(),
    };
    let mut found = None;
    if args.find_max {
        let max = match search::find(args, &workload, &scenario, &options) {
            Ok(max) => max,
            Err(code) => {
                observers.close();
                return code;
            }
        };
        options.rate = max.from;
        options.producers = args.producers_for(max.from);
        found = Some(max);
    }
    // So that whoever kills this outright knows what to remove and what to judge.
    out::complain(&format!(
        "{} seed {} at {} for {} on real servers, under the name {name}, into {}",
        scenario.name,
        args.seed,
        options.rate,
        format_duration(args.lasts),
        history.display(),
    ));
    let ran = (workload.load)(&scenario, &options);
    observers.close();
    match ran {
        Ok(mut report) => {
            let compared = baseline.and_then(|it| it.compare(&mut report.checked));
            let code = show::end(
                &report.checked,
                args.format,
                began.elapsed(),
                Beside {
                    max: found.as_ref(),
                    predicted: predict(&workload, &report.checked).as_ref(),
                    baseline: compared.as_ref(),
                },
            );
            let written = args.files.write(&workload, &report.checked, &history);
            match report.left_behind.or(written.err()) {
                None => code,
                Some(why) => {
                    out::complain(&why);
                    if code == Verdict::Violated.exit_code() {
                        code
                    } else {
                        ENVIRONMENT
                    }
                }
            }
        }
        Err(error) => {
            let code = failed(&args.servers, error);
            // What is known of it so far.
            if history.exists()
                && let Ok(checked) = (workload.check)(&history)
            {
                let beside = Beside {
                    max: found.as_ref(),
                    ..Beside::default()
                };
                show::end(&checked, args.format, began.elapsed(), beside);
            }
            code
        }
    }
}

/// Says why a run could not be made; gives the exit code.
fn failed(servers: &Servers, error: LiveError) -> u8 {
    match error {
        LiveError::Other(why) => {
            out::complain(&why);
            Verdict::Inconclusive.exit_code()
        }
        LiveError::Environment(why) => {
            let found = why_unreachable(servers);
            let why = if found.is_empty() {
                why
            } else {
                found.join("; ")
            };
            out::complain(&format!("{why}; see `redeliver doctor env`"));
            ENVIRONMENT
        }
        LiveError::Away { why, left_behind } => {
            out::complain(&why);
            if let Some(left) = left_behind {
                out::complain(&left);
            }
            ENVIRONMENT
        }
    }
}

pub(super) fn check(args: &CheckArgs, context: &Context) -> u8 {
    let began = Instant::now();
    let path = &args.history;
    let wrong = |why: &dyn std::fmt::Display| {
        out::complain(&format!("{}: {why}", path.display()));
        USAGE
    };
    let start = match redeliver_harness::load::check::start_of(path) {
        Ok(start) => start,
        Err(why) => return wrong(&why),
    };
    let found = redeliver_harness::registry::find(&context.workloads, &start.workload);
    let Some(workload) = found else {
        let name = &start.workload;
        return wrong(&format!("its workload {name:?} is not one of this program"));
    };
    let baseline = match args.against.read(workload) {
        Ok(baseline) => baseline,
        Err(why) => {
            out::complain(&why);
            return USAGE;
        }
    };
    match (workload.check)(path) {
        Ok(mut checked) => {
            let compared = baseline.and_then(|it| it.compare(&mut checked));
            let predicted = predict(workload, &checked);
            let beside = Beside {
                predicted: predicted.as_ref(),
                baseline: compared.as_ref(),
                ..Beside::default()
            };
            let code = show::end(&checked, args.format, began.elapsed(), beside);
            match args.files.write(workload, &checked, path) {
                Err(why) => {
                    out::complain(&why);
                    ENVIRONMENT
                }
                Ok(()) => code,
            }
        }
        Err(why) => wrong(&why),
    }
}

/// Carries out what stands on standard input.
pub(super) fn process(context: &Context) -> u8 {
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    let job = read
        .map_err(|error| error.to_string())
        .and_then(|_| serde_json::from_str::<Job>(&line).map_err(|error| error.to_string()));
    let done = job.and_then(|job| {
        let found = redeliver_harness::registry::find(&context.workloads, &job.workload);
        let workload = found.ok_or_else(|| format!("no workload {:?} here", job.workload))?;
        (workload.load_process)(&job).map_err(|error| error.to_string())
    });
    match done {
        Ok(()) => 0,
        Err(why) => {
            out::complain(&why);
            ENVIRONMENT
        }
    }
}
